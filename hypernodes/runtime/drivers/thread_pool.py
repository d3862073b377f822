"""The threads of one backend, which all of its runs in progress share, and who computes in them.

A run asks for a lane, a loop that takes its ready tasks; a thread runs lanes in the order in which they were asked for,
each until nothing is ready or others wait. At most `count` threads compute at once. What waits computes nothing: a run
that a node calls is worked on by the thread that calls it, and where there is nothing to do in it, the place of that
thread is another's until it goes on. So one thread that computes finishes any nesting. ::

    ask ─▶ queue ─▶ compute ─▶ (the next lane, or idle) ─▶ end with the last run
                       └─ waiting ─▶ another computes ─▶ goes on at once, be it one too many for a moment

As many as there are cores compute at once; `growth` says when it is to be more. The thread that a run is called from
is none of these, is not counted, and waits for nobody.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import deque
from time import monotonic
from typing import Callable, Deque, List, Optional, Protocol, Set, Tuple

from hypernodes.errors import InitializerError
from hypernodes.runtime.drivers.growth import core_count, watch
from hypernodes.runtime.drivers.initializer import Initializer
from hypernodes.runtime.drivers.latch import Latch
from hypernodes.runtime.drivers.libraries import Kept, kept_by_thread, put
from hypernodes.runtime.drivers.waits import here

LULL = 0.1
"""Seconds in which fewer threads compute than there are cores, after which what comes next may compute, not wait."""


class Lane(Protocol):
    """What a thread of the pool is asked to run; under the pool's lock it is only looked at."""

    kept: Kept
    """What libraries keep for the thread that it is run for."""
    latch: Latch
    """Told when the thread has nothing of it any more, or when nobody will run it."""

    @property
    def wanted(self) -> bool:
        """Whether it would find something to do."""

    def progress(self) -> Tuple[int, ...]:
        """Return what changes when work of its run is begun."""

    def work(self) -> None:
        """Do it, in a thread that counts among those that compute."""

    def refused(self, error: BaseException) -> None:
        """Take note that there is no thread for it."""


class Borrower(Protocol):
    """A run that uses the threads of a backend, or may."""

    caller: threading.Thread

    def serves(self, thread: threading.Thread) -> bool:
        """Return whether a thread works for it."""


class _Worker:
    """A thread of the pool."""

    __slots__ = ("gate", "lane", "thread")

    def __init__(self, lane: Optional[Lane]) -> None:
        self.lane = lane
        self.gate = threading.Lock()
        self.gate.acquire()
        self.thread: Optional[threading.Thread] = None


