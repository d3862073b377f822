"""What stands in a result's place when errors are collected: failures, and columns with failures among their cells."""

from __future__ import annotations

import traceback
from typing import Any, Iterable, Iterator, List, Optional, Tuple, Union

import attrs

from hypernodes.errors import NotPicklableError, WorkerDiedError
from hypernodes.errors.location import dotted, located
from hypernodes.errors.notes import notes_of, said
from hypernodes.pickling.exceptions import CAUSE, CONTEXT, completed, portable, received

Item = Union[None, int, Tuple[int, ...]]


@attrs.frozen(eq=False, repr=False)
class Failure:
    """Stands where a result would be, had its node, or one that it depends on, not failed.

    Attributes
    ----------
    node : str
        The node that failed.
    item : int, tuple of int or None
        The item it failed for, from 0: its index in the map; the indices of the enclosing items, outermost first, in a
        map within a map; None outside of maps.
    exception : BaseException
        What was raised, with a note that names pipeline, item and inputs.
    traceback : str
        Its traceback as text, from whichever process it was raised in.
    """

    node: str
    item: Item
    exception: BaseException
    traceback: str

    def __repr__(self) -> str:
        at = "" if self.item is None else f", item {dotted(self.path)}"
        return f"<Failure of node {self.node!r}{at}: {type(self.exception).__name__}: {said(self.exception)}>"

    def __bool__(self) -> bool:
        return False

    def __reduce__(self) -> Tuple[object, ...]:
        # The exception may not survive pickling; then the nearest thing to it that does.
        return _unpacked, (self.node, self.item, portable(self.exception), self.traceback)

    @property
    def path(self) -> Tuple[int, ...]:
        """The indices of the enclosing items, outermost first."""
        return () if self.item is None else (self.item,) if isinstance(self.item, int) else self.item


def failed(node: str, items: Tuple[int, ...], error: BaseException) -> Failure:
    """Return the failure of a node for the item at the indices `items`."""
    try:
        text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    except BaseException:  # code of an exception's own class may do anything
        text = f"{type(error).__name__}: {said(error)}\n"
    _forget_frames(error)
    return Failure(node, item_of(items), error, text)


def _forget_frames(error: BaseException) -> None:
    """Drop the tracebacks of an exception and of those behind it.

    Their frames hold on to arguments and intermediates: a million failures must not keep a million of those.
    """
    found, seen = [error], set()
    while found:
        each = found.pop()
        if each is not None and id(each) not in seen:
            seen.add(id(each))
            BaseException.with_traceback(each, None)
            found += [CAUSE(each), CONTEXT(each), *getattr(each, "exceptions", ())]


def item_of(items: Tuple[int, ...]) -> Item:
    """Return indices as `Failure.item` has them."""
    return None if not items else items[0] if len(items) == 1 else items


def moved(failure: Failure, index: int) -> Failure:
    """Return a failure as one of item `index` of the outermost map, the words of its exception included."""

    def elsewhere(words: Any) -> Any:
        location = located(words)
        return words if location is None or location.items != failure.path else words.at(location.moved(index))

    error: Any = failure.exception
    notes = notes_of(error)
    notes[:] = map(elsewhere, notes)
    if isinstance(error, WorkerDiedError):
        error.items = elsewhere(error.items)
    elif isinstance(error, NotPicklableError):
        error.subject = elsewhere(error.subject)
    return attrs.evolve(failure, item=item_of((index, *failure.path[1:])))


class FailedColumn(List[Any]):
    """The results of a map within a run, some of which are failures; who reads it as a whole fails with `failure`."""

    def __init__(self, cells: Iterable[Any]) -> None:
        super().__init__(cells)
        self.failure = next(failures_in(self))

    def __reduce__(self) -> Tuple[object, ...]:
        return FailedColumn, (list(self),)


def broken(value: object) -> Optional[Failure]:
    """Return the failure that whoever reads `value` fails with; None for a value that is none."""
    kind = type(value)
    if kind is Failure:
        return value  # type: ignore[return-value]
    return value.failure if kind is FailedColumn else None  # type: ignore[attr-defined]


def failures_in(value: object) -> Iterator[Failure]:
    """Yield the failures in a cell, or in the columns below it, in item order."""
    if type(value) is Failure:
        yield value
    elif type(value) is FailedColumn:
        for cell in value:
            yield from failures_in(cell)


def column_of(cells: List[Any]) -> List[Any]:
    """Return the cells of a map as a `FailedColumn` when there is a failure among them."""
    kinds = set(map(type, cells))
    return FailedColumn(cells) if Failure in kinds or FailedColumn in kinds else cells


def _unpacked(node: str, item: Item, error: bytes, text: str) -> Failure:
    return Failure(node, item, received(error), completed(text))
