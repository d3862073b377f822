"""Ready coroutine bundles in, their results in their frames out: lanes on one event loop.

A lane is an asyncio task that pulls from the schedule until nothing is ready, so ten thousand items over a width of
one thousand are one thousand tasks. The loop is the caller's own under `arun`, and that of `event_loop` otherwise: one
that is already running in the caller's thread (a notebook) is never entered twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from typing import TYPE_CHECKING, Any, Awaitable, Optional, Set, Tuple

from hypernodes.lowering.plan import LOOP, PlanStep
from hypernodes.runtime.bundle.interpreter import Slots, StepFailed, Stopped
from hypernodes.runtime.drivers.context import Begun, InContext
from hypernodes.runtime.drivers.in_progress import InProgress
from hypernodes.runtime.drivers.tasks import DONE, Outcome, row_failed, row_results, row_slots
from hypernodes.runtime.drivers.waits import waiting
from hypernodes.runtime.schedule.frames import Chunk

if TYPE_CHECKING:
    from hypernodes.runtime.schedule.ready import Task


class Waiting:
    """A coroutine on the loop of another thread, and this thread waiting for its result."""

    def __init__(
        self, coroutine: Awaitable[Any], loop: asyncio.AbstractEventLoop, context: contextvars.Context
    ) -> None:
        self._coroutine = self._carried(coroutine)
        self._loop = loop
        self._context = context
        self._task: Optional[asyncio.Task[Any]] = None
        self._ended = threading.Event()
        # Here and not in the task, which its loop may hold for a while when this thread goes on.
        self._outcome: Tuple[Any, Optional[BaseException]] = (None, None)

    async def _carried(self, coroutine: Awaitable[Any]) -> None:
        # SystemExit and KeyboardInterrupt out of a task stop the whole loop, so they travel as values.
        try:
            self._outcome = await coroutine, None
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            self._outcome = None, error

    def _start(self) -> None:
        if self._task is None:
            self._task = self._loop.create_task(Begun(self._coroutine))
            self._task.add_done_callback(lambda task: self._ended.set())

    def result(self) -> Any:
        """Return the result; an interrupt of this thread cancels the coroutine and awaits its end."""
        try:
            # Started here and not before: from its first step on there is somebody to cancel it.
            self._loop.call_soon_threadsafe(self._start, context=self._context)
            with waiting():
                self._ended.wait()
        except BaseException:
            self.cancel()
            self._ended.wait()
            raise
        assert self._task is not None
        self._task.result()  # raises where it was cancelled
        (value, error), self._outcome = self._outcome, (None, None)
        if error is None:
            return value
        try:
            raise error
        finally:
            del error

    def cancel(self) -> None:
        """Cancel the coroutine, from any thread."""
        self._loop.call_soon_threadsafe(self._cancel, context=self._context)

    def _cancel(self) -> None:
        self._start()
        assert self._task is not None
        self._task.cancel()


class LoopLanes:
    """The lanes of one run on one loop."""

    def __init__(self, run: InProgress, loop: asyncio.AbstractEventLoop) -> None:
        self._run = run
        self._loop = loop
        self._woken = False
        self._tasks: Set[asyncio.Task[None]] = set()
        self._over: Optional[threading.Event] = None

    @property
    def active(self) -> bool:
        """Whether any lane has not ended."""
        return bool(self._tasks)

    def wake(self) -> bool:
        """Start lanes if coroutine bundles are ready; called under the run's lock, from any thread."""
        if not self._woken and self._run.schedule.ready.has(LOOP):
            self._woken = True
            self._loop.call_soon_threadsafe(self._start_lanes)
        return False

    def stop(self) -> None:
        """Cancel every lane; called from any thread."""
        self._loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        for task in list(self._tasks):
            task.cancel()

    def _start_lanes(self) -> None:
        run = self._run
        while True:
            with run.lock:
                self._woken = False
                task = run.schedule.take(LOOP)
            if task is None:
                return
            lane = self._loop.create_task(Begun(self._lane(task)))
            self._tasks.add(lane)
            lane.add_done_callback(self._lane_ended)

    def _lane_ended(self, lane: asyncio.Task[None]) -> None:
        self._tasks.discard(lane)
        if self._over is not None:
            self._look(self._over)

    def _look(self, over: threading.Event) -> None:
        self._over = over
        if not self._tasks:
            over.set()

    def close(self) -> None:
        """Wait for the last lines of the lanes, when there is nothing more for them; never in the loop's thread."""
        over = threading.Event()
        with contextlib.suppress(RuntimeError):  # raised by a loop that a node has closed
            # Behind all that was asked of the loop before: until then the end of a lane is not yet that of all.
            self._loop.call_soon_threadsafe(self._look, over)
            over.wait()
        # The loop may hold its last callback for a while, which is not to keep the results of the run.
        del self._run

    async def _lane(self, task: Optional[Task]) -> None:
        run = self._run
        schedule = run.schedule
        while task is not None:
            before, outcome = task, await _awaited(task, run)
            with run.lock:
                cancelled = schedule.stopped and _is_cancelled(outcome.error)
                run.settle(before, outcome._replace(error=Stopped()) if cancelled else outcome)
                garbage = run.garbage()
                task = schedule.take(LOOP)
                more = run.wake()
            del garbage, before, outcome
            if more:
                run.grow()
            if schedule.stopped:
                # The lane itself may have been cancelled while its coroutine was ending; there is nothing more to pull.
                return


def _is_cancelled(error: Optional[BaseException]) -> bool:
    # By type: isinstance may ask an object of the user's what it says it is.
    cause = error.error if type(error) is StepFailed else error
    return issubclass(type(cause), asyncio.CancelledError)


async def _awaited(task: Task, run: InProgress) -> Outcome:
    """Await a bundle, or the one item of a chunk, in a copy of the caller's context."""
    chunk = task if isinstance(task, Chunk) else None
    slots: Slots = []
    try:
        if chunk is None:
            frame = task.frame
            linked, bundle, slots = frame.linked, task.bundle, frame.slots
        else:
            linked, bundle, slots = chunk.map_run.linked, 0, row_slots(chunk, tuple(chunk.flat), chunk.start, run)
        own = run.context.copy()
        for step in linked.codes[bundle]:
            await InContext(step(slots), own)
        return DONE if chunk is None else Outcome(results=row_results(chunk, slots, run), completed=1)
    except BaseException as error:
        # In no variable that stays: the frames of its traceback lead back to this one.
        step = linked.plan.bundles[bundle].steps[0] if slots else None
        return Outcome(_failed(error, step, chunk, slots))


def _failed(error: BaseException, step: Optional[PlanStep], chunk: Optional[Chunk], slots: Slots) -> BaseException:
    """Return the failure of a step as that of its task; without a step its row could not be read."""
    if step is not None and type(error) is not StepFailed:
        error = StepFailed(step.results[0] if step.results else 0, error)
    return error if chunk is None else row_failed(chunk, chunk.start, slots, error)