class ThreadPool:
    """Threads for lanes; see above.

    Parameters
    ----------
    count : int
        How many threads may compute at once.
    initializer : Initializer, optional
        Called in each of them before its first lane.

    Attributes
    ----------
    queue : deque of Lane
        Those that no thread has begun.
    presses : Lane or object, optional
        The lane for whose sake those at work for others are to leave off; all of them where it is none of these.
    """

    def __init__(self, count: int, initializer: Optional[Initializer] = None) -> None:
        self.count = count
        self.initializer = initializer
        self.reset()
        _all.add(self)

    def reset(self) -> None:
        """Begin anew, as in a forked child: there are no threads there, and the lock may be somebody's."""
        # Reentrant, for who is in the middle of it when a garbage collection closes a forgotten stream.
        self._guard = threading.RLock()
        self.queue: Deque[Lane] = deque()
        self._starting: Deque[Lane] = deque()
        self._idle: List[_Worker] = []
        self._workers: Set[_Worker] = set()
        self._computing = 0
        self._runs: Set[Borrower] = set()
        self._left = threading.Condition(self._guard)
        self._joined = 0
        self._most = self.count
        self._grown = 0
        self._waiting: List[threading.Thread] = []
        self._calls: List[Callable[[], None]] = []
        self._quiet: Optional[float] = None  # since when fewer compute than may at once
        self._watched = False
        self._started = 0
        self._size()
        self._press()

    # -- runs ---------------------------------------------------------------------------------------------------------

    def enter(self, run: Borrower, joins: bool = False) -> bool:
        """Count a run in; return whether the thread that calls it `joins` those that compute, and is none of them."""
        joins = joins and here.pool is None
        with self._guard:
            self._runs.add(run)
            self._joined += joins
            self._size()
        return joins

    def wait(self) -> None:
        """Wait for the runs in progress, but for those that this thread has called, or works for."""
        thread = threading.current_thread()
        with self._guard:
            self._waiting.append(thread)
            self._left.notify_all()
            try:
                while any(not self._may_wait(run, thread) for run in self._runs):
                    self._left.wait()
            finally:
                self._waiting.remove(thread)

    def _may_wait(self, run: Borrower, thread: threading.Thread) -> bool:
        """Return whether a run may wait for a thread that waits here: two nodes that do would wait for each other."""
        inside = any(_is_of(other, thread) for other in self._runs)
        return any(_is_of(run, each) for each in (self._waiting if inside else [thread]))

    def when_left(self, call: Callable[[], None]) -> None:
        """Call this when no run is in progress any more."""
        with self._guard:
            if self._runs:
                self._calls.append(call)
                return
        call()

    def leave(self, run: Borrower, joined: bool = False) -> None:
        """Count a run out, which has no lane any more; with the last one the threads end."""
        with self._guard:
            self._runs.discard(run)
            self._left.notify_all()
            self._joined -= joined
            last = not self._runs
            if last:
                ended, self._workers = self._workers, set()
                idle, self._idle = self._idle, []
                calls, self._calls = self._calls, []
                self._most, self._grown, self._started = self.count, 0, 0
            self._size()
            more = self._dispatch()
        if more:
            self.start()
        if last:
            self._end(ended, idle)
            for call in calls:
                call()

    def _end(self, ended: Set[_Worker], idle: List[_Worker]) -> None:
        for worker in idle:
            worker.gate.release()
        if ended:  # without threads nobody was ever looked at
            watch.leave(self)
            self._watched = False
            if self.queue:
                self.start()  # another run has begun meanwhile, and may have just been looked at
        for worker in ended:
            if worker.thread is not None and worker.thread is not threading.current_thread():
                worker.thread.join()

    def _size(self) -> None:
        # Who calls a run and computes in it as well counts among those that start at once.
        self._at_once = max(1, core_count() - self._joined)
        self._limit = min(self._most, self._at_once + self._grown)

    # -- lanes --------------------------------------------------------------------------------------------------------

    def ask(self, lane: Lane) -> bool:
        """Have a thread run a lane; return whether `start` is to be called then, without a lock."""
        lane.latch.enter()
        with self._guard:
            if self._quiet is not None:
                if monotonic() - self._quiet > LULL:
                    self._grown = 0
                    self._size()
                self._quiet = None
            self.queue.append(lane)
            return self._dispatch()

    def take_back(self, lane: Lane) -> bool:
        """Return whether no thread has begun a lane that was asked for, and none will."""
        with self._guard:
            if lane in self.queue:
                self.queue.remove(lane)
            elif lane in self._starting:
                self._starting.remove(lane)
                self._computing -= 1
            else:
                return False
            self._dispatch()  # who asked for a lane starts whatever there is to start
        lane.latch.leave()
        return True

    def start(self) -> None:
        """Start the threads that are needed, and have somebody look whether it should be more."""
        while self._starting:
            with self._guard:
                if not self._starting:
                    break
                lane = self._starting.popleft()
                worker = _Worker(lane)
                self._workers.add(worker)
                self._started += 1
                name = f"hypernodes-{self._started}"
            thread = worker.thread = threading.Thread(target=self._serve, args=(worker,), name=name, daemon=True)
            try:
                thread.start()
            except RuntimeError as error:
                self._not_started(worker, lane, error)
            del lane
        if self.queue and not self._watched and self._limit < self._most:
            self._watched = True
            if not watch.look_at(self):
                self._watched = False
                self.add()

    def kept(self) -> Kept:
        """Return what libraries keep for this thread, be it what a thread of the pool began with or not."""
        return kept_by_thread(defaults=True)

    def _dispatch(self) -> bool:
        """Give out lanes while there is room; return whether `start` is to be called. Under the lock."""
        while self.queue and self._computing < self._limit:
            lane = self.queue.popleft()
            self._computing += 1
            if self._idle:
                worker = self._idle.pop()
                worker.lane = lane
                worker.gate.release()
            else:
                self._starting.append(lane)
        self._press()
        return bool(self._starting) or (bool(self.queue) and not self._watched and self._limit < self._most)

    def _press(self) -> None:
        if self._computing > self._most or len(self.queue) > 1:
            self.presses: Optional[object] = self
        else:
            self.presses = self.queue[0] if self.queue else None

    def _not_started(self, worker: _Worker, lane: Lane, error: RuntimeError) -> None:
        """Do with the threads there are; where none of them will come back, there is none for this lane."""
        with self._guard:
            self._workers.discard(worker)
            self._computing -= 1
            self._most = max(1, self._computing)
            self._size()
            if self._computing > 0:
                self.queue.appendleft(lane)
                self._press()
                return
        lane.refused(error)
        lane.latch.leave()

    def _serve(self, worker: _Worker) -> None:
        here.pool = self
        kept: Kept = ()
        if self.initializer is not None and not self._initialized(worker, self.initializer):
            return
        while True:
            lane, worker.lane = worker.lane, None
            if lane is None:
                return
            # What a node has changed there is to be seen by nodes of the same run alone.
            if lane.kept is not kept:
                kept = lane.kept
                put(kept)
            latch = lane.latch
            lane.work()
            del lane
            self._next(worker)
            latch.leave()
            del latch
            worker.gate.acquire()

    def _initialized(self, worker: _Worker, initializer: Initializer) -> bool:
        """Return whether a thread may run lanes; where not, it ends, and the run of the lane that it is for."""
        try:
            initializer()
            return True
        except InitializerError as error:
            lane, worker.lane = worker.lane, None
            self.give()  # it stays among the workers, so that who ends the last run waits for its end
            if lane is not None:
                lane.refused(error)
                lane.latch.leave()
            return False

    def _next(self, worker: _Worker) -> None:
        """Give a worker the next lane, or let it wait for one, or for its end."""
        with self._guard:
            self._computing -= 1
            if worker in self._workers:
                self._idle.append(worker)
            else:
                worker.gate.release()
            more = self._dispatch()
            if self._grown and self._computing < self._at_once:
                self._quiet = monotonic()
        if more:
            self.start()

    # -- growth -------------------------------------------------------------------------------------------------------

    def progress(self) -> Optional[Tuple[object, ...]]:
        """Return what changes when work is begun; None when none waits that more threads could do."""
        # All of it under the lock: behind `take_back` nobody refers to what is a run's.
        with self._guard:
            if not self.queue or self._limit >= self._most:
                self._watched = False
                return None
            return tuple([lane.progress() for lane in self.queue])

    def add(self) -> None:
        """Let as many again compute as do now, and one more: those that only wait may be many."""
        with self._guard:
            if not any(lane.wanted for lane in self.queue):
                return
            self._grown = max(self._grown, 2 * self._computing + 1 - self._at_once)
            self._size()
            more = self._dispatch()
        if more:
            self.start()

    # -- who waits ----------------------------------------------------------------------------------------------------

    def give(self) -> None:
        """Let another thread compute in place of this one."""
        with self._guard:
            self._computing -= 1
            more = self._dispatch()
        if more:
            self.start()

    def take(self) -> None:
        """Count this thread among those that compute again."""
        with self._guard:
            self._computing += 1
            self._press()


def _is_of(run: Borrower, thread: threading.Thread) -> bool:
    return run.caller is thread or run.serves(thread)


_all: weakref.WeakSet[ThreadPool] = weakref.WeakSet()


def _after_fork() -> None:
    for pool in list(_all):
        pool.reset()
    here.pool, here.waits = None, 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
