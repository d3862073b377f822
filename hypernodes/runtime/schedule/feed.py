"""Rows in while their map runs, the outputs of finished items out: a stream, as the schedule sees it.

A fed map is an ordinary one whose number of items grows. The feed stands in for its columns of results as well, so
that whoever writes a result there, for one item or for a chunk, hands the item over; maps that are not fed pay nothing
for it. Everything here is called under the run's lock. ::

    push ─▶ rows ─▶ MapRun ─▶ lanes ─▶ feed[index] = value, an output at a time ─▶ deliver((index, outputs))
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Any, Callable, Deque, Dict, List, Optional, Sequence, Tuple, Union

from hypernodes.lowering.plan import MapStep

if TYPE_CHECKING:
    from hypernodes.runtime.schedule.frames import MapRun

Row = Tuple[Any, ...]
Delivery = Tuple[int, Dict[str, Any]]
"""The index of an item, and its outputs by name."""


class Feed:
    """The rows of one stream on their way in, and its items on their way out.

    Parameters
    ----------
    step : MapStep
        The map; it has at least one output.
    names : sequence of str
        Its outputs, in the order in which the consumer wants them.
    deliver : callable
        Takes each finished item.
    ordered : bool
        Hold an item back until those before it have been delivered.
    total : int, optional
        How many rows there will be, where that is known.
    """

    def __init__(
        self,
        step: MapStep,
        names: Sequence[str],
        deliver: Callable[[Delivery], None],
        ordered: bool,
        total: Optional[int],
    ) -> None:
        self.total = total
        self._names = names
        self._columns = [step.outputs.index(name) for name in names]
        self._width = len(step.outputs)
        self._deliver = self._in_order if ordered else deliver
        self._next_out = deliver
        self._rows: Deque[Row] = deque()
        self._parts: List[Any] = []
        self._ordered = ordered
        self._held: Dict[int, Delivery] = {}
        self._next = 0
        self._last: float = math.inf

    def attach(self, map_run: MapRun) -> None:
        """Take over a map that has just begun, without any rows."""
        self.map_run = map_run
        map_run.open = True
        map_run.width = map_run.step.width.limit
        # Nobody asks for more rows than `total` says there are; None is no row, so this iterator never ends.
        map_run.rows, map_run.values = iter(self._rows.popleft, None), None
        map_run.columns = [self] * self._width

    def push(self, row: Row) -> MapRun:
        """Add a row; return its map."""
        self._rows.append(row)
        self.map_run.total += 1
        return self.map_run

    def end(self) -> MapRun:
        """Note that no more rows will come; return their map."""
        self.map_run.open = False
        return self.map_run

    def end_before(self, index: int) -> bool:
        """Note that item `index` failed; return whether it is the first of those that did, in the order of items."""
        self.map_run.open = False
        self.map_run.total = self.map_run.next
        first = index < self._last
        self._last = min(self._last, index)
        return first

    @property
    def ended(self) -> bool:
        """Whether an item has failed: no further one is wanted."""
        return self._last < math.inf

    @property
    def complete(self) -> bool:
        """Whether nothing is missing before the item that failed; without an order, nothing ever is."""
        return not self._ordered or self._next >= self._last

    def __setitem__(self, where: Union[int, slice], value: Any) -> None:
        # All outputs of an item, or of a chunk, are written one after another, under one hold of the lock.
        parts = self._parts
        parts.append(value)
        if len(parts) < self._width:
            return
        self._parts = []
        names, asked = self._names, [parts[number] for number in self._columns]
        if isinstance(where, slice):
            for index, values in enumerate(zip(*asked), where.start):
                self._deliver((index, dict(zip(names, values))))
        else:
            self._deliver((where, dict(zip(names, asked))))

    def _in_order(self, delivery: Delivery) -> None:
        held = self._held
        held[delivery[0]] = delivery
        while self._next in held:
            self._next_out(held.pop(self._next))
            self._next += 1
