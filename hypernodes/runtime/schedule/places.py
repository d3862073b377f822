"""A frame or a task in, where it stands out: the path of its pipeline and the indices of its items.

Only faults and listeners ask, so nothing is kept for it while a run goes well.
"""

from __future__ import annotations

from typing import List, Optional, Tuple

from hypernodes.lowering.plan import MapStep
from hypernodes.runtime.bundle.faults import inside, located, tidy
from hypernodes.runtime.bundle.interpreter import StepFailed
from hypernodes.runtime.processes.wire import Place
from hypernodes.runtime.schedule.frames import BundleTask, Chunk, Frame


def frame_place(frame: Optional[Frame]) -> Tuple[str, Tuple[int, ...]]:
    """Return the pipeline's path, names joined by dots, and the indices of the enclosing items, outermost first."""
    steps: List[MapStep] = []
    items: List[int] = []
    name = ""
    while frame is not None:
        name = frame.linked.plan.name
        if frame.map_run is None:
            break
        steps.append(frame.map_run.step)
        items.append(frame.index)
        frame = frame.map_run.frame
    path = name
    for step in reversed(steps):
        path = inside(path, step)
    return tidy(path), tuple(reversed(items))


def place_of(task: BundleTask) -> Place:
    """Return where the rows of a task belong."""
    path, items = frame_place(task.frame)
    if not isinstance(task, Chunk):
        return path, items, -1
    return tidy(inside(path, task.map_run.step)), items, task.start


def in_items(task: BundleTask, error: BaseException) -> BaseException:
    """Return `error` with the items around the task added to its trail."""
    return _in_items_of(task.frame, error) if type(error) is StepFailed else error


def unread(map_step: MapStep, error: BaseException) -> StepFailed:
    """Return the failure of a map that could not read its values, or an item of them."""
    return StepFailed(map_step.results[0] if map_step.results else 0, error)


def at_map(map_step: MapStep, frame: Frame, error: BaseException) -> StepFailed:
    """Return that of a map of `frame`, with the items around it."""
    return _in_items_of(frame, unread(map_step, error))


def _in_items_of(frame: Frame, failed: StepFailed) -> StepFailed:
    while frame.map_run is not None:
        failed.trail.append((frame.map_run.step, frame.index, frame.slots))
        frame = frame.map_run.frame
    return failed


def located_task(task: BundleTask, error: BaseException) -> BaseException:
    """Return the user's exception behind the failure of a task, with its note."""
    frame = task.frame
    path, items = frame_place(frame)
    return located(error, frame.linked.plan.bundles[task.bundle].steps, frame.slots, path, items)
