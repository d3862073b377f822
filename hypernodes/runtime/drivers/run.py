"""A linked plan and its inputs in, the root frame's slots filled out: one run, from the first lane to the last.

The *seat* is the thread a run is called from: it runs inline bundles, feeds worker processes, takes thread bundles
where it has nothing better to do, and otherwise waits for its bell. Lanes of threads and of the event loop pull from
the same schedule beside it, under one lock. ::

    seat (caller) ─┐
    thread lanes  ─┼─ lock ─▶ Schedule ◀─ lock ─┬─ loop lanes
                   └────────────────────────────┴─ requests to processes (from the seat)
"""

from __future__ import annotations

import contextvars
import queue
import threading
import time
from typing import Any, Callable, List, Optional, Tuple

import attrs

from hypernodes.lowering.plan import INLINE, LOOP, PROCESS, THREAD
from hypernodes.runtime.bundle.cancellation import Stopped, enclose, is_stop, within
from hypernodes.runtime.bundle.interpreter import Slots, execute
from hypernodes.runtime.bundle.linked import LinkedPlan
from hypernodes.runtime.bundle.maps import Listener
from hypernodes.runtime.drivers.interrupts import interruptible
from hypernodes.runtime.drivers.loop import LoopLanes
from hypernodes.runtime.drivers.services import Services
from hypernodes.runtime.drivers.threads import ThreadLanes, run_task
from hypernodes.runtime.processes.lane import ProcessLane, Transport
from hypernodes.runtime.schedule.feed import Feed, Row
from hypernodes.runtime.schedule.frames import Task
from hypernodes.runtime.schedule.schedule import Schedule

SEAT = "seat"
FEEDER = "feeder"
PATIENCE = 0.01
"""Seconds between looks at lanes that come home after a fault that no node made."""

GRACE = 1.0
"""Seconds the seat waits for somebody's executor to begin before it does the work itself. A caller that is known to
be one of the executor's own threads does not wait at all, since it could be waiting for itself."""


@attrs.frozen
class Resources:
    """What a backend lends to a run: the number of workers, an executor for thread lanes, a transport to processes.

    Work that its worker died with is tried on `worker_retries` more of them.
    """

    max_workers: int
    executor: Any = None
    transport: Optional[Callable[[], Transport]] = None
    worker_retries: int = 0
    listener: Optional[Listener] = None
    events: Optional[Callable[[Any], None]] = None


