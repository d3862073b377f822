"""Mapped values in, rows of items out; and the loop that runs a straight body over them in one thread.

The values of a map may be any iterable that is no string, bytes or mapping. Under ``zip`` they need one length, which
is checked before any item runs; under ``product`` every combination is an item, the last axis fastest.
"""

from __future__ import annotations

import itertools
from operator import itemgetter
from typing import Any, Callable, Dict, Iterable, Iterator, List, Mapping, Optional, Protocol, Sequence, Sized, Tuple

from hypernodes.errors import MapInputError, MapLengthError, MissingInputError, UnknownNameError
from hypernodes.ir.graph import REQUIRED
from hypernodes.lowering.plan import MapStep
from hypernodes.runtime.interpreter import Code, Slots, StepFailed

FLUSH = 4096
"""Rows of results gathered flat before they are dealt out to their columns: large enough to be cheap, and small beside
the columns themselves."""


class Listener(Protocol):
    """Who is told of maps and items; `slots` are a frame's, whose slot 0 is the listener's to fill."""

    def map_started(self, step: MapStep, slots: Slots, template: Slots, total: int) -> None: ...

    def item_started(self, slots: Slots, index: int) -> None: ...

    def item_ended(self, slots: Slots) -> None: ...

    def map_ended(self, step: MapStep, slots: Slots, template: Slots) -> None: ...


def map_rows(step: MapStep, slots: Slots) -> Tuple[Iterator[Tuple[Any, ...]], int]:
    """Return an iterator over the rows of items of a map, a value for each axis, and their number.

    Raises
    ------
    MapInputError
        For a value that cannot be mapped over.
    MapLengthError
        For unequal lengths under ``zip``.
    """
    columns = {axis.parameter: _sized(step.name, axis.parameter, slots[axis.slot]) for axis in step.axes}
    lengths = {name: len(column) for name, column in columns.items()}
    if step.mode == "product":
        total = 1
        for length in lengths.values():
            total *= length
        return itertools.product(*columns.values()), total
    if len(set(lengths.values())) > 1:
        raise MapLengthError(step.name, lengths)
    return zip(*columns.values()), next(iter(lengths.values()))


def _sized(pipeline: str, parameter: str, value: Any) -> Any:
    if isinstance(value, (str, bytes, bytearray, Mapping)):
        raise MapInputError(
            pipeline,
            parameter,
            f"a {type(value).__name__}",
            f"pass a list: {parameter}=[...]"
            if not isinstance(value, Mapping)
            else "pass a list, such as its .values()",
        )
    if not isinstance(value, Sized):
        if not isinstance(value, Iterable):
            raise MapInputError(
                pipeline, parameter, f"a single {type(value).__name__}", f"pass a list of values: {parameter}=[...]"
            )
        return list(value)
    try:
        iter(value)  # type: ignore[call-overload]
    except TypeError:
        raise MapInputError(
            pipeline, parameter, f"a single {type(value).__name__}", f"pass a list of values: {parameter}=[...]"
        ) from None
    return value


def row_filler(step: MapStep) -> Callable[[Slots, Tuple[Any, ...], int], None]:
    """Return a function that puts one row of items into the slots of a frame."""
    if step.spread:
        return _spreader(step)
    targets = [axis.body_slot for axis in step.axes]
    if len(targets) == 1:
        only = targets[0]

        def fill_one(slots: Slots, row: Tuple[Any, ...], index: int) -> None:
            slots[only] = row[0]

        return fill_one

    def fill(slots: Slots, row: Tuple[Any, ...], index: int) -> None:
        for slot, value in zip(targets, row):
            slots[slot] = value

    return fill


def _spreader(step: MapStep) -> Callable[[Slots, Tuple[Any, ...], int], None]:
    known: Dict[str, int] = {entry.name: entry.slot for entry in step.spread}
    axis = step.axes[0].parameter

    def fill(slots: Slots, row: Tuple[Any, ...], index: int) -> None:
        item = row[0]
        where = f"item {index} of {axis!r}"
        if not isinstance(item, Mapping):
            raise MapInputError(
                step.name,
                axis,
                f"a list whose item {index} is a {type(item).__name__}",
                f"make each item a mapping of {', '.join(known) or 'nothing'}, or name an input of the pipeline",
            )
        for name in item:
            if name not in known:
                raise UnknownNameError(step.name, "input", str(name), tuple(known), where)
        for entry in step.spread:
            value = item.get(entry.name, entry.default)
            if value is REQUIRED:
                raise MissingInputError(step.name, step.name, entry.name, tuple(map(str, item)), where)
            slots[entry.slot] = value

    return fill


def frame_slots(step: MapStep, slots: Slots) -> Slots:
    """Return the slots of a body frame, empty but for the runtime's slot and what all items share."""
    own: Slots = [None] * len(step.body.slots)
    own[0] = slots[0]
    for inner, outer in step.shared:
        own[inner] = slots[outer]
    return own


def loop_over(
    step: MapStep, code: Code, listener: Optional[Listener] = None, each: Optional[Callable[[Slots, int], None]] = None
) -> Callable[[Slots], None]:
    """Return an instruction that runs `code` for each item in turn, over one set of slots that it uses again.

    With a `listener` an item is run by ``each(slots, index)`` instead, which is where its events come from.
    """
    outputs = step.body.outputs
    fill = row_filler(step)
    single = step.axes[0].body_slot if len(step.axes) == 1 and not step.spread else None
    gather = _gatherer(outputs)

    def run(slots: Slots) -> None:
        rows, total = map_rows(step, slots)
        own = frame_slots(step, slots)
        if listener is not None:
            listener.map_started(step, slots, own, total)
        columns: List[List[Any]] = [[] for _ in outputs]
        flat: List[Any] = []
        index = -1
        try:
            if each is not None:
                for index, row in enumerate(rows):
                    fill(own, row, index)
                    each(own, index)
                    gather(flat, own)
            elif single is not None:
                for index, (own[single],) in enumerate(rows):
                    for shape, table in code:
                        shape(table, own)
                    gather(flat, own)
                    if not index % FLUSH:
                        deal(flat, columns)
            else:
                for index, row in enumerate(rows):
                    fill(own, row, index)
                    for shape, table in code:
                        shape(table, own)
                    gather(flat, own)
                    if not index % FLUSH:
                        deal(flat, columns)
        except StepFailed as failed:
            failed.trail.append((step, index, own))
            raise
        deal(flat, columns)
        for result, column in zip(step.results, columns):
            slots[result] = column
        if listener is not None:
            listener.map_ended(step, slots, own)
        for slot in step.frees:
            slots[slot] = None

    return run


def _gatherer(outputs: Sequence[int]) -> Callable[[List[Any], Slots], None]:
    """Return a function that appends a frame's outputs to a flat list."""
    if not outputs:
        return lambda flat, slots: None
    if len(outputs) == 1:
        only = outputs[0]
        return lambda flat, slots: flat.append(slots[only])
    pick = itemgetter(*outputs)
    return lambda flat, slots: flat.extend(pick(slots))


def deal(flat: List[Any], columns: Sequence[List[Any]]) -> None:
    """Move rows of results, laid end to end in `flat`, into their columns."""
    width = len(columns)
    for number, column in enumerate(columns):
        column += flat[number::width]
    flat.clear()
