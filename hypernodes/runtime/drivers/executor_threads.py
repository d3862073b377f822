"""Threads of an executor of the user's for the lanes of one run; the executor is never shut down and never resized.

Work of an executor runs on it or not at all: elsewhere it would not find what its threads have. Only the coordinator
submits, since that may block until one of those threads, which run lanes, is free. It also helps out where threads of
the executor wait for this very run, and for nothing else.
"""

from __future__ import annotations

import contextvars
from collections import deque
from concurrent.futures import CancelledError, Executor, Future
from functools import partial
from typing import Deque, Optional, Set, Tuple

from hypernodes.errors.running import refused
from hypernodes.runtime.drivers.executors import runs_in_threads
from hypernodes.runtime.drivers.in_progress import InProgress
from hypernodes.runtime.drivers.libraries import Kept, kept_by_thread, lent
from hypernodes.runtime.drivers.thread_pool import Lane

_around: contextvars.ContextVar[Tuple[Executor, ...]] = contextvars.ContextVar("hypernodes.around", default=())
"""Executors with lanes of the runs that this code is within."""


class _Lent:
    """A lane to be run in a thread of somebody else's, who may keep for a while what he was given to call."""

    __slots__ = ("_lane",)

    def __init__(self, lane: Lane) -> None:
        self._lane: Optional[Lane] = lane

    def __call__(self) -> None:
        lane, self._lane = self._lane, None
        assert lane is not None
        with lent(lane.kept):
            lane.work()


class ExecutorThreads:
    """A lender of threads, see `Lender`."""

    presses = None  # who else uses the executor is not ours to say

    def __init__(self, run: InProgress, executor: Executor) -> None:
        self._run = run
        self._executor = executor
        self._asked: Deque[Lane] = deque()
        self._futures: Set[Future[None]] = set()
        around = run.context.get(_around, ())
        self._within = any(each is executor for each in around)
        run.context.run(_around.set, (*around, executor))

    def ask(self, lane: Lane) -> bool:
        """Have the coordinator submit a lane. Under the run's lock."""
        lane.latch.enter()
        self._asked.append(lane)
        self._run.wake_coordinator()
        return False

    def take_back(self, lane: Lane) -> bool:
        """Return whether a lane was not even submitted, and will not be."""
        if lane not in self._asked:
            return False
        self._asked.remove(lane)
        lane.latch.leave()
        return True

    def start(self) -> None:
        """Do nothing; the coordinator does."""

    def kept(self) -> Kept:
        """Return what libraries keep for this thread unlike others; the rest is the executor's own, and stays."""
        return kept_by_thread()

    @property
    def may_wait_for_us(self) -> bool:
        """Whether threads of the executor may be waiting for this very run, which is within one of theirs."""
        return self._within or _is_thread_of(self._executor, self._run.caller)

    def submit(self) -> None:
        """Submit what was asked for; called by the coordinator, without the run's lock."""
        while self._asked:
            with self._run.lock:
                lane = self._asked.popleft() if self._asked else None
            if lane is None:
                return
            try:
                future = self._executor.submit(_Lent(lane))
            except BaseException as error:
                self._refused(lane, error)
                continue
            self._futures.add(future)
            future.add_done_callback(partial(self._done, lane))

    def close(self) -> None:
        """Wait for lanes that have begun, and take the others back."""
        for future in list(self._futures):
            if not future.cancel():
                future.exception()

    def _done(self, lane: Lane, future: Future[None]) -> None:
        self._futures.discard(future)  # a run without end has lanes without end
        # Cancelled by us the run is over, and by somebody else, who has shut the executor down, it is to end.
        error = CancelledError() if future.cancelled() else future.exception()
        if error is not None:
            self._refused(lane, error)
        else:
            lane.latch.leave()

    def _refused(self, lane: Lane, error: BaseException) -> None:
        self._run.interrupt(refused(self._run.schedule.root.linked.plan.name, self._executor, error))
        lane.latch.leave()


def _is_thread_of(executor: Executor, thread: object) -> bool:
    # A thread that runs no lane of ours, as where the user has submitted what calls this run: only the executors of the
    # standard library say which threads are theirs.
    return runs_in_threads(executor) and thread in getattr(executor, "_threads", ())
