"""Whether a run goes on, and how a run within one of its steps hears that it does not.

The interpreter looks before each step, so that a chain ends with the function that is running. Where that function
itself runs a pipeline, that run is told, and ends likewise.
"""

from __future__ import annotations

import contextlib
import contextvars
from typing import Callable, Iterator, List, Optional

from hypernodes.runtime.bundle.interpreter import StepFailed, Stopped


class Cancellation:
    """Whether a run has been stopped, and what to call when it is.

    Without a lock: it could be held by another thread when a node forks. Who adds a call looks at `stopped` after that,
    and who stops the run looks at the calls after it has said so, so one of them sees the other.
    """

    __slots__ = ("_calls", "apart", "ended", "stopped")

    def __init__(self) -> None:
        self.apart = False
        """Whether its steps run where no interrupt reaches them, so that somebody has to look at `stopped`."""
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


_enclosing: contextvars.ContextVar[Optional[Cancellation]] = contextvars.ContextVar(
    "hypernodes.enclosing", default=None
)


def enclose(context: contextvars.Context, run: Cancellation) -> None:
    """Let runs that begin in `context`, and in copies of it, be within `run`."""
    context.run(_enclosing.set, run)


def enclosing() -> Optional[Cancellation]:
    """Return the run that this code is a step of, if it is in lanes: without them, an interrupt comes to us first."""
    run = _enclosing.get()
    # A task that outlives the run which started it keeps its context.
    return None if run is None or run.ended else run


def within(call: Callable[[], None]) -> contextlib.AbstractContextManager[None]:
    """Call this when the enclosing run, if there is one, is stopped within the block."""
    run = enclosing()
    return contextlib.nullcontext() if run is None else run.calling(call)


def is_stop(error: BaseException) -> bool:
    """Return whether a task ended only because a step of it did not begin."""
    # By type: isinstance may ask an object of the user's what it says it is.
    return issubclass(type(error), Stopped) or (type(error) is StepFailed and issubclass(type(error.error), Stopped))
