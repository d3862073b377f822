"""Records cheap to make: frozen msgspec Structs for what there is one of for every node, value, read or step.

They are made by the hundred thousand, and a frozen attrs class costs six times as much to make. What there are few of
is `attrs.frozen`; `evolve` takes either.
"""

from __future__ import annotations

from typing import Any, Tuple, TypeVar, cast

import attrs
import msgspec

R = TypeVar("R")


class ByCompared(msgspec.Struct, frozen=True):
    """A record with a default, which need not be comparable, or hashable: `_compared` are its other fields."""

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self._compared == other._compared

    def __hash__(self) -> int:
        return hash(self._compared)

    @property
    def _compared(self) -> Tuple[object, ...]:
        raise NotImplementedError


def evolve(record: R, **changes: Any) -> R:
    """Return a copy of a record with some fields changed."""
    if isinstance(record, msgspec.Struct):
        return cast(R, msgspec.structs.replace(record, **changes))
    return attrs.evolve(record, **changes)  # type: ignore[misc]
