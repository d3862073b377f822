"""Mapped values in, rows of items out, and into the slots of a frame.

The values of a map may be any iterable that is no string, bytes or mapping; its items are those there when it begins.
Under ``zip`` they need one length, which is checked before any item runs; under ``product`` every combination is an
item, the last axis fastest.
"""

from __future__ import annotations

import itertools
import math
from typing import Any, Callable, Dict, Iterable, Iterator, List, Mapping, Optional, Protocol, Sequence, Tuple

from hypernodes.asking import named, normal
from hypernodes.errors import MapInputError, MapLengthError, MissingInputError, UnknownNameError, did_you_mean
from hypernodes.ir.graph import REQUIRED
from hypernodes.lowering.plan import MapStep
from hypernodes.runtime.bundle.interpreter import Slots
from hypernodes.runtime.bundle.once import STREAMS, endless, kept


class Listener(Protocol):
    """Who is told of maps and items; `slots` are a frame's, whose slot 0 is the listener's to fill.

    One that `collects` errors may also refuse to start a map, and then fills in its results.
    """

    collects: bool

    def map_started(self, step: MapStep, slots: Slots, template: Slots, total: Optional[int]) -> None: ...

    def item_started(self, slots: Slots, index: int) -> None: ...

    def item_ended(self, slots: Slots) -> None: ...

    def map_ended(self, step: MapStep, slots: Slots, template: Slots) -> None: ...

    def refuses(self, step: MapStep, slots: Slots) -> bool: ...

    def column(self, cells: List[Any]) -> List[Any]: ...


Columns = List[Any]


class Items(List[Any]):
    """The items of one axis when their map began; nobody else has this list, so it does not change any more."""

    __slots__ = ()


Replace = Callable[[int, Exception], Any]
"""Returns what stands in the place of an item that cannot be read."""


def map_columns(step: MapStep, slots: Slots, replace: Optional[Replace] = None) -> Tuple[Columns, int]:
    """Return the values of a map, a sized iterable for each axis, and the number of items they make.

    Items that can be read once and have several readers are lists; `replace` takes the faults of one.

    Raises
    ------
    MapInputError
        For a value that cannot be mapped over.
    MapLengthError
        For unequal lengths under ``zip``.
    """
    columns, total = columns_of(step.name, {axis.parameter: slots[axis.slot] for axis in step.axes}, step.mode)
    again = step.items_read_again
    if again and step.spreads:
        return [_with_lists(step, column, again, replace) for column in columns.values()], total
    return [
        _listed(step, name, column, replace) if name in again else column for name, column in columns.items()
    ], total


def _listed(step: MapStep, axis: str, column: Any, replace: Optional[Replace]) -> Any:
    """Return a column whose items have several readers, those that can be read once as lists."""
    if type(column) is range or getattr(getattr(column, "dtype", None), "kind", "O") != "O":
        return column
    if STREAMS.isdisjoint(map(type, column)):
        return column

    def keep(index: int, item: Any) -> Any:
        return kept(_item(step, axis, index))(item)

    return _each_kept(column, keep, replace)


def _with_lists(step: MapStep, column: Any, names: Sequence[str], replace: Optional[Replace]) -> Any:
    """Return a column of mappings whose values `names` have several readers, with lists for what can be read once."""
    axis = step.axes[0].parameter

    def keep(index: int, item: Any) -> Any:
        if not isinstance(item, Mapping) or STREAMS.isdisjoint(map(type, item.values())):
            return item
        where = _item(step, axis, index)
        return {**item, **{name: kept(f"{name!r} in {where}")(item[name]) for name in names if name in item}}

    return _each_kept(column, keep, replace)


def _each_kept(column: Any, keep: Callable[[int, Any], Any], replace: Optional[Replace]) -> Items:
    items = Items(column)
    for index, item in enumerate(items):
        try:
            items[index] = keep(index, item)
        except Exception as error:
            if replace is None:
                raise
            items[index] = replace(index, error)
    return items


def _item(step: MapStep, axis: str, index: int) -> str:
    return f"item {index} of {axis!r} in pipeline {step.name!r}"


