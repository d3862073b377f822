"""A plan in, what runs it on this machine again and again out: its code, and the way in and out of its slots.

It holds nothing of any single run, so many threads may use one.
"""

from __future__ import annotations

import asyncio
from functools import partial
from operator import itemgetter
from types import MappingProxyType
from typing import (
    Any,
    AsyncGenerator,
    Callable,
    Dict,
    Generator,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Type,
)

from hypernodes.errors import PlanInputsError
from hypernodes.errors.location import Location
from hypernodes.errors.notes import add_note, passable, said, short
from hypernodes.events.dispatch import Dispatcher
from hypernodes.events.hooks import NESTED, Listeners
from hypernodes.events.subscriber import AT_ONCE, AtOnce, InThread
from hypernodes.ir.graph import GIVEN
from hypernodes.lowering.plan import INLINE, Hosted, MapStep, Plan, PlanStep, Step
from hypernodes.runtime.bundle.cancellation import enclosing
from hypernodes.runtime.bundle.interpreter import Slots, StepFailed, is_exception
from hypernodes.runtime.bundle.layers import Layers, layers_of
from hypernodes.runtime.bundle.linked import LinkedPlan
from hypernodes.runtime.bundle.locate import located, steps_of
from hypernodes.runtime.bundle.maps import blank
from hypernodes.runtime.bundle.observe import nested_run, step_counts
from hypernodes.runtime.bundle.once import STREAMS, listed
from hypernodes.runtime.bundle.scope import Scope
from hypernodes.runtime.drivers.arun import arun_plan
from hypernodes.runtime.drivers.astream import astream_plan
from hypernodes.runtime.drivers.coordinator import run_plan
from hypernodes.runtime.drivers.libraries import alike
from hypernodes.runtime.drivers.run import Resources
from hypernodes.runtime.drivers.services import LATER, Services
from hypernodes.runtime.drivers.sources import rows_to_astream, rows_to_stream
from hypernodes.runtime.drivers.stream import stream_plan
from hypernodes.runtime.schedule.locations import located_task
from hypernodes.runtime.schedule.schedule import Failures
from hypernodes.runtime.schedule.sink import Delivery

Lend = Callable[[Optional[Layers], Optional[Callable[[Any], None]], AtOnce], Resources]


class _Opened(NamedTuple):
    """What one run begins with."""

    resources: Resources
    dispatcher: Optional[Dispatcher]
    subscriber: AtOnce


