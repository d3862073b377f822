"""A task of the schedule, run in this thread: a bundle, the rows of a chunk, or the beginning of a map.

What it comes to is for `Run.settle`, under the run's lock. Nothing in here is: this is where functions of the user run.
"""

from __future__ import annotations

import contextvars
import time
from typing import Any, Iterator, List, NamedTuple, Optional, Protocol, Sequence, Tuple

from hypernodes.runtime.bundle.cancellation import Cancellation
from hypernodes.runtime.bundle.interpreter import Slots, StepFailed, execute
from hypernodes.runtime.bundle.maps import Expansion
from hypernodes.runtime.schedule.frames import Chunk, Expand
from hypernodes.runtime.schedule.locations import unread
from hypernodes.runtime.schedule.ready import Task
from hypernodes.runtime.schedule.schedule import Schedule


class HasTasks(Protocol):
    """What a task needs of the run that it is of."""

    @property
    def context(self) -> contextvars.Context:
        """What the caller's context was, to be copied for each bundle and each item."""

    @property
    def schedule(self) -> Schedule:
        """Where it comes from."""

    @property
    def services(self) -> Cancellation:
        """Whether the run goes on."""


class Outcome(NamedTuple):
    """What a task came to: an error, or nothing but what it left in its frame.

    A map that begins has its `expansion`; a chunk the results, end to end, of the first `completed` of its items, and
    the seconds that these took.
    """

    error: Optional[BaseException] = None
    expansion: Optional[Expansion] = None
    results: Sequence[Any] = ()
    completed: int = 0
    seconds: float = 0.0


DONE = Outcome()
"""That of a bundle that has ended."""


def perform(task: Task, run: HasTasks) -> Outcome:
    """Run a task, each bundle or item in a copy of the caller's context."""
    kind = type(task)
    if kind is Chunk:
        return _run_rows(task, run)  # type: ignore[arg-type]
    try:
        if kind is Expand:
            return Outcome(None, run.context.copy().run(run.schedule.expand, task))  # type: ignore[arg-type]
        frame = task.frame
        run.context.copy().run(execute, frame.linked.codes[task.bundle], frame.slots)
    except BaseException as error:
        return Outcome(error)
    return DONE


def row_slots(chunk: Chunk, row: Tuple[Any, ...], index: int, run: HasTasks) -> Slots:
    """Return the slots of one item of a chunk, which begins."""
    map_run = chunk.map_run
    slots = map_run.template.copy()
    try:
        map_run.linked.fill(slots, row, index)
    except BaseException as error:
        raise unread(map_run.step, error) from None
    if run.schedule.layers is not None:
        run.schedule.layers.item_started(slots, index)
    return slots


def row_results(chunk: Chunk, slots: Slots, run: HasTasks) -> List[Any]:
    """Return the results of one item of a chunk, which has ended."""
    if run.schedule.layers is not None:
        run.schedule.layers.item_ended(slots)
    return [slots[slot] for slot in chunk.map_run.linked.made]


def row_failed(chunk: Chunk, index: int, slots: Slots, error: BaseException) -> BaseException:
    """Return the failure of an item of a chunk as that of the chunk; without slots its row could not be read."""
    # By type: isinstance may ask an object of the user's what it says it is.
    if slots and type(error) is StepFailed:
        error.trail.append((chunk.map_run.step, index, slots))
    return error


def _run_rows(chunk: Chunk, run: HasTasks) -> Outcome:
    code, copied = chunk.map_run.linked.codes[0], run.context.copy
    results: List[Any] = []
    completed, slots = 0, []  # type: int, Slots
    started = time.perf_counter()
    try:
        for row in _rows(chunk, run):
            slots = []
            slots = row_slots(chunk, row, chunk.start + completed, run)
            copied().run(execute, code, slots)
            results += row_results(chunk, slots, run)
            completed += 1
    except BaseException as error:
        # In no variable that stays: the frames of its traceback lead back to this one.
        seconds = time.perf_counter() - started
        return Outcome(row_failed(chunk, chunk.start + completed, slots, error), None, results, completed, seconds)
    return Outcome(None, None, results, completed, time.perf_counter() - started)


def _rows(chunk: Chunk, run: HasTasks) -> Iterator[Tuple[Any, ...]]:
    """Yield the rows of a chunk that are still there, until the run is stopped."""
    if chunk.count == 1:
        yield tuple(chunk.flat)
        return
    take, services, single = chunk.open().popleft, run.services, chunk.width == 1
    try:
        while not services.stopped:
            row = take()
            yield (row,) if single else row
    except IndexError:
        # Raised by `take`: what is done with a row is not done in here.
        return