class Run:
    """One run in progress. `lock` guards the schedule; everything called "under the lock" expects it held."""

    def __init__(
        self,
        linked: LinkedPlan,
        slots: Slots,
        resources: Resources,
        services: Services,
        feed: Optional[Feed] = None,
    ) -> None:
        self.lock = threading.Lock()
        self.caller = threading.current_thread()
        self.context = contextvars.copy_context()
        enclose(self.context, services)
        self.services = services
        self.interrupted: Optional[BaseException] = None
        self.in_node = False
        self.bell: Any = queue.SimpleQueue()
        self.seat_waits = False
        self._over = False
        self._feed = feed
        used = linked.placements_used
        self.mixed = len(used) > 1
        self.inline = INLINE in used
        self.processes = ProcessLane(self, linked, resources) if PROCESS in used else None
        chunk = self.processes.chunk if self.processes else None
        try:
            self.schedule = Schedule(linked, slots, resources.max_workers, resources.listener, chunk, feed)
            self.joins = THREAD in used and resources.executor is None and self.processes is None
            # A seat that takes thread bundles is one of the workers.
            lanes = resources.max_workers - (1 if self.joins and not self.inline else 0)
            self.threads = ThreadLanes(self, lanes, resources.executor) if THREAD in used else None
            self.loop = LoopLanes(self, services.loop()) if LOOP in used else None
        except BaseException:
            if self.processes is not None:
                self.processes.close()
            raise

    @property
    def fed(self) -> bool:
        """Whether it is a stream, whose rows come while it runs."""
        return self._feed is not None

    # -- under the lock -----------------------------------------------------------------------------------------------

    def settle(self, task: Task, error: Optional[BaseException]) -> None:
        """Tell the schedule how a task ended."""
        if error is None:
            self.schedule.finish(task)
        elif is_stop(error):
            self.schedule.drop(task)
        else:
            self.schedule.fail(task, error)

    def wake(self, who: str) -> bool:
        """Let others take what has become ready; True asks the caller to add a thread lane, without the lock."""
        schedule = self.schedule
        if schedule.stopped or schedule.finished:
            self._wind_down()
            return False
        if self.loop is not None and schedule.has_ready(LOOP):
            self.loop.poke()
        if self.seat_waits and self._seat_has_work():
            self.ring()
            if self.joins:
                return False
        return self.threads is not None and self.threads.reserve()

    def _seat_has_work(self) -> bool:
        ready = self.schedule.has_ready
        return (
            (self.inline and ready(INLINE))
            or (self.processes is not None and ready(PROCESS))
            or (self.joins and ready(THREAD))
        )

    def ring(self) -> None:
        """Wake the seat."""
        self.seat_waits = False
        self.bell.put(None)

    def _wind_down(self) -> None:
        if self.threads is not None:
            self.threads.release_idle()
        # Once is enough: a seat that rings for itself would not wait, but spin until the last lane is home.
        if self.schedule.stopped and not self._over:
            self.services.stop()
            if self.loop is not None:
                self.loop.cancel()
            self.ring()
        if self.schedule.done:
            self.ring()
        self._over = True

    # -- the feed -----------------------------------------------------------------------------------------------------

    def push(self, row: Row) -> None:
        """Add a row to the map that is fed, from any thread."""
        with self.lock:
            self.schedule.push(row)
            more = self.wake(FEEDER)
        if more and self.threads is not None:
            self.threads.add()

    def window(self) -> int:
        """Return how many rows may have been pushed whose items have not been handed over."""
        assert self._feed is not None
        map_run = self._feed.map_run
        # As many again as may run, so that lanes find the next row while the consumer is busy with a result.
        return self.processes.window(map_run) if self.processes else 2 * map_run.width

    def serves(self, thread: threading.Thread) -> bool:
        """Return whether a thread works for this run."""
        return self.services.serves(thread) or (self.threads is not None and self.threads.serves(thread))

    def entered(self) -> bool:
        """Return whether this thread holds something that the end of this run may wait for."""
        return self.processes is not None and self.processes.entered()

    def end_feed(self) -> None:
        """Let the map that is fed end with the rows it has."""
        with self.lock:
            self.schedule.end_feed()
            self.wake(FEEDER)

    # -- the seat -----------------------------------------------------------------------------------------------------

    def work(self) -> None:
        """Work until the schedule is done and nothing that was started still runs."""
        try:
            with interruptible(self), within(self.halt):
                if self.processes is not None:
                    self.processes.serve()
                else:
                    self._serve()
        except BaseException as error:
            # Something that is no node's fault reached the seat; the lanes still have to come home.
            self._abandon(error)
        finally:
            self._close()
            self.release()
        if self.interrupted is not None:
            # It came when there was nothing left to stop, and is the caller's all the same.
            raise self.interrupted

    def _serve(self) -> None:
        task: Optional[Task] = None
        error: Optional[BaseException] = None
        done = False
        while True:
            with self.lock:
                self.seat_waits = False
                if task is not None:
                    self.settle(task, error)
                if self.interrupted is not None:
                    self.note_interrupt()
                task = self.take_seat()
                more = not (task is not None and self.threads is not None and self.threads.settled) and self.wake(SEAT)
                if task is None:
                    done = self.schedule.done
                    self.seat_waits = not done
            if more and self.threads is not None:
                self.threads.add()
            if task is not None:
                error = self.run_here(task)
            elif done:
                return
            else:
                self._wait()

    def take_seat(self) -> Optional[Task]:
        """Return a task for the seat: an inline one, or a thread bundle that no lane has taken. Under the lock."""
        if self.schedule.stopped:
            return None
        task = self.schedule.take(INLINE) if self.inline else None
        if task is None and self.joins:
            task = self.schedule.take(THREAD)
        return task

    def run_here(self, task: Task) -> Optional[BaseException]:
        """Run a task in the seat; Ctrl-C reaches its node as it would without us."""
        self.in_node = True
        try:
            return run_task(task, self)
        except KeyboardInterrupt as interrupt:
            return interrupt
        finally:
            self.in_node = False

    def note_interrupt(self) -> None:
        """Turn an interrupt that came while no node ran here into a failure of the run. Under the lock."""
        error = self.interrupted
        if error is not None and not self.schedule.done:
            self.interrupted = None
            self.schedule.fail(None, error)

    def interrupt(self, error: BaseException) -> None:
        """Stop the run from outside, from any thread."""
        with self.lock:
            if not self.schedule.done:
                self.schedule.fail(None, error)
                self._wind_down()

    def stop(self) -> None:
        """Let nothing new start and what runs come to its end, unless it does so already; from any thread."""
        self._end(GeneratorExit())

    def halt(self) -> None:
        """Do that because the run that this one is within has been stopped."""
        self._end(Stopped())

    def _end(self, error: BaseException) -> None:
        with self.lock:
            if not self.schedule.over:
                self.schedule.fail(None, error)
                self._wind_down()

    def _wait(self) -> None:
        try:
            self.bell.get(timeout=self.patience())
        except queue.Empty:
            self.help_out()

    def patience(self) -> Optional[float]:
        """Return how many seconds the seat waits before it looks whether an executor has begun; None without one."""
        threads = self.threads
        if threads is None or threads.executor is None:
            return None
        return 0.01 if threads.serves(self.caller) else GRACE

    def help_out(self) -> None:
        """Do one task in the seat when an executor has not begun any lane."""
        assert self.threads is not None
        with self.lock:
            task = self.schedule.take(THREAD) if self.threads.stalled else None
        if task is not None:
            error = self.run_here(task)
            with self.lock:
                self.settle(task, error)
                more = self.wake(SEAT)
            if more:
                self.threads.add()

    def _abandon(self, error: BaseException) -> None:
        with self.lock:
            if not self.schedule.done:
                self.schedule.fail(None, error)
            self._wind_down()
        if self.processes is not None:
            self.processes.abandon()
        # Not until the schedule is done: what the seat itself had in hand when it failed will never be finished.
        while not self.schedule.done and self._lanes_at_work():
            time.sleep(PATIENCE)

    def _lanes_at_work(self) -> bool:
        return (self.threads is not None and self.threads.active > 0) or (self.loop is not None and self.loop.active)

    def _close(self) -> None:
        with self.lock:
            self._wind_down()
        if self.threads is not None:
            self.threads.join()
        if self.processes is not None:
            self.processes.close()

    def release(self) -> None:
        """Let go of the lanes, which have ended: they refer to the run, and a cycle would keep all results alive."""
        self.threads = self.loop = None


Failures = List[Tuple[Optional[Task], BaseException]]
SlotZero = Callable[[Services], Any]
"""Makes what a root frame holds in slot 0 from the services of its run: these themselves, unless somebody listens."""


def run_plan(linked: LinkedPlan, slots: Slots, resources: Resources, slot_zero: Optional[SlotZero] = None) -> Failures:
    """Run a plan from this thread; return its failures, in the order in which they happened.

    Whatever was started is gone on return: threads joined, coroutines ended, processes idle or dropped.
    """
    services = Services()
    slots[0] = slot_zero(services) if slot_zero else services
    try:
        if linked.inline:
            with within(services.stop):
                return straight(linked, slots)
        run = Run(linked, slots, resources, services)
        run.work()
        return run.schedule.failures
    finally:
        services.close()


def straight(linked: LinkedPlan, slots: Slots) -> Failures:
    try:
        for code in linked.codes:
            execute(code, slots)
    except BaseException as error:
        return [(None, error)]
    return []
