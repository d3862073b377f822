"""Large structures made without the cyclic garbage collector walking them again and again while they grow."""

from __future__ import annotations

import gc
import os
import threading
from contextlib import contextmanager
from typing import Iterator

# Re-entrant: a finaliser or a signal handler may come in while its own thread holds it.
_lock = threading.RLock()
_pauses = 0
_was_on = False


def _after_fork() -> None:
    """Forget, in a forked child, the pauses of threads that are not there to end them."""
    global _pauses
    if _pauses and _was_on:
        gc.enable()
    _pauses = 0
    _lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_after_fork)


@contextmanager
def paused() -> Iterator[None]:
    """Pause the collector: what is made inside is kept, so the collections that its growth sets off find nothing.

    They are half the time of a large graph. Pauses may nest and overlap between threads: the first turns the collector
    off, the last turns it on again if it was on. Reference counting goes on throughout.
    """
    global _pauses, _was_on
    with _lock:
        if not _pauses:
            _was_on = gc.isenabled()
            gc.disable()
        _pauses += 1
    try:
        yield
    finally:
        with _lock:
            _pauses -= 1
            if not _pauses and _was_on:
                gc.enable()
