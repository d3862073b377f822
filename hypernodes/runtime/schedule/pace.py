"""How many items of a map a worker of this process takes at once. Pure numbers: no clock, no lock.

To take items costs a lock, and a hand-over of it where several workers take. Quick items share that; of slow ones each
worker takes one, so that whoever is free finds something to take.
"""

from __future__ import annotations

from hypernodes.runtime.schedule.frames import MapRun

QUANTUM = 0.0001
"""Seconds of work to take at once: a hundred times what the lock costs, and too short for anybody to wait for."""

GROWTH = 8
"""How much larger than the last chunk the next may be: slow items must not be found in the middle of a huge one."""


def rows_at_once(workers: int, map_run: MapRun) -> int:
    """Return how many items of a map a free one of `workers` takes, at least 1.

    No items were measured before the first has ended; what is left is shared out in parts that grow smaller, so that
    all workers have something to do to the end.
    """
    seconds, last = map_run.pace
    if not last:
        return 1
    by_time = QUANTUM / seconds if seconds > 0 else last * GROWTH
    share = map_run.source.left / (2 * min(workers, map_run.width))
    return max(1, int(min(by_time, last * GROWTH, share)))
