"""Steps in, the same steps that tell what they do out: linked in where somebody listens, and absent where nobody does.

Each frame's slot 0 then holds a `Scene`, which says which frame it is and where its events go: to the dispatcher in the
caller's process, to a list in a worker, whose events travel back with the answer.
"""

from __future__ import annotations

import contextlib
import contextvars
from typing import Any, Callable, ContextManager, Dict, Iterator, List, Mapping, Optional, Tuple

from hypernodes.events.event import (
    ITEM_END,
    ITEM_START,
    MAP_END,
    MAP_START,
    NESTED_END,
    NESTED_START,
    NODE_END,
    NODE_ERROR,
    NODE_START,
    Event,
    FrameKey,
)
from hypernodes.lowering.plan import Hosted, MapStep, Plan, PlanStep, Step
from hypernodes.runtime.bundle.interpreter import Code, Slots, StepFailed, execute
from hypernodes.runtime.bundle.link import Awaited, Fill, Instruction
from hypernodes.runtime.bundle.maps import frame_slots, map_columns, rows_of

Sink = Callable[[Event], None]


class Scene:
    """Slot 0 of an observed frame: the run's services, which frame this is, and who listens, for runs within it."""

    __slots__ = ("frame", "listener", "path", "services", "sink")

    def __init__(self, services: Any, sink: Sink, path: Tuple[str, ...], frame: FrameKey, listener: Any) -> None:
        self.services = services
        self.sink = sink
        self.path = path
        self.frame = frame
        self.listener = listener

    @property
    def stopped(self) -> bool:
        return bool(self.services.stopped)

    def wait_for(self, coroutine: Any) -> Any:
        return self.services.wait_for(coroutine)

    def settle(self, slots: Slots, coroutine: Any) -> Any:
        return self.services.settle(slots, coroutine)

    def host(self, plan: Plan, slots: Slots) -> None:
        self.services.host(plan, slots, self.listener)

    def pause(self, seconds: float) -> bool:
        return bool(self.services.pause(seconds))

    @property
    def tried(self) -> Mapping[str, int]:
        tried: Mapping[str, int] = self.services.tried
        return tried

    def watch(self, call: str, seconds: float) -> ContextManager[None]:
        watched: ContextManager[None] = self.services.watch(call, seconds)
        return watched

    def tell(self, kind: str, step: PlanStep, payload: Any) -> None:
        scope = getattr(step, "scope", None)
        output = step.outputs[0] if step.outputs else ""
        self.sink(Event(kind, self.frame, self.path, scope.path if scope else (), step.name, payload, output=output))


class Observer:
    """Wraps steps for linking, and listens to the schedule; it keeps no state, which is all in the scenes."""

    collects = False

    def __init__(self, root_map: bool, root_depth: int = 0) -> None:
        self._root_map = root_map
        self._root_depth = root_depth

    # -- Wrap ---------------------------------------------------------------------------------------------------------

    def plain(self, step: PlanStep, run: Instruction) -> Instruction:
        if not isinstance(step, Step):
            return run
        if getattr(step.fn, "runs_plan", False):
            return _within(step, run)
        inputs, outputs = _inputs(step), _outputs(step)

        def observed(slots: Slots) -> None:
            scene: Scene = slots[0]
            scene.tell(NODE_START, step, inputs(slots))
            try:
                run(slots)
            except BaseException as error:
                scene.tell(NODE_ERROR, step, error)
                raise
            scene.tell(NODE_END, step, outputs(slots))

        return observed

    def coroutine(self, step: Step, run: Awaited) -> Awaited:
        inputs, outputs = _inputs(step), _outputs(step)

        async def observed(slots: Slots) -> None:
            scene: Scene = slots[0]
            scene.tell(NODE_START, step, inputs(slots))
            try:
                await run(slots)
            except BaseException as error:
                scene.tell(NODE_ERROR, step, error)
                raise
            scene.tell(NODE_END, step, outputs(slots))

        return observed

    def filler(self, step: MapStep, fill: Fill) -> Fill:
        return fill

    def loop(self, step: MapStep, code: Code, fill: Fill) -> Instruction:
        outputs = step.body.outputs

        def run(slots: Slots) -> None:
            given, total = map_columns(step, slots)
            own = frame_slots(step, slots)
            self.map_started(step, slots, own, total)
            columns: List[List[Any]] = [[] for _ in outputs]
            for index, row in enumerate(rows_of(step.mode, given)):
                try:
                    fill(own, row, index)
                    self.item_follows(own, index)
                    execute(code, own)
                    self.item_ended(own)
                except StepFailed as failed:
                    failed.trail.append((step, index, own))
                    raise
                for column, slot in zip(columns, outputs):
                    column.append(own[slot])
            for result, column in zip(step.results, columns):
                slots[result] = column
            self.map_ended(step, slots, own)
            for slot in step.frees:
                slots[slot] = None

        return run

    # -- Listener -----------------------------------------------------------------------------------------------------

    def map_started(self, step: MapStep, slots: Slots, template: Slots, total: Optional[int]) -> None:
        scene: Scene = slots[0]
        path = scene.path
        if not self._is_root(scene, step):
            path = (*path, *(step.scope.path if step.scope else ()), step.name)
        frame = (*scene.frame, (map_key(step), -1))
        template[0] = Scene(scene.services, scene.sink, path, frame, scene.listener)
        scene.tell(MAP_START, step, (total, self._is_root(scene, step)))

    def item_started(self, slots: Slots, index: int) -> None:
        scene = slots[0] = item_scene(slots[0], index)
        scene.sink(Event(ITEM_START, scene.frame, scene.path, (), ""))

    def item_follows(self, slots: Slots, index: int) -> None:
        """Do what `item_started` does, in slots of which nothing but the items before this one had use."""
        self.item_started(slots, index)

    def item_ended(self, slots: Slots) -> None:
        scene: Scene = slots[0]
        scene.sink(Event(ITEM_END, scene.frame, scene.path, (), ""))

    def map_ended(self, step: MapStep, slots: Slots, template: Slots) -> None:
        slots[0].tell(MAP_END, step, self._is_root(slots[0], step))

    def refuses(self, step: MapStep, slots: Slots) -> bool:
        return False

    def column(self, cells: List[Any]) -> List[Any]:
        return cells

    def _is_root(self, scene: Scene, step: MapStep) -> bool:
        return self._root_map and len(scene.frame) == self._root_depth and step.scope is None


