"""Target *parallel*: a frame in, a bundle for each linear chain out, pickled here: one that exists can be sent.

Intermediates of a chain never cross a process boundary. A `Program` is what crosses: the steps of a bundle over slots
of its own, numbered densely, so that a worker allocates no more than the bundle uses. The pickle made here is a trial.
What is sent is pickled when a run starts, with what functions refer to as it is then.
"""

from __future__ import annotations

import pickle
from typing import Callable, Dict, List, Optional, Sequence

from hypernodes.errors import NotPicklableError
from hypernodes.lowering.fuse import Group, Placed, chains
from hypernodes.lowering.plan import (
    FRAMES,
    PROCESS,
    Bundle,
    Hosted,
    MapStep,
    Plan,
    PlanStep,
    Program,
    Sealed,
    Step,
    calls_in,
)
from hypernodes.pickling import dumps
from hypernodes.pickling.modules import look
from hypernodes.pickling.outlines import outlined
from hypernodes.records import evolve


def group(placed: Sequence[Placed]) -> List[Group]:
    """Return linear chains of functions that run in processes; everything else stands alone."""
    return chains(placed, fusible=(PROCESS,))


def seal(plan: Plan) -> Plan:
    """Return `plan` with a program for each process bundle, in the frames of its maps too, which was pickled once.

    Raises
    ------
    NotPicklableError
        Naming the node and the path to what cannot be pickled.
    """
    if any(bundle.placement == PROCESS for bundle in plan.bundles):
        look()  # a module that was reloaded since the last run goes by name again
    bundles = tuple([_sealed(plan, bundle) for bundle in plan.bundles])
    return plan if all(new is old for new, old in zip(bundles, plan.bundles)) else evolve(plan, bundles=bundles)


def _sealed(plan: Plan, bundle: Bundle) -> Bundle:
    if bundle.placement == FRAMES:
        (step,) = bundle.steps
        assert isinstance(step, MapStep)
        body = seal(step.body)
        return bundle if body is step.body else evolve(bundle, steps=(evolve(step, body=body),))
    if bundle.placement != PROCESS:
        return bundle
    program = _program(bundle)
    apart: Dict[int, object] = {}
    for step in calls_in(program.steps):
        apart.update((id(each), each) for each in (step.fn, *step.policy.retry_on))
    sealed = Sealed(outlined(program, tuple(apart.values())), tuple(apart.values()))
    buffers: List[int] = []

    def stays(buffer: pickle.PickleBuffer) -> bool:
        buffers.append(memoryview(buffer).nbytes)
        return False  # a trial needs no copy of large arrays

    bundle = evolve(bundle, sealed=sealed)
    return evolve(bundle, payload=len(sealed.outline) + len(pickled(bundle, plan.name, stays)) + sum(buffers))


def pickled(bundle: Bundle, pipeline: str, stays: Optional[Callable[[pickle.PickleBuffer], bool]] = None) -> bytes:
    """Pickle what is apart from the outline of a bundle's program, as it is now; `stays` as in `dumps`.

    Raises
    ------
    NotPicklableError
        Naming the node and the path to what cannot be pickled.
    """
    assert bundle.sealed is not None
    try:
        return dumps(bundle.sealed.apart, f"pipeline {pipeline!r}", stays)
    except NotPicklableError:
        _blame(bundle.steps)
        raise


def _blame(steps: Sequence[PlanStep]) -> None:
    """Raise the error of the first step that does not pickle, named as the user knows it."""
    for step in calls_in(steps):
        try:
            dumps(step.fn, f"node {step.name!r}")
        except NotPicklableError as error:
            if step.is_coroutine:
                error.advise_loop(step.name)
            raise


def _program(bundle: Bundle) -> Program:
    if isinstance(bundle.steps[0], Hosted):
        slots = bundle.steps[0].plan.slots
        return Program(bundle.steps, len(slots), bundle.imports, bundle.exports)
    number: Dict[int, int] = {slot: index for index, slot in enumerate(bundle.imports, 1)}
    for step in bundle.steps:
        for slot in step.results:
            number.setdefault(slot, len(number) + 1)
    steps = tuple([_renumbered(step, number) for step in bundle.steps])
    return Program(
        steps,
        len(number) + 1,
        tuple([number[slot] for slot in bundle.imports]),
        tuple([number[slot] for slot in bundle.exports]),
    )


def _renumbered(step: PlanStep, number: Dict[int, int]) -> PlanStep:
    results = tuple([number[slot] for slot in step.results])
    frees = tuple([number[slot] for slot in step.frees])
    if isinstance(step, Step):
        arguments = tuple([evolve(argument, slot=number[argument.slot]) for argument in step.arguments])
        again = tuple([number[slot] for slot in step.read_again])
        return evolve(step, arguments=arguments, results=results, frees=frees, read_again=again)
    assert isinstance(step, MapStep)
    axes = tuple([evolve(axis, slot=number[axis.slot]) for axis in step.axes])
    shared = tuple([(inner, number[outer]) for inner, outer in step.shared])
    return evolve(step, axes=axes, shared=shared, results=results, frees=frees)
