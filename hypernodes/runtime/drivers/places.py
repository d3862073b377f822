"""Who may compute in the threads of one backend: so many at once over all of its runs, in the order of asking.

A place is held by what computes, never by what waits: a run that a node calls is worked on by the thread that calls it,
under the place that this one has, and where it has nothing to do it gives that back until it goes on. So one place
finishes any nesting. The thread that the user calls a run from has none, and needs none. ::

    enter ─▶ (wait for a turn) ─▶ compute ─▶ leave, or keep it while nobody waits
                                     └─ waiting ─▶ others compute ─▶ goes on at once, be it one too many for a moment
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections import deque
from functools import partial
from typing import ContextManager, Deque, Iterator, Optional

from hypernodes.runtime.bundle.cancellation import Cancellation


class Turn:
    """Somebody who asks for a place, or for several: the lanes of a run. Over, it gets none any more."""

    __slots__ = ("over",)

    def __init__(self) -> None:
        self.over = False


class _Asker:
    """A thread that waits for its turn."""

    __slots__ = ("gate", "granted", "turn")

    def __init__(self, turn: Turn) -> None:
        self.turn = turn
        self.granted = False
        self.gate = threading.Lock()
        self.gate.acquire()


class Places:
    """So many places.

    Attributes
    ----------
    count : int
        How many threads may compute at once.
    queue : deque
        Who waits; true while anybody does.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._reset()
        _all.add(self)

    def _reset(self) -> None:
        self._guard = threading.Lock()
        self._free = self.count
        self.queue: Deque[_Asker] = deque()

    def enter(self, turn: Turn, wait: bool = True) -> bool:
        """Take a place; returns False when the turn is over before there is one, or where nobody is to `wait`."""
        with self._guard:
            if turn.over:
                return False
            if self._free > 0 and not self.queue:
                self._free -= 1
                _here.held = self
                return True
            if not wait:
                return False
            asker = _Asker(turn)
            self.queue.append(asker)
        asker.gate.acquire()
        if asker.granted:
            _here.held = self
        return asker.granted

    def leave(self) -> None:
        """Give the place of this thread back."""
        _here.held = None
        self._give()

    def end(self, turn: Turn) -> None:
        """Let nobody wait any more for this turn."""
        with self._guard:
            turn.over = True
            for asker in [each for each in self.queue if each.turn is turn]:
                self.queue.remove(asker)
                asker.gate.release()

    def _give(self) -> None:
        with self._guard:
            self._free += 1
            while self._free > 0 and self.queue:
                asker = self.queue.popleft()
                self._free -= 1
                asker.granted = True
                asker.gate.release()

    def _take_back(self) -> None:
        with self._guard:
            self._free -= 1


class _Here(threading.local):
    """What a thread holds, and how many waits it is in."""

    held: Optional[Places] = None
    waits = 0


_here = _Here()
_NOTHING = contextlib.nullcontext()


def waiting() -> ContextManager[None]:
    """Give the place of this thread, if it has one, back within the block; go on with one in any case."""
    return _NOTHING if _here.held is None else _given_back(_here.held)


@contextlib.contextmanager
def _given_back(places: Places) -> Iterator[None]:
    _here.waits += 1
    if _here.waits == 1:
        places._give()
    try:
        yield
    finally:
        _here.waits -= 1
        if not _here.waits:
            places._take_back()


@contextlib.contextmanager
def placed(places: Places, run: Cancellation) -> Iterator[bool]:
    """Compute in a place within the block; False when `run` was stopped before there was one."""
    turn = Turn()
    with run.calling(partial(places.end, turn)):
        entered = places.enter(turn)
    try:
        yield entered
    finally:
        if entered:
            places.leave()


_all: weakref.WeakSet[Places] = weakref.WeakSet()


def _after_fork() -> None:
    for places in list(_all):
        places._reset()
    _here.held, _here.waits = None, 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
