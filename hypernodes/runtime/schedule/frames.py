"""The state of one run, as the schedule keeps it: frames, maps in progress, and the tasks made of them."""

from __future__ import annotations

from collections import deque
from typing import Any, Deque, Dict, List, Optional, Tuple

from hypernodes.lowering.plan import MapStep
from hypernodes.runtime.bundle.interpreter import Slots
from hypernodes.runtime.bundle.linked import LinkedPlan
from hypernodes.runtime.bundle.maps import Expansion, frame_slots
from hypernodes.runtime.schedule.sink import Columns, Sink, Sinks
from hypernodes.runtime.schedule.source import Source


class Frame:
    """One run of one plan: its slots, and what each of its bundles still waits for."""

    __slots__ = ("base", "index", "left", "linked", "map_run", "readers", "slots", "waiting")

    def __init__(self, linked: LinkedPlan, slots: Slots, index: int, map_run: Optional[MapRun]) -> None:
        self.linked = linked
        self.slots = slots
        self.index = index
        self.map_run = map_run
        self.base: int = map_run.base if map_run is not None else 0
        self.left = linked.count
        if linked.count > 1:
            self.waiting = linked.waits.copy()
            self.readers: Dict[int, int] = linked.shared_readers and dict(linked.shared_readers)


class MapRun:
    """One map in progress: rows come from its `source`, `running` tasks of it are out, results go to its `sink`.

    `base` is the length of the longest path that remains behind the map. While it is `queued`, it is among the maps of
    the schedule whose items can be taken. `pace` has seconds an item takes and how many were measured. The rest belongs
    to the process driver: `weight` has bytes an item brings and answers, `sent` how the imports of each bundle travel,
    `large` the values that all items share and that travel alone, by slot.
    """

    __slots__ = (
        "base",
        "bundle",
        "frame",
        "large",
        "linked",
        "over",
        "pace",
        "priority",
        "queued",
        "running",
        "sent",
        "sink",
        "source",
        "step",
        "template",
        "weight",
        "width",
    )

    def __init__(self, frame: Frame, bundle: int, expansion: Expansion, sinks: Sinks = Columns) -> None:
        linked = frame.linked
        self.frame = frame
        self.bundle = bundle
        self.step: MapStep = linked.map_steps[bundle]
        self.linked = linked.bodies[bundle]
        # What remains behind this map counts for every bundle in it.
        self.base: int = frame.base + linked.ranks[bundle] - self.linked.length
        self.priority = -self.base - self.linked.length
        self.source = Source(expansion.columns, self.step.mode, expansion.total)
        self.sink: Sink = sinks(len(self.step.body.outputs), expansion.total)
        self.width = self.step.width.of(expansion.total)
        self.template = frame_slots(self.step, frame.slots)
        self.running = 0
        self.over = False
        self.queued = False
        self.pace: Tuple[float, int] = (0.0, 0)
        self.weight: Tuple[int, int] = (0, 0)
        self.sent: Dict[int, Any] = {}
        self.large: Dict[int, Any] = {}


class BundleTask:
    """A bundle of a frame."""

    __slots__ = ("bundle", "frame")

    def __init__(self, frame: Frame, bundle: int) -> None:
        self.frame = frame
        self.bundle = bundle

    @property
    def priority(self) -> int:
        """The negative of the steps on the longest path from its start to the end of the run: the least goes first."""
        return -self.frame.base - self.frame.linked.ranks[self.bundle]


class Expand(BundleTask):
    """The beginning of a map: reading its values, which is code of the user's, and so a worker's to do."""

    __slots__ = ()

    @property
    def step(self) -> MapStep:
        """The map."""
        return self.frame.linked.map_steps[self.bundle]


class Chunk(BundleTask):
    """Items of a map, from index `start` on, whose straight body one worker runs for each of their rows.

    `count` rows are laid end to end in `flat`, `width` values each. A worker of this process takes them one by one out
    of `rows`, so that the schedule can give those at the other end to a worker that has nothing to do.
    """

    __slots__ = ("count", "flat", "map_run", "rows", "start", "width")

    def __init__(self, map_run: MapRun, start: int, flat: List[Any]) -> None:
        super().__init__(map_run.frame, map_run.bundle)
        self.map_run = map_run
        self.start = start
        self.flat = flat
        self.width = map_run.source.width
        self.count = len(flat) // self.width
        self.rows: Deque[Any] = deque()

    def open(self) -> Deque[Any]:
        """Return its rows, each a value for one axis, or a tuple; the worker takes from the left."""
        self.rows = deque(self.flat if self.width == 1 else zip(*[iter(self.flat)] * self.width))
        return self.rows

    def divide(self) -> Optional[Chunk]:
        """Return a chunk of the later half of the rows that nobody has begun; None when there are none."""
        taken: List[Any] = []
        try:
            # The worker takes from the other end at the same time, and a deque gives each row to one of them.
            for _ in range((len(self.rows) + 1) // 2):
                taken.append(self.rows.pop())
        except IndexError:
            pass  # it was quicker
        if not taken:
            return None
        self.count -= len(taken)
        taken.reverse()
        flat = taken if self.width == 1 else [value for row in taken for value in row]
        return Chunk(self.map_run, self.start + self.count, flat)

    def given(self, slot: int, row: int, count: int) -> List[Any]:
        """Return what `count` items from number `row` on were given for a slot of the body."""
        places = [axis.body_slot for axis in self.map_run.step.axes]
        if slot not in places:
            return [self.map_run.template[slot]] * count
        return self.flat[row * self.width + places.index(slot) : (row + count) * self.width : self.width]
