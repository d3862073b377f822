"""Threads of a pool that wait: while they do, others compute in their place."""

from __future__ import annotations

import contextlib
import threading
from typing import ContextManager, Iterator, Optional, Protocol


class Pool(Protocol):
    """The pool that a thread is of."""

    def give(self) -> None:
        """Let another thread compute in place of this one."""

    def take(self) -> None:
        """Count this thread among those that compute again."""


class Here(threading.local):
    """The pool that a thread is of, and how many waits it is in."""

    pool: Optional[Pool] = None
    waits = 0


here = Here()
_NOTHING = contextlib.nullcontext()


def waiting() -> ContextManager[None]:
    """Let another thread of the pool, if this is one, compute within the block; go on after it in any case."""
    return _NOTHING if here.pool is None else _waiting(here.pool)


@contextlib.contextmanager
def _waiting(pool: Pool) -> Iterator[None]:
    here.waits += 1
    if here.waits == 1:
        pool.give()
    try:
        yield
    finally:
        here.waits -= 1
        if not here.waits:
            pool.take()
