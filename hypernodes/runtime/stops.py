"""Steps in, the same steps out, which do not begin once their run has been stopped.

Linked in where several steps run one after another in a thread that an interrupt does not reach: a chain, or the items
of a map within it, then ends with the function that is running.
"""

from __future__ import annotations

from typing import Optional

from hypernodes.lowering.plan import MapStep, PlanStep, Step
from hypernodes.runtime.interpreter import Code, Slots, StepFailed
from hypernodes.runtime.items import loop_over
from hypernodes.runtime.link import Awaited, Fill, Instruction, Wrap


class Stopped(BaseException):
    """A step that did not begin."""


class Stoppable:
    """Wraps steps for linking; `wrap`, if any, within."""

    def __init__(self, wrap: Optional[Wrap]) -> None:
        self._wrap = wrap

    def plain(self, step: PlanStep, run: Instruction) -> Instruction:
        wrapped = self._wrap.plain(step, run) if self._wrap else run

        def stoppable(slots: Slots) -> None:
            if slots[0].stopped:
                raise Stopped
            wrapped(slots)

        return stoppable

    def coroutine(self, step: Step, run: Awaited) -> Awaited:
        wrapped = self._wrap.coroutine(step, run) if self._wrap else run

        async def stoppable(slots: Slots) -> None:
            if slots[0].stopped:
                raise Stopped
            await wrapped(slots)

        return stoppable

    def loop(self, step: MapStep, code: Code, fill: Fill) -> Instruction:
        return self._wrap.loop(step, code, fill) if self._wrap else loop_over(step, code, fill)

    def filler(self, step: MapStep, fill: Fill) -> Fill:
        return self._wrap.filler(step, fill) if self._wrap else fill


def is_stop(error: BaseException) -> bool:
    """Return whether a task ended only because a step of it did not begin."""
    return isinstance(error, Stopped) or (isinstance(error, StepFailed) and isinstance(error.error, Stopped))
