"""What this process is to the pools: a program, or a worker of how deep a pool; and whether it may have workers itself.

A worker runs nodes, which may run pipelines in workers of their own. Before that, and in between, it imports modules
and reads objects; were these to run pipelines, each new worker would do the same again, without end. So a thread that
imports or reads gets no workers, and pools nest so many levels deep and no deeper.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import sys
import threading
from typing import Any, Iterator, Optional, Set, Tuple

from hypernodes.errors import NestedWorkersError, WorkerStartError

DEEPEST = 10
"""Levels of pools within pools: many times what programs have, and few enough processes when one goes astray."""

TOKEN = "--hypernodes-worker"
"""Stands in the command line of a worker, whichever program that is."""

_TRACKER = "from multiprocessing.resource_tracker import main"

depth = 0
"""How many pools this process is in, one within the other; 0 in a program that no pool has started."""

_READ_FROM = ("hypernodes.runtime.processes.boot", "hypernodes.runtime.processes.worker")

_siblings = 1
beside: contextvars.ContextVar[int] = contextvars.ContextVar("hypernodes.beside", default=1)
"""How many processes of an executor of the user's may be at work where this code runs in one of them."""
_readers: Set[int] = set()  # threads that import or read what another process sent


def enter(level: int) -> None:
    """Note, first of all, that this process is a worker, of a pool on that level."""
    global depth
    depth = level


def among(workers: int) -> None:
    """Note how many processes may be at work beside this one, itself included."""
    global _siblings
    _siblings = workers


def share(workers: int) -> int:
    """Return how many processes a pool of this process starts: in a worker only its part of as many as it asks for.

    Nodes in worker processes may run pipelines whose nodes do the same. With a full pool in every worker four workers
    would be 4 + 16 + 64 processes; like this each level has as many as the largest pool, or one for each above it.
    """
    return max(1, workers // (_siblings * beside.get()))


def together(workers: int) -> int:
    """Return how many processes there are on the level of a pool of so many."""
    return workers * _siblings * beside.get()


@contextlib.contextmanager
def reading() -> Iterator[None]:
    """While the block runs, this thread gets no workers."""
    thread = threading.get_ident()
    if thread in _readers:
        yield
        return
    _readers.add(thread)
    try:
        yield
    finally:
        _readers.discard(thread)


def check() -> None:
    """Refuse workers where they would start workers without end.

    Raises
    ------
    NestedWorkersError
        While this thread of a worker imports or reads, or so deep within pools that it can be no purpose.
    WorkerStartError
        In a process that was started as a worker, and is something else.
    """
    if threading.get_ident() in _readers:
        module, file = _imported() or ("", "")
        raise NestedWorkersError(module, file, 0)
    if depth >= DEEPEST:
        raise NestedWorkersError("", "", depth)
    if not depth and started_as_worker():
        imported = _imported()
        if imported is not None and imported[0] != "__main__":
            raise NestedWorkersError(*imported, 0)
        reason = "this is what it ran in place of a worker process, and it asks for workers itself"
        raise WorkerStartError((sys.executable or "",), None, reason)


@functools.lru_cache(maxsize=None)
def started_as_worker() -> bool:
    """Say whether a pool started this process, whatever became of it; or the resource tracker, which starts first."""
    try:
        with open("/proc/self/cmdline", encoding="utf-8", errors="replace") as file:
            line = file.read()
    except OSError:
        line = "\0".join(getattr(sys, "orig_argv", sys.argv))
    return f"\0{TOKEN}\0" in line or f"\0{_TRACKER}" in line


def _imported() -> Optional[Tuple[str, str]]:
    """Return name and file of the module that is being imported here, since this thread last read something."""
    frame: Any = sys._getframe()
    while frame is not None and frame.f_globals.get("__name__") not in _READ_FROM:
        name, file = frame.f_globals.get("__name__"), frame.f_code.co_filename
        if frame.f_code.co_name == "<module>" and isinstance(name, str) and not file.startswith("<"):
            # Not what was handed to exec() with a name of its own, as pytest's workers and notebooks run what they run.
            spec = getattr(sys.modules.get(name), "__spec__", None)
            if name == "__main__" or getattr(spec, "_initializing", False):
                return name, file
        frame = frame.f_back
    return None
