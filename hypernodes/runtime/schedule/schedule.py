"""The state machine of one run: what has ended goes in, what can run now comes out.

It calls nothing of the user's and touches no thread, clock or pool, so that a virtual clock can drive it as well as
real workers do. A driver holds a lock around every call, and does in between what `take` returned. ::

    Expand ─expanded─▶ MapRun ──straight body: chunks of its rows──┐
       ▲                  └─open, at most `width`─▶ Frame ───▶ Ready ─take─▶ Task ─▶ (a driver) ─▶ finish, or fail
       │                                              ▲                                               │
       └───────── a bundle that is a map ─────────────┴──────── bundles that waited for it ◀──────────┘

Where results are handles, a bundle is `issued` as soon as it has them, and `settled` when its work has ended; `finish`
is both at once.

The states of a run, and what leads from one to the next::

    RUNNING ─┬─ the last bundle of the root frame ───────────────────────────────────────▶ DONE
             ├─ an item of an ordered stream fails ─▶ DRAINING ─ what comes before it ─┐
             └─ any other failure, or `stop` ──────────────────────────────────────────┴─▶ STOPPED

DRAINING takes no more rows and lets what is out end. STOPPED gives out no task, and is over when none is out any more.
"""

from __future__ import annotations

import itertools
from typing import Any, Callable, List, Mapping, Optional, Sequence, Tuple

from hypernodes.lowering.plan import FRAMES, INLINE, THREAD, MapStep
from hypernodes.runtime.bundle.interpreter import Slots, is_exception
from hypernodes.runtime.bundle.layers import Layers
from hypernodes.runtime.bundle.linked import LinkedPlan
from hypernodes.runtime.bundle.maps import Expansion, at_hand, map_columns
from hypernodes.runtime.schedule.feed import Feed
from hypernodes.runtime.schedule.frames import BundleTask, Chunk, Expand, Frame, MapRun
from hypernodes.runtime.schedule.locations import at_map, unread
from hypernodes.runtime.schedule.ready import ChunkSize, Ready, Task
from hypernodes.runtime.schedule.sink import Columns, Sinks
from hypernodes.runtime.schedule.source import Row

RUNNING, DRAINING, STOPPED, DONE = range(4)

Failures = List[Tuple[Optional[Task], BaseException]]


