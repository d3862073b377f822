"""What stands for the results of work of which no step could say what happened: its worker died, or it was not sent."""

from __future__ import annotations

from typing import List

from hypernodes.events.event import NODE_ERROR, NODE_OVER
from hypernodes.runtime.bundle.failure import Failure, failed
from hypernodes.runtime.bundle.scope import Scope
from hypernodes.runtime.processes.work_items import WorkItem
from hypernodes.runtime.schedule.frames import Chunk


def lost(work: WorkItem, error: Exception) -> List[Failure]:
    """Return a failure in place of each result of a bundle, and tell of it."""
    task, bundle = work.task, work.bundle
    scope: Scope = task.map_run.template[-1] if isinstance(task, Chunk) else task.frame.slots[-1]
    named = getattr(error, "node", None)
    step = next((step for step in bundle.steps if step.name == named), bundle.steps[0])
    scope.tell(NODE_ERROR, step, error)
    if not isinstance(task, Chunk):
        # Frames count their steps, to tell when a nested pipeline has ended.
        for each in bundle.steps:
            scope.tell(NODE_OVER, each, None)
    place = work.place
    cells: List[Failure] = []
    for number in range(work.count):
        cells.extend([failed(named or step.name, place.location(number).items, error)] * len(bundle.exports))
    return cells
