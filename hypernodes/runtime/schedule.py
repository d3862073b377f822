"""Bundles, frames and map widths in, "run this next" out; "this one finished" in, until the run is done.

A pure state machine: no thread, clock or I/O, so that a virtual clock can drive it as well as real workers do. A driver
holds a lock around every call and does in between what `take` returned. ::

               open                take                     finish
    MapRun ───────────▶ Frame ─▶ ready heap ─▶ Task ─▶ (a driver) ─▶ counts down those it releases
       ▲   at most `width`                                              │ last bundle of the frame
       └────────────────── results into their columns ◀─────────────────┘

Ready bundles are taken by the longest remaining path, first come first served among equals, so that sibling items
advance side by side. At most `limit` tasks are out at once, over all depths together.
"""

from __future__ import annotations

from heapq import heappop, heappush
from itertools import islice
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple

from hypernodes.lowering.plan import FRAMES, PROCESS, MapStep
from hypernodes.runtime.interpreter import Slots
from hypernodes.runtime.linked import LinkedPlan
from hypernodes.runtime.maps import Listener, frame_slots, map_rows


class Frame:
    """One run of one plan: its slots, and what each of its bundles still waits for."""

    __slots__ = ("base", "index", "left", "linked", "map_run", "readers", "slots", "waiting")

    def __init__(self, linked: LinkedPlan, slots: Slots, map_run: Optional[MapRun], index: int, base: int) -> None:
        self.linked = linked
        self.slots = slots
        self.map_run = map_run
        self.index = index
        self.base = base
        self.left = linked.count
        # Counting is only for frames with something to count; the frame of a straight body is one task.
        self.waiting = linked.waits.copy() if linked.count > 1 else linked.waits
        self.readers: Optional[Dict[int, int]] = dict(linked.shared_readers) if linked.shared_readers else None


class MapRun:
    """One map in progress: the rows not yet opened, the frames in flight and the columns of results."""

    __slots__ = (
        "base",
        "bundle",
        "columns",
        "frame",
        "linked",
        "next",
        "over",
        "rows",
        "running",
        "step",
        "template",
        "total",
        "width",
    )

    def __init__(self, frame: Frame, bundle: int, step: MapStep, linked: LinkedPlan, base: int) -> None:
        self.frame = frame
        self.bundle = bundle
        self.step = step
        self.linked = linked
        self.base = base
        rows, self.total = map_rows(step, frame.slots)
        self.rows: Iterator[Tuple[Any, ...]] = rows
        self.width = step.width.of(self.total)
        self.template = frame_slots(step, frame.slots)
        self.columns: List[List[Any]] = [[None] * self.total for _ in step.body.outputs]
        self.next = 0
        self.running = 0
        self.over = False