class LocalExecutable:
    """A plan with what is needed to run it; an `Executable`.

    Parameters
    ----------
    plan : Plan
        What runs.
    lend : callable
        Returns what a run borrows, given its layers, who takes its events, and who calls its hooks.
    listeners : Listeners, optional
        None when nobody listens.
    provided : mapping of str to str
        Names of the inputs it will get, each with how the caller spells it.
    collects : bool
        Whether a failure stands in for what failed, instead of ending the run.
    """

    def __init__(
        self,
        plan: Plan,
        lend: Lend,
        listeners: Optional[Listeners] = None,
        provided: Mapping[str, str] = MappingProxyType({}),
        collects: bool = False,
    ) -> None:
        self.plan = plan
        self._provided = frozenset(map(_given_as, provided))
        self._lend = lend
        self._listeners = listeners
        self._layers = layers_of(listeners.heard if listeners is not None else 0, collects)
        self.linked = LinkedPlan(plan, self._layers)
        self._frame = blank(len(plan.slots))
        self._frame[0] = LATER
        self._inputs = tuple(
            [(provided.get(name, _given_as(name)), slot) for name, slot in zip(plan.input_names, plan.inputs)]
        )
        self._shared = tuple([(name, slot) for name, slot in self._inputs if slot in plan.read_again])
        self._names = plan.output_names
        self._pick = _picker(plan.outputs)
        # A dict that is copied has room for all of its names from the start, which pays for many.
        self._blank = dict.fromkeys(self._names if len(self._names) > 32 else ())
        # Without coroutines, lanes or listeners a run is a loop over slots, and needs nothing else to be made for it.
        self._has_maps = any(isinstance(step, MapStep) for step in steps_of(plan))
        # Workers of a run within tell of what they do, too.
        self._here = self.linked.inline and not (listeners is not None and _runs_within(plan))
        self._bare = self._layers is None and listeners is None and self.linked.inline and not _needs_services(plan)

    def run(self, inputs: Mapping[str, Any], within: bool = False) -> Dict[str, Any]:
        """Run once, maybe `within` a step of another run; `inputs` has the names the plan was made for."""
        slots = self._frame.copy()
        for name, slot in self._inputs:
            slots[slot] = inputs[name]
        if self._shared:
            self._list_streams(slots)
        if self._bare and enclosing() is None:
            if self._has_maps:
                # Frames of items have slots of their own: what they share has to be there from the start.
                slots[0] = Services()
            failed = None
            try:
                for code in self.linked.codes:
                    for shape, table in code:
                        shape(table, slots)
            except StepFailed as fault:
                failed = fault
            finally:
                if slots[0] is not LATER:
                    slots[0].close()
            if failed is None:
                return self._outputs(slots) if self._blank else dict(zip(self._names, self._pick(slots)))
            try:
                raise located(failed, steps_of(self.plan), slots, Location((self.plan.name,), within=within))
            finally:
                # This frame will be in its traceback, and would refer to it by this.
                failed = None
        opened = self._open(inputs, slots, self._here)
        opened.subscriber.begin()
        try:
            outputs = self._closed(slots, run_plan(self.linked, slots, opened.resources), opened, within)
        except BaseException as error:
            opened.subscriber.close(hurry=not is_exception(error))
            raise
        opened.subscriber.close()
        self._check_hooks(slots, opened)
        return outputs

    def run_nested(self, inputs: Mapping[str, Any]) -> Dict[str, Any]:
        """Run once inside a step of another run, to whose listeners, if any, the events go."""
        with nested_run(self.plan) as scope:
            if scope is None:
                return self.run(inputs, within=True)
            slots = self._filled(inputs)
            slots[-1] = scope
            opened = _Opened(self._lend(scope.layers, scope.sink, AT_ONCE), None, AT_ONCE)
            failures = run_plan(LinkedPlan(self.plan, scope.layers), slots, opened.resources)
            return self._closed(slots, failures, opened, True)

    async def arun(self, inputs: Mapping[str, Any]) -> Dict[str, Any]:
        """Run once, with coroutines on the running event loop and everything else beside it."""
        slots = self._filled(inputs)
        opened = self._open(inputs, slots)
        opened.subscriber.begin()
        try:
            failures = await arun_plan(self.linked, slots, opened.resources)
            if failures:
                raise passable(self._error(slots, failures), StopIteration)
            outputs = self._closed(slots, failures, opened)
        except BaseException as error:
            await opened.subscriber.aclose(hurry=not is_exception(error))
            raise
        await opened.subscriber.aclose()
        self._check_hooks(slots, opened)
        return outputs

    def stream(
        self, inputs: Mapping[str, Any], axes: Sequence[str], mode: str, ordered: bool
    ) -> Generator[Delivery, None, None]:
        """Run once per item of `axes` as they are read; yields the index and the outputs of each."""
        rows = rows_to_stream(self.plan.name, {axis: inputs[axis] for axis in axes}, mode, self._items_read_again())
        slots = self._filled({**inputs, **dict.fromkeys(axes, ())})
        opened = self._open(inputs, slots, self.linked.placements_used <= {INLINE})
        conclude = self._concluding(slots, opened, StopIteration)
        return stream_plan(self.linked, slots, opened.resources, rows, ordered, conclude)

    def astream(
        self, inputs: Mapping[str, Any], axes: Sequence[str], mode: str, ordered: bool
    ) -> AsyncGenerator[Delivery, None]:
        """Do what `stream` does with coroutines on the running event loop, and everything else beside it."""
        rows = rows_to_astream(self.plan.name, {axis: inputs[axis] for axis in axes}, mode, self._items_read_again())
        slots = self._filled({**inputs, **dict.fromkeys(axes, ())})
        opened = self._open(inputs, slots)
        conclude = self._concluding(slots, opened, StopIteration, StopAsyncIteration)
        return astream_plan(self.linked, slots, opened.resources, rows, ordered, conclude)

    def check_inputs(self, given: Sequence[str]) -> None:
        """Refuse inputs other than those the plan was made for."""
        wanted = tuple([name for name, _ in self._inputs])
        # What pruning found nobody to read is part of what the plan was made for all the same.
        if not set(wanted) <= set(given) <= self._provided.union(wanted):
            raise PlanInputsError(self.plan.name, wanted, tuple(given))

    # -- one run ------------------------------------------------------------------------------------------------------

    def _filled(self, inputs: Mapping[str, Any]) -> Slots:
        slots = self._frame.copy()
        for name, slot in self._inputs:
            slots[slot] = inputs[name]
        self._list_streams(slots)
        return slots

    def _outputs(self, slots: Slots) -> Dict[str, Any]:
        outputs = self._blank.copy()
        outputs.update(zip(self._names, self._pick(slots)))
        return outputs

    def repeatable(self, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return inputs with a list for each stream that several read, as a run makes it, for a second run of them."""
        streams = [name for name, _ in self._shared if type(inputs[name]) in STREAMS]
        return (
            {**inputs, **{name: listed(inputs[name], self._subject(name)) for name in streams}} if streams else inputs
        )

    def _subject(self, name: str) -> str:
        return f"input {name!r} of pipeline {self.plan.name!r}"

    def _list_streams(self, slots: Slots) -> None:
        for name, slot in self._shared:
            if type(slots[slot]) in STREAMS:
                slots[slot] = listed(slots[slot], self._subject(name))

    def _items_read_again(self) -> Sequence[str]:
        return self.linked.map_steps[0].items_read_again if self.linked.map_steps else ()

    def _open(self, inputs: Mapping[str, Any], slots: Slots, here: bool = False) -> _Opened:
        """Begin a run of slots that are filled; `here` says that all of it is in this thread."""
        subscriber = AT_ONCE if here or self._listeners is None else InThread(alike)
        dispatcher: Optional[Dispatcher] = None
        receive: Optional[Callable[[Any], None]] = None
        if self._listeners is not None:
            heard = self._listeners.heard
            dispatcher = Dispatcher(self._listeners, step_counts(self.plan) if heard & NESTED else {})
            subscriber.put(dispatcher.pipeline_started, self.plan.name, dict(inputs))
            if heard:
                receive = dispatcher.receive if here else partial(subscriber.put, dispatcher.receive)
        if self._layers is not None:
            slots[-1] = Scope((self.plan.name,), (), self._layers, receive)
        return _Opened(self._lend(self._layers, receive, subscriber), dispatcher, subscriber)

    def _concluding(self, slots: Slots, opened: _Opened, *ends: Type[BaseException]) -> Callable[[Failures], None]:
        """Return what a stream calls when it has come to its end; its outputs are with the consumer, and not kept."""

        def conclude(failures: Failures) -> None:
            if failures:
                raise passable(self._error(slots, failures), *ends)
            if opened.dispatcher is not None:
                opened.subscriber.put(opened.dispatcher.pipeline_ended, self.plan.name, {})

        return conclude

    def _closed(self, slots: Slots, failures: Failures, opened: _Opened, within: bool = False) -> Dict[str, Any]:
        if failures:
            raise self._error(slots, failures, within)
        outputs = self._outputs(slots)
        if opened.dispatcher is not None:
            opened.subscriber.put(opened.dispatcher.pipeline_ended, self.plan.name, outputs)
        return outputs

    def _check_hooks(self, slots: Slots, opened: _Opened) -> None:
        """Raise what a hook has raised when there was nothing left that it could stop."""
        if opened.subscriber.error is not None:
            raise self._error(slots, [(None, opened.subscriber.error)])

    def _error(self, slots: Slots, failures: Failures, within: bool = False) -> BaseException:
        """Return the failure that happened first, the others in its note."""
        errors: List[BaseException] = []
        for task, fault in failures:
            if task is None:
                errors.append(located(fault, steps_of(self.plan), slots, Location((self.plan.name,), within=within)))
            else:
                errors.append(located_task(task, fault, within))
        first, others = errors[0], [error for error in errors[1:] if not isinstance(error, asyncio.CancelledError)]
        # Who raises the first has these in a frame, which would refer to the exception that refers to the frame.
        failures.clear()
        for other in others:
            if other is not first:
                add_note(first, f"also failed: {type(other).__name__}: {short(said(other))}")
        return first


def _given_as(name: str) -> str:
    """Return what the caller calls an input of a plan."""
    return name[len(GIVEN) :] if name.startswith(GIVEN) else name


def _picker(outputs: Sequence[int]) -> Callable[[Slots], Sequence[Any]]:
    if not outputs:
        return lambda slots: ()
    if len(outputs) == 1:
        only = outputs[0]
        return lambda slots: (slots[only],)
    if outputs == tuple(range(outputs[0], outputs[0] + len(outputs))):
        start, stop = outputs[0], outputs[-1] + 1
        return lambda slots: slots[start:stop]
    return itemgetter(*outputs)


def _needs_services(plan: Plan) -> bool:
    return _any_step(
        plan,
        lambda step: (
            isinstance(step, Hosted) or (isinstance(step, Step) and (step.is_coroutine or step.policy.governs_calls))
        ),
    )


def _runs_within(plan: Plan) -> bool:
    return _any_step(plan, lambda step: isinstance(step, Step) and step.runs_plan)


def _any_step(plan: Plan, asked: Callable[[PlanStep], bool]) -> bool:
    """Return whether something is so of any step of a plan, or of the bodies of its maps."""
    return any(asked(step) or (isinstance(step, MapStep) and _any_step(step.body, asked)) for step in steps_of(plan))
