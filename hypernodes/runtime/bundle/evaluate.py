"""A program and rows of values in; results laid end to end, or a failure, and what happened meanwhile out.

This is all that a worker does for a run, wherever it is: no channel, shared memory or pool, and nothing that outlives
the call. Each row runs in a context of its own, and none begins after the time is up, so that what is slower than
expected goes back to who sent it. A body that nobody listens to fills one set of slots again and again; a body of one
call needs none.
"""

from __future__ import annotations

import contextvars
import math
import time
from itertools import repeat
from types import CoroutineType
from typing import Any, Callable, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import attrs

from hypernodes.errors.location import Location
from hypernodes.events.event import Event, FrameKey
from hypernodes.lowering.plan import Program
from hypernodes.runtime.bundle.interpreter import Code, Slots, StepFailed, execute, settled, unary, unary_last
from hypernodes.runtime.bundle.layers import Layers
from hypernodes.runtime.bundle.link import link
from hypernodes.runtime.bundle.locate import located
from hypernodes.runtime.bundle.maps import blank
from hypernodes.runtime.bundle.scope import Scope


class Place(NamedTuple):
    """Where rows belong: items of a map around whose items is `frame`, the first of them with index `first`.

    -1 stands for the one row that is a bundle of the frame, and no item.
    """

    frame: Location
    first: int

    def location(self, row: int = 0) -> Location:
        """Return the location of a row, by its number from 0."""
        return self.frame.below(items=(self.first + row,)) if self.first >= 0 else self.frame


@attrs.frozen(eq=False)
class Values:
    """What a program is evaluated with: `count` rows of values for its imports.

    Attributes
    ----------
    shared : sequence of sequence of object
        A value for each number in `fixed`.
    place : Place
        Where the rows belong.
    scope : tuple of (tuple of str, FrameKey), optional
        Pipelines and frame of a run that is listened to or collects errors.
    fixed : sequence of sequence of int
        Numbers of the imports that all rows share, in groups that travel together.
    varying : sequence of int
        Numbers of the other imports.
    count : int
        How many rows there are.
    flat : sequence of object
        Values for `varying`, the rows laid end to end: ``count * len(varying)`` of them.
    """

    shared: Sequence[Sequence[Any]]
    place: Place
    scope: Optional[Tuple[Tuple[str, ...], FrameKey]]
    fixed: Sequence[Sequence[int]]
    varying: Sequence[int]
    count: int
    flat: Sequence[Any]

    def rows(self) -> Iterable[Sequence[Any]]:
        """Return the rows, one after another."""
        width = len(self.varying)
        return zip(*[iter(self.flat)] * width) if width else repeat((), self.count)


class LinkedProgram:
    """A program with the code that runs it, linked for who listens and whether errors are collected."""

    __slots__ = ("code", "layers", "program")

    def __init__(self, program: Program, layers: Optional[Layers] = None) -> None:
        self.program = program
        self.layers = layers
        self.code = link(program.steps, layers, program.imports)


@attrs.define(eq=False)
class Evaluation:
    """What came of rows of values.

    Attributes
    ----------
    completed : int
        How many rows came to their end.
    failure : BaseException or None
        What the row after these raised, as itself, with a note that says where.
    results : list of object
        A value for each export of each completed row, laid end to end.
    events : list of Event
        What happened, where somebody listens, in order.
    """

    completed: int = 0
    failure: Optional[BaseException] = None
    results: List[Any] = attrs.Factory(list)
    events: List[Event] = attrs.Factory(list)


