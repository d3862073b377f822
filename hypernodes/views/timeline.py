"""Who did what when in, a chart of a hundred columns out: what a simulated run returns."""

from __future__ import annotations

from typing import List, Tuple

import attrs

COLUMNS = 100
LANES = 40
"""Rows of workers that a chart shows; what further ones do is in `Timeline.entries`."""


@attrs.frozen
class Entry:
    """A bundle of one frame on one worker, from `start` to `end` (seconds).

    `path` are the indices of the items it belongs to, outermost map first; empty outside of any map.
    """

    start: float
    end: float
    lane: int
    bundle: int
    steps: Tuple[str, ...]
    path: Tuple[int, ...] = ()


@attrs.frozen
class Timeline:
    """A run on a virtual clock; print it for a chart, a row per worker.

    Attributes
    ----------
    name : str
        The pipeline's name.
    workers : int
        How many bundles could run at once.
    makespan : float
        Seconds from start to end.
    critical_path : float
        Seconds of the longest chain of bundles that wait for each other: no number of workers makes a run shorter.
    work : float
        Seconds of all bundles together.
    entries : tuple of Entry
        In the order in which they started.
    """

    name: str
    workers: int
    makespan: float
    critical_path: float
    work: float
    entries: Tuple[Entry, ...] = attrs.field(repr=False)

    @property
    def busy(self) -> float:
        """The part of the workers' time, from 0 to 1, in which they worked."""
        return self.work / (self.makespan * self.workers) if self.makespan else 0.0

    def __str__(self) -> str:
        count = f"{self.workers} worker{'' if self.workers == 1 else 's'}"
        head = f"{self.name}: {_seconds(self.makespan)} on {count}, {self.busy:.0%} busy"
        lines = [f"{head}; critical path {_seconds(self.critical_path)}, work {_seconds(self.work)}"]
        lanes = 1 + max([entry.lane for entry in self.entries], default=-1)
        if not lanes or not self.makespan:
            return lines[0]
        margin = len(str(min(lanes, LANES) - 1)) + 1
        width = COLUMNS - margin
        rows = [[" "] * width for _ in range(min(lanes, LANES))]
        for entry in self.entries:
            if entry.lane < LANES:
                self._draw(rows[entry.lane], entry)
        lines += [f"{lane:<{margin}}{''.join(row).rstrip()}" for lane, row in enumerate(rows)]
        if lanes > LANES:
            lines.append(f"and {lanes - LANES} more workers")
        lines.append(f"{'':<{margin}}0{_seconds(self.makespan):>{width - 1}}")
        return "\n".join(lines)

    def _draw(self, row: List[str], entry: Entry) -> None:
        scale = len(row) / self.makespan
        first = min(int(entry.start * scale + 1e-9), len(row) - 1)
        room = max(1, min(int(entry.end * scale + 1e-9), len(row)) - first)
        where = f"[{','.join(map(str, entry.path))}]" if entry.path else ""
        label = f"{'+'.join(entry.steps)}{where}"
        # A name that does not fit keeps its items, which tell one bar from the next.
        if len(label) > room - 1:
            label = label[: max(0, room - 1 - len(where))] + where
        row[first : first + room] = f"|{label}"[:room].ljust(room, "-")


def _seconds(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds >= 10_000 else f"{seconds:.4g} s"
