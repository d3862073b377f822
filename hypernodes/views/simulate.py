"""A plan and how long its nodes take in, the run it would be out: the schedule of real runs, driven by a virtual clock.

No user function is called, no thread started. A map needs a number of items and no items: `_sized` gives every map an
axis of its own, over a slot that holds ``range(n)``, so that nothing depends on values that a simulation does not have.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import Any, Callable, Dict, List, Mapping, Optional, Set, Tuple, Union

from hypernodes.errors import OptionError, UnknownNameError
from hypernodes.lowering.plan import FRAMES, INLINE, Axis, Bundle, Hosted, MapStep, Plan, PlanStep, Slot, Step
from hypernodes.records import evolve
from hypernodes.runtime.bundle.linked import LinkedPlan
from hypernodes.runtime.schedule.frames import Chunk, Frame
from hypernodes.runtime.schedule.ready import Task
from hypernodes.runtime.schedule.schedule import Schedule
from hypernodes.views.text import scoped_name
from hypernodes.views.timeline import Entry, Timeline

Durations = Union[Mapping[str, float], Callable[[str, Tuple[int, ...]], float]]
Items = Union[int, Mapping[str, int]]
Address = Tuple[Tuple[int, int], ...]
"""Which frame of a run: the bundle that starts a map and the item of it, for each map from the outermost in."""

SECONDS = 1.0
ITEMS = 10


def simulate(
    plan: Plan, durations: Optional[Durations] = None, items: Optional[Items] = None, workers: Optional[int] = None
) -> Timeline:
    """Return the run that `plan` would be if its nodes took so long.

    Parameters
    ----------
    plan : Plan
        Widths of maps are the plan's own, whatever `workers` is.
    durations : mapping of str to float, or callable, optional
        Node name to seconds, 1.0 for those not named; or ``durations(name, path)``, where `path` are the indices of
        the items around the call, outermost first. A node of a nested pipeline is also known as ``pipeline.node``.
    items : int, or mapping of str to int, optional
        How many items every map has, or each by its name; 10 by default.
    workers : int, optional
        The most bundles at once; the plan's `max_workers` by default.

    Raises
    ------
    UnknownNameError
        For a node or a map that the plan does not have.
    OptionError
        For a negative number of seconds or items, or less than one worker.
    """
    if workers is not None and workers < 1:
        raise OptionError("workers", repr(workers), "use at least 1, or None for the plan's max_workers")
    sizes = _Sizes(plan, durations, items)
    return _simulated(plan, sizes, plan.options.max_workers if workers is None else workers, ())


def _simulated(plan: Plan, sizes: _Sizes, workers: int, outer: Tuple[int, ...]) -> Timeline:
    sized, ranges = _sized(plan, sizes)
    linked = LinkedPlan(sized)
    if linked.placements_used <= {INLINE}:
        workers = 1
    slots: List[Any] = [None] * len(plan.slots) + [range(n) for n in ranges]
    schedule = Schedule(linked, slots, workers)
    clock = _Clock(schedule, sizes, outer)
    makespan = clock.run()
    if schedule.failures:
        raise schedule.failures[0][1]
    spent = clock.spent
    critical = _critical_path(plan, sizes, spent, ())
    return Timeline(plan.name, workers, makespan, critical, sum(spent.values()), tuple(clock.entries))


class _Clock:
    """The driver: takes what is ready while lanes are free, then jumps to when the next task ends."""

    def __init__(self, schedule: Schedule, sizes: _Sizes, outer: Tuple[int, ...]) -> None:
        self.schedule = schedule
        self.sizes = sizes
        self.outer = outer
        self.entries: List[Entry] = []
        self.spent: Dict[Tuple[Address, int], float] = {}
        self.placements = sorted(schedule.ready.tasks)
        self.free: List[int] = []
        self.lanes = 0
        # One thread runs all inline bundles: the caller's.
        self.seated = False

    def run(self) -> float:
        """Run to the end and return the time it then is."""
        schedule, now, order = self.schedule, 0.0, 0
        running: List[Tuple[float, int, int, str, Task]] = []
        while not schedule.done:
            placement = self.next_placement()
            while placement is not None:
                task = schedule.take(placement)
                if task is None:
                    break
                end = now + self.begin(task, placement, now)
                heappush(running, (end, order, self.entries[-1].lane, placement, task))
                order += 1
                placement = self.next_placement()
            if not running:
                break
            now = running[0][0]
            while running and running[0][0] == now:
                _, _, lane, placement, task = heappop(running)
                heappush(self.free, lane)
                self.seated = self.seated and placement != INLINE
                self.end(task)
        return now

    def next_placement(self) -> Optional[str]:
        """Return where the ready task with the longest remaining path would run."""
        schedule = self.schedule
        best: Optional[Tuple[int, str]] = None
        for placement in self.placements:
            if not schedule.ready.has(placement) or (self.seated and placement == INLINE):
                continue
            heads = [entry[0] for entry in schedule.ready.tasks[placement][:1]]
            heads += [entry[0] for entry in schedule.ready.maps[placement][:1]]
            if best is None or (min(heads), placement) < best:
                best = (min(heads), placement)
        return None if best is None else best[1]

    def begin(self, task: Task, placement: str, now: float) -> float:
        """Note a task on a free lane and return the seconds it takes."""
        if isinstance(task, Chunk):
            map_run = task.map_run
            bundle = map_run.linked.plan.bundles[0]
            around = _address(task.frame)
            frames = [(*around, (task.bundle, task.start + row)) for row in range(task.count)]
        else:
            bundle = task.frame.linked.plan.bundles[task.bundle]
            frames = [_address(task.frame)]
        seconds = 0.0
        for address in frames:
            path = (*self.outer, *[item for _, item in address])
            spent = sum([self.sizes.seconds(step, path) for step in bundle.steps])
            self.spent[address, bundle.index] = spent
            seconds += spent
        if not self.free:
            self.free.append(self.lanes)
            self.lanes += 1
        self.seated = self.seated or placement == INLINE
        names = tuple([scoped_name(step) for step in bundle.steps])
        path = (*self.outer, *[item for _, item in frames[0]])
        self.entries.append(Entry(now, now + seconds, heappop(self.free), bundle.index, names, path))
        return seconds

    def end(self, task: Task) -> None:
        if isinstance(task, Chunk):
            self.schedule.put(task, 0, [None] * (task.count * len(task.map_run.linked.outputs)), task.count)
            self.schedule.finish_chunk(task, task.count)
        else:
            self.schedule.finish(task)


def _address(frame: Frame) -> Address:
    found: List[Tuple[int, int]] = []
    while frame.map_run is not None:
        found.append((frame.map_run.bundle, frame.index))
        frame = frame.map_run.frame
    return tuple(reversed(found))


def _critical_path(plan: Plan, sizes: _Sizes, spent: Mapping[Tuple[Address, int], float], address: Address) -> float:
    """Return the seconds of a frame with as many workers, and maps as wide, as it could use."""
    starts = [0.0] * len(plan.bundles)
    latest = 0.0
    for bundle in plan.bundles:
        step = bundle.steps[0]
        if bundle.placement == FRAMES and isinstance(step, MapStep):
            frames = [(*address, (bundle.index, item)) for item in range(sizes.items(step))]
            own = max([_critical_path(step.body, sizes, spent, frame) for frame in frames], default=0.0)
        else:
            own = spent[address, bundle.index]
        end = starts[bundle.index] + own
        latest = max(latest, end)
        for other in bundle.releases:
            starts[other] = max(starts[other], end)
    return latest


class _Sizes:
    """How long nodes take and how many items maps have, looked up by the names that a plan gives them."""

    def __init__(self, plan: Plan, durations: Optional[Durations], items: Optional[Items]) -> None:
        self._durations = {} if durations is None else durations
        self._items = ITEMS if items is None else items
        nodes: Set[str] = set()
        maps: Set[str] = set()
        _collect(plan, nodes, maps)
        if isinstance(self._durations, Mapping):
            _check(plan.name, "node", self._durations, nodes)
        if isinstance(self._items, Mapping):
            _check(plan.name, "map", self._items, maps)
        elif self._items < 0:
            raise OptionError("items", repr(items), "use 0 or more")

    def items(self, step: MapStep) -> int:
        if isinstance(self._items, Mapping):
            return self._items.get(scoped_name(step), self._items.get(step.name, ITEMS))
        return self._items

    def seconds(self, step: PlanStep, path: Tuple[int, ...]) -> float:
        """Return how long a step takes on its worker; a map within a bundle takes its items one after another."""
        if isinstance(step, MapStep):
            steps = [inner for bundle in step.body.bundles for inner in bundle.steps]
            return sum([self.seconds(inner, (*path, item)) for item in range(self.items(step)) for inner in steps])
        if isinstance(step, Hosted):
            return _simulated(step.plan, self, step.plan.options.max_workers, path).makespan
        durations = self._durations
        if isinstance(durations, Mapping):
            return durations.get(scoped_name(step), durations.get(step.name, SECONDS))
        seconds = durations(step.name, path)
        if seconds < 0:
            raise OptionError(f"durations({step.name!r}, {path})", repr(seconds), "return 0 seconds or more")
        return seconds


def _collect(plan: Plan, nodes: Set[str], maps: Set[str]) -> None:
    for bundle in plan.bundles:
        for step in bundle.steps:
            if isinstance(step, Step):
                nodes.update((step.name, scoped_name(step)))
            elif isinstance(step, MapStep):
                maps.update((step.name, scoped_name(step)))
                _collect(step.body, nodes, maps)
            else:
                _collect(step.plan, nodes, maps)


def _check(plan: str, role: str, given: Mapping[str, float], known: Set[str]) -> None:
    for name, number in given.items():
        if name not in known:
            raise UnknownNameError(plan, role, name, tuple(sorted(known)))
        if number < 0:
            raise OptionError(f"{role} {name!r}", repr(number), "use 0 or more")


def _sized(plan: Plan, sizes: _Sizes) -> Tuple[Plan, List[int]]:
    """Return `plan` with a slot for the number of items of each map in it, and those numbers in the order of the slots.

    The new slots come last. A map in the body of another gets its range through the frame's shared values.
    """
    slots = list(plan.slots)
    ranges: List[int] = []
    bundles: List[Bundle] = []

    def own_slot(items: int) -> int:
        slots.append(Slot("", None))
        ranges.append(items)
        return len(slots) - 1

    for bundle in plan.bundles:
        step = bundle.steps[0]
        if bundle.placement == FRAMES and isinstance(step, MapStep):
            body, inner = _sized(step.body, sizes)
            first = len(step.body.slots)
            shared = tuple([(first + number, own_slot(items)) for number, items in enumerate(inner)])
            # The row itself has nowhere to go; its slot is one more at the end.
            body = evolve(body, slots=(*body.slots, Slot("", None)))
            axis = Axis("", own_slot(sizes.items(step)), len(body.slots) - 1)
            step = evolve(step, body=body, axes=(axis,), shared=shared, mode="zip", spread=())
            bundles.append(evolve(bundle, steps=(step,)))
        else:
            bundles.append(evolve(bundle, payload=None, sealed=None))
    return evolve(plan, slots=tuple(slots), bundles=tuple(bundles)), ranges
