"""Lanes of threads: loops that take ready tasks out of the schedule of one run.

A lane is what a thread (or somebody's executor) runs: it takes a task, runs it and takes the next, so a bundle costs a
lock and no future. Lanes start one by one, and only while work is ready that nobody is free to take.
"""

from __future__ import annotations

import contextvars
import threading
from concurrent.futures import Executor, Future
from functools import partial
from typing import TYPE_CHECKING, List, Optional, Set, Tuple

from hypernodes.errors.running import refused
from hypernodes.lowering.plan import THREAD
from hypernodes.runtime.bundle.interpreter import execute
from hypernodes.runtime.drivers.growth import core_count, watch
from hypernodes.runtime.drivers.libraries import alike, kept_by_thread, lent
from hypernodes.runtime.drivers.places import Turn
from hypernodes.runtime.drivers.tasks import DONE, Outcome, perform
from hypernodes.runtime.schedule.frames import BundleTask

if TYPE_CHECKING:
    from hypernodes.runtime.drivers.run import Run
    from hypernodes.runtime.schedule.ready import Task

NOTHING, LANE, WATCH = range(3)
"""What follows when lanes were woken: nothing, one more of them, or a look whether there should be more."""

TAKE_OVER = 0.001
"""Seconds after which a lane that has nothing to do takes over rows that another holds and has not begun. That one
took no more than a tenth of this should have taken it, so nobody is disturbed where all goes as expected."""


_around: contextvars.ContextVar[Tuple[Executor, ...]] = contextvars.ContextVar("hypernodes.around", default=())
"""Executors with lanes of the runs that this code is within."""


