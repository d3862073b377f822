"""One run in progress: its schedule, the lock around it, and the lanes that work for it.

Lanes of threads and of the event loop take tasks out of the same schedule, and so does the coordinator, the thread that
a run is called from. ::

    coordinator ─┐                        ┌─ loop lanes
    thread lanes ┼─ lock ─▶ Schedule ◀─ lock ─┤
                 └────────────────────────┴─ work for processes (by the coordinator)

The lock guards the schedule and what says who waits; nothing of the user's runs while it is held. Who holds it may ask
for the lock of a pool, to borrow a worker, or for that of the thread of hooks, to start it; nobody asks the other way
round.
"""

from __future__ import annotations

import contextvars
import threading
from functools import partial
from typing import Any, Callable, List, Optional, Protocol

import attrs

from hypernodes.events.subscriber import AT_ONCE, AtOnce
from hypernodes.lowering.plan import INLINE, LOOP, PROCESS, THREAD
from hypernodes.runtime.bundle.cancellation import is_stop
from hypernodes.runtime.bundle.interpreter import Slots, Stopped, is_exception
from hypernodes.runtime.bundle.layers import Layers
from hypernodes.runtime.bundle.linked import LinkedPlan
from hypernodes.runtime.drivers.loop import LoopLanes
from hypernodes.runtime.drivers.places import Places, waiting
from hypernodes.runtime.drivers.services import Services
from hypernodes.runtime.drivers.tasks import DONE, Outcome
from hypernodes.runtime.drivers.threads import NOTHING, ThreadLanes
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
    """What a backend lends to a run: the number of workers, an executor for thread lanes, what feeds processes.

    Threads compute in its `places`, which all of its runs share. Work that its worker died with is tried on
    `worker_retries` more of them.
    """

    max_workers: int
    executor: Any = None
    feeder: Optional[Callable[[Run, LinkedPlan, Resources], Feeder]] = None
    worker_retries: int = 0
    places: Optional[Places] = None
    layers: Optional[Layers] = None
    events: Optional[Callable[[Any], None]] = None
    subscriber: AtOnce = AT_ONCE


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
        services.surround(self.context)
        self.services = services
        services.apart = True
        self._thread_wakeup = ThreadWakeup()
        self.wakeup: Wakeup = self._thread_wakeup
        self.coordinator_waits = False
        self._wound_down = False
        self._feed = feed
        self.places = resources.places
        used = linked.placements_used
        self.mixed = len(used) > 1
        self.feeder = resources.feeder(self, linked, resources) if PROCESS in used and resources.feeder else None
        try:
            in_lanes: ChunkSize = partial(rows_at_once, resources.max_workers)
            sizes = {THREAD: in_lanes, INLINE: in_lanes}
            if self.feeder is not None:
                self.wakeup = self.feeder
                sizes[PROCESS] = self.feeder.chunk
            self.schedule = Schedule(linked, slots, resources.max_workers, resources.layers, sizes, feed)
            joins = THREAD in used and resources.executor is None and self.feeder is None
            self.own = tuple([name for name in (INLINE, THREAD) if (name in used if name == INLINE else joins)])
            """Placements of the tasks that the coordinator takes."""
            # A coordinator that takes thread bundles is one of the workers.
            count = resources.max_workers - (1 if self.own == (THREAD,) else 0)
            threads = THREAD in self.schedule.ready.tasks
            self.threads = ThreadLanes(self, count, resources.executor) if threads else None
            self.loop = LoopLanes(self, services.loop()) if LOOP in used else None
        except BaseException:
            if self.feeder is not None:
                self.feeder.close()
            raise
        self.subscriber = resources.subscriber
        self.subscriber.begin(self.interrupt)

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

    def wake(self) -> int:
        """Let others take what is ready; what it returns is for `ThreadLanes.grow`, unless `NOTHING`, unlocked."""
        schedule = self.schedule
        if schedule.over:
            self._wind_down()
            return NOTHING
        if self.loop is not None:
            self.loop.wake()
        if self.offer() and THREAD in self.own:
            return NOTHING
        return self.threads.wake() if self.threads is not None else NOTHING

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

    def join_threads(self) -> None:
        """Let the coordinator take what thread lanes would, since there are none."""
        if THREAD not in self.own:
            self.own = (*self.own, THREAD)

    def _wind_down(self) -> None:
        if self.threads is not None:
            self.threads.stop()
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
        if more and self.threads is not None:
            self.threads.grow(more)

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
            or (self.threads is not None and self.threads.serves(thread))
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
            self.wake()

    # -- from outside -------------------------------------------------------------------------------------------------

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

    # -- its end ------------------------------------------------------------------------------------------------------

    def lanes_at_work(self) -> bool:
        """Return whether a lane may still have a task."""
        return (self.threads is not None and self.threads.active > 0) or (self.loop is not None and self.loop.active)

    def close(self) -> None:
        """Wait until every lane has ended, and let go of them: they refer to the run.

        A cycle would keep all results alive until a garbage collection.
        """
        with self.lock:
            self._wind_down()
        if self.threads is not None:
            self.threads.close()
        if self.feeder is not None:
            with self.lock:
                # Who still pushes rows, or ends, must not write to a descriptor that may be somebody else's by then.
                self.wakeup = self._thread_wakeup
            self.feeder.close()
        if self.loop is not None and self.services.lends_loop:
            self.loop.close()
        self.threads = self.loop = self.feeder = None
        self.schedule.garbage = []
