"""The state of one run, as the schedule keeps it: frames, maps in progress, and the tasks made of them."""

from __future__ import annotations

from itertools import chain, islice
from typing import Any, Dict, Iterator, List, Optional, Tuple, Union

from hypernodes.lowering.plan import MapStep
from hypernodes.runtime.bundle.interpreter import Slots
from hypernodes.runtime.bundle.linked import LinkedPlan
from hypernodes.runtime.bundle.maps import frame_slots, map_columns, rows_of


class Frame:
    """One run of one plan: its slots, and what each of its bundles still waits for."""

    __slots__ = ("base", "index", "left", "linked", "map_run", "readers", "slots", "waiting")

    def __init__(self, linked: LinkedPlan, slots: Slots, index: int, map_run: Optional[MapRun]) -> None:
        self.linked = linked
        self.slots = slots
        self.index = index
        self.map_run = map_run
        self.base = map_run.base if map_run is not None else 0
        self.left = linked.count
        if linked.count > 1:
            self.waiting = linked.waits.copy()
            self.readers: Dict[int, int] = linked.shared_readers and dict(linked.shared_readers)


class MapRun:
    """One map in progress: the rows not yet begun, how many items are in flight, and the columns of results.

    `base` is the length of the longest path that remains behind the map. While it is `open`, more rows may come; while
    it is `queued`, it is in a stream of the schedule. The rest belongs to the process lane: `pace` has seconds an item
    takes and how many were measured, `weight` bytes an item brings and answers, `sent` how the imports of each bundle
    travel, `large` the values that all items share and that travel alone, by slot, and `returned` rows that were taken
    and not begun: the index of the first, and where it begins in rows laid end to end.
    """

    __slots__ = (
        "base",
        "bundle",
        "columns",
        "frame",
        "large",
        "linked",
        "next",
        "open",
        "over",
        "pace",
        "priority",
        "queued",
        "returned",
        "rows",
        "running",
        "sent",
        "step",
        "template",
        "total",
        "values",
        "weight",
        "width",
    )

    def __init__(self, frame: Frame, bundle: int, step: MapStep, linked: LinkedPlan, base: int) -> None:
        self.frame = frame
        self.bundle = bundle
        self.step = step
        self.linked = linked
        self.base = base
        self.priority = -base - linked.length
        columns, self.total = map_columns(step, frame.slots)
        self.rows: Iterator[Tuple[Any, ...]] = rows_of(step.mode, columns)
        # Of a single axis, rows without a tuple around each; a map is taken by rows or by chunks, never by both.
        self.values: Optional[Iterator[Any]] = iter(columns[0]) if len(columns) == 1 else None
        self.width = step.width.of(self.total)
        self.template = frame_slots(step, frame.slots)
        self.columns: List[Any] = [[None] * self.total for _ in step.body.outputs]
        self.next = 0
        self.running = 0
        self.open = False
        self.over = False
        self.queued = False
        self.pace: Tuple[float, int] = (0.0, 0)
        self.weight: Tuple[int, int] = (0, 0)
        self.sent: Dict[int, Any] = {}
        self.large: Dict[int, Any] = {}
        self.returned: List[Tuple[int, List[Any], int]] = []

    @property
    def more(self) -> bool:
        """Whether there are rows to take."""
        return self.next < self.total or bool(self.returned)

    @property
    def left(self) -> int:
        """How many rows there are to take."""
        returned = sum([len(flat) - begin for _, flat, begin in self.returned])
        return self.total - self.next + returned // len(self.step.axes)

    def take(self, count: int) -> Chunk:
        """Return the next rows, `count` at the most."""
        if not self.returned:
            values = self.values if self.values is not None else chain.from_iterable(self.rows)
            chunk = Chunk(self, self.next, list(islice(values, count * len(self.step.axes))))
            self.next += chunk.count
            return chunk
        start, flat, begin = self.returned.pop()
        end = begin + count * len(self.step.axes)
        if end < len(flat):
            self.returned.append((start + count, flat, end))
        return Chunk(self, start, flat[begin:end])

    def give_back(self, chunk: Chunk, completed: int) -> None:
        """Put back the rows of a chunk behind the first `completed` ones."""
        if completed < chunk.count:
            self.returned.append((chunk.start + completed, chunk.flat, completed * chunk.width))


class Item(Frame):
    """A frame whose body is one bundle, and so also the task of running it: most maps consist of these."""

    __slots__ = ()

    bundle = 0

    def __init__(self, map_run: MapRun, slots: Slots, index: int) -> None:
        # Not the frame's own __init__: there is nothing to wait for, and there may be a million of these.
        self.linked = map_run.linked
        self.slots = slots
        self.map_run: Optional[MapRun] = map_run
        self.index = index

    @property
    def frame(self) -> Frame:
        return self


class BundleTask:
    """A bundle of a frame."""

    __slots__ = ("bundle", "frame")

    def __init__(self, frame: Frame, bundle: int) -> None:
        self.frame = frame
        self.bundle = bundle


class Chunk(BundleTask):
    """Items of a map, from index `start` on, whose straight body one worker process runs for each of their rows.

    `count` rows are laid end to end in `flat`, `width` values each.
    """

    __slots__ = ("count", "flat", "map_run", "start", "width")

    def __init__(self, map_run: MapRun, start: int, flat: List[Any]) -> None:
        super().__init__(map_run.frame, map_run.bundle)
        self.map_run = map_run
        self.start = start
        self.flat = flat
        self.width = len(map_run.step.axes)
        self.count = len(flat) // self.width

    def given(self, slot: int, row: int, count: int) -> List[Any]:
        """Return what `count` items from number `row` on were given for a slot of the body."""
        places = [axis.body_slot for axis in self.map_run.step.axes]
        if slot not in places:
            return [self.map_run.template[slot]] * count
        return self.flat[row * self.width + places.index(slot) : (row + count) * self.width : self.width]


Task = Union[Item, BundleTask]
"""What one worker does next."""
