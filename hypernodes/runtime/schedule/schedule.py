"""Bundles, frames and map widths in, "run this next" out; "this one finished" in, until the run is done.

A pure state machine: no thread, clock or I/O, so that a virtual clock can drive it as well as real workers do. A driver
holds a lock around every call and does in between what `take` returned. ::

    MapRun ──straight body: a stream of items──┐
       │                                       ▼
       └──open, at most `width`─▶ Frame ─▶ ready heap ─take─▶ Task ─▶ (a driver) ─finish─▶ counts down those it releases
       ▲                                                                                       │ last bundle of a frame
       └──────────────────────── results into their columns ◀──────────────────────────────────┘

The task with the longest remaining path is taken first, first come first served among equals, so that sibling items
advance side by side. At most `limit` tasks are out at once, over all depths together.
"""

from __future__ import annotations

import itertools
from heapq import heappop, heappush
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from hypernodes.lowering.plan import FRAMES, PROCESS
from hypernodes.runtime.bundle.interpreter import Slots, is_exception
from hypernodes.runtime.bundle.linked import LinkedPlan
from hypernodes.runtime.bundle.maps import Listener
from hypernodes.runtime.schedule.feed import Feed, Row
from hypernodes.runtime.schedule.frames import BundleTask, Chunk, Frame, Item, MapRun, Task
from hypernodes.runtime.schedule.map_queue import MapQueue
from hypernodes.runtime.schedule.places import at_map


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
    listener : Listener, optional
        Told of maps and items as they start and end.
    chunk : callable, optional
        ``chunk(map_run)`` says how many items the next chunk of a straight process map should hold; 1 by default.
    feed : Feed, optional
        Where the rows of the root frame's map come from while it runs, and its results go.
    """

    def __init__(
        self,
        linked: LinkedPlan,
        slots: Slots,
        limit: int,
        listener: Optional[Listener] = None,
        chunk: Optional[Callable[[MapRun], int]] = None,
        feed: Optional[Feed] = None,
    ) -> None:
        self.ready: Dict[str, List[Tuple[int, int, Task]]] = {name: [] for name in linked.placements_used}
        self.streams: Dict[str, MapQueue] = {name: MapQueue() for name in linked.placements_used}
        self.limit = limit
        self.in_flight = 0
        self.failures: List[Tuple[Optional[Task], BaseException]] = []
        self.stopped = False
        self.over = False
        self.finished = False
        self._listener = listener
        self._feed = feed
        self._chunk = chunk or (lambda map_run: 1)
        self._order = 0
        # Work of the schedule's own, done in a loop: a frame that ends as it starts must not recurse into the next one.
        self._starting: List[Tuple[Frame, int]] = []
        self._opening: List[MapRun] = []
        self.root = Frame(linked, slots, 0, None)
        self._guarded(self._begin, self.root)

    @property
    def done(self) -> bool:
        """Whether nothing is left to take and nothing is out."""
        return self.finished or (self.stopped and self.in_flight == 0)

    def has_ready(self, placement: str) -> bool:
        """Return whether `take` would return a task."""
        return self.in_flight < self.limit and bool(self.ready[placement] or self.streams[placement])

    def count_ready(self, placement: str) -> int:
        """Return how many tasks more workers of that kind could take at once."""
        items = sum([min(m.width - m.running, m.left) for _, _, m in self.streams[placement]])
        return min(self.limit - self.in_flight, len(self.ready[placement]) + items)

    def take(self, placement: str) -> Optional[Task]:
        """Return the next task for a worker of that kind, or None when there is none at the moment."""
        if self.in_flight >= self.limit:
            return None
        heap, streams = self.ready[placement], self.streams[placement]
        if streams and (not heap or streams[0][0] < heap[0][0]):
            return self._take_item(placement, streams)
        if not heap:
            return None
        self.in_flight += 1
        return heappop(heap)[2]

    def take_ahead(self, map_run: MapRun) -> Optional[Chunk]:
        """Return a chunk of a map beyond all limits, to be kept until a worker is free; None when others have to wait.

        It counts as out, so that nothing is taken in its place when a worker is.
        """
        others = any(self.ready.values()) or any(self.streams.values())
        if self.stopped or others or not map_run.more:
            return None
        try:
            chunk = self._take_chunk(map_run)
        except BaseException as error:
            self.fail(None, error)
            return None
        self.in_flight += 1
        return chunk

    def finish(self, task: Task) -> None:
        """Count a task as done; its results are in the frame's slots already."""
        self.in_flight -= 1
        if self.stopped:
            return
        if type(task) is Item:
            self._item_done(task)
        else:
            self._guarded(self._bundle_done, task.frame, task.bundle)
        if self._feed is not None:
            self._stop_when_complete()

    def put(self, chunk: Chunk, row: int, flat: Sequence[Any], count: int) -> None:
        """Take in the results, laid end to end, of `count` items of a chunk from its number `row` on."""
        if self.stopped:
            return
        columns, start = chunk.map_run.columns, chunk.start + row
        passed_on = chunk.map_run.linked.passed_on
        width, made = len(columns) - len(passed_on), itertools.count()
        for number, column in enumerate(columns):
            slot = passed_on.get(number)
            cells = flat[next(made) :: width] if slot is None else chunk.given(slot, row, count)
            column[start : start + count] = cells

    def finish_chunk(self, chunk: Chunk, completed: int) -> None:
        """Count a chunk as done, whose results were `put`.

        When only the first `completed` of its items are done, the others are there to be taken again.
        """
        self.in_flight -= 1
        if self.stopped:
            return
        chunk.map_run.give_back(chunk, completed)
        self._stream_on(chunk.map_run)
        self._stop_when_complete()

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
        feed = self._feed
        if feed is None or not feed.ended or self.stopped:
            return
        nothing_moves = not (self.in_flight or any(self.ready.values()) or any(self.streams.values()))
        if feed.complete or nothing_moves:
            self.stop()

    @property
    def wants_rows(self) -> bool:
        """Whether the map that is fed takes more rows."""
        return not self.over and self._feed is not None and not self._feed.ended

    def fail(self, task: Optional[Task], error: BaseException, row: int = 0) -> None:
        """Record a failure: of a task, item `row` of a chunk, or (None) from outside. No further item begins after it.

        An ordered stream first hands over what comes before: that is let finish.
        """
        if task is not None:
            self.in_flight -= 1
        feed, first = self._feed, False
        waits = feed is not None and not self.stopped and is_exception(error)
        if feed is not None and waits and task is not None:
            first = feed.end_before(self._item_of(task, row))
            if feed.map_run.linked.straight and not feed.map_run.more:
                self._stream_of(feed.map_run).discard(feed.map_run)
        self.failures.insert(0 if first else len(self.failures), (task, error))
        if feed is not None and waits and feed.ended:
            self._stop_when_complete()
        else:
            self.stop()

    def drop(self, task: Task) -> None:
        """Count a task as gone without a result, because the run has been stopped."""
        self.in_flight -= 1

    def stop(self) -> None:
        """Let nothing new start."""
        self.stopped = self.over = True
        for heap in self.ready.values():
            heap.clear()
        for stream in self.streams.values():
            stream.clear()
        self._starting.clear()
        self._opening.clear()

    # -- frames -------------------------------------------------------------------------------------------------------

    def _guarded(self, advance: Callable[..., None], *arguments: Any) -> None:
        # Values of a map are checked, and mappings spread, while the schedule advances: such a fault fails the run.
        try:
            advance(*arguments)
            while self._starting or self._opening:
                if self._starting:
                    self._start_map(*self._starting.pop())
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
        if placement == FRAMES:
            self._starting.append((frame, bundle))
            return
        self._order += 1
        heappush(self.ready[placement], (-frame.base - linked.ranks[bundle], self._order, BundleTask(frame, bundle)))

    def _bundle_done(self, frame: Frame, bundle: int) -> None:
        linked = frame.linked
        frame.left -= 1
        if not frame.left:
            self._frame_done(frame)
            return
        slots, waiting, readers = frame.slots, frame.waiting, frame.readers
        for slot in linked.frees[bundle]:
            slots[slot] = None
        for slot in linked.shared_frees[bundle]:
            readers[slot] -= 1
            if not readers[slot]:
                slots[slot] = None
        for other in linked.releases[bundle]:
            waiting[other] -= 1
            if not waiting[other]:
                self._release(frame, other)

    def _frame_done(self, frame: Frame) -> None:
        map_run = frame.map_run
        if map_run is None:
            self.finished = self.over = True
            return
        slots, index = frame.slots, frame.index
        for column, slot in zip(map_run.columns, frame.linked.outputs):
            column[index] = slots[slot]
        if self._listener is not None:
            self._listener.item_ended(slots)
        map_run.running -= 1
        self._opening.append(map_run)

    def _item_done(self, item: Item) -> None:
        map_run, slots, index = item.map_run, item.slots, item.index
        assert map_run is not None
        for column, slot in zip(map_run.columns, item.linked.outputs):
            column[index] = slots[slot]
        if self._listener is not None:
            self._guarded(self._listener.item_ended, slots)
            if self.stopped:
                return
        if map_run.next < map_run.total and map_run.running < map_run.width:
            # Others of its items are out, and it is in its stream already: nothing to look into.
            map_run.running -= 1
        else:
            self._stream_on(map_run)

    # -- maps ---------------------------------------------------------------------------------------------------------

    def _start_map(self, frame: Frame, bundle: int) -> None:
        linked = frame.linked
        step, body = linked.map_steps[bundle], linked.bodies[bundle]
        listener = self._listener
        if listener is not None and listener.refuses(step, frame.slots):
            self._bundle_done(frame, bundle)
            return
        # What remains behind this map counts for every bundle in it.
        base = frame.base + linked.ranks[bundle] - body.length
        try:
            map_run = MapRun(frame, bundle, step, body, base)
        except BaseException as error:
            raise at_map(step, frame, error) from None
        total: Optional[int] = map_run.total
        if self._feed is not None and frame is self.root:
            self._feed.attach(map_run)
            total = self._feed.total
        if listener is not None:
            listener.map_started(step, frame.slots, map_run.template, total)
        if body.straight and map_run.total:
            self._queue(map_run)
        else:
            self._opening.append(map_run)

    def _next_item(self, map_run: MapRun) -> Tuple[Slots, int]:
        """Return the slots, and the index, of the next item of a map."""
        slots = map_run.template.copy()
        index = map_run.next
        map_run.next = index + 1
        map_run.running += 1
        try:
            map_run.linked.fill(slots, next(map_run.rows), index)
        except BaseException as error:
            raise at_map(map_run.step, map_run.frame, error) from None
        if self._listener is not None:
            self._listener.item_started(slots, index)
        return slots, index

    def _open_frames(self, map_run: MapRun) -> None:
        """Open frames up to the width; with none left to open and none running, the map is done."""
        while map_run.running < map_run.width and map_run.next < map_run.total:
            self._begin(Frame(map_run.linked, *self._next_item(map_run), map_run))
            if self._starting:
                # Items of a nested map start before more items of this one, which may be very many.
                self._opening.append(map_run)
                return
        if not map_run.running and map_run.next == map_run.total:
            self._map_done(map_run)

    def _map_done(self, map_run: MapRun) -> None:
        if map_run.over or map_run.open:
            return
        map_run.over = True
        frame, step = map_run.frame, map_run.step
        # The results of a map that is fed are with whoever they were delivered to.
        columns = () if self._feed is not None and frame is self.root else map_run.columns
        for slot, column in zip(step.results, columns):
            frame.slots[slot] = column if self._listener is None else self._listener.column(column)
        if self._listener is not None:
            self._listener.map_ended(step, frame.slots, map_run.template)
        for slot in step.frees:
            frame.slots[slot] = None
        self._bundle_done(frame, map_run.bundle)

    # -- items of straight bodies: taken from the map itself, without a place in the heap -----------------------------

    def _take_item(self, placement: str, streams: MapQueue) -> Optional[Task]:
        map_run = streams[0][2]
        task: Optional[Task]
        try:
            task = self._take_chunk(map_run) if placement == PROCESS else Item(map_run, *self._next_item(map_run))
        except BaseException as error:
            self.fail(None, error)
            return None
        streams.served()
        self.in_flight += 1
        return task

    def _take_chunk(self, map_run: MapRun) -> Chunk:
        chunk = map_run.take(max(1, self._chunk(map_run)))
        map_run.running += 1
        return chunk

    def _stream_on(self, map_run: MapRun) -> None:
        """Let a map go on after an item or a chunk: it may have been waiting for room within its width."""
        map_run.running -= 1
        if map_run.more:
            if map_run.running < map_run.width:
                self._queue(map_run)
        elif not map_run.running:
            self._guarded(self._map_done, map_run)

    def _queue(self, map_run: MapRun) -> None:
        """Put a map into its stream, where it may be already."""
        if not self.stopped:
            self._stream_of(map_run).add(map_run)

    def _stream_of(self, map_run: MapRun) -> MapQueue:
        return self.streams[map_run.linked.placements[0]]

    # -- the map whose rows are fed -----------------------------------------------------------------------------------

    def push(self, row: Row) -> None:
        """Add a row to the map that is fed."""
        if self._feed is None or not self.wants_rows:
            return
        map_run = self._feed.push(row)
        if not map_run.linked.straight:
            self._guarded(self._open_frames, map_run)
        elif map_run.running < map_run.width:
            self._queue(map_run)

    def end_feed(self) -> None:
        """Let the map that is fed end with the rows it has."""
        if self._feed is None or not self.wants_rows:
            return
        map_run = self._feed.end()
        if not map_run.running and not map_run.more:
            self._guarded(self._map_done, map_run)
