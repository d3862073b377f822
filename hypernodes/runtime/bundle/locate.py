"""A failure as the interpreter saw it in, the user's own exception with a note that says where it happened out.

The exception keeps its type, its traceback and its causes. The note goes where Python 3.11 shows it and, on older
versions, into the same ``__notes__``.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from hypernodes.errors.location import Location, Note
from hypernodes.errors.notes import add_note, move_notes, short
from hypernodes.lowering.plan import Hosted, MapStep, Plan, PlanStep, Step
from hypernodes.runtime.bundle.interpreter import Slots, StepFailed

EXPLANATIONS: List[Callable[[BaseException, PlanStep, Slots], None]] = []
"""Add what else is to be said of an error, where only this process knows why: a worker has such reasons."""


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


def located(error: BaseException, steps: Sequence[PlanStep], slots: Slots, frame: Location) -> BaseException:
    """Return the user's exception behind `error`, with a note of node, pipeline, item and inputs.

    Parameters
    ----------
    error : BaseException
        What running `steps` raised; anything but a `StepFailed` is returned as it is.
    steps : sequence of PlanStep
        The steps that ran over `slots`.
    frame : Location
        Of the frame of `slots`.
    """
    if type(error) is not StepFailed:
        return error
    error.__traceback__ = None  # of frames that refer to it
    for map_step, index, inner in reversed(error.trail):
        frame = frame.below(pipelines_of(map_step), (index,))
        steps, slots = steps_of(map_step.body), inner
    step = _defining(steps, error.out)
    if step is not None:
        annotate(error.error, step, slots, frame)
    return error.error


def annotate(error: BaseException, step: PlanStep, slots: Slots, frame: Location) -> None:
    """Add a note to what a step of a frame raised; one of a run within the step is there, and learns where that was.

    Its traceback begins in the user's function from now on, in every mode: our frames would say how the function came
    to be called, and refer to the run, and so to all of its results, as long as somebody keeps the exception.
    """
    BaseException.with_traceback(error, _from_the_users(error.__traceback__))
    note = note_of(step, slots, frame)
    if not (isinstance(step, Step) and step.runs_plan and move_notes(error, note.location)):
        add_note(error, note)
    for explain in EXPLANATIONS:
        explain(error, step, slots)


def note_of(step: PlanStep, slots: Slots, frame: Location) -> Note:
    """Return ``node 'tokenize' of pipeline 'text', item 17, inputs text='...'``."""
    location = frame.of(step.name, scope_of(step))
    if isinstance(step, Step):
        values = ", ".join(f"{a.parameter}={short(slots[a.slot])}" for a in step.arguments)
        return Note(f"node {step.name!r} of pipeline {{pipeline}}{{, item}}", location, f", inputs {values or 'none'}")
    axes = ", ".join(axis.parameter for axis in step.axes) if isinstance(step, MapStep) else ""
    return Note(f"map {step.name!r} over {axes} in pipeline {{pipeline}}{{, item}}", location)


_OURS = frozenset(("hypernodes", "asyncio", "concurrent", "threading"))
"""Packages whose frames lead from a run to a function of the user's."""


def _from_the_users(traceback: Optional[TracebackType]) -> Optional[TracebackType]:
    while traceback is not None and _package(traceback) in _OURS:
        traceback = traceback.tb_next
    return traceback


def _package(traceback: TracebackType) -> str:
    return str(traceback.tb_frame.f_globals.get("__name__", "")).partition(".")[0]


def pipelines_of(step: MapStep) -> Tuple[str, ...]:
    """Return the pipelines that lead from the frame of a map into those of its items."""
    return scope_of(step) if step.around else (*scope_of(step), step.name)


def scope_of(step: PlanStep) -> Tuple[str, ...]:
    """Return the inlined pipelines that a step of a frame is in."""
    scope: Any = getattr(step, "scope", None)
    return scope.path if scope else ()


def _defining(steps: Sequence[PlanStep], out: int) -> Optional[PlanStep]:
    for step in steps:
        if isinstance(step, Hosted):
            # A hosted frame has the slots of its bundle.
            return _defining(steps_of(step.plan), out)
        if step.results and step.results[0] == out:
            return step
    return None