class Schedule:
    """The state of one run.

    Parameters
    ----------
    linked : LinkedPlan
        The root plan.
    slots : list
        The root frame's slots, inputs filled in.
    limit : int
        The most tasks out at once.
    layers : Layers, optional
        Told of maps and items as they start and end; they only take notes.
    sizes : mapping of str to callable, optional
        How many items chunks hold, see `Ready`.
    feed : Feed, optional
        Where the rows of the root frame's map come from while it runs, and its results go.
    sinks : callable
        Makes the sinks of the other maps; lists in this process, where nothing else is said.

    Attributes
    ----------
    ready : Ready
        The tasks that can be taken.
    garbage : list
        What nobody reads any more, to be dropped by the driver when it has let go of its lock: to drop a value of the
        user's may run code of the user's.
    """

    def __init__(
        self,
        linked: LinkedPlan,
        slots: Slots,
        limit: int,
        layers: Optional[Layers] = None,
        sizes: Optional[Mapping[str, ChunkSize]] = None,
        feed: Optional[Feed] = None,
        sinks: Sinks = Columns,
    ) -> None:
        used = linked.placements_used
        # Who is in the caller's thread anyway begins its maps there; elsewhere no coordinator has to wait for it.
        self._expander = INLINE if INLINE in used else THREAD
        self.ready = Ready(used | {self._expander} if linked.bodies else used, limit, sizes or {})
        self.take = self.ready.take
        self.failures: Failures = []
        self.state = RUNNING
        self.garbage: List[Any] = []
        self.layers = layers
        self._feed = feed
        self._sinks = sinks
        # Work of the schedule's own, done in a loop: a frame that ends as it starts must not recurse into the next one.
        self._starting: List[Tuple[Frame, int]] = []
        self._opening: List[MapRun] = []
        self.root = Frame(linked, slots, 0, None)
        self._advance(self._begin, self.root)

    # -- for drivers --------------------------------------------------------------------------------------------------

    @property
    def stopped(self) -> bool:
        """Whether nothing new is given out, because of a failure."""
        return self.state == STOPPED

    @property
    def over(self) -> bool:
        """Whether nothing new will be given out."""
        return self.state >= STOPPED

    @property
    def done(self) -> bool:
        """Whether nothing is left to take and nothing is out."""
        return self.state >= STOPPED and not self.ready.out

    def expand(self, task: Expand) -> Optional[Expansion]:
        """Return what the map of a task goes over, or None where a failure stands for its results.

        This reads what is the user's: it is called without the driver's lock, and changes nothing here.

        Raises
        ------
        StepFailed
            When the values cannot be read.
        """
        step = task.step
        try:
            return self._expansion(step, task.frame)
        except BaseException as error:
            raise unread(step, error) from None

    def expanded(self, task: Expand, expansion: Optional[Expansion]) -> None:
        """Begin the map of a task."""
        self.ready.settled(task)
        if not self.over:
            self._advance(self._start_map, task.frame, task.bundle, expansion)

    def finish(self, task: Task) -> None:
        """Count a bundle as done; its results are in the frame's slots already."""
        self.ready.out -= 1
        self.issued(task)
        if self._feed is not None:
            self._stop_when_complete()

    def issued(self, task: Task) -> None:
        """Release what waits for a bundle; its results, or what stands for them until then, are in the frame's slots.

        `finish` in two halves: the bundle is out until it has `settled`, or failed.
        """
        if self.state < STOPPED:
            self._advance(self._bundle_done, task.frame, task.bundle)

    def settled(self, task: Task) -> None:
        """Count a bundle that was issued as no longer out."""
        self.ready.settled(task)
        if self._feed is not None:
            self._stop_when_complete()

    def put(self, chunk: Chunk, row: int, flat: Sequence[Any], count: int) -> None:
        """Take in the results, laid end to end, of `count` items of a chunk from its number `row` on."""
        if self.over:
            return
        body = chunk.map_run.linked
        width, made = len(body.outputs) - len(body.passed_on), itertools.count()
        columns: List[Sequence[Any]] = []
        for number in range(len(body.outputs)):
            slot = body.passed_on.get(number)
            columns.append(flat[next(made) :: width] if slot is None else chunk.given(slot, row, count))
        chunk.map_run.sink.extend(chunk.start + row, count, columns)

    def finish_chunk(self, chunk: Chunk, completed: int) -> None:
        """Count a chunk as done, whose results were `put`.

        When only the first `completed` of its items are done, the others are there to be taken again.
        """
        self.ready.settled(chunk)
        if self.over:
            return
        map_run = chunk.map_run
        map_run.running -= 1
        if completed < chunk.count:
            map_run.source.give_back(chunk.start + completed, chunk.flat[completed * chunk.width :])
        if map_run.source.more:
            if map_run.running < map_run.width:
                self.ready.add_map(map_run)
        elif not map_run.running:
            self._advance(self._map_done, map_run)
        if self._feed is not None:
            self._stop_when_complete()

    def fail(self, task: Optional[Task], error: BaseException, row: int = 0) -> None:
        """Record a failure: of a task, item `row` of a chunk, or (None) from outside. No further item begins after it.

        An ordered stream first hands over what comes before: that is let finish.
        """
        self.ready.settled(task)
        feed, first, ends_items = self._feed, False, is_exception(error)
        if feed is not None and task is not None and self.state < STOPPED and ends_items:
            self.state = DRAINING
            first = feed.sink.end_before(self._item_of(task, row))
            feed.source.cut()
            if feed.map_run.linked.straight:
                self.ready.discard_map(feed.map_run)
        self.failures.insert(0 if first else len(self.failures), (task, error))
        if self.state == DRAINING and ends_items:
            self._stop_when_complete()
        else:
            self.stop()

    def give_back(self, placement: str, task: Task) -> None:
        """Take a task back that was not begun, for others."""
        if isinstance(task, Chunk):
            self.finish_chunk(task, 0)
            return
        self.ready.settled(task)
        if not self.over:
            self.ready.add(placement, task)

    def drop(self, task: Task) -> None:
        """Count a task as gone without a result, because the run has been stopped."""
        self.ready.settled(task)

    def stop(self) -> None:
        """Let nothing new start."""
        self.state = STOPPED
        self.garbage += [self.ready.clear(), self._starting, self._opening]
        self._starting, self._opening = [], []

    # -- the map whose rows are fed -----------------------------------------------------------------------------------

    @property
    def wants_rows(self) -> bool:
        """Whether the map that is fed takes more rows."""
        return self.state == RUNNING and self._feed is not None

    def push(self, row: Row) -> None:
        """Add a row to the map that is fed."""
        if self._feed is None or not self.wants_rows:
            return
        map_run = self._feed.map_run
        self._feed.source.push(row)
        if not map_run.linked.straight:
            self._advance(self._open_frames, map_run)
        elif map_run.running < map_run.width:
            self.ready.add_map(map_run)

    def end_feed(self) -> None:
        """Let the map that is fed end with the rows it has."""
        if self._feed is None or not self.wants_rows:
            return
        map_run = self._feed.map_run
        self._feed.source.end()
        if not map_run.running and not map_run.source.more:
            self._advance(self._map_done, map_run)

    def _item_of(self, task: Task, row: int) -> int:
        """Return which item of the map that is fed a task belongs to."""
        if isinstance(task, Chunk) and task.frame is self.root:
            return task.start + row
        frame = task.frame
        while frame.map_run is not None and frame.map_run.frame is not self.root:
            frame = frame.map_run.frame
        return frame.index

    def _stop_when_complete(self) -> None:
        """End an ordered stream of which an item has failed, once it has all that comes before."""
        if self._feed is None or self.state != DRAINING:
            return
        if self._feed.sink.complete or not (self.ready.out or self.ready.any):
            self.stop()

    # -- frames -------------------------------------------------------------------------------------------------------

    def _advance(self, begin: Callable[..., None], *arguments: Any) -> None:
        """Do something, and begin the maps and the frames that are due then."""
        # A map's value may be no list, or a row lack a name, which shows when it is spread: such a fault fails the run.
        try:
            begin(*arguments)
            while self._starting or self._opening:
                if self._starting:
                    self._expand_here(*self._starting.pop())
                else:
                    self._open_frames(self._opening.pop())
        except BaseException as error:
            self.fail(None, error)

    def _begin(self, frame: Frame) -> None:
        """Make a frame's first bundles ready; one without any has ended."""
        if not frame.left:
            self._frame_done(frame)
            return
        for bundle in frame.linked.first:
            self._release(frame, bundle)

    def _release(self, frame: Frame, bundle: int) -> None:
        linked = frame.linked
        placement = linked.placements[bundle]
        if placement != FRAMES:
            self.ready.add(placement, BundleTask(frame, bundle))
        elif at_hand(linked.map_steps[bundle], frame.slots):
            self._starting.append((frame, bundle))
        else:
            self.ready.add(self._expander, Expand(frame, bundle))

    def _bundle_done(self, frame: Frame, bundle: int) -> None:
        linked = frame.linked
        frame.left -= 1
        if not frame.left:
            self._frame_done(frame)
            return
        slots, waiting, readers = frame.slots, frame.waiting, frame.readers
        for slot in linked.frees[bundle]:
            self._drop_value(slots, slot)
        for slot in linked.shared_frees[bundle]:
            readers[slot] -= 1
            if not readers[slot]:
                self._drop_value(slots, slot)
        for other in linked.releases[bundle]:
            waiting[other] -= 1
            if not waiting[other]:
                self._release(frame, other)

    def _drop_value(self, slots: Slots, slot: int) -> None:
        self.garbage.append(slots[slot])
        slots[slot] = None

    def _frame_done(self, frame: Frame) -> None:
        map_run = frame.map_run
        if map_run is None:
            self.state = DONE
            return
        slots = frame.slots
        map_run.sink.put(frame.index, [slots[slot] for slot in frame.linked.outputs])
        if self.layers is not None:
            self.layers.item_ended(slots)
        map_run.running -= 1
        self._opening.append(map_run)

    # -- maps ---------------------------------------------------------------------------------------------------------

    def _expansion(self, step: MapStep, frame: Frame) -> Optional[Expansion]:
        return map_columns(step, frame.slots) if self.layers is None else self.layers.expand(step, frame.slots)

    def _expand_here(self, frame: Frame, bundle: int) -> None:
        """Begin a map whose values are at hand."""
        step = frame.linked.map_steps[bundle]
        try:
            expansion = self._expansion(step, frame)
        except BaseException as error:
            raise at_map(step, frame, error) from None
        self._start_map(frame, bundle, expansion)

    def _start_map(self, frame: Frame, bundle: int, expansion: Optional[Expansion]) -> None:
        if expansion is None:
            self._bundle_done(frame, bundle)
            return
        map_run = MapRun(frame, bundle, expansion, self._sinks)
        total: Optional[int] = expansion.total
        if self._feed is not None and frame is self.root:
            self._feed.attach(map_run)
            total = self._feed.total
        if self.layers is not None:
            self.layers.map_started(map_run.step, frame.slots, map_run.template, total)
        if map_run.linked.straight and expansion.total:
            self.ready.add_map(map_run)
        else:
            self._opening.append(map_run)

    def _open_frames(self, map_run: MapRun) -> None:
        """Open frames up to the width; with none left to open and none running, the map is done."""
        source = map_run.source
        while map_run.running < map_run.width and source.more:
            index, row = source.take(1)
            map_run.running += 1
            slots = map_run.template.copy()
            try:
                map_run.linked.fill(slots, tuple(row), index)
            except BaseException as error:
                raise at_map(map_run.step, map_run.frame, error) from None
            if self.layers is not None:
                self.layers.item_started(slots, index)
            self._begin(Frame(map_run.linked, slots, index, map_run))
            if self._starting:
                # Items of a nested map start before more items of this one, which may be very many.
                self._opening.append(map_run)
                return
        if not map_run.running and not source.more:
            self._map_done(map_run)

    def _map_done(self, map_run: MapRun) -> None:
        if map_run.over or map_run.source.open:
            return
        map_run.over = True
        slots, step, layers = map_run.frame.slots, map_run.step, self.layers
        for slot, column in zip(step.results, map_run.sink.columns or ()):
            slots[slot] = column if layers is None else layers.column(column)
        if layers is not None:
            layers.map_ended(step, slots)
        for slot in step.frees:
            self._drop_value(slots, slot)
        self._bundle_done(map_run.frame, map_run.bundle)
