"""Records cheap to make: frozen msgspec Structs for what there is one of for every node, value, read or step.

They are made by the hundred thousand, and a frozen attrs class costs six times as much to make. What there are few of
is `attrs.frozen`; `evolve` takes either.
"""

from __future__ import annotations

from typing import Any, TypeVar, cast

import attrs
import msgspec

R = TypeVar("R")


def evolve(record: R, **changes: Any) -> R:
    """Return a copy of a record with some fields changed."""
    if isinstance(record, msgspec.Struct):
        return cast(R, msgspec.structs.replace(record, **changes))
    return attrs.evolve(record, **changes)  # type: ignore[misc]
