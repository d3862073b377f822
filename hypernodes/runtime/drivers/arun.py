"""A linked plan and the running event loop in, the root frame's slots filled out: one run that blocks nothing.

Coroutine nodes run on the caller's loop, what is plain in threads of the backend, and the coordinator is a task that
awaits the end. Only what would block the loop has a thread of its own: to wait for worker processes, or to submit to an
executor of the user's. A cancelled task stops the run and still awaits its end.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from typing import Callable, List, Optional, Tuple

from hypernodes.runtime.bundle.cancellation import within
from hypernodes.runtime.bundle.interpreter import Slots, Stopped
from hypernodes.runtime.bundle.linked import LinkedPlan
from hypernodes.runtime.drivers.coordinator import Coordinator, straight
from hypernodes.runtime.drivers.interrupts import interruptible_await
from hypernodes.runtime.drivers.latch import Latch
from hypernodes.runtime.drivers.libraries import alike
from hypernodes.runtime.drivers.run import Resources, Run
from hypernodes.runtime.drivers.services import Services
from hypernodes.runtime.drivers.thread_pool import ThreadPool
from hypernodes.runtime.drivers.waits import waiting
from hypernodes.runtime.drivers.wakeup import LoopWakeup
from hypernodes.runtime.schedule.schedule import Failures

Stop = Callable[[BaseException], None]


async def arun_plan(linked: LinkedPlan, slots: Slots, resources: Resources) -> Failures:
    """Run a plan with its coroutines on the running loop, and everything else beside it."""
    # Where a node runs this loop in its thread, it waits for what it runs on it.
    with waiting(), contextlib.closing(Services(asyncio.get_running_loop())) as services:
        slots[0] = services
        if linked.inline:
            return await _straight_beside(linked, slots, services, resources.threads)
        run = Run(linked, slots, resources, services, beside=True)
        await coordinate(run, run.interrupt)
        return run.schedule.failures


async def coordinate(run: Run, stop: Stop) -> None:
    """Await the end of a run; where this task is cancelled, call `stop` with that, and await it all the same."""
    if run.feeder is None and run.executor is None:
        await _on_loop(run, stop)
    else:
        await _in_thread(Coordinator(run).work, stop)


async def _on_loop(run: Run, stop: Stop) -> None:
    """Coordinate a run whose lanes do all of the work: there is nothing to do but to wait for its end."""
    wakeup = run.wakeup = LoopWakeup(asyncio.get_running_loop())
    with within(run.halt):
        with run.lock:
            more = run.wake()
        for lanes in run.lanes:
            lanes.latch.told = wakeup.set
        if more:
            run.grow()
        try:
            await _ended(wakeup, lambda: run.schedule.done and not run.threads_at_work(), stop)
        finally:
            run.close()


async def _ended(wakeup: LoopWakeup, ended: Callable[[], bool], stop: Stop) -> None:
    """Wait, and look at each wake-up whether it has `ended`; then raise what has come in the meantime."""
    stopped: List[BaseException] = []

    def stop_it(error: BaseException) -> None:
        stopped.append(error)
        stop(error)

    with interruptible_await(stop_it):
        waited = False
        while not (waited and ended()):
            try:
                # Where it took no time, the other tasks of the loop have their turn all the same.
                waited = await (wakeup.turn() if ended() else wakeup.wait(ended)) or waited
            except asyncio.CancelledError as cancelled:
                if not stopped:
                    stop_it(cancelled)
            except GeneratorExit as left:
                # The loop was closed over this task, as asyncio.run does, before Python 3.11, when a task of it raises
                # KeyboardInterrupt. Nothing can be awaited any more.
                stop_it(left)
                raise
    if stopped:
        raise stopped[0]


class _Straight:
    """A plan of one bundle as a lane; see `Lane`."""

    wanted = True

    def __init__(self, linked: LinkedPlan, slots: Slots, threads: ThreadPool) -> None:
        self.kept = threads.kept()
        self.latch = Latch()
        self.failures: Failures = []
        self.caller = threading.current_thread()
        self._thread: Optional[threading.Thread] = None
        self._work: Optional[Tuple[LinkedPlan, Slots]] = (linked, slots)
        self._context = contextvars.copy_context()
        self._loop = asyncio.get_running_loop()

    def progress(self) -> Tuple[int, ...]:
        """Return nothing: it is one piece of work."""
        return ()

    def work(self) -> None:
        """Do it."""
        self._thread = threading.current_thread()
        work, self._work = self._work, None
        if work is not None and not self._loop.is_closed():
            self.failures.extend(self._context.run(straight, *work))

    def serves(self, thread: threading.Thread) -> bool:
        """Return whether a thread does it."""
        return thread is self._thread

    def refused(self, error: BaseException) -> None:
        """End for want of a thread."""
        self.failures.append((None, error))


async def _straight_beside(linked: LinkedPlan, slots: Slots, services: Services, threads: ThreadPool) -> Failures:
    services.apart = True
    lane = _Straight(linked, slots, threads)
    wakeup = LoopWakeup(asyncio.get_running_loop())
    lane.latch.told = wakeup.set

    def stop() -> None:
        services.stop()
        if threads.take_back(lane):
            lane.failures.append((None, Stopped()))

    threads.enter(lane)
    try:
        with within(stop):
            if threads.ask(lane):
                threads.start()
            await _ended(wakeup, lambda: not lane.latch.count, lambda error: stop())
    finally:
        if lane.latch.count:
            stop()
            lane.latch.wait()
        threads.leave(lane)
    return lane.failures


async def _in_thread(work: Callable[[], None], stop: Stop) -> None:
    """Await `work` in a thread of its own."""
    loop = asyncio.get_running_loop()
    wakeup, over = LoopWakeup(loop), threading.Event()

    def coordinate() -> None:
        try:
            work()
        finally:
            over.set()
            wakeup.set()

    run = contextvars.copy_context().run
    thread = threading.Thread(target=run, args=(alike(coordinate),), name="hypernodes-coordinator", daemon=True)
    thread.start()
    try:
        await _ended(wakeup, over.is_set, stop)
    finally:
        thread.join()
