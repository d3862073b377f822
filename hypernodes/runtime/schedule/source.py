"""Where the rows of a map in progress come from: those that nobody has begun, in the order of items.

Rows are handed out end to end, a value for each axis, and what was not begun comes back. A `Source` of a whole map
reads columns that are ours by then; a `FedSource` has the rows that were pushed. Only the schedule uses either, under
whatever lock its driver holds, so nothing in here may be the user's to read.
"""

from __future__ import annotations

from collections import deque
from itertools import chain, islice
from typing import Any, Deque, Iterator, List, Sequence, Tuple

from hypernodes.runtime.bundle.maps import rows_of

Row = Tuple[Any, ...]


class Source:
    """The rows of a map.

    Parameters
    ----------
    columns : sequence of sized iterable
        The values of each axis.
    mode : {"zip", "product"}
        How they combine.
    total : int
        How many rows they make.
    """

    __slots__ = ("_returned", "_values", "next", "total", "width")

    def __init__(self, columns: Sequence[Any], mode: str, total: int) -> None:
        self.width = len(columns)
        self._values: Iterator[Any] = (
            iter(columns[0]) if self.width == 1 else chain.from_iterable(rows_of(mode, columns))
        )
        self.next = 0
        self.total = total
        self._returned: List[Tuple[int, List[Any]]] = []

    @property
    def open(self) -> bool:
        """Whether more rows may come."""
        return False

    @property
    def more(self) -> bool:
        """Whether there are rows to take."""
        return self.next < self.total or bool(self._returned)

    @property
    def left(self) -> int:
        """How many rows there are to take."""
        returned = sum([len(flat) for _, flat in self._returned]) if self._returned else 0
        return self.total - self.next + returned // self.width

    def take(self, count: int) -> Tuple[int, List[Any]]:
        """Return the index of the next row, and its values with those of the rows behind it: `count` at the most."""
        if not self._returned:
            start = self.next
            flat = list(islice(self._values, count * self.width))
            self.next = start + len(flat) // self.width
            return start, flat
        start, flat = self._returned.pop()
        end = count * self.width
        if end < len(flat):
            self._returned.append((start + count, flat[end:]))
            flat = flat[:end]
        return start, flat

    def give_back(self, start: int, flat: List[Any]) -> None:
        """Take back rows from index `start` on, end to end."""
        self._returned.append((start, flat))


class FedSource(Source):
    """Rows that come while their map runs."""

    __slots__ = ("_fed", "_open")

    def __init__(self, width: int) -> None:
        super().__init__([()], "zip", 0)
        self._fed: Deque[Any] = deque()
        # Nobody asks for more rows than were pushed; None is no row, so this iterator never ends.
        self._values = chain.from_iterable(iter(self._fed.popleft, None))
        self.width = width
        self._open = True

    @property
    def open(self) -> bool:
        return self._open

    def push(self, row: Row) -> None:
        """Add a row."""
        self._fed.append(row)
        self.total += 1

    def end(self) -> None:
        """Note that no more rows will come."""
        self._open = False

    def cut(self) -> None:
        """Note that, and that none of those here will be taken."""
        self._open = False
        self.total = self.next
        self._returned.clear()
