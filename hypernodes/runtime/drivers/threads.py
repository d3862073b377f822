"""Lanes of threads: loops that take ready tasks of one placement out of the schedule of one run.

A lane is what a thread runs: it takes a task, runs it and takes the next, so a bundle costs a lock and no future. There
is one more while work is ready that nobody is free to take; where threads come from is for its lender to say, the
backend's pool or an executor of the user's.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Optional, Protocol, Set, Tuple

from hypernodes.errors import InitializerError
from hypernodes.lowering.plan import THREAD
from hypernodes.runtime.bundle.interpreter import execute
from hypernodes.runtime.drivers.in_progress import InProgress
from hypernodes.runtime.drivers.latch import Latch
from hypernodes.runtime.drivers.libraries import Kept
from hypernodes.runtime.drivers.tasks import DONE, Outcome, perform
from hypernodes.runtime.drivers.thread_pool import Lane
from hypernodes.runtime.drivers.waits import waiting
from hypernodes.runtime.schedule.frames import BundleTask

if TYPE_CHECKING:
    from hypernodes.runtime.schedule.ready import Task

TAKE_OVER = 0.001
"""Seconds after which a lane that has nothing to do takes over rows that another holds and has not begun. That one
took no more than a tenth of this should have taken it, so nobody is disturbed where all goes as expected."""


class Lender(Protocol):
    """Where lanes get their threads from."""

    @property
    def presses(self) -> Optional[object]:
        """Return who waits for the thread of a lane: a lane, or, where it is none, several; None where nobody does."""

    def ask(self, lane: Lane) -> bool:
        """Have a thread run a lane; return whether `start` is to be called then, without a lock."""

    def take_back(self, lane: Lane) -> bool:
        """Return whether no thread has begun a lane that was asked for, and none will."""

    def start(self) -> None:
        """Start what was asked for."""

    def kept(self) -> Kept:
        """Return what libraries are to keep for these threads as they do for this one."""


class ThreadLanes:
    """The lanes of one run that take tasks of one placement, at most `limit` of them at once.

    `out` lanes were asked for or are at work, one of them, when `asked`, by nobody yet; `idle` ones wait for rows that
    they may take over. All of it is guarded by the run's lock.
    """

    def __init__(self, run: InProgress, placement: str, limit: int, lender: Lender) -> None:
        self._run = run
        self.placement = placement
        self.limit = limit
        self._lender = lender
        self._rows = threading.Condition(run.lock)
        self._threads: Set[threading.Thread] = set()
        self.kept = lender.kept()
        self.latch = Latch()
        self.asked = False
        self.out = 0
        self.idle = 0

    # -- for the run --------------------------------------------------------------------------------------------------

    def wake(self) -> bool:
        """Let a lane take what is ready; return whether `start` of its lender is to be called. Under the run's lock."""
        if (self.out >= self.limit or self.asked) and not self.idle:
            return False
        ready = self._run.schedule.ready
        if not ready.has(self.placement):
            return False
        if self.idle:
            self._rows.notify(min(ready.count(self.placement), self.idle))
            return False
        self.asked = True
        self.out += 1
        return self._lender.ask(self)

    def stop(self) -> None:
        """Let nobody wait for a lane, or in it, since the run is over. Under the run's lock."""
        if self.asked and self._lender.take_back(self):
            self.asked = False
            self.out -= 1
        if self.idle:
            self._rows.notify_all()

    def serves(self, thread: threading.Thread) -> bool:
        """Return whether a thread runs one of these lanes."""
        return thread in self._threads

    # -- for the lender -----------------------------------------------------------------------------------------------

    @property
    def wanted(self) -> bool:
        """Whether a lane would find something to do; a look without a lock."""
        return self._run.schedule.ready.has(self.placement)

    def progress(self) -> Tuple[int, ...]:
        """Return what changes when tasks are put in or taken; a look without a lock."""
        return self._run.schedule.ready.progress(self.placement)

    def refused(self, error: BaseException) -> None:
        """Do without: the coordinator takes what it can, and for what it cannot the run ends."""
        run = self._run
        with run.lock:
            self.asked = False
            self.out -= 1
            self.limit = self.out
            helped = not isinstance(error, InitializerError) and run.join_threads(self.placement)
        if not helped:
            run.interrupt(error)

    def work(self) -> None:
        """Take tasks and run them while there are any; what is wrong in here and no node's fault ends the run."""
        run, thread = self._run, threading.current_thread()
        self._threads.add(thread)
        try:
            if run.abandoned:
                run.stop()
            self._serve()
        except BaseException as error:
            with run.lock:
                self.asked = False
                self.out -= 1
            run.interrupt(error)
        finally:
            self._threads.discard(thread)

    def _serve(self) -> None:
        run, lender, placement = self._run, self._lender, self.placement
        lock, schedule = run.lock, run.schedule
        take, copied, ready = schedule.take, run.context.copy, schedule.ready
        before: Optional[Task] = None
        outcome, served, stays = DONE, False, True
        with lock:
            self.asked = False
        while True:
            with lock:
                if before is not None:
                    run.settle(before, outcome)
                garbage = schedule.garbage
                if garbage:
                    schedule.garbage = []
                presses = lender.presses
                task = take(placement) if presses is None or presses is self or not served else None
                if task is None:
                    stays = self._has_rows() and not ready.has(placement)
                    self.out -= not stays
                    more = run.wake()
                else:
                    more = not run.settled and run.wake()
            # Here, and not when the next ones take their names: it may hold the last references to what is the user's.
            del garbage
            before, outcome = None, DONE
            if more:
                run.grow()
            served = True
            if task is None:
                if not stays:
                    return
                task = self._wait_for_rows()
                if task is None:
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

    def _has_rows(self) -> bool:
        """Return whether rows that others hold may be taken over, by who has time for it."""
        schedule = self._run.schedule
        return self.placement == THREAD and schedule.ready.divisible and not schedule.over

    def _wait_for_rows(self) -> Optional[Task]:
        """Return a task when there is one, or rows that nobody has begun for too long; None when there is none."""
        run, schedule = self._run, self._run.schedule
        task: Optional[Task] = None
        with waiting(), run.lock:
            while task is None and self._has_rows():
                self.idle += 1
                woken = self._rows.wait(TAKE_OVER)
                self.idle -= 1
                task = schedule.take(self.placement)
                if task is None and not woken:
                    task = schedule.ready.take_over()
        if task is not None and self._lender.presses not in (None, self):
            # Others compute in the meantime, and this thread would be one too many.
            with run.lock:
                schedule.give_back(self.placement, task)
            return None
        return task