def evaluate(
    linked: LinkedProgram,
    values: Values,
    services: Any,
    context: Callable[[], contextvars.Context] = contextvars.copy_context,
    budget: float = math.inf,
) -> Evaluation:
    """Run a program for rows of values, one after another in this thread, until one fails.

    Parameters
    ----------
    linked : LinkedProgram
        What runs.
    values : Values
        What it runs with.
    services : object
        What its code may ask for, through slot 0: to wait for a coroutine, to run a frame.
    context : callable
        Returns a context for each row.
    budget : float
        Seconds after which no further row begins; the first always does.
    """
    program, code = linked.program, linked.code
    done = Evaluation()
    template = blank(program.size)
    template[0] = services
    for numbers, shared in zip(values.fixed, values.shared):
        for number, value in zip(numbers, shared):
            template[program.imports[number]] = value
    targets = [program.imports[number] for number in values.varying]
    until = time.perf_counter() + budget
    if values.scope is None:
        call = _only_call(code, targets, program.exports)
        if call is not None:
            _execute_call(program, call, values, until, context, services, done)
            return done
        frames = _in_turn(template, targets, values.rows(), until)
    else:
        path, frame = values.scope
        layers = linked.layers
        template[-1] = Scope(path, frame, layers, done.events.append if layers is not None and layers.heard else None)
        items = layers if values.place.first >= 0 else None
        frames = _observed(template, targets, values.rows(), until, items, values.place.first)
    _execute_frames(program, code, frames, context, values.place, done)
    return done


def _in_turn(slots: Slots, targets: Sequence[int], rows: Iterable[Sequence[Any]], until: float) -> Iterator[Slots]:
    """Fill the same slots for one row after another, as the loop over the items of a map does, until the time is up."""
    clock = time.perf_counter
    if len(targets) == 1:
        (only,) = targets
        for (slots[only],) in rows:
            yield slots
            if clock() > until:
                return
    else:
        for row in rows:
            for slot, value in zip(targets, row):
                slots[slot] = value
            yield slots
            if clock() > until:
                return


def _observed(
    template: Slots, targets: Sequence[int], rows: Iterable[Sequence[Any]], until: float, layers: Any, first: int
) -> Iterator[Slots]:
    """Fill slots of its own for each row, and tell, where somebody listens, when items start and end."""
    for number, row in enumerate(rows, first):
        slots = template.copy()
        for slot, value in zip(targets, row):
            slots[slot] = value
        if layers is not None:
            layers.item_started(slots, number)
        yield slots
        if layers is not None:
            layers.item_ended(slots)
        if time.perf_counter() > until:
            return


def _execute_frames(
    program: Program,
    code: Code,
    frames: Iterator[Slots],
    context: Callable[[], contextvars.Context],
    place: Place,
    done: Evaluation,
) -> None:
    """Run code in one frame after another, each in a context of its own."""
    exports, results = program.exports, done.results
    completed = 0
    slots: Slots = []
    # `execute` would only go on to the one segment that most bodies have.
    shape: Any
    table: Any
    shape, table = code[0] if len(code) == 1 else (execute, code)
    try:
        if len(exports) == 1:
            (only,) = exports
            for slots in frames:
                context().run(shape, table, slots)
                results.append(slots[only])
                completed += 1
        else:
            for slots in frames:
                context().run(shape, table, slots)
                results.extend([slots[slot] for slot in exports])
                completed += 1
    except BaseException as error:
        # Returned, not raised: raised again it would lose what it was raised from.
        done.failure = located(error, program.steps, slots, place.location(completed))
    done.completed = completed


def _only_call(code: Code, imports: Sequence[int], exports: Sequence[int]) -> Optional[Tuple[Any, int, int]]:
    """Return the call that code consists of, when it takes the one import and makes the one export."""
    if len(code) == 1 and code[0][0] in (unary, unary_last) and len(code[0][1]) == 1:
        fn, slot, out = code[0][1][0]
        if (slot,) == tuple(imports) and (out,) == tuple(exports):
            return fn, slot, out
    return None


def _execute_call(
    program: Program,
    call: Tuple[Any, int, int],
    values: Values,
    until: float,
    context: Callable[[], contextvars.Context],
    services: Any,
    done: Evaluation,
) -> None:
    """Do what `_execute_frames` does for code that is one call of one value: no slots are needed until it fails."""
    fn, slot, out = call
    value: Any = None
    results = done.results
    add, clock = results.append, time.perf_counter
    try:
        for value in values.flat:
            own = context()
            result = own.run(fn, value)
            add(own.run(settled, [services], result) if type(result) is CoroutineType else result)
            if clock() > until:
                break
    except BaseException as error:
        slots = blank(program.size)
        slots[slot] = value
        done.failure = located(StepFailed(out, error), program.steps, slots, values.place.location(len(results)))
    done.completed = len(results)
