"""What the system says in, how many cores this process may use, and what workers it may have, out."""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path
from typing import Optional

_V2 = Path("/sys/fs/cgroup/cpu.max")
_V1 = Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"), Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us")


def usable_cores() -> int:
    """Return how many cores this process may use: affinity and container limits count.

    ``LOKY_MAX_CPU_COUNT``, which joblib and others know, is one more limit.
    """
    cores = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        cores = min(cores, len(os.sched_getaffinity(0)))
    limits = [cores, container_limit(), _number(os.environ.get("LOKY_MAX_CPU_COUNT", ""))]
    return max(1, min([limit for limit in limits if limit is not None]))


def container_limit() -> Optional[int]:
    """Return how many cores the control group of this process may keep busy, rounded up; None without a limit."""
    texts = _read(_V2).split() or [_read(path).strip() for path in _V1]
    quota, period = map(_number, texts[:2])
    return math.ceil(quota / period) if quota and period and quota > 0 else None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except (OSError, ValueError):
        return ""


def _number(text: str) -> Optional[int]:
    try:
        return int(text)
    except ValueError:
        return None


def has_own_pool() -> bool:
    """Return whether this system has what a pool of worker processes of our own is made of."""
    return sys.platform not in ("win32", "cygwin", "emscripten", "wasi") and hasattr(os, "posix_spawn")
