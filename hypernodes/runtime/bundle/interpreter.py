"""The steps of one bundle and a frame's slots in, the same slots with their results out: a straight-line loop.

Steps are linked beforehand (`link`) into a few *segments*: neighbouring steps of one shape share a loop that is
specialised to it, so a step costs what its call costs. Nothing here knows a mode, a cache or a listener; whatever
wraps a step was linked in. A step that raises stops the loop with `StepFailed`, which says where.

A plain function may return a coroutine: what it wraps is an ``async def``, or it only forwards a call. That is awaited
on the spot, by whoever is in slot 0. No other object that could be awaited is: clients, tasks and futures are values.
"""

from __future__ import annotations

from types import CoroutineType
from typing import Any, Callable, Dict, Iterable, Iterator, List, Sequence, Tuple

Slots = List[Any]
Row = Tuple[Any, ...]
Table = Sequence[Row]
Shape = Callable[[Any, Slots], None]
"""Runs the rows of a table: a sequence, or for most shapes any iterable."""
Segment = Tuple[Shape, Table]
Code = Tuple[Segment, ...]


class StepFailed(Exception):
    """The step that defines slot `out` raised `error`, within the map items of `trail`, innermost first."""

    def __init__(self, out: int, error: BaseException) -> None:
        super().__init__(out, error)
        self.out = out
        self.error = error
        self.trail: List[Tuple[Any, int, Slots]] = []


class Stopped(BaseException):
    """A step that did not begin, or a run within a step that has been stopped."""


def is_exception(error: BaseException) -> bool:
    """Return whether an error, or the one that a step raised, is an Exception; others end programs, not items."""
    # By type: isinstance may ask an object of the user's what it says it is.
    return issubclass(type(error.error if type(error) is StepFailed else error), Exception)


def settled(slots: Slots, value: Any) -> Any:
    """Return what a call comes to that returned `value`."""
    while type(value) is CoroutineType:
        value = slots[0].settle(slots, value)
    return value


def execute(code: Code, slots: Slots) -> None:
    """Run linked steps over `slots`, in order.

    Where no interrupt reaches this thread, none begins once the run has been stopped.
    """
    run = slots[0]
    if not run.apart:
        for shape, table in code:
            shape(table, slots)
        return
    for shape, table in code:
        if run.stopped:
            raise Stopped
        if len(table) == 1:
            shape(table, slots)
        else:
            _BY_ROW.get(shape, shape)(unless_stopped(table, run), slots)


def unless_stopped(rows: Iterable[Row], run: Any) -> Iterator[Row]:
    """Yield rows until the run is stopped.

    In a loop over these a step costs half as much again; a look in the loop itself, everywhere, a tenth more.
    """
    for row in rows:
        if run.stopped:
            raise Stopped
        yield row


def nullary(table: Table, slots: Slots) -> None:
    out = 0
    try:
        for fn, out in table:
            slots[out] = value = fn()
            if type(value) is CoroutineType:
                slots[out] = settled(slots, value)
    except BaseException as error:
        raise StepFailed(out, error) from None


def unary(table: Table, slots: Slots) -> None:
    out = 0
    try:
        for fn, a, out in table:
            slots[out] = value = fn(slots[a])
            if type(value) is CoroutineType:
                slots[out] = settled(slots, value)
    except BaseException as error:
        raise StepFailed(out, error) from None


def chain(table: Table, slots: Slots) -> None:
    """Like `unary`, for steps each of which reads the result of the one before it."""
    out = 0
    try:
        value = slots[table[0][1]]
        for fn, _, out in table:
            slots[out] = value = fn(value)
            if type(value) is CoroutineType:
                slots[out] = value = settled(slots, value)
    except BaseException as error:
        raise StepFailed(out, error) from None


def unary_last(table: Table, slots: Slots) -> None:
    """Like `unary`, for steps that are the last to read their argument."""
    out = 0
    try:
        for fn, a, out in table:
            slots[out] = value = fn(slots[a])
            if type(value) is CoroutineType:
                slots[out] = settled(slots, value)
            slots[a] = None
    except BaseException as error:
        raise StepFailed(out, error) from None


def binary(table: Table, slots: Slots) -> None:
    out = 0
    try:
        for fn, a, b, out in table:
            slots[out] = value = fn(slots[a], slots[b])
            if type(value) is CoroutineType:
                slots[out] = settled(slots, value)
    except BaseException as error:
        raise StepFailed(out, error) from None


def binary_last(table: Table, slots: Slots) -> None:
    """Like `binary`, for steps that are the last to read one argument, or each: `c` and `d`, which may be the same."""
    out = 0
    try:
        for fn, a, b, out, c, d in table:
            slots[out] = value = fn(slots[a], slots[b])
            if type(value) is CoroutineType:
                slots[out] = settled(slots, value)
            slots[c] = slots[d] = None
    except BaseException as error:
        raise StepFailed(out, error) from None


def unary_of_data(table: Table, slots: Slots) -> None:
    """Like `unary`, for functions that certainly return no coroutine."""
    out = 0
    try:
        for fn, a, out in table:
            slots[out] = fn(slots[a])
    except BaseException as error:
        raise StepFailed(out, error) from None


def chain_of_data(table: Table, slots: Slots) -> None:
    """Like `chain`, for functions that certainly return no coroutine."""
    out = 0
    try:
        value = slots[table[0][1]]
        for fn, _, out in table:
            slots[out] = value = fn(value)
    except BaseException as error:
        raise StepFailed(out, error) from None


def binary_of_data(table: Table, slots: Slots) -> None:
    """Like `binary`, for functions that certainly return no coroutine."""
    out = 0
    try:
        for fn, a, b, out in table:
            slots[out] = fn(slots[a], slots[b])
    except BaseException as error:
        raise StepFailed(out, error) from None


OF_DATA: Dict[Shape, Shape] = {unary: unary_of_data, chain: chain_of_data, binary: binary_of_data}
"""To look at what the smallest functions return costs a tenth of their time; long rows of them are told apart."""
_BY_ROW: Dict[Shape, Shape] = {chain: unary, chain_of_data: unary_of_data}
"""For shapes that look at their table as a whole, those that take it row by row."""
UNARY = frozenset({unary, unary_last, chain, unary_of_data, chain_of_data})
"""Shapes whose rows are a function, the slot that it reads and the slot that it fills."""


def general(table: Table, slots: Slots) -> None:
    """Run steps of any other shape: each is a closure over its slots."""
    out = 0
    try:
        for run, out in table:  # noqa: B007  out is read where a step raises
            run(slots)
    except StepFailed:
        raise
    except BaseException as error:
        raise StepFailed(out, error) from None
