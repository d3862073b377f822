"""Workers and the depth of a map in, how many of its items may be in flight out.

The numbers are those of the guide, "Intelligent Resource Management": the whole of `max_workers` at the top, its square
root one level down, one item at a time below that, and never more than there are items.
"""

from __future__ import annotations

import math
from typing import Optional

import attrs


@attrs.frozen
class Width:
    """The most items of one map in flight at once, before their number is known."""

    limit: int
    rule: str

    def of(self, items: int) -> int:
        """Return the width for that number of items, at least 1."""
        return max(1, min(self.limit, items))

    def text(self, items: Optional[int] = None) -> str:
        if items is not None:
            return str(self.of(items))
        return "1" if self.limit == 1 else f"min({self.limit}, items)"


def map_width(mode: str, max_workers: int, depth: int) -> Width:
    """Return the width of a map enclosed by `depth` others, under the item mode `mode`."""
    if mode == "sequential":
        return Width(1, "sequential items")
    if depth == 0:
        return Width(max_workers, f"depth 0: max_workers={max_workers}")
    if depth == 1:
        # round(), not int(): the guide's own example is sqrt(8) ≈ 3.
        return Width(max(1, round(math.sqrt(max_workers))), f"depth 1: sqrt(max_workers={max_workers})")
    return Width(1, f"depth {depth}: one at a time")
