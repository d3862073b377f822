"""The reads of names that no operation defines in, the inputs of a graph out, each of the narrowest type read of it."""

from __future__ import annotations

from typing import Dict, List, NamedTuple, Sequence

from hypernodes.errors import ReaderMismatchError
from hypernodes.ir.graph import REQUIRED, Input, MapOver, Operation, Use, Value
from hypernodes.ir.narrow import narrowest
from hypernodes.ir.types import UNKNOWN, clash, iterable_of, show, unmappable

Types = Dict[object, object]


class Inputs:
    """The inputs met so far.

    Attributes
    ----------
    found : dict of str to Input
        In the order they are met. Until all readers are known, an input has the type of its first one.
    differing : dict of str to dict
        The distinct types of those whose readers do not all declare the same.
    """

    def __init__(self) -> None:
        self.found: Dict[str, Input] = {}
        self.differing: Dict[str, Types] = {}

    def read(self, use: Use, is_axis: bool) -> Value:
        """Return the value of a name nobody defines; it is required as soon as one reader has no default for it."""
        name = use.value.name
        wanted = iterable_of(use.wanted) if is_axis else use.wanted
        entry = self.found.get(name)
        if entry is None:
            entry = self.found[name] = Input(Value(name, wanted), use.default if use.optional else REQUIRED)
            return entry.value
        before = entry.value.type
        if wanted is not before:
            types = self.differing.setdefault(name, {_key(before): before})
            types.setdefault(_key(wanted), wanted)
        if not use.optional and entry.optional:
            self.found[name] = Input(entry.value)
        return entry.value

    def narrow(self) -> None:
        """Give each input whose readers differ the narrowest of their types; one whose readers clash gets none."""
        for name, types in self.differing.items():
            tp = narrowest(types.values())
            if any(clash(tp, other) for other in types.values()):
                tp = UNKNOWN
            self.found[name] = Input(Value(name, tp), self.found[name].default)


class _Reader(NamedTuple):
    """Who reads an input, and as what; one that maps over it takes any iterable of `item`."""

    operation: str
    parameter: str
    wanted: object
    is_axis: bool
    item: object

    def clashes(self, other: _Reader) -> bool:
        if self.is_axis and not other.is_axis:
            return unmappable(other.wanted, self.item)
        return other.clashes(self) if other.is_axis and not self.is_axis else clash(self.wanted, other.wanted)


def check_readers(name: str, operations: Sequence[Operation], differing: Dict[str, Types]) -> None:
    """Refuse an input of which two readers declare types that clash.

    Raises
    ------
    ReaderMismatchError
    """
    met: Dict[str, Dict[object, _Reader]] = {}
    for operation in operations:
        axes = operation.axes if isinstance(operation, MapOver) else ()
        for use in operation.uses:
            if use.value.name not in differing:
                continue
            is_axis = use.parameter in axes
            wanted = iterable_of(use.wanted) if is_axis else use.wanted
            reader = _Reader(operation.name, use.parameter, wanted, is_axis, use.wanted)
            others = met.setdefault(use.value.name, {})
            if others.setdefault((is_axis, _key(wanted)), reader) is reader:
                _check_one(name, use.value.name, reader, list(others.values())[:-1])


def _check_one(name: str, value: str, reader: _Reader, others: List[_Reader]) -> None:
    for other in others:
        if reader.clashes(other):
            raise ReaderMismatchError(
                *(name, value, other.operation, show(other.wanted)),
                *(reader.operation, reader.parameter, show(reader.wanted)),
            )


def _key(tp: object) -> object:
    """Return what tells a type from others in a dict."""
    try:
        hash(tp)
    except Exception:  # as Annotated[int, Field()] may, or a metaclass
        return id(tp)
    return tp
