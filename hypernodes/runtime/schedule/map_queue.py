"""Maps whose items can be taken, and whose turn it is: the least `priority` first, equals one after another."""

from __future__ import annotations

from heapq import heapify, heappop, heappush, heapreplace
from typing import List, Tuple

from hypernodes.runtime.schedule.frames import MapRun


class MapQueue(List[Tuple[int, int, MapRun]]):
    """A heap of (priority, turn, map), each map once; it is true while a map is in it."""

    def __init__(self) -> None:
        super().__init__()
        self._turn = 0

    def add(self, map_run: MapRun) -> None:
        """Put a map in, behind its equals; one that is there already stays where it is."""
        if not map_run.queued:
            map_run.queued = True
            self._turn += 1
            heappush(self, (map_run.priority, self._turn, map_run))

    def served(self) -> None:
        """Let the first map, of which items were taken, go behind its equals, or out when it has no more for now."""
        map_run = self[0][2]
        if map_run.running >= map_run.width or not map_run.source.more:
            heappop(self)
            map_run.queued = False
        elif len(self) > 1:
            self._turn += 1
            heapreplace(self, (map_run.priority, self._turn, map_run))

    def served_out_of_turn(self, map_run: MapRun) -> None:
        """Do that for another than the first."""
        self.discard(map_run)
        if map_run.running < map_run.width and map_run.source.more:
            self.add(map_run)

    def discard(self, map_run: MapRun) -> None:
        """Take a map out, if it is in."""
        if map_run.queued:
            self[:] = [entry for entry in self if entry[2] is not map_run]
            heapify(self)
            map_run.queued = False