class Task:
    """A bundle of a frame, or, when `rows` is not None, a chunk of items of a map: what one worker does next."""

    __slots__ = ("bundle", "frame", "map_run", "rows", "start")

    def __init__(
        self,
        frame: Frame,
        bundle: int,
        map_run: Optional[MapRun] = None,
        start: int = 0,
        rows: Optional[List[Tuple[Any, ...]]] = None,
    ) -> None:
        self.frame = frame
        self.bundle = bundle
        self.map_run = map_run
        self.start = start
        self.rows = rows


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
    """

    def __init__(
        self,
        linked: LinkedPlan,
        slots: Slots,
        limit: int,
        listener: Optional[Listener] = None,
        chunk: Optional[Callable[[MapRun], int]] = None,
    ) -> None:
        self.ready: Dict[str, List[Tuple[int, int, Task]]] = {name: [] for name in linked.placements_used}
        self.chunked: List[MapRun] = []
        self.limit = limit
        self.in_flight = 0
        self.failures: List[Tuple[Optional[Task], BaseException]] = []
        self.stopped = False
        self._finished = False
        self._listener = listener
        self._chunk = chunk or (lambda map_run: 1)
        self._order = 0
        # Work of the schedule's own, done in a loop: a frame that ends as it starts must not recurse into the next one.
        self._starting: List[Tuple[Frame, int]] = []
        self._opening: List[MapRun] = []
        self.root = Frame(linked, slots, None, 0, 0)
        self._guarded(self._begin, self.root)

    @property
    def done(self) -> bool:
        """Whether nothing is left to take and nothing is out."""
        return self._finished or (self.stopped and self.in_flight == 0)

    def has_ready(self, placement: str) -> bool:
        """Return whether `take` would return a task."""
        if self.in_flight >= self.limit:
            return False
        return bool(self.ready[placement]) or (placement == PROCESS and self._open_chunk() is not None)

    def take(self, placement: str) -> Optional[Task]:
        """Return the next task for a worker of that kind, or None when there is none at the moment."""
        if self.in_flight >= self.limit:
            return None
        heap = self.ready[placement]
        if heap:
            self.in_flight += 1
            return heappop(heap)[2]
        if placement == PROCESS:
            return self._take_chunk()
        return None

    def finish(self, task: Task) -> None:
        """Count a task as done; its results are in the frame's slots already."""
        self.in_flight -= 1
        if self.stopped:
            return
        self._guarded(self._bundle_done, task.frame, task.bundle)

    def finish_chunk(self, task: Task, flat: Sequence[Any]) -> None:
        """Count a chunk as done, with the results of its items laid end to end in `flat`."""
        self.in_flight -= 1
        map_run, rows = task.map_run, task.rows
        assert map_run is not None
        assert rows is not None
        if self.stopped:
            return
        width = len(map_run.columns)
        for number, column in enumerate(map_run.columns):
            column[task.start : task.start + len(rows)] = flat[number::width]
        self._guarded(self._chunk_done, map_run)

    def fail(self, task: Optional[Task], error: BaseException) -> None:
        """Record a failure, of a task or (None) from outside; nothing new starts after it."""
        if task is not None:
            self.in_flight -= 1
        self.failures.append((task, error))
        self.stop()

    def drop(self, task: Task) -> None:
        """Count a task as gone without a result, because the run has been stopped."""
        self.in_flight -= 1

    def stop(self) -> None:
        """Let nothing new start."""
        self.stopped = True
        for heap in self.ready.values():
            heap.clear()
        self.chunked.clear()

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
        except Exception as error:
            self.failures.append((None, error))
            self.stop()

    def _begin(self, frame: Frame) -> None:
        """Make a frame's first bundles ready, and whatever follows from frames that end at once."""
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
        heappush(self.ready[placement], (-frame.base - linked.ranks[bundle], self._order, Task(frame, bundle)))

    def _bundle_done(self, frame: Frame, bundle: int) -> None:
        linked = frame.linked
        frame.left -= 1
        if frame.left:
            for slot in linked.frees[bundle]:
                frame.slots[slot] = None
            if frame.readers is not None:
                self._count_readers(frame, linked.shared_frees[bundle])
            waiting = frame.waiting
            for other in linked.releases[bundle]:
                waiting[other] -= 1
                if not waiting[other]:
                    self._release(frame, other)
        else:
            self._frame_done(frame)

    def _count_readers(self, frame: Frame, slots: Sequence[int]) -> None:
        readers = frame.readers
        assert readers is not None
        for slot in slots:
            readers[slot] -= 1
            if not readers[slot]:
                frame.slots[slot] = None

    def _frame_done(self, frame: Frame) -> None:
        map_run = frame.map_run
        if map_run is None:
            self._finished = True
            return
        slots, index = frame.slots, frame.index
        for column, slot in zip(map_run.columns, frame.linked.outputs):
            column[index] = slots[slot]
        if self._listener is not None:
            self._listener.item_ended(slots)
        map_run.running -= 1
        self._opening.append(map_run)

    # -- maps ---------------------------------------------------------------------------------------------------------

    def _start_map(self, frame: Frame, bundle: int) -> None:
        linked = frame.linked
        step = linked.map_steps[bundle]
        # What remains behind this map counts for every bundle in it.
        base = frame.base + linked.ranks[bundle] - linked.bodies[bundle].length
        map_run = MapRun(frame, bundle, step, linked.bodies[bundle], base)
        if self._listener is not None:
            self._listener.map_started(step, frame.slots, map_run.template, map_run.total)
        if map_run.linked.chunkable and map_run.total:
            self.chunked.append(map_run)
        else:
            self._opening.append(map_run)

    def _open_frames(self, map_run: MapRun) -> None:
        """Open frames up to the width; with none left to open and none running, the map is done."""
        linked = map_run.linked
        while map_run.running < map_run.width:
            row = next(map_run.rows, None)
            if row is None:
                break
            slots = map_run.template.copy()
            index = map_run.next
            map_run.next = index + 1
            map_run.running += 1
            linked.fill(slots, row, index)
            if self._listener is not None:
                self._listener.item_started(slots, index)
            frame = Frame(linked, slots, map_run, index, map_run.base)
            self._begin(frame)
            if self._starting:
                # Items of a nested map start before more items of this one, which may be very many.
                self._opening.append(map_run)
                return
        if not map_run.running and map_run.next == map_run.total:
            self._map_done(map_run)

    def _map_done(self, map_run: MapRun) -> None:
        if map_run.over:
            return
        map_run.over = True
        frame, bundle = map_run.frame, map_run.bundle
        for slot, column in zip(map_run.step.results, map_run.columns):
            frame.slots[slot] = column
        if self._listener is not None:
            self._listener.map_ended(map_run.step, frame.slots, map_run.template)
        for slot in map_run.step.frees:
            frame.slots[slot] = None
        self._bundle_done(frame, bundle)

    # -- chunks -------------------------------------------------------------------------------------------------------

    def _open_chunk(self) -> Optional[MapRun]:
        for map_run in self.chunked:
            if map_run.running < map_run.width:
                return map_run
        return None

    def _take_chunk(self) -> Optional[Task]:
        map_run = self._open_chunk()
        if map_run is None:
            return None
        start = map_run.next
        count = max(1, min(self._chunk(map_run), map_run.total - start))
        rows = list(islice(map_run.rows, count))
        map_run.next += len(rows)
        map_run.running += 1
        if map_run.next >= map_run.total:
            self.chunked.remove(map_run)
        elif len(self.chunked) > 1:
            # Maps of sibling frames take turns.
            self.chunked.remove(map_run)
            self.chunked.append(map_run)
        self.in_flight += 1
        return Task(map_run.frame, map_run.bundle, map_run, start, rows)

    def _chunk_done(self, map_run: MapRun) -> None:
        map_run.running -= 1
        if not map_run.running and map_run.next >= map_run.total:
            self._map_done(map_run)
