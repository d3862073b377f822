"""What could run now, by placement: bundles in a heap, maps whose items can be taken, and chunks that can be divided.

The task with the longest remaining path comes first (critical-path list scheduling: R. L. Graham, "Bounds on
Multiprocessing Timing Anomalies", 1969), first come first served among equals, so that sibling items advance side by
side. At most `limit` tasks are out at once, over all depths together.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Tuple, Union

from hypernodes.lowering.plan import PROCESS
from hypernodes.runtime.schedule.frames import BundleTask, Chunk, Expand, MapRun
from hypernodes.runtime.schedule.map_queue import MapQueue

Task = Union[Chunk, Expand, BundleTask]
"""What one worker does next."""

ChunkSize = Callable[[MapRun], int]


class Ready:
    """The ready tasks of one run.

    Parameters
    ----------
    placements : iterable of str
        Those that tasks may have.
    limit : int
        The most tasks out at once.
    sizes : mapping of str to callable
        Placement → ``size(map_run)``, how many items the next chunk of a straight map there should hold; 1 by default.
        With 0 there is none yet: the map waits for the pace of a chunk that is out.
    """

    def __init__(self, placements: Iterable[str], limit: int, sizes: Mapping[str, ChunkSize]) -> None:
        self.tasks: Dict[str, List[Tuple[int, int, Task]]] = {name: [] for name in placements}
        self.maps: Dict[str, MapQueue] = {name: MapQueue() for name in self.tasks}
        self.limit = limit
        self.out = 0
        self._sizes = sizes
        self._divisible: List[Chunk] = []
        self._order = 0

    @property
    def any(self) -> bool:
        """Whether anything waits to be taken, whatever is out."""
        return any(self.tasks.values()) or any(self.maps.values())

    def add(self, placement: str, task: Task) -> None:
        """Put in a task; those of a smaller `priority` are taken before it."""
        self._order = order = self._order + 1
        heappush(self.tasks[placement], (task.priority, order, task))

    def add_map(self, map_run: MapRun) -> None:
        """Put in a straight map that has rows, and room for a worker; it may be there already."""
        self.maps[map_run.linked.placements[0]].add(map_run)

    def discard_map(self, map_run: MapRun) -> None:
        """Give out no more rows of a straight map."""
        self.maps[map_run.linked.placements[0]].discard(map_run)

    def has(self, placement: str) -> bool:
        """Return whether `take` would return a task."""
        return self.out < self.limit and bool(self.tasks[placement] or self.maps[placement])

    def count(self, placement: str) -> int:
        """Return how many tasks more workers of that kind could take at once."""
        items = sum([min(m.width - m.running, m.source.left) for _, _, m in self.maps[placement]])
        return min(self.limit - self.out, len(self.tasks[placement]) + items)

    def progress(self, placement: str) -> Tuple[int, ...]:
        """Return numbers that change when a task is put in or taken."""
        begun = [map_run.source.next for _, _, map_run in self.maps[placement]]
        return self._order, len(self.tasks[placement]), len(begun), sum(begun)

    def take(self, placement: str) -> Optional[Task]:
        """Return the next task for a worker of that kind, or None when there is none at the moment."""
        if self.out >= self.limit:
            return None
        heap, maps = self.tasks[placement], self.maps[placement]
        if maps and (not heap or maps[0][0] < heap[0][0]):
            chunk = self._first_chunk(maps, placement)
            if chunk is not None:
                if chunk.count > 1 and placement != PROCESS:
                    self._divisible.append(chunk)
                return chunk
        if not heap:
            return None
        self.out += 1
        return heappop(heap)[2]

    def take_ahead(self, map_run: MapRun) -> Optional[Chunk]:
        """Return a chunk of a map beyond all limits, to be kept until a worker is free; None when others have to wait.

        It counts as out, so that nothing is taken in its place when a worker is.
        """
        return None if self.any or not map_run.source.more else self._chunk_of(map_run, PROCESS)

    @property
    def divisible(self) -> bool:
        """Whether workers hold rows that they may not have begun, and that `take_over` might give to another."""
        return bool(self._divisible) and self.out < self.limit

    def take_over(self) -> Optional[Chunk]:
        """Return rows that a worker of this process holds and has not begun, for one that has nothing to do.

        Without this, two items that wait for each other could be in one chunk.
        """
        if self.out >= self.limit:
            return None
        for chunk in self._divisible:
            if chunk.map_run.running < chunk.map_run.width:
                part = chunk.divide()
                if part is not None:
                    self.out += 1
                    chunk.map_run.running += 1
                    if part.count > 1:
                        self._divisible.append(part)
                    return part
        return None

    def settled(self, task: Optional[Task]) -> None:
        """Count a task as no longer out."""
        if task is None:
            return
        self.out -= 1
        if self._divisible and type(task) is Chunk:
            self._divisible = [other for other in self._divisible if other is not task]

    def clear(self) -> List[Any]:
        """Forget what waits; return it, to be dropped without a lock."""
        before = [self.tasks, self.maps, self._divisible]
        self.tasks = {name: [] for name in self.tasks}
        self.maps = {name: MapQueue() for name in self.maps}
        self._divisible = []
        return before

    def _first_chunk(self, maps: MapQueue, placement: str) -> Optional[Chunk]:
        """Return a chunk of the first map that has one by now."""
        first = maps[0][2]
        chunk = self._chunk_of(first, placement)
        if chunk is not None:
            maps.served()
            return chunk
        for _, _, other in sorted(maps)[1:]:
            chunk = self._chunk_of(other, placement)
            if chunk is not None:
                maps.served_out_of_turn(other)
                return chunk
        return None

    def _chunk_of(self, map_run: MapRun, placement: str) -> Optional[Chunk]:
        size = self._sizes.get(placement)
        count = 1 if size is None else size(map_run)
        if count < 1:
            return None
        self.out += 1
        map_run.running += 1
        return Chunk(map_run, *map_run.source.take(count))
