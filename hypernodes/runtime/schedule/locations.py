"""A frame or a task in, where it stands out. Only failures ask, so nothing is kept for it while a run goes well."""

from __future__ import annotations

from typing import List, Tuple

from hypernodes.errors.location import Location
from hypernodes.lowering.plan import MapStep
from hypernodes.runtime.bundle.interpreter import StepFailed
from hypernodes.runtime.bundle.locate import located, pipelines_of
from hypernodes.runtime.schedule.frames import BundleTask, Chunk, Frame


def location_of(frame: Frame, within: bool = False) -> Location:
    """Return the location of a frame of a run, which may be `within` a node of another."""
    maps: List[Tuple[MapStep, int]] = []
    while frame.map_run is not None:
        maps.append((frame.map_run.step, frame.index))
        frame = frame.map_run.frame
    found = Location((frame.linked.plan.name,), within=within)
    for step, index in reversed(maps):
        found = found.below(pipelines_of(step), (index,))
    return found


def location_of_task(task: BundleTask) -> Location:
    """Return where a task runs; of a chunk, the frame of its first item."""
    found = location_of(task.frame)
    return found.below(pipelines_of(task.map_run.step), (task.start,)) if isinstance(task, Chunk) else found


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


def located_task(task: BundleTask, error: BaseException, within: bool = False) -> BaseException:
    """Return the user's exception behind the failure of a task, with its note."""
    frame = task.frame
    return located(error, frame.linked.plan.bundles[task.bundle].steps, frame.slots, location_of(frame, within))
