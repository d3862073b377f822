"""Runs that want a worker in, whose turn it is out: first come, first served.

Runs on one pool share its workers a request at a time. One that keeps its workers between requests looks here first,
and gives them back when another run waits; that one is woken, and only then may others take what is free. ::

    acquire, none free ─▶ ask ─▶ call (a worker is free: ring) ─▶ may_take ─▶ leave
                                   └─ did not come within `_PATIENCE` ─▶ forgotten; it may ask again
"""

from __future__ import annotations

import time
from collections import OrderedDict
from itertools import islice
from typing import Optional, Protocol

_PATIENCE = (
    0.05  # seconds: a run that is called may be busy with a node of its own, and others should not wait for that
)


class Asker(Protocol):
    """Who asks for a worker; `ring` is called under the pool's lock, from any thread."""

    def wake(self) -> None:
        """Let it ask again."""


class FairShare:
    """Those who were refused a worker, in the order in which they first asked. Its owner holds a lock around it all."""

    def __init__(self) -> None:
        # When each was told that a worker is free for it.
        self._waiting: OrderedDict[Asker, Optional[float]] = OrderedDict()

    def others(self, asker: Asker) -> bool:
        """Return whether anybody but `asker` waits; this needs no lock."""
        return len(self._waiting) > (asker in self._waiting)

    def ask(self, asker: Asker) -> None:
        """Note that `asker` waits, behind those who do already."""
        self._waiting.setdefault(asker, None)

    def leave(self, asker: Asker) -> None:
        """Note that `asker` has what it wants, or wants it no more."""
        self._waiting.pop(asker, None)

    def call(self, free: int) -> None:
        """Ring those for whom there is one of `free` workers."""
        for asker, called in list(islice(self._waiting.items(), max(0, free))):
            if called is None:
                self._waiting[asker] = time.monotonic()
                asker.wake()

    def may_take(self, asker: Asker, free: int) -> bool:
        """Return whether one of `free` workers is for `asker`; those before it who did not come are forgotten."""
        late = time.monotonic() - _PATIENCE
        for other, called in list(self._waiting.items()):
            if other is asker:
                break
            if called is not None and called < late:
                del self._waiting[other]
            else:
                free -= 1
        return free > 0
