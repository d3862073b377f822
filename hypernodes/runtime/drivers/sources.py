"""The values that a stream maps over in, rows of items out, read one at a time and no sooner than they are asked for.

What is wrong with a value itself, or with the lengths of those that have one, is found before the first row is read. An
iterator that fails, or that ends before the others, is found where it does so: rows until there are good.
"""

from __future__ import annotations

import itertools
import math
from typing import (
    Any,
    AsyncIterator,
    Callable,
    Dict,
    Generic,
    Iterable,
    Iterator,
    List,
    Mapping,
    Optional,
    Sequence,
    TypeVar,
)

import attrs

from hypernodes.errors import MapLengthError, StreamLengthError
from hypernodes.errors.notes import add_note
from hypernodes.runtime.bundle.maps import listable, mappable
from hypernodes.runtime.bundle.once import kept
from hypernodes.runtime.schedule.source import Row

Reader = TypeVar("Reader", Iterator[Row], AsyncIterator[Row])


@attrs.frozen
class Rows(Generic[Reader]):
    """Rows still to be read, and how many they are where that is known."""

    reader: Reader
    total: Optional[int]


def rows_to_stream(
    pipeline: str, values: Mapping[str, Any], mode: str, again: Sequence[str] = ()
) -> Rows[Iterator[Row]]:
    """Return the rows that `values`, by parameter, make; under ``product`` each of these is read into a list here.

    Items of those in `again` have several readers: what can be read once is a list in a row.

    Raises
    ------
    MapInputError
        For a value that cannot be mapped over.
    MapLengthError
        For values with a length, under ``zip``, that have not the same.
    """
    read = listable if mode == "product" else mappable
    items = {name: read(pipeline, name, value) for name, value in values.items()}
    items.update({name: map(_kept(name), items[name]) for name in again if name in items})
    if mode == "product":
        lists = list(map(list, items.values()))
        return Rows(itertools.product(*lists), math.prod(map(len, lists)))
    return Rows(_zipped(pipeline, items), _length(pipeline, values))


def rows_to_astream(
    pipeline: str, values: Mapping[str, Any], mode: str, again: Sequence[str] = ()
) -> Rows[AsyncIterator[Row]]:
    """Return what `rows_to_stream` does, for values of which some may be async iterables."""
    items: Dict[str, AsyncIterator[Any]] = {}
    read = listable if mode == "product" else mappable
    for name, value in values.items():
        items[name] = value.__aiter__() if hasattr(value, "__aiter__") else _each(read(pipeline, name, value))
        if name in again:
            items[name] = _each_kept(items[name], name)
    if mode == "product":
        sized = all(hasattr(value, "__len__") for value in values.values())
        return Rows(_combined(pipeline, items), math.prod(map(len, values.values())) if sized else None)
    return Rows(_zipped_async(pipeline, items), _length(pipeline, values))


def _length(pipeline: str, values: Mapping[str, Any]) -> Optional[int]:
    lengths = {name: len(value) for name, value in values.items() if hasattr(value, "__len__")}
    if len(set(lengths.values())) > 1:
        raise MapLengthError(pipeline, lengths)
    return next(iter(lengths.values()), None)


def _zipped(pipeline: str, items: Mapping[str, Iterator[Any]]) -> Iterator[Row]:
    for index in itertools.count():
        row: List[Any] = []
        ended: List[str] = []
        for name, iterator in items.items():
            try:
                row.append(next(iterator))
            except StopIteration:
                ended.append(name)
            except Exception as error:
                _note(error, pipeline, name, index)
                raise
        if ended:
            _check_ends(pipeline, items, ended, index)
            return
        yield tuple(row)


async def _zipped_async(pipeline: str, items: Mapping[str, AsyncIterator[Any]]) -> AsyncIterator[Row]:
    for index in itertools.count():
        row: List[Any] = []
        ended: List[str] = []
        for name, iterator in items.items():
            try:
                row.append(await iterator.__anext__())
            except StopAsyncIteration:
                ended.append(name)
            except Exception as error:
                _note(error, pipeline, name, index)
                raise
        if ended:
            _check_ends(pipeline, items, ended, index)
            return
        yield tuple(row)


async def _combined(pipeline: str, items: Mapping[str, AsyncIterator[Any]]) -> AsyncIterator[Row]:
    lists: List[List[Any]] = []
    for name, iterator in items.items():
        lists.append([row[0] async for row in _zipped_async(pipeline, {name: iterator})])
    for row in itertools.product(*lists):
        yield row


async def _each(items: Iterable[Any]) -> AsyncIterator[Any]:
    for item in items:
        yield item


def _kept(name: str) -> Callable[[Any], Any]:
    return kept(f"an item of {name!r}")


async def _each_kept(items: AsyncIterator[Any], name: str) -> AsyncIterator[Any]:
    keep = _kept(name)
    async for item in items:
        yield keep(item)


def _check_ends(pipeline: str, names: Iterable[str], ended: List[str], length: int) -> None:
    lengths = {name: length if name in ended else length + 1 for name in names}
    if len(ended) < len(lengths):
        raise StreamLengthError(pipeline, lengths)


def _note(error: Exception, pipeline: str, name: str, index: int) -> None:
    add_note(error, f"raised by the values of {name!r}, at item {index} of a stream of pipeline {pipeline!r}")