def columns_of(pipeline: str, values: Mapping[str, Any], mode: str) -> Tuple[Dict[str, Any], int]:
    """Return what `map_columns` does, of values by parameter."""
    columns = {name: _sized(pipeline, name, value) for name, value in values.items()}
    lengths = {name: len(column) for name, column in columns.items()}
    if mode == "product":
        return columns, math.prod(lengths.values())
    if len(set(lengths.values())) > 1:
        raise MapLengthError(pipeline, lengths)
    return columns, next(iter(lengths.values()))


def rows_of(mode: str, columns: Iterable[Any]) -> Iterator[Tuple[Any, ...]]:
    """Return the rows of items that columns make, a value for each axis."""
    return itertools.product(*columns) if mode == "product" else zip(*columns)


def mappable(pipeline: str, parameter: str, value: Any) -> Iterator[Any]:
    """Return an iterator over a value that can be mapped over, or raise a `MapInputError`."""
    kind = type(value)
    if isinstance(value, Mapping):
        raise MapInputError(pipeline, parameter, f"a {kind.__name__}", "pass a list, such as list(mapping.values())")
    if hasattr(value, "__array__") and (hasattr(value, "columns") or hasattr(value, "column_names")):
        # As an iterable it is its columns, or their names; its length is that of its rows.
        fix = f"pass rows, such as table.to_dict('records'), or one column: {parameter}=table['...']"
        raise MapInputError(pipeline, parameter, f"a {kind.__name__}", fix)
    if isinstance(value, (str, bytes, bytearray)):
        raise MapInputError(pipeline, parameter, f"a {kind.__name__}", f"pass a list: {parameter}=[...]")
    try:
        return iter(value)
    except TypeError:
        fix = f"pass a list of values: {parameter}=[...]"
        if hasattr(value, "__aiter__"):
            fix = "read it with astream()"
        raise MapInputError(pipeline, parameter, f"a single {kind.__name__}", fix) from None


def listable(pipeline: str, parameter: str, value: Any) -> Iterator[Any]:
    """Return an iterator over a value that can be mapped over and read to its end, or raise a `MapInputError`."""
    if endless(value):
        fix = "cut it, itertools.islice(..., n), or read it with stream(), under map_mode='zip'"
        raise MapInputError(pipeline, parameter, f"an endless {type(value).__name__}", fix)
    return mappable(pipeline, parameter, value)


def _sized(pipeline: str, parameter: str, value: Any) -> Any:
    kind = type(value)
    if kind is list:
        # Whoever has it, the caller or another node, may add to it while the map runs.
        return Items(value)
    if kind is Items or kind is tuple or kind is range:
        return value
    items = listable(pipeline, parameter, value)
    # Read here, before any item runs, an iterable of the user's cannot fail between two items. Arrays and series cannot
    # fail, and as lists would take several times their memory.
    is_array = kind.__module__ == "numpy" or getattr(value, "ndim", None) == 1
    return value if is_array and hasattr(value, "__array__") and hasattr(value, "__len__") else Items(items)


def row_filler(step: MapStep) -> Callable[[Slots, Tuple[Any, ...], int], None]:
    """Return a function that puts one row of items into the slots of a frame."""
    if step.spreads:
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
                f"make each item a mapping of {', '.join(known) or 'nothing'}, or name an input of the pipeline"
                f"{did_you_mean(axis, known)}",
            )
        for name in item:
            if name not in known and normal(name) != name:
                return fill(slots, (named(item),), index)
            if name not in known:
                raise UnknownNameError(step.name, "input", str(name), tuple(known), where)
        for entry in step.spread:
            value = item.get(entry.name, entry.default)
            if value is REQUIRED:
                raise _missing(step, item, where)
            slots[entry.slot] = value

    return fill


def _missing(step: MapStep, item: Mapping[str, Any], where: str) -> MissingInputError:
    names = [entry.name for entry in step.spread if item.get(entry.name, entry.default) is REQUIRED]
    needs = tuple([(step.name, step.name, name) for name in dict.fromkeys(names)])
    return MissingInputError(*needs[0], tuple(map(str, item)), where, needs)


def frame_slots(step: MapStep, slots: Slots) -> Slots:
    """Return the slots of a body frame, empty but for the runtime's slot and what all items share."""
    own: Slots = [None] * len(step.body.slots)
    own[0] = slots[0]
    for inner, outer in step.shared:
        own[inner] = slots[outer]
    return own
