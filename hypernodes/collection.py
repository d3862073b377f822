"""Large structures made without the cyclic garbage collector walking them again and again while they grow."""

from __future__ import annotations

import gc
import threading
from contextlib import contextmanager
from typing import Iterator

# Re-entrant: a finaliser or a signal handler may come in while its own thread holds it.
_lock = threading.RLock()
_pauses = 0
_was_on = False


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
