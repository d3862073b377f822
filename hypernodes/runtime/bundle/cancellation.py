"""Steps in, the same steps out, which do not begin once their run has been stopped; and runs within it that end too.

Linked in where several steps run one after another in a thread that an interrupt does not reach: a chain then ends
with the function that is running. Where that function itself runs a pipeline, that run is told, and ends likewise.
"""

from __future__ import annotations

import contextlib
import contextvars
from typing import Callable, Iterator, List, Optional

from hypernodes.lowering.plan import MapStep, PlanStep, Step
from hypernodes.runtime.bundle.interpreter import Code, Slots, StepFailed
from hypernodes.runtime.bundle.items import loop_over
from hypernodes.runtime.bundle.link import Awaited, Fill, Instruction, Wrap


class Stopped(BaseException):
    """A step that did not begin, or a run within a step that has been stopped."""


class Stops:
    """Whether a run has been stopped, and what to call when it is.

    Without a lock: it could be held by another thread when a node forks. Who adds a call looks at `stopped` after that,
    and who stops the run looks at the calls after it has said so, so one of them sees the other.
    """

    __slots__ = ("_calls", "ended", "stopped")

    def __init__(self) -> None:
        self.stopped = False
        self.ended = False
        self._calls: List[Callable[[], None]] = []

    def stop(self) -> None:
        """Say that the run has been stopped; twice is once."""
        self.stopped = True
        for call in list(self._calls):
            call()

    @contextlib.contextmanager
    def calling(self, call: Callable[[], None]) -> Iterator[None]:
        """Call this, from any thread, when the run is stopped within the block; maybe twice."""
        self._calls.append(call)
        try:
            if self.stopped:
                call()
            yield
        finally:
            self._calls.remove(call)


_enclosing: contextvars.ContextVar[Optional[Stops]] = contextvars.ContextVar("hypernodes.enclosing", default=None)


def enclose(context: contextvars.Context, stops: Stops) -> None:
    """Let runs that begin in `context`, and in copies of it, be within the run of `stops`."""
    context.run(_enclosing.set, stops)


def enclosing() -> Optional[Stops]:
    """Return the run that this code is a step of, if it is in lanes: without them, an interrupt comes to us first."""
    stops = _enclosing.get()
    # A task that outlives the run which started it keeps its context.
    return None if stops is None or stops.ended else stops


def within(call: Callable[[], None]) -> contextlib.AbstractContextManager[None]:
    """Call this when the enclosing run, if there is one, is stopped within the block."""
    stops = enclosing()
    return contextlib.nullcontext() if stops is None else stops.calling(call)


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
    # By type: isinstance may ask an object of the user's what it says it is.
    return issubclass(type(error), Stopped) or (type(error) is StepFailed and issubclass(type(error.error), Stopped))
