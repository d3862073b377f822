"""Values that can be read once in, lists out, where a plan says that several read them (`lowering.readers`).

Only streams of items count. An open file, a cursor or a client is an object like any other, and so is an iterator of a
class of the user's own: what it is to be read twice is up to that class. An asynchronous generator is refused, because
those who read it ask for items with ``async for`` and would find a list; and one without end cannot be listed.
"""

from __future__ import annotations

import collections
import csv
import gc
import itertools
import re
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any, Callable, FrozenSet, List, Sequence

from hypernodes.errors import ReadOnceError
from hypernodes.lowering.plan import Step
from hypernodes.runtime.bundle.awaiting import finished


class _Indexed:
    def __getitem__(self, index: int) -> None:
        raise IndexError


_ITERABLES: Sequence[Any] = (
    *([], (), {}, set(), "", "é", b"", bytearray(), range(0), range(2**70), {}.keys(), {}.values(), {}.items()),
    *(collections.deque(), collections.OrderedDict(), memoryview(b""), _Indexed()),
)
_REVERSIBLE: Sequence[Any] = ([], range(0), collections.deque(), collections.OrderedDict(), {}, {}.values(), {}.items())

STREAMS: FrozenSet[type] = frozenset(
    [
        *(GeneratorType, AsyncGeneratorType, map, filter, zip, enumerate, reversed, csv.DictReader),
        *[kind for kind in vars(itertools).values() if isinstance(kind, type) and hasattr(kind, "__next__")],
        *[type(iter(value)) for value in _ITERABLES],
        *[type(reversed(value)) for value in _REVERSIBLE if hasattr(value, "__reversed__")],
        *(type(iter(int, 0)), type(csv.reader([])), type(re.finditer("", ""))),
    ]
)
"""Types, exactly, whose values give their items once."""


def listed(value: Any, subject: str) -> List[Any]:
    """Return the items of a stream that several read.

    Raises
    ------
    ReadOnceError
        For one that cannot be listed, named by `subject`.
    """
    kind = type(value)
    if kind is AsyncGeneratorType:
        raise ReadOnceError(subject, "an async generator", "make it a list: [item async for item in ...]")
    if endless(value):
        raise ReadOnceError(subject, f"an endless {kind.__name__}", "cut it: list(itertools.islice(..., n))")
    if kind is itertools.groupby:
        # Each group can be read only before the next one is asked for.
        return [(key, list(group)) for key, group in value]
    return list(value)


def kept(subject: str) -> Callable[[Any], Any]:
    """Return a function that lists a stream, and returns any other value as it is."""
    return lambda value: listed(value, subject) if type(value) in STREAMS else value


def listing(step: Step) -> Any:
    """Return the function of a step; where results of it are read again, one that lists the streams among these."""
    fn: Any = step.fn
    again = step.read_again
    if not again:
        return fn
    subjects = {slot: f"output {name!r} of node {step.name!r}" for slot, name in zip(step.results, step.outputs)}
    if step.unpack:
        keep = _keeping_each([kept(subjects[slot]) if slot in again else None for slot in step.results])
    else:
        keep = kept(subjects[step.results[0]])
    keep = _awaiting(keep)
    if step.is_coroutine:

        async def awaited(*args: Any, **kwargs: Any) -> Any:
            return keep(await fn(*args, **kwargs))

        return awaited
    if step.unpack or any(argument.keyword for argument in step.arguments) or not 0 < len(step.arguments) < 3:
        return lambda *args, **kwargs: keep(fn(*args, **kwargs))
    # Most functions, and what they return is seldom a stream: nothing more is done than has to be.
    looked_at = STREAMS | {CoroutineType}

    def unary(argument: Any) -> Any:
        value = fn(argument)
        return value if type(value) not in looked_at else keep(value)

    def binary(first: Any, second: Any) -> Any:
        value = fn(first, second)
        return value if type(value) not in looked_at else keep(value)

    return unary if len(step.arguments) == 1 else binary


def _awaiting(keep: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return `keep` for a function that may return a coroutine: what that comes to is what is read."""

    async def awaited(coroutine: Any) -> Any:
        return keep(await finished(coroutine))

    return lambda value: awaited(value) if type(value) is CoroutineType else keep(value)


def _keeping_each(keeps: Sequence[Any]) -> Callable[[Any], Any]:
    def keep(values: Any) -> Any:
        if not isinstance(values, (tuple, list)) or len(values) != len(keeps):
            return values  # refused where it is unpacked
        return [value if keep is None else keep(value) for keep, value in zip(keeps, values)]

    return keep


_SHORTEST = frozenset(
    [
        *(map, filter, zip, enumerate, itertools.starmap, itertools.filterfalse, itertools.dropwhile),
        *(itertools.accumulate, itertools.compress, itertools.groupby),
    ]
)
"""Streams as long as the shortest of what they read."""


def endless(value: Any) -> bool:
    """Return whether a stream certainly has no end, as far as that can be seen without reading it."""
    kind = type(value)
    if kind is itertools.count or kind is itertools.cycle:
        return True
    if kind is itertools.repeat:
        try:
            value.__length_hint__()
        except TypeError:
            return True
        return False
    if kind is GeneratorType:
        # A generator expression reads all of what its first `for` goes over, which is its argument.
        frame = value.gi_frame if value.gi_code.co_name == "<genexpr>" else None
        return frame is not None and endless(frame.f_locals.get(".0"))
    if kind is itertools.chain:
        reading = gc.get_referents(value)
        return any(map(endless, itertools.chain(reading, *[_held(each) for each in reading if type(each) in _WALKS])))
    if kind in _SHORTEST:
        sources = [each for each in _held(value) if hasattr(type(each), "__next__")]
        return bool(sources) and all(map(endless, sources))
    return False


_WALKS: Sequence[type] = (type(iter(())), type(iter([])))


def _held(value: Any) -> List[Any]:
    """Return what an iterator refers to, some of it within a tuple or a list."""
    return [each for held in gc.get_referents(value) for each in (held if type(held) in (tuple, list) else (held,))]
