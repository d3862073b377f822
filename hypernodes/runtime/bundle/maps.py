"""Mapped values in, rows of items out, and into the slots of a frame.

The values of a map may be any iterable that is no string, bytes or mapping; its items are those there when it begins.
Under ``zip`` they need one length, which is checked before any item runs; under ``product`` every combination is an
item, the last axis fastest.
"""

from __future__ import annotations

import itertools
import math
from typing import (
    Any,
    Callable,
    Dict,
    Iterable,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
)

from hypernodes.asking import named, normal
from hypernodes.errors import MapInputError, MapLengthError, MissingInputError, UnknownNameError, did_you_mean
from hypernodes.ir.graph import REQUIRED
from hypernodes.lowering.plan import MapStep
from hypernodes.runtime.bundle.interpreter import Slots
from hypernodes.runtime.bundle.once import STREAMS, endless, kept

Fill = Callable[[Slots, Tuple[Any, ...], int], None]
"""Puts the row of an item, and what follows from its index, into the slots of its frame."""


class Expansion(NamedTuple):
    """What a map goes over: a sized iterable for each axis, and the number of items that these make."""

    columns: List[Any]
    total: int


class Items(List[Any]):
    """The items of one axis when their map began; nobody else has this list, so it does not change any more."""

    __slots__ = ()


Replace = Callable[[int, Exception], Any]
"""Returns what stands in the place of an item that cannot be read."""


def at_hand(step: MapStep, slots: Slots) -> bool:
    """Return whether `map_columns` runs no code of the user's: all it reads are lists, tuples, ranges and arrays."""
    for axis in step.axes:
        kind = type(slots[axis.slot])
        if kind not in _AT_HAND and not _is_array(kind):
            return False
    if step.spreads:
        return set(map(type, slots[step.axes[0].slot])) <= {dict} and not step.items_read_again
    again = step.items_read_again
    return all(STREAMS.isdisjoint(map(type, slots[a.slot])) for a in step.axes if a.parameter in again)


def map_columns(step: MapStep, slots: Slots, replace: Optional[Replace] = None) -> Expansion:
    """Return the values of a map as they are now, so that nothing of the user's runs when a row is taken.

    Items that can be read once and have several readers are lists, mappings that are to be spread are dicts; `replace`
    takes the faults of one.

    Raises
    ------
    MapInputError
        For a value that cannot be mapped over.
    MapLengthError
        For unequal lengths under ``zip``.
    """
    columns, total = columns_of(step.name, {axis.parameter: slots[axis.slot] for axis in step.axes}, step.mode)
    again = step.items_read_again
    if step.spreads:
        columns = {name: _with_dicts(step, column, replace) for name, column in columns.items()}
        if again:
            columns = {name: _with_lists(step, column, again, replace) for name, column in columns.items()}
    else:
        columns.update([(name, _listed(step, name, columns[name], replace)) for name in again])
    return Expansion(list(columns.values()), total)


def _with_dicts(step: MapStep, column: Any, replace: Optional[Replace]) -> Any:
    """Return a column of mappings, a dict in the place of each that may do something when it is asked for a value."""
    if set(map(type, column)) <= {dict}:
        return column

    def plain(index: int, item: Any) -> Any:
        if type(item) is dict or not isinstance(item, Mapping):
            return item
        # What it gives for a name may be more, or less, than what it lists.
        found = {name: item[name] for name in item}
        for entry in step.spread:
            value = item.get(entry.name, REQUIRED)
            if value is REQUIRED:
                found.pop(entry.name, None)
            else:
                found[entry.name] = value
        return found

    return _each_kept(column, plain, replace)


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
    return value if _is_array(kind) or _is_series(value) else Items(items)


_AT_HAND = frozenset((list, tuple, range, Items))


def _is_array(kind: type) -> bool:
    return kind.__module__ == "numpy" and kind.__name__ == "ndarray"


def _is_series(value: Any) -> bool:
    return type(value).__module__.split(".")[0] == "pandas" and hasattr(value, "__array__") and value.ndim == 1


def row_filler(step: MapStep) -> Fill:
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


def _spreader(step: MapStep) -> Fill:
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


def blank(size: int) -> Slots:
    """Return the slots of a frame, with one more for its `Scope`."""
    return [None] * (size + 1)


def frame_slots(step: MapStep, slots: Slots) -> Slots:
    """Return the slots of a body frame, empty but for the runtime's first slot and what all items share."""
    own = blank(len(step.body.slots))
    own[0] = slots[0]
    for inner, outer in step.shared:
        own[inner] = slots[outer]
    return own
