"""How a bundle goes on after a step of it has failed: with a `Failure` in the place of what the step would have made.

A plan that collects errors runs the code it would run otherwise. Only when a step fails with an Exception does the
*salvage* of its bundle take over: step by step from there, where a step that reads a failure is not called and its
results are that failure. A bundle that reads one to begin with is salvaged from its first step on. So readiness to
fail costs a look at what a bundle reads, and no driver knows of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, List, Optional, Sequence, Tuple

from hypernodes.errors.notes import add_note
from hypernodes.events.event import NODE_OVER
from hypernodes.lowering.plan import MapStep, PlanStep, Step
from hypernodes.runtime.bundle.failure import FailedColumn, Failure, broken, failed
from hypernodes.runtime.bundle.interpreter import Code, Slots, StepFailed, Stopped, Table, execute, is_exception
from hypernodes.runtime.bundle.locate import annotate, note_of
from hypernodes.runtime.bundle.maps import Expansion, Fill, map_columns

if TYPE_CHECKING:
    from hypernodes.runtime.bundle.observe import Awaited, Instruction
    from hypernodes.runtime.bundle.scope import Scope

BROKEN = frozenset((Failure, FailedColumn))
"""Types of values that whoever reads them fails with."""


class FailedItems(Exception):
    """Raised by a map within a bundle that has left failures in its results: the steps behind it may read them."""


class Salvage:
    """The steps of a bundle, one by one, for when something failed.

    Parameters
    ----------
    steps : sequence of PlanStep
        In the order in which they run.
    reads : sequence of int
        The slots that the bundle reads and does not make.
    instruction : callable
        Links one step; called when it is needed first.
    """

    __slots__ = ("_instruction", "_linked", "_reads", "steps")

    def __init__(
        self, steps: Sequence[PlanStep], reads: Sequence[int], instruction: Callable[[PlanStep], Instruction]
    ) -> None:
        self.steps = steps
        self._reads = reads
        self._instruction = instruction
        self._linked: Optional[List[Tuple[Instruction, Tuple[int, ...]]]] = None

    def sound(self, slots: Slots) -> bool:
        """Return whether nothing that the bundle reads is a failure."""
        for slot in self._reads:  # noqa: SIM110  as a generator it takes three times as long, and every bundle asks
            if type(slots[slot]) in BROKEN:
                return False
        return True

    def run(self, slots: Slots, first: int = 0) -> None:
        """Run the steps from number `first` on, those that read no failure."""
        linked = self._linked
        if linked is None:
            linked = self._linked = [(self._instruction(step), _read_by(step)) for step in self.steps]
        for step, (run, reads) in zip(self.steps[first:], linked[first:]):
            failure = _first(reads, slots)
            if failure is not None:
                _put(step, slots, failure)
                continue
            try:
                if slots[0].stopped:
                    raise Stopped
                run(slots)
            except FailedItems:
                continue
            except StepFailed:
                raise
            except BaseException as error:
                if not isinstance(step, Step) or not is_exception(error):
                    raise StepFailed(_out(step), error) from None
                _put(step, slots, failure_of(step, slots, error))  # type: ignore[arg-type]

    def after(self, slots: Slots, fault: StepFailed) -> None:
        """Go on after a step has failed; what is no Exception of a node's is raised again."""
        number = self.failed(fault)
        if type(fault.error) is not FailedItems:
            step = self.steps[number]
            _put(step, slots, failure_of(step, slots, fault.error))  # type: ignore[arg-type]
        self.run(slots, number + 1)

    def failed(self, fault: StepFailed) -> int:
        """Return the number of the step that failed; what is no Exception of a node's is raised again."""
        kind = MapStep if type(fault.error) is FailedItems else Step
        found = [number for number, step in enumerate(self.steps) if isinstance(step, kind) and _out(step) == fault.out]
        if not found or fault.trail or not is_exception(fault):
            raise fault
        return found[0]


def collecting(table: Table, slots: Slots) -> None:
    """Run the code of a bundle, and where a step of it fails, the rest of its salvage."""
    ((code, salvage),) = table
    if not salvage.sound(slots):
        salvage.run(slots)
        return
    try:
        execute(code, slots)
    except StepFailed as fault:
        salvage.after(slots, fault)


def parts(code: Code) -> Tuple[Code, Optional[Salvage]]:
    """Return the code of a bundle as it runs while nothing fails, and its salvage, if it has one."""
    if len(code) == 1 and code[0][0] is collecting:
        ((plain, salvage),) = code[0][1]
        return plain, salvage
    return code, None


def collected_coroutine(step: Step, run: Awaited) -> Awaited:
    """Return a coroutine step that leaves a failure where it fails."""
    reads = _read_by(step)

    async def collected(slots: Slots) -> None:
        failure = _first(reads, slots)
        if failure is None:
            try:
                await run(slots)
                return
            except Exception as error:
                failure = failure_of(step, slots, error)
        _put(step, slots, failure)

    return collected


# -- maps -------------------------------------------------------------------------------------------------------------


def expand(step: MapStep, slots: Slots) -> Optional[Expansion]:
    """Return what a map goes over, with a failure in the place of each item that cannot be read.

    Where that is a failure itself, or cannot be mapped over, this stands for the map's results, and None is returned.
    """
    scope: Scope = slots[-1]

    def item_failed(index: int, error: Exception) -> Failure:
        frame = scope.location.below(items=(index,))
        add_note(error, note_of(step, slots, frame))
        return failed(step.name, frame.items, error)

    failure = _first([axis.slot for axis in step.axes if type(slots[axis.slot]) is Failure], slots)
    if failure is None:
        try:
            return map_columns(step, slots, item_failed)
        except Exception as error:
            failure = failure_of(step, slots, error)
    _put(step, slots, failure)
    return None


def filler(step: MapStep, fill: Fill) -> Fill:
    """Return what spreads an item over its slots; one that is no good is a failure in all of them."""
    targets = [entry.slot for entry in step.spread]

    def filled(slots: Slots, row: Tuple[Any, ...], index: int) -> None:
        failure = broken(row[0])
        if failure is None:
            try:
                fill(slots, row, index)
                return
            except Exception as error:
                # The last of the frame is this map; its item is not the current one yet.
                items = [number for _, number in slots[-1].frame[:-1] if number >= 0]
                failure = failed(step.name, (*items, index), error)
        for slot in targets:
            slots[slot] = failure

    return filled


# -- failures ---------------------------------------------------------------------------------------------------------


def failure_of(step: PlanStep, slots: Slots, error: Exception) -> Failure:
    """Return the failure of a step in the frame of `slots`."""
    scope: Scope = slots[-1]
    annotate(error, step, slots, scope.location)
    return failed(step.name, scope.items, error)


def _put(step: PlanStep, slots: Slots, failure: Failure) -> None:
    slots[-1].tell(NODE_OVER, step, None)
    for slot in step.results:
        slots[slot] = failure
    for slot in step.frees:
        slots[slot] = None


def _first(reads: Sequence[int], slots: Slots) -> Optional[Failure]:
    for slot in reads:
        if type(slots[slot]) in BROKEN:
            return broken(slots[slot])
    return None


def _read_by(step: PlanStep) -> Tuple[int, ...]:
    """Return the slots of which a failure keeps a step from being called; a map looks at its items itself."""
    return tuple([argument.slot for argument in step.arguments]) if isinstance(step, Step) else ()


def _out(step: PlanStep) -> int:
    return step.results[0] if step.results else 0
