"""Where the results of a map in progress go: into columns, one for each output, or out of the run as items finish.

Only the schedule writes to a sink, under whatever lock its driver holds.
"""

from __future__ import annotations

import math
from typing import Any, Callable, Dict, List, Optional, Protocol, Sequence, Tuple

Delivery = Tuple[int, Dict[str, Any]]
"""The index of an item, and its outputs by name."""


class Sink(Protocol):
    """Takes results by output, in the order of the outputs of the map's body."""

    columns: Optional[List[List[Any]]]
    """What the map comes to, a list for each output; None where results are with somebody else."""

    def put(self, index: int, values: Sequence[Any]) -> None:
        """Take the results of one item."""

    def extend(self, start: int, count: int, columns: Sequence[Sequence[Any]]) -> None:
        """Take those of `count` items, from index `start` on: a list for each output."""


Sinks = Callable[[int, int], Sink]
"""Makes the sink of a map with so many outputs and items."""


class Columns:
    """Lists of results in the order of items, whatever the order in which these end."""

    __slots__ = ("columns",)

    def __init__(self, outputs: int, total: int) -> None:
        self.columns: Optional[List[List[Any]]] = [[None] * total for _ in range(outputs)]

    def put(self, index: int, values: Sequence[Any]) -> None:
        for column, value in zip(self.columns or (), values):
            column[index] = value

    def extend(self, start: int, count: int, columns: Sequence[Sequence[Any]]) -> None:
        for column, cells in zip(self.columns or (), columns):
            column[start : start + count] = cells


class Deliveries:
    """Items on their way out of the run.

    Parameters
    ----------
    outputs : sequence of str
        Those of the map's body.
    names : sequence of str
        Those that the consumer wants, in that order.
    deliver : callable
        Takes each finished item.
    ordered : bool
        Hold an item back until those before it have been delivered.
    """

    columns: Optional[List[List[Any]]] = None

    def __init__(
        self, outputs: Sequence[str], names: Sequence[str], deliver: Callable[[Delivery], None], ordered: bool
    ) -> None:
        self._names = names
        self._places = [outputs.index(name) for name in names]
        self._deliver = self._in_order if ordered else deliver
        self._next_out = deliver
        self._ordered = ordered
        self._held: Dict[int, Delivery] = {}
        self._next = 0
        self._last: float = math.inf

    def put(self, index: int, values: Sequence[Any]) -> None:
        self._deliver((index, dict(zip(self._names, [values[place] for place in self._places]))))

    def extend(self, start: int, count: int, columns: Sequence[Sequence[Any]]) -> None:
        names = self._names
        for index, values in enumerate(zip(*[columns[place] for place in self._places]), start):
            self._deliver((index, dict(zip(names, values))))

    def end_before(self, index: int) -> bool:
        """Note that item `index` failed; return whether it is the first of those that did, in the order of items."""
        first = index < self._last
        self._last = min(self._last, index)
        return first

    @property
    def complete(self) -> bool:
        """Whether nothing is missing before the item that failed; without an order, nothing ever is."""
        return not self._ordered or self._next >= self._last

    def _in_order(self, delivery: Delivery) -> None:
        held = self._held
        held[delivery[0]] = delivery
        while self._next in held:
            self._next_out(held.pop(self._next))
            self._next += 1
