"""Layers that tell what steps do: around a call where somebody listens, and absent where nobody does.

Events go to the `Scope` of the frame, which knows whose ears they are for: the dispatcher's in the caller's process, a
list in a worker, whose events travel back with the response.
"""

from __future__ import annotations

import contextlib
import contextvars
from time import perf_counter
from typing import Any, Awaitable, Callable, Dict, Iterator, Mapping, Optional, Sequence, Tuple

from hypernodes.events.event import NESTED_END, NESTED_START, NODE_END, NODE_ERROR, NODE_START, Event
from hypernodes.events.hooks import INPUTS, NESTED, NODE_ENDS, NODE_ERRORS, NODE_STARTS, OUTPUTS
from hypernodes.lowering.plan import Hosted, MapStep, Plan, Step
from hypernodes.runtime.bundle.interpreter import Slots
from hypernodes.runtime.bundle.locate import scope_of
from hypernodes.runtime.bundle.scope import Scope, map_key

Instruction = Callable[[Slots], Any]
Awaited = Callable[[Slots], Awaitable[None]]


class _Told:
    """Makes the events of one step: those that are heard, and what of its values the hooks get."""

    def __init__(self, step: Step, heard: int) -> None:
        self._where = scope_of(step), step.name
        self._output = step.outputs[0] if step.outputs else ""
        self._inputs = _captured([(a.parameter, a.slot) for a in step.arguments] if heard & INPUTS else [])
        self._outputs = _captured(list(zip(step.outputs, step.results)) if heard & OUTPUTS else [])
        self._starts, self._ends, self._errors = heard & NODE_STARTS, heard & NODE_ENDS, heard & NODE_ERRORS

    def started(self, slots: Slots) -> float:
        """Tell that it starts; return when that was."""
        began = perf_counter()
        if self._starts:
            self._tell(slots, NODE_START, self._inputs(slots), began, began)
        return began

    def ended(self, slots: Slots, began: float) -> None:
        """Tell that it has ended."""
        if self._ends:
            self._tell(slots, NODE_END, self._outputs(slots), perf_counter(), began)

    def failed(self, slots: Slots, error: BaseException, began: float) -> None:
        """Tell what it has raised."""
        if self._errors:
            self._tell(slots, NODE_ERROR, error, perf_counter(), began)

    def _tell(self, slots: Slots, kind: str, payload: Any, time: float, began: float) -> None:
        scope: Scope = slots[-1]
        path, name = self._where
        if scope.sink is not None:
            scope.sink(Event(kind, scope.frame, scope.path, path, name, payload, time, self._output, began))


def told(step: Step, run: Instruction, heard: int) -> Instruction:
    """Return a call that tells when it begins and ends, with its inputs and outputs where these are `heard`."""
    tell = _Told(step, heard)
    started, ended = tell.started, tell.ended

    def observed(slots: Slots) -> None:
        began = started(slots)
        try:
            run(slots)
        except BaseException as error:
            tell.failed(slots, error, began)
            raise
        ended(slots, began)

    return observed


def told_coroutine(step: Step, run: Awaited, heard: int) -> Awaited:
    """Do that for a coroutine."""
    tell = _Told(step, heard)

    async def observed(slots: Slots) -> None:
        began = tell.started(slots)
        try:
            await run(slots)
        except BaseException as error:
            tell.failed(slots, error, began)
            raise
        tell.ended(slots, began)

    return observed


_current: contextvars.ContextVar[Optional[Tuple[Scope, Step]]] = contextvars.ContextVar(
    "hypernodes.current", default=None
)


def around_run(step: Step, run: Instruction) -> Instruction:
    """Let a step that runs a plan of its own tell its events as those of a nested pipeline."""

    def within(slots: Slots) -> None:
        token = _current.set((slots[-1], step))
        try:
            run(slots)
        finally:
            _current.reset(token)

    return within


@contextlib.contextmanager
def nested_run(plan: Plan) -> Iterator[Optional[Scope]]:
    """Tell that a plan runs inside the current step; gives its scope, or None where the run around it has none."""
    found = _current.get()
    if found is None:
        yield None
        return
    outer, step = found
    key, heard = step.outputs[0], outer.layers.heard & NESTED
    if heard:
        outer.tell(NESTED_START, step, (key, step_counts(plan)))
    yield outer.of_nested((*scope_of(step), step.name), key)
    if heard:
        outer.tell(NESTED_END, step, None)


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


def _captured(pairs: Sequence[Tuple[str, int]]) -> Callable[[Slots], Dict[str, Any]]:
    if len(pairs) == 1:
        ((name, slot),) = pairs
        return lambda slots: {name: slots[slot]}
    return lambda slots: {name: slots[slot] for name, slot in pairs}
