"""The thread that a run is called from: it runs inline tasks, feeds worker processes, and takes thread bundles as well.

Where it has nothing better to do it waits, for lanes to wake it or for workers to respond, until the run is done and
nothing that was started still runs.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Optional

from hypernodes.lowering.plan import THREAD
from hypernodes.runtime.bundle.cancellation import enclosing, within
from hypernodes.runtime.bundle.interpreter import Slots, execute
from hypernodes.runtime.bundle.linked import LinkedPlan
from hypernodes.runtime.drivers.interrupts import interruptible
from hypernodes.runtime.drivers.run import Resources, Run
from hypernodes.runtime.drivers.services import Services
from hypernodes.runtime.drivers.tasks import DONE, Outcome, perform
from hypernodes.runtime.drivers.threads import TAKE_OVER
from hypernodes.runtime.schedule.schedule import Failures

if TYPE_CHECKING:
    from hypernodes.runtime.schedule.ready import Task

PATIENCE = 0.01
"""Seconds between looks at lanes that come home after a fault that no node made; and those after which the coordinator
does work of an executor whose threads may be waiting for it."""


class Coordinator:
    """Works in the thread that calls `work`: the caller's own, or one beside its event loop."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.in_node = False
        self.interrupted: Optional[BaseException] = None
        self._stalled_since: Optional[float] = None

    def work(self) -> None:
        """Work until the schedule is done and nothing that was started still runs."""
        run = self.run
        try:
            with interruptible(self), within(run.halt):
                self._serve()
        except BaseException as error:
            # Something that is no node's fault was raised here; the lanes still have to come home.
            self._abandon(error)
        finally:
            run.close()
        if self.interrupted is not None:
            # It came when there was nothing left to stop, and is the caller's all the same.
            raise self.interrupted

    def interrupt(self) -> None:
        """Take note of Ctrl-C while no node runs here; called by a signal handler."""
        self.interrupted = KeyboardInterrupt()
        self.run.wakeup.set()

    def _serve(self) -> None:
        run, schedule, feeder = self.run, self.run.schedule, self.run.feeder
        before: Optional[Task] = None
        outcome = DONE
        while True:
            with run.lock:
                run.coordinator_waits = False
                if before is not None:
                    run.settle(before, outcome)
                self._note_interrupt()
                task = self._take()
                work = feeder.take() if feeder is not None and task is None else None
                done = schedule.done
                more = False if task is not None and run.settled else run.wake()
                run.coordinator_waits = task is None and work is None and not done
                garbage = run.garbage()
            # Here, and not when the next ones take their names: it may hold the last references to what is the user's.
            del garbage
            before, outcome = None, DONE
            if more:
                run.grow()
            if run.executor is not None:
                run.executor.submit()
            if work is not None and feeder is not None:
                feeder.send(work)
                continue  # another worker may be free as well
            if task is None:
                if done:
                    return
                if schedule.stopped and feeder is not None and feeder.busy:
                    feeder.abandon()
                    continue
                task = self._wait()
            if task is not None:
                outcome = self._run_here(task)
                before = task

    def _take(self) -> Optional[Task]:
        for placement in self.run.own:
            task = self.run.schedule.take(placement)
            if task is not None:
                return task
        return None

    def _run_here(self, task: Task) -> Outcome:
        """Run a task; Ctrl-C reaches its node as it would without us."""
        self.in_node = True
        try:
            return perform(task, self.run)
        except KeyboardInterrupt as interrupt:
            return Outcome(interrupt)
        finally:
            self.in_node = False

    def _note_interrupt(self) -> None:
        """Turn an interrupt that came while no node ran here into a failure of the run. Under the lock."""
        error = self.interrupted
        if error is not None and not self.run.schedule.done:
            self.interrupted = None
            self.run.schedule.fail(None, error)

    def _wait(self) -> Optional[Task]:
        """Wait until there is something to do; return a task that nobody else has taken for too long."""
        run, ready = self.run, self.run.schedule.ready
        timeout: Optional[float] = None
        if run.executor is not None:
            # Again and again, since an executor lists a thread among its own a moment after it has started.
            timeout = PATIENCE
            with run.lock:
                self._look_at_lanes()
        elif THREAD in run.own and ready.divisible:
            timeout = TAKE_OVER
        run.wait(timeout)
        with run.lock:
            if run.executor is not None:
                self._look_at_lanes()
                since = self._stalled_since
                stalled = since is not None and time.monotonic() - since >= PATIENCE
                return run.schedule.take(THREAD) if stalled else None
            return ready.take_over() if timeout is not None and not self._has_own() else None

    def _has_own(self) -> bool:
        return any(self.run.schedule.ready.has(name) for name in self.run.own)

    def _look_at_lanes(self) -> None:
        """Note since when no lane has begun to take what is ready. Under the lock."""
        if not self.run.stalled:
            self._stalled_since = None
        elif self._stalled_since is None:
            self._stalled_since = time.monotonic()

    def _abandon(self, error: BaseException) -> None:
        run = self.run
        run.interrupt(error)
        if run.feeder is not None:
            run.feeder.abandon()
        # Not until the schedule is done: what was in hand here when it failed will never be finished.
        while not run.schedule.done and run.lanes_at_work():
            time.sleep(PATIENCE)


def run_plan(linked: LinkedPlan, slots: Slots, resources: Resources) -> Failures:
    """Run a plan from this thread; return its failures, in the order in which they happened.

    Whatever was started is gone on return: threads joined, coroutines ended, processes idle or dropped.
    """
    services = slots[0] = Services()
    try:
        if linked.inline:
            services.apart = enclosing() is not None
            with within(services.stop):
                return straight(linked, slots)
        run = Run(linked, slots, resources, services)
        Coordinator(run).work()
        return run.schedule.failures
    finally:
        services.close()


def straight(linked: LinkedPlan, slots: Slots) -> Failures:
    """Run a plan of one bundle here and now."""
    try:
        for code in linked.codes:
            execute(code, slots)
    except BaseException as error:
        return [(None, error)]
    return []