class Locator(Observer):
    """An observer that tells nobody: all it does is to keep in the scenes which items their frames are of."""

    def plain(self, step: PlanStep, run: Instruction) -> Instruction:
        return _within(step, run) if isinstance(step, Step) and getattr(step.fn, "runs_plan", False) else run

    def coroutine(self, step: Step, run: Awaited) -> Awaited:
        return run

    def item_started(self, slots: Slots, index: int) -> None:
        slots[0] = item_scene(slots[0], index)

    def item_follows(self, slots: Slots, index: int) -> None:
        scene: Scene = slots[0]
        frame = scene.frame
        scene.frame = (*frame[:-1], (frame[-1][0], index))

    def item_ended(self, slots: Slots) -> None:
        pass

    def map_ended(self, step: MapStep, slots: Slots, template: Slots) -> None:
        pass


def silent(event: Event) -> None:
    """Tell nobody: for runs that need scenes for another reason than callbacks."""


_current: contextvars.ContextVar[Optional[Tuple[Scene, Step]]] = contextvars.ContextVar(
    "hypernodes.current", default=None
)


def _within(step: Step, run: Instruction) -> Instruction:
    """Let a step that runs a plan of its own tell its events as those of a nested pipeline."""

    def observed(slots: Slots) -> None:
        token = _current.set((slots[0], step))
        try:
            run(slots)
        finally:
            _current.reset(token)

    return observed


@contextlib.contextmanager
def nested_run(plan: Plan) -> Iterator[Optional[Callable[[Any], Scene]]]:
    """Tell that a plan runs inside the current step; gives what makes its root scene, or None where nobody listens."""
    found = _current.get()
    if found is None:
        yield None
        return
    outer, step = found
    key = step.outputs[0]
    path = (*outer.path, *(step.scope.path if step.scope else ()), step.name)
    outer.tell(NESTED_START, step, (key, step_counts(plan)))
    yield lambda services: Scene(services, outer.sink, path, (*outer.frame, (key, -1)), outer.listener)
    outer.tell(NESTED_END, step, None)


HOSTED = Observer(root_map=False)
"""Listens to a frame that a worker runs by a schedule of its own; what is around it, the parent listens to."""

UNHEARD = Locator(root_map=False)
"""The same where nobody listens."""


def item_scene(scene: Scene, index: int) -> Scene:
    """Return the scene of an item, from that of its map or of the item before it in the same slots."""
    key = scene.frame[-1][0]
    return Scene(scene.services, scene.sink, scene.path, (*scene.frame[:-1], (key, index)), scene.listener)


def map_key(step: MapStep) -> str:
    """Return what tells one map of a frame from the others: names of results are unique there."""
    return step.outputs[0] if step.outputs else step.name


def step_counts(plan: Plan) -> Mapping[Tuple[str, ...], Mapping[Tuple[str, ...], int]]:
    """Return, for the frames of each map in the plan, how many steps each inlined pipeline has."""
    found: Dict[Tuple[str, ...], Dict[Tuple[str, ...], int]] = {}
    _count(plan, (), found)
    return found


def _count(plan: Plan, maps: Tuple[str, ...], found: Dict[Tuple[str, ...], Dict[Tuple[str, ...], int]]) -> None:
    counts = found.setdefault(maps, {})
    for bundle in plan.bundles:
        for step in bundle.steps:
            if isinstance(step, Hosted):
                _count(step.plan, maps, found)
                continue
            path = step.scope.path if step.scope else ()
            for length in range(1, len(path) + 1):
                counts[path[:length]] = counts.get(path[:length], 0) + 1
            if isinstance(step, MapStep):
                _count(step.body, (*maps, map_key(step)), found)


def _inputs(step: Step) -> Callable[[Slots], Dict[str, Any]]:
    pairs = [(argument.parameter, argument.slot) for argument in step.arguments]
    return lambda slots: {name: slots[slot] for name, slot in pairs}


def _outputs(step: Step) -> Callable[[Slots], Dict[str, Any]]:
    pairs = list(zip(step.outputs, step.results))
    return lambda slots: {name: slots[slot] for name, slot in pairs}
