"""A failure as the interpreter saw it in, the user's own exception with a note that says where it happened out.

The exception keeps its type, its traceback and its causes. The note goes where Python 3.11 shows it and, on older
versions, into the same ``__notes__``.
"""

from __future__ import annotations

import re
from typing import Any, Dict, List, Optional, Sequence, Tuple

from hypernodes.errors.notes import add_note, said, short
from hypernodes.lowering.plan import Hosted, MapStep, Plan, PlanStep, Step
from hypernodes.runtime.bundle.interpreter import Slots, StepFailed
from hypernodes.runtime.processes.memory import maps_shared

_READ_ONLY = re.compile("read-only|WRITEABLE")  # numpy's, pandas', Cython's and memoryview's words


def steps_of(plan: Plan) -> List[PlanStep]:
    """Return all steps of a frame, in the order of its bundles."""
    return [step for bundle in plan.bundles for step in bundle.steps]


def makers(steps: Sequence[PlanStep]) -> Dict[int, str]:
    """Return slot → ``output 'tokens' of node 'tokenize'`` for what steps define."""
    made: Dict[int, str] = {}
    for step in steps:
        if isinstance(step, Hosted):
            # A hosted frame has the slots of its bundle.
            made.update(makers(steps_of(step.plan)))
        else:
            made.update(
                (slot, f"output {name!r} of node {step.name!r}") for slot, name in zip(step.results, step.outputs)
            )
    return made


def located(
    error: BaseException, steps: Sequence[PlanStep], slots: Slots, pipeline: str, items: Tuple[int, ...]
) -> BaseException:
    """Return the user's exception behind `error`, with a note of node, pipeline, item and inputs.

    Parameters
    ----------
    error : BaseException
        What running `steps` raised; anything but a `StepFailed` is returned as it is.
    steps : sequence of PlanStep
        The steps that ran over `slots`.
    pipeline : str
        Path of the pipeline, names joined by dots.
    items : tuple of int
        Indices of the enclosing map items, outermost first.
    """
    if type(error) is not StepFailed:
        return error
    for map_step, index, inner in reversed(error.trail):
        items = (*items, index)
        pipeline = inside(pipeline, map_step)
        steps, slots = steps_of(map_step.body), inner
    step = _defining(steps, error.out)
    if step is not None:
        annotate(error.error, step, slots, tidy(pipeline), items)
    return error.error


def annotate(error: BaseException, step: PlanStep, slots: Slots, pipeline: str, items: Tuple[int, ...]) -> None:
    """Add notes to what a step raised: where that was, and why, where only this package knows."""
    add_note(error, note_text(step, slots, pipeline, items))
    if maps_shared() and isinstance(error, (ValueError, TypeError)) and _READ_ONLY.search(said(error)):
        arguments = step.arguments if isinstance(step, Step) else ()
        names = [each.parameter for each in arguments if _is_read_only(slots[each.slot])]
        what = " and ".join(map(repr, names)) or "a large value"
        example = names[0] if names else "value"
        add_note(
            error,
            f"{what} is the same for all items, and in a worker process a view of memory that all of them read, so "
            f"that nobody can write to it; change a copy ({example} = {example}.copy()), "
            f"or run this work with node_execution / map_execution = 'threaded'",
        )


def _is_read_only(value: Any) -> bool:
    try:
        return not value.flags.writeable
    except Exception:  # no array
        return False


def inside(pipeline: str, step: PlanStep) -> str:
    """Return the path of the pipeline that a map step runs, from the path of the one it stands in."""
    scope = getattr(step, "scope", None)
    return ".".join((pipeline, *(scope.path if scope else ()), step.name))


def tidy(path: str) -> str:
    """Return a path without the map that ``pipeline.map`` is: it has the pipeline's own name."""
    first, _, rest = path.partition(".")
    return rest if rest.split(".")[0] == first else path


def _defining(steps: Sequence[PlanStep], out: int) -> Optional[PlanStep]:
    for step in steps:
        if isinstance(step, Hosted):
            # A hosted frame has the slots of its bundle.
            return _defining(steps_of(step.plan), out)
        if step.results and step.results[0] == out:
            return step
    return None


def note_text(step: PlanStep, slots: Slots, pipeline: str, items: Tuple[int, ...]) -> str:
    """Return ``node 'tokenize' of pipeline 'text', item 17, inputs text='...'``."""
    scope = getattr(step, "scope", None)
    where = ".".join((pipeline, *(scope.path if scope else ())))
    at = f", item {'.'.join(map(str, items))}" if items else ""
    if isinstance(step, Step):
        values = ", ".join(f"{a.parameter}={short(slots[a.slot])}" for a in step.arguments)
        return f"node {step.name!r} of pipeline {where!r}{at}, inputs {values or 'none'}"
    axes = ", ".join(axis.parameter for axis in step.axes) if isinstance(step, MapStep) else ""
    return f"map {step.name!r} over {axes} in pipeline {where!r}{at}"
