"""A task in, what of it travels in one request out; after the loss of a worker its pieces.

A bundle travels whole. So does a chunk at first; lost with its worker it is sent again in pieces, and theirs in pieces
again, until what kills its worker is one item. ::

    chunk 0-63 ✗ ─▶ 0-7 ✓  8-15 ✗ ─▶ 8 ✓  9 ✗ (the item)  10 ✓ …
"""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Tuple

from hypernodes.errors.location import Note, dotted
from hypernodes.lowering.plan import Bundle
from hypernodes.runtime.bundle.evaluate import Place
from hypernodes.runtime.bundle.linked import LinkedPlan
from hypernodes.runtime.bundle.locate import pipelines_of
from hypernodes.runtime.schedule.frames import Chunk
from hypernodes.runtime.schedule.locations import location_of
from hypernodes.runtime.schedule.ready import Task

PIECES = 8
"""Pieces a lost chunk is sent again in. Each round that holds a fatal item costs a worker, so few rounds are better
than few pieces."""


class WorkItem:
    """A task on its way: a bundle, or the items of a chunk from number `start` to before number `stop`.

    `losses` counts the workers that died with it, or with a larger work item that it was a piece of; `tried` has the
    attempts that its calls have had, by output, in workers whose time was up. `delay` are seconds to wait before it is
    run again; `sent` is the monotonic time at which it went.
    """

    __slots__ = ("_split", "delay", "losses", "sent", "start", "stop", "task", "tried")

    def __init__(self, task: Task, start: int = 0, stop: int = 1) -> None:
        self.task = task
        self.start = start
        self.stop = stop
        self.losses = 0
        self.tried: Dict[str, int] = {}
        self.delay = 0.0
        self.sent = 0.0
        self._split: Optional[_Split] = None

    @classmethod
    def of(cls, task: Task) -> WorkItem:
        """Return the work item of a whole task."""
        return cls(task, 0, task.count) if isinstance(task, Chunk) else cls(task)

    @property
    def linked(self) -> LinkedPlan:
        """The plan whose slots its bundle uses."""
        return self.task.map_run.linked if isinstance(self.task, Chunk) else self.task.frame.linked

    @property
    def bundle(self) -> Bundle:
        """The bundle that runs; the body of a chunk's map has only one."""
        return self.linked.plan.bundles[0 if isinstance(self.task, Chunk) else self.task.bundle]

    @property
    def flat(self) -> List[Any]:
        """The rows of its items, laid end to end; none for a bundle."""
        task = self.task
        if not isinstance(task, Chunk):
            return []
        return task.flat if self.count == task.count else task.flat[self.start * task.width : self.stop * task.width]

    @property
    def count(self) -> int:
        """How many items it holds; 1 for a bundle."""
        return self.stop - self.start

    @property
    def is_whole(self) -> bool:
        """Whether it is no piece of a chunk that was lost."""
        return self._split is None

    def follows(self, other: WorkItem) -> bool:
        """Whether both are pieces of one chunk, and this one has the later items."""
        return self._split is not None and self._split is other._split and self.start > other.start

    @property
    def place(self) -> Place:
        """Where its rows belong."""
        task = self.task
        if not isinstance(task, Chunk):
            return Place(location_of(task.frame), -1)
        return Place(location_of(task.frame).below(pipelines_of(task.map_run.step)), task.start + self.start)

    def items(self) -> str:
        """Return ``item 3``, ``one of items 3 to 9``, ``item 3.1``, or nothing outside of maps."""
        place = self.place
        if self.count == 1 or place.first < 0:
            return Note("{item}", place.location())
        first, last = [dotted(place.location(row).items) for row in (0, self.count - 1)]
        return f"one of items {first} to {last}"

    def note(self, template: str, node: str, scope: Tuple[str, ...] = ()) -> str:
        """Return a note about a node and its items, if any: which of them it was, nobody can say."""
        if self.count == 1 or self.place.first < 0:
            return Note(template + "{, item}", self.place.location().of(node, scope))
        return f"{Note(template, self.place.frame.of(node, scope))}, {self.items()}"

    def reading(self) -> str:
        """Return the note for an exception that was raised before anything of it was run."""
        name = self.bundle.steps[0].name
        return self.note(f"raised while a worker process read what node {name!r} of pipeline {{pipeline}} needs", name)

    def submitted(self) -> str:
        """Return the note for what an executor raises instead of running it."""
        name = self.bundle.steps[0].name
        return self.note(f"raised by the executor for node {name!r} of pipeline {{pipeline}}", name)

    def pieces(self) -> List[WorkItem]:
        """Return work items that hold its items between them; itself when there is one item or bundle."""
        if self.count == 1:
            return [self]
        assert isinstance(self.task, Chunk)
        self._split = self._split or _Split(self.task)
        size = -(-self.count // PIECES)
        pieces = [
            WorkItem(self.task, first, min(first + size, self.stop)) for first in range(self.start, self.stop, size)
        ]
        for piece in pieces:
            piece.losses, piece._split = self.losses, self._split
        return pieces

    def is_last(self) -> bool:
        """Note that its items are done; return whether with them all of the task is."""
        if self._split is None:
            return True
        self._split.left -= self.count
        return not self._split.left

    def gives_up(self) -> bool:
        """Give up the whole task; False when another piece of it has done so before."""
        if self._split is None:
            return True
        before, self._split.given_up = self._split.given_up, True
        return not before


class _Split:
    """A chunk that came apart: how many of its items are not done, and whether it was given up."""

    def __init__(self, chunk: Chunk) -> None:
        self.left = chunk.count
        self.given_up = False
