"""One run in progress: its schedule, the lock around it, and the lanes that work for it.

Lanes of threads and of the event loop take tasks out of the same schedule, and so does the coordinator, the thread that
a run is called from. ::

    coordinator ─┐                        ┌─ loop lanes
    thread lanes ┼─ lock ─▶ Schedule ◀─ lock ─┤
                 └────────────────────────┴─ work for processes (by the coordinator)

The lock guards the schedule and what says who waits; nothing of the user's runs while it is held. Who holds it may ask
for the lock of a pool, to borrow a worker or to ask for a thread, or for that of the thread of hooks, to start it;
nobody asks the other way round.
"""

from __future__ import annotations

import contextvars
import threading
from functools import partial
from typing import Any, Callable, List, Optional, Protocol, Set, Tuple

import attrs

from hypernodes.events.subscriber import AT_ONCE, AtOnce
from hypernodes.lowering.plan import INLINE, LOOP, PROCESS, THREAD
from hypernodes.runtime.bundle.cancellation import is_stop
from hypernodes.runtime.bundle.interpreter import Slots, Stopped, is_exception
from hypernodes.runtime.bundle.layers import Layers
from hypernodes.runtime.bundle.linked import LinkedPlan
from hypernodes.runtime.drivers.executor_threads import ExecutorThreads
from hypernodes.runtime.drivers.loop import LoopLanes
from hypernodes.runtime.drivers.services import Services
from hypernodes.runtime.drivers.tasks import DONE, Outcome
from hypernodes.runtime.drivers.thread_pool import ThreadPool
from hypernodes.runtime.drivers.threads import ThreadLanes
from hypernodes.runtime.drivers.waits import waiting
from hypernodes.runtime.drivers.wakeup import ThreadWakeup, Wakeup
from hypernodes.runtime.schedule.feed import Feed
from hypernodes.runtime.schedule.frames import Chunk, MapRun
from hypernodes.runtime.schedule.pace import rows_at_once
from hypernodes.runtime.schedule.ready import ChunkSize, Task
from hypernodes.runtime.schedule.schedule import Schedule
from hypernodes.runtime.schedule.source import Row


class Feeder(Protocol):
    """Lanes that the coordinator feeds, and waits for: those of worker processes."""

    @property
    def busy(self) -> bool:
        """Whether work of this run is with them, or waits to be sent again."""

    def chunk(self, map_run: MapRun) -> int:
        """Return how many items the next chunk of a map holds."""

    def window(self, map_run: MapRun) -> int:
        """Return how many items of a fed map may be on their way."""

    def take(self) -> Any:
        """Take what can be sent now, or None; under the run's lock."""

    def send(self, work: Any) -> None:
        """Send it."""

    def wait(self, timeout: Optional[float]) -> None:
        """Wait for responses, a wake-up or `timeout` seconds, and take in what has come."""

    def set(self) -> None:
        """End that wait."""

    def entered(self) -> bool:
        """Whether this thread is in the middle of lending or returning a worker."""

    def abandon(self) -> None:
        """End work in flight with its workers."""

    def close(self) -> None:
        """Do that, and give the workers back."""


@attrs.frozen
class Resources:
    """What a backend lends to a run: its threads, an executor instead of them, what feeds processes.

    At most `max_workers` tasks are out at once. Work that its worker died with is tried on `worker_retries` more.
    """

    max_workers: int
    threads: ThreadPool
    executor: Any = None
    feeder: Optional[Callable[[Run, LinkedPlan, Resources], Feeder]] = None
    worker_retries: int = 0
    layers: Optional[Layers] = None
    events: Optional[Callable[[Any], None]] = None
    subscriber: AtOnce = AT_ONCE