class ThreadLanes:
    """The thread lanes of one run: threads of its own, or lanes submitted to an executor, which is never shut down.

    `reserved` lanes are started or about to be, `active` ones have begun to run, `idle` ones wait for work. As many as
    there are cores start as soon as there is work for them; beyond, `growth` says when, but for those of an executor.
    """

    def __init__(self, run: Run, limit: int, executor: Optional[Executor]) -> None:
        self._run = run
        self._limit = limit
        self.executor = executor
        self._kept = kept_by_thread() if executor is not None else ()
        around = run.context.get(_around, ())
        self._within = any(each is executor for each in around)
        if executor is not None:
            run.context.run(_around.set, (*around, executor))
        self._threads: List[threading.Thread] = []
        self._futures: Set[Future[None]] = set()
        self._work = threading.Condition(run.lock)
        self._count = 0
        # The coordinator counts among those that start at once where it takes what they do.
        self._at_once = limit if executor is not None else max(1, core_count() - (THREAD in run.own))
        self._watched = False
        # Work on an executor is bounded by the executor.
        self._places = run.places if executor is None else None
        self._turn = Turn()
        self.reserved = 0
        self.active = 0
        self.idle = 0

    def wake(self) -> int:
        """Let idle lanes take what is ready, or count in one more that would find work: then `grow` has to follow."""
        if not self.idle and (self.reserved >= self._limit or self._watched):
            return NOTHING
        ready = self._run.schedule.ready
        if not ready.has(THREAD):
            return NOTHING
        if self.idle:
            self._work.notify(min(ready.count(THREAD), self.idle))
            return NOTHING
        if self.reserved >= self._at_once:
            self._watched = True
            return WATCH
        self.reserved += 1
        return LANE

    def grow(self, more: int = LANE) -> None:
        """Start the lane that was counted in, or have somebody look whether there should be more."""
        if more == WATCH:
            watch.look_at(self)
            return
        self._count += 1
        try:
            if self.executor is None:
                lane = alike(self._lane)
                thread = threading.Thread(target=lane, name=f"hypernodes-{self._count}", daemon=True)
                thread.start()
                self._threads.append(thread)
            else:
                self._submit(self.executor)
        except RuntimeError:
            # No thread to be had: whoever is there already does the work.
            with self._run.lock:
                self.reserved -= 1
                self._limit = self.reserved
                if not self._limit:
                    self._run.join_threads()
                self._run.wakeup.set()

    def _submit(self, executor: Executor) -> None:
        try:
            future = executor.submit(self._lent_lane)
        except BaseException as error:
            # Work of an executor runs on it or not at all: elsewhere it would not find what its threads have.
            self._refused(executor, error)
            return
        self._futures.add(future)
        future.add_done_callback(partial(self._lane_done, executor))

    def _lane_done(self, executor: Executor, future: Future[None]) -> None:
        self._futures.discard(future)  # a run without end has lanes without end
        error = None if future.cancelled() else future.exception()
        if error is not None:
            self._refused(executor, error)

    def _refused(self, executor: Executor, error: BaseException) -> None:
        run = self._run
        with run.lock:
            self.reserved -= 1
        run.interrupt(refused(run.schedule.root.linked.plan.name, executor, error))

    def progress(self) -> Optional[Tuple[int, ...]]:
        """Return what changes when work is begun; None when none waits that more lanes could take."""
        run = self._run
        with run.lock:
            schedule = run.schedule
            if schedule.over or self.reserved >= self._limit or not schedule.ready.has(THREAD):
                self._watched = False
                return None
            return (*schedule.ready.progress(THREAD), self.idle)

    def add(self) -> None:
        """Start as many again as there are, and one more: those that only wait may be many."""
        with self._run.lock:
            schedule = self._run.schedule
            room = 0 if schedule.over else min(self._limit - self.reserved, schedule.ready.count(THREAD) - self.idle)
            count = max(0, min(room, 1 + self.reserved))
            self.reserved += count
        for _ in range(count):
            self.grow()

    @property
    def settled(self) -> bool:
        """Whether every lane there may be is at work and nobody else waits for any: then there is nobody to wake."""
        run = self._run
        return (
            (self.reserved >= self._limit or self._watched)
            and not self.idle
            and not run.mixed
            and not run.coordinator_waits
            and not run.schedule.over
        )

    @property
    def stalled(self) -> bool:
        """Whether work is ready and no lane has begun that could take it; read under the run's lock."""
        return not self.active and self._run.schedule.ready.has(THREAD)

    def serves(self, thread: threading.Thread) -> bool:
        """Return whether a thread is ours or the executor's own: waiting for those, it could wait for itself."""
        return thread in self._threads or thread in getattr(self.executor, "_threads", ())

    @property
    def may_wait_for_us(self) -> bool:
        """Whether threads of the executor may be waiting for this very run, which is within one of theirs."""
        return self.executor is not None and (self._within or self.serves(self._run.caller))

    def stop(self) -> None:
        """Let idle lanes, and those that wait for a place, see that the run is over; called under the run's lock."""
        if self._places is not None and not self._turn.over:
            self._places.end(self._turn)
        if self.idle:
            self._work.notify_all()

    def close(self) -> None:
        """Wait until every lane has ended; one that an executor never started is taken back."""
        watch.leave(self)
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
        lock, schedule = run.lock, run.schedule
        take, copied = schedule.take, run.context.copy
        before: Optional[Task] = None
        outcome = DONE
        places, placed = self._places, False
        with lock:
            self.active += 1
        while True:
            with lock:
                if before is not None:
                    run.settle(before, outcome)
                garbage = schedule.garbage
                if garbage:
                    schedule.garbage = []
                task = take(THREAD)
                more = NOTHING if task is None or self.settled else run.wake()
            # Here, and not when the next ones take their names: it may hold the last references to what is the user's.
            del garbage
            before, outcome = None, DONE
            if placed and (task is None or places.queue):  # type: ignore[union-attr]
                places.leave()  # type: ignore[union-attr]
                placed = False
            if task is None:
                with lock:
                    task = self._wait_for_task()
                    more = self._end() if task is None else NOTHING if self.settled else run.wake()
            if more:
                self.grow(more)
            if task is None:
                return
            if places is not None and not placed:
                placed = places.enter(self._turn, wait=False)
                if not placed:
                    # Others may have it meanwhile, such as the thread that called the run, which needs no place.
                    with lock:
                        schedule.give_back(THREAD, task)
                        run.offer()
                    del task
                    placed = places.enter(self._turn)
                    continue
            if type(task) is BundleTask:
                # What `perform` does: most tasks are bundles, and there may be very many.
                try:
                    frame = task.frame
                    copied().run(execute, frame.linked.codes[task.bundle], frame.slots)
                except BaseException as error:
                    outcome = Outcome(error)
                del frame
            else:
                outcome = perform(task, run)
            before = task
            del task

    def _wait_for_task(self) -> Optional[Task]:
        schedule = self._run.schedule
        ready = schedule.ready
        task = schedule.take(THREAD)
        # A lane on an executor gives its worker back, which others may be waiting for; one of ours waits for more.
        while task is None and not (schedule.over or (self.executor is not None and not ready.divisible)):
            self._run.wake()
            divisible = ready.divisible
            self.idle += 1
            woken = self._work.wait(TAKE_OVER if divisible else None)
            self.idle -= 1
            task = schedule.take(THREAD)
            if task is None and not woken:
                task = ready.take_over()
        return task

    def _end(self) -> int:
        self.active -= 1
        self.reserved -= 1
        return self._run.wake()
