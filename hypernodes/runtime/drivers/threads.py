"""Ready thread bundles in, their results in their frames out: loops that pull from the schedule.

A lane is what a thread (or somebody's executor) runs: it takes a bundle, runs it and takes the next, so a bundle
costs a lock and no future. Lanes start one by one, and only while work is ready that nobody is free to take.
"""

from __future__ import annotations

import threading
from concurrent.futures import Executor, Future
from typing import TYPE_CHECKING, List, Optional, Set

from hypernodes.lowering.plan import THREAD
from hypernodes.runtime.bundle.interpreter import execute
from hypernodes.runtime.drivers.libraries import alike, kept_by_thread, lent

if TYPE_CHECKING:
    from hypernodes.runtime.drivers.run import Run
    from hypernodes.runtime.schedule.frames import Task


class ThreadLanes:
    """The thread lanes of one run: threads of its own, or lanes submitted to an executor, which is never shut down.

    `reserved` lanes are started or about to be, `active` ones have begun to run, `idle` ones wait for work.
    """

    def __init__(self, run: Run, limit: int, executor: Optional[Executor]) -> None:
        self._run = run
        self._limit = limit
        self.executor = executor
        self._kept = kept_by_thread() if executor is not None else ()
        self._threads: List[threading.Thread] = []
        self._futures: Set[Future[None]] = set()
        self._work = threading.Condition(run.lock)
        self._count = 0
        self.reserved = 0
        self.active = 0
        self.idle = 0

    def reserve(self) -> bool:
        """Count in one more lane if it would find work; under the run's lock, and followed by `add` without it."""
        if not self.idle and self.reserved >= self._limit:
            return False
        schedule = self._run.schedule
        if not schedule.has_ready(THREAD):
            return False
        if self.idle:
            self._work.notify(min(schedule.count_ready(THREAD), self.idle))
            return False
        self.reserved += 1
        return True

    def add(self) -> None:
        """Start the lane that was reserved."""
        self._count += 1
        try:
            if self.executor is None:
                lane = alike(self._lane)
                thread = threading.Thread(target=lane, name=f"hypernodes-{self._count}", daemon=True)
                thread.start()
                self._threads.append(thread)
            else:
                future = self.executor.submit(self._lent_lane)
                self._futures.add(future)
                future.add_done_callback(self._futures.discard)  # a run without end has lanes without end
        except RuntimeError:
            # No thread to be had, or an executor that was shut down: whoever is there already does the work.
            with self._run.lock:
                self.reserved -= 1
                self._limit = self.reserved
                self._run.joins = self._run.joins or not self._limit
                self._run.ring()

    @property
    def settled(self) -> bool:
        """Whether every lane there may be is at work and nobody else waits for any: then there is nobody to wake."""
        run = self._run
        return (
            self.reserved >= self._limit
            and not self.idle
            and not run.mixed
            and not run.seat_waits
            and not run.schedule.over
        )

    @property
    def stalled(self) -> bool:
        """Whether work is ready and no lane has begun that could take it; read under the run's lock."""
        return not self.active and self._run.schedule.has_ready(THREAD)

    def serves(self, thread: threading.Thread) -> bool:
        """Return whether a thread is ours or the executor's own: waiting for those, it could wait for itself."""
        return thread in self._threads or thread in getattr(self.executor, "_threads", ())

    def release_idle(self) -> None:
        """Let idle lanes see that the run is over; called under the run's lock."""
        if self.idle:
            self._work.notify_all()

    def join(self) -> None:
        """Wait until every lane has ended; one that an executor never started is taken back."""
        for thread in self._threads:
            thread.join()
        for future in list(self._futures):
            if not future.cancel():
                future.exception()

    def _lent_lane(self) -> None:
        with lent(self._kept):
            self._lane()

    def _lane(self) -> None:
        run = self._run
        lock, schedule, copied = run.lock, run.schedule, run.context.copy
        task: Optional[Task] = None
        error: Optional[BaseException] = None
        with lock:
            self.active += 1
        while True:
            with lock:
                if task is not None:
                    run.settle(task, error)
                task = schedule.take(THREAD) or self._wait_for_task()
                more = self._end() if task is None else not self.settled and run.wake(THREAD)
            if more:
                self.add()
            if task is None:
                return
            try:
                copied().run(execute, task.frame.linked.codes[task.bundle], task.frame.slots)
                error = None
            except BaseException as raised:
                error = raised

    def _wait_for_task(self) -> Optional[Task]:
        schedule = self._run.schedule
        task: Optional[Task] = None
        # A lane on an executor gives its worker back, which others may be waiting for; one of ours waits for more.
        while task is None and not (schedule.done or schedule.stopped or self.executor is not None):
            self._run.wake(THREAD)
            self.idle += 1
            self._work.wait()
            self.idle -= 1
            task = schedule.take(THREAD)
        return task

    def _end(self) -> bool:
        self.active -= 1
        self.reserved -= 1
        return self._run.wake(THREAD)


def run_task(task: Task, run: Run) -> Optional[BaseException]:
    """Run a plain bundle in this thread, in a copy of the caller's context; return what it raised."""
    frame = task.frame
    try:
        run.context.copy().run(execute, frame.linked.codes[task.bundle], frame.slots)
    except BaseException as error:
        return error
    return None
