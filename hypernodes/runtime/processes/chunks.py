"""What items of a map cost in, how many of them go to a worker process together out. Pure numbers: no clock, no pool.

Chunks start small, to learn what an item costs, and then aim at a fixed amount of work; towards the end of a map they
shrink, so that the last workers finish together::

    1 ── growth ──▶ 64 ── growth ──▶ 50 ms of work, again and again ── share ──▶ 2.5 ms ──▶ the end

That is guided self-scheduling (Polychronopoulos and Kuck, 1987), with two differences: what is out counts as well, and
a chunk too small for its trip is not made.
"""

from __future__ import annotations

import math
from typing import Tuple

TARGET_SECONDS = 0.05
"""Work in one chunk: large beside a round trip (a fifth of a millisecond), small beside a person's patience."""

LEAST_SECONDS = 0.0025
"""Work in one chunk near the end of a map, where some workers may have nothing to do for as long: ten round trips."""

SHARE = 0.75
"""Of what is left, evenly divided, how much a worker gets at once: the rest makes up for uneven items."""

GROWTH = 64
"""How much larger than the last chunk the next may be: slow items must not be found in the middle of a huge one."""

CHUNK_BYTES = 32 << 20
"""Bytes that the rows and results of one chunk should not exceed: what is in flight stays within this per worker, and
the memory of one result waits for no more than this to be collected."""

WINDOW = 4096
WINDOW_BYTES = 64 << 20
"""The most items of a stream on their way, however fast they are, and their bytes: rows and results are in memory."""


def worth(pace: Tuple[float, int], nbytes: int) -> float:
    """Return how many items make a chunk worth its trip.

    Parameters
    ----------
    pace : (float, int)
        Seconds that an item of the last chunk took, and how many it had; no items before the first answer.
    nbytes : int
        Bytes of the row and the results of one item.
    """
    seconds, last = pace
    if not last:
        return 1
    by_time = TARGET_SECONDS / seconds if seconds > 0 else last * GROWTH
    return min(by_time, last * GROWTH, CHUNK_BYTES / max(1, nbytes))


def of_closed(workers: int, left: int, unfinished: float, worth: float, seconds: float) -> int:
    """Return how many of `left` items a free worker gets, when no more will come.

    Parameters
    ----------
    workers : int
        Workers that share the map.
    left : int
        Items not yet sent.
    unfinished : float
        Items at the workers that are not done.
    worth : float
        Of `worth`.
    seconds : float
        What an item takes; 0 while nothing is known.
    """
    # With its share, this worker is done a little before the last of the others.
    share = SHARE * (left + unfinished) / workers
    least = LEAST_SECONDS / seconds if seconds > 0 else 1
    return max(1, min(left, round(min(worth, max(share, least)))))


def of_open(workers: int, left: int, worth: float) -> int:
    """Return how many of `left` items a free worker gets, when more may come: the end is not in sight."""
    return max(1, round(min(worth, left / workers)))


def unfinished(count: int, seconds_out: float, seconds: float) -> float:
    """Return about how many of `count` items are not done so long after they were sent."""
    return max(0.0, count - seconds_out / seconds) if seconds > 0 else count


def budget(count: int, seconds: float) -> float:
    """Return after how many seconds a worker should give back what it has not begun of `count` items.

    They are slower than the last ones were, and others may have nothing to do.
    """
    return 2 * count * seconds + LEAST_SECONDS if seconds > 0 else math.inf


def window(workers: int, worth: float, nbytes: int) -> int:
    """Return how many items of a stream may be on their way: chunks at the workers, in wait, and handed over."""
    return max(2 * workers, min(WINDOW, int(3 * workers * worth), WINDOW_BYTES // max(1, nbytes)))


def may_go_ahead(workers: int, left: int, seconds: float) -> bool:
    """Return whether a chunk may wait at a worker that is busy.

    Not of slow items, which should go to whoever is free, nor towards the end, which chunks even out.
    """
    return seconds <= TARGET_SECONDS and left * seconds >= 8 * workers * max(seconds, LEAST_SECONDS)