class Run:
    """One run in progress. `lock` guards the schedule; everything called "under the lock" expects it held.

    Where its coordinator is `beside` an event loop, or a task on it, nothing of the user's runs in its thread.
    """

    def __init__(
        self,
        linked: LinkedPlan,
        slots: Slots,
        resources: Resources,
        services: Services,
        feed: Optional[Feed] = None,
        beside: bool = False,
    ) -> None:
        self.lock = threading.Lock()
        self.caller = threading.current_thread()
        self.context = contextvars.copy_context()
        services.surround(self.context)
        self.services = services
        services.apart = True
        self._thread_wakeup = ThreadWakeup()
        self.wakeup: Wakeup = self._thread_wakeup
        self.coordinator_waits = False
        self.beside = beside
        self._wound_down = self._closed = False
        self._feed = feed
        used = linked.placements_used
        self.feeder = resources.feeder(self, linked, resources) if PROCESS in used and resources.feeder else None
        try:
            in_lanes: ChunkSize = partial(rows_at_once, resources.max_workers)
            sizes = {THREAD: in_lanes, INLINE: in_lanes}
            if self.feeder is not None:
                self.wakeup = self.feeder
                sizes[PROCESS] = self.feeder.chunk
            self.schedule = Schedule(linked, slots, resources.max_workers, resources.layers, sizes, feed)
            # What an initializer has set is not in this thread.
            elsewhere = beside or resources.executor is not None or resources.threads.initializer is not None
            joins = THREAD in used and self.feeder is None and not elsewhere
            self.own = self._own(used, joins, beside)
            """Placements of the tasks that the coordinator takes."""
            self.executor = ExecutorThreads(self, resources.executor) if resources.executor is not None else None
            self.lanes = self._lanes(resources, beside)
            self._only = (
                self.lanes[0] if self.lanes and [lanes.placement for lanes in self.lanes] == list(used) else None
            )
            self.loop = LoopLanes(self, services.loop()) if LOOP in used else None
        except BaseException:
            if self.feeder is not None:
                self.feeder.close()
            raise
        self._threads = resources.threads
        self._joined = self._threads.enter(self, joins=self.own == (THREAD,))
        self.subscriber = resources.subscriber
        self.subscriber.begin(self.interrupt)

    @staticmethod
    def _own(used: Set[str], joins: bool, beside: bool) -> Tuple[str, ...]:
        inline = (INLINE,) if INLINE in used and not beside else ()
        return (*inline, THREAD) if joins else inline

    def _lanes(self, resources: Resources, beside: bool) -> List[ThreadLanes]:
        placements, found = self.schedule.ready.tasks, []
        if THREAD in placements:
            # A coordinator that takes thread bundles is one of the workers.
            limit = resources.max_workers - (self.own == (THREAD,))
            found.append(ThreadLanes(self, THREAD, limit, self.executor or resources.threads))
        if beside and INLINE in placements:
            found.append(ThreadLanes(self, INLINE, 1, resources.threads))
        return found

    # -- under the lock -----------------------------------------------------------------------------------------------

    def settle(self, task: Task, outcome: Outcome) -> None:
        """Tell the schedule how a task ended."""
        if outcome is DONE:
            self.schedule.finish(task)
            return
        schedule, (error, expansion, results, completed, seconds) = self.schedule, outcome
        kind = type(task)
        if completed and kind is Chunk:
            task.map_run.pace = (seconds / completed, completed)  # type: ignore[union-attr]
            schedule.put(task, 0, results, completed)  # type: ignore[arg-type]
        if error is None:
            if kind is Chunk:
                schedule.finish_chunk(task, completed)  # type: ignore[arg-type]
            else:
                schedule.expanded(task, expansion)  # type: ignore[arg-type]
        elif is_stop(error):
            schedule.drop(task)
        else:
            schedule.fail(task, error, completed)

    def garbage(self) -> List[Any]:
        """Return what nobody reads any more; it is dropped when the caller lets go of it, without the lock."""
        schedule = self.schedule
        found = schedule.garbage
        if found:
            schedule.garbage = []
        return found

    def wake(self) -> bool:
        """Let others take what is ready; return whether `grow` is to be called, without the lock."""
        schedule = self.schedule
        if schedule.over:
            self._wind_down()
            return False
        if self.loop is not None:
            self.loop.wake()
        if self.offer() and THREAD in self.own:
            return False
        more = False
        for lanes in self.lanes:
            more = lanes.wake() or more
        return more

    @property
    def settled(self) -> bool:
        """Whether every lane there may be is at work and nobody else waits for any: then there is nobody to wake."""
        lanes = self._only
        return (
            lanes is not None
            and (lanes.out >= lanes.limit or lanes.asked)
            and not lanes.idle
            and not self.coordinator_waits
            and not self.schedule.over
        )

    @property
    def stalled(self) -> bool:
        """Whether work for the user's executor is ready, and no lane has begun there, maybe because it waits for us."""
        if self.executor is None or not self.executor.may_wait_for_us:
            return False
        ready, begun = self.schedule.ready, any(lanes.out > lanes.asked for lanes in self.lanes)
        return not begun and THREAD in ready.tasks and ready.has(THREAD)

    def offer(self) -> bool:
        """Wake a coordinator that waits and finds something to take; return whether there was one."""
        woken = self.coordinator_waits and self._coordinator_has_work()
        if woken:
            self._wake_coordinator()
        return woken

    def _coordinator_has_work(self) -> bool:
        ready = self.schedule.ready
        return any(ready.has(name) for name in self.own) or (self.feeder is not None and ready.has(PROCESS))

    def wait(self, timeout: Optional[float]) -> None:
        """Let the coordinator wait, without the lock, until it is woken or `timeout` seconds have passed."""
        with waiting():
            (self.feeder or self._thread_wakeup).wait(timeout)

    def _wake_coordinator(self) -> None:
        self.coordinator_waits = False
        self.wakeup.set()

    def join_threads(self, placement: str) -> bool:
        """Let the coordinator take what thread lanes would, since there are none; return whether it can."""
        if self.beside:
            return False
        if placement not in self.own:
            self.own = (*self.own, placement)
        self._wake_coordinator()
        return True

    def wake_coordinator(self) -> None:
        """Let the coordinator look, if it waits."""
        if self.coordinator_waits:
            self._wake_coordinator()

    def _wind_down(self) -> None:
        for lanes in self.lanes:
            lanes.stop()
        # Once is enough: a coordinator that wakes itself would not wait, but spin until the last lane has ended.
        if self.schedule.stopped and not self._wound_down:
            self.services.stop()
            if self.loop is not None:
                self.loop.stop()
            self._wake_coordinator()
        if self.schedule.done:
            self._wake_coordinator()
        self._wound_down = True

    # -- the feed -----------------------------------------------------------------------------------------------------

    @property
    def fed(self) -> bool:
        """Whether it is a stream, whose rows come while it runs."""
        return self._feed is not None

    def push(self, row: Row) -> None:
        """Add a row to the map that is fed, from any thread."""
        with self.lock:
            self.schedule.push(row)
            more = self.wake()
        if more:
            self.grow()

    def grow(self) -> None:
        """Let threads start that lanes were asked for."""
        self._threads.start()

    def window(self) -> int:
        """Return how many rows may have been pushed whose items have not been handed over."""
        assert self._feed is not None
        map_run = self._feed.map_run
        # As many again as may run, so that lanes find the next row while the consumer is busy with a result.
        return self.feeder.window(map_run) if self.feeder else 2 * map_run.width

    def serves(self, thread: threading.Thread) -> bool:
        """Return whether a thread works for this run."""
        return (
            self.services.serves(thread)
            or self.subscriber.serves(thread)
            or any(lanes.serves(thread) for lanes in self.lanes)
        )

    @property
    def hurries(self) -> bool:
        """Whether it was interrupted, cancelled or left: what is not told soon need not be."""
        return any(not is_exception(error) for _, error in self.schedule.failures)

    def entered(self) -> bool:
        """Return whether this thread holds something that the end of this run may wait for."""
        return self.feeder is not None and self.feeder.entered()

    def end_feed(self) -> None:
        """Let the map that is fed end with the rows it has."""
        with self.lock:
            self.schedule.end_feed()
            more = self.wake()
        if more:
            self.grow()

    # -- from outside -------------------------------------------------------------------------------------------------

    def interrupt(self, error: BaseException) -> None:
        """Stop the run from outside, from any thread."""
        with self.lock:
            if not self.schedule.done:
                self.schedule.fail(None, error)
                self._wind_down()

    @property
    def abandoned(self) -> bool:
        """Whether the loop of the coordinator was closed over it, so that nobody waits for this run."""
        return self.beside and self.services.loop().is_closed()

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

    # -- its end ------------------------------------------------------------------------------------------------------

    def threads_at_work(self) -> bool:
        """Return whether a thread has a lane, or may get one."""
        return any(lanes.latch.count for lanes in self.lanes)

    def lanes_at_work(self) -> bool:
        """Return whether a lane may still have a task."""
        return self.threads_at_work() or (self.loop is not None and self.loop.active)

    def close(self) -> None:
        """Wait until every lane has ended, and let go of them: they refer to the run.

        A cycle would keep all results alive until a garbage collection.
        """
        with self.lock:
            self._wind_down()
        if self.executor is not None:
            self.executor.close()
        for lanes in self.lanes:
            lanes.latch.wait()
        if self.feeder is not None:
            with self.lock:
                # Who still pushes rows, or ends, must not write to a descriptor that may be somebody else's by then.
                self.wakeup = self._thread_wakeup
            self.feeder.close()
        if self.loop is not None and self.services.lends_loop:
            self.loop.close()
        if not self._closed:
            self._closed = True
            self._threads.leave(self, self._joined)
        self.lanes, self._only = [], None
        self.executor = self.loop = self.feeder = None
        self.schedule.garbage = []
