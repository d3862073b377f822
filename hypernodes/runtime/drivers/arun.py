"""A linked plan and the running event loop in, the root frame's slots filled out: one run that blocks nothing.

Coroutine nodes run on the caller's loop. Where that is all there is, no thread is started; otherwise the coordinator
is a thread of its own, and the caller's task awaits its end. A cancelled task stops the run and still awaits its end.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from typing import Callable, List, Optional

from hypernodes.lowering.plan import LOOP
from hypernodes.runtime.bundle.cancellation import within
from hypernodes.runtime.bundle.interpreter import Slots
from hypernodes.runtime.bundle.linked import LinkedPlan
from hypernodes.runtime.drivers.coordinator import Coordinator, straight
from hypernodes.runtime.drivers.interrupts import interruptible_await
from hypernodes.runtime.drivers.libraries import alike
from hypernodes.runtime.drivers.places import Places, placed, waiting
from hypernodes.runtime.drivers.run import Resources, Run
from hypernodes.runtime.drivers.services import Services
from hypernodes.runtime.drivers.wakeup import LoopWakeup
from hypernodes.runtime.schedule.schedule import Failures


async def arun_plan(linked: LinkedPlan, slots: Slots, resources: Resources) -> Failures:
    """Run a plan with its coroutines on the running loop, and everything else beside it."""
    # Where a node runs this loop in its thread, it waits for what it runs on it.
    with waiting(), contextlib.closing(Services(asyncio.get_running_loop())) as services:
        slots[0] = services
        if linked.inline:
            return await _straight_in_thread(linked, slots, services, resources.places)
        run = Run(linked, slots, resources, services)
        if linked.placements_used <= {LOOP}:
            await on_loop(run)
        else:
            await in_thread(Coordinator(run, resources.places).work, run.interrupt)
        return run.schedule.failures


async def _straight_in_thread(
    linked: LinkedPlan, slots: Slots, services: Services, places: Optional[Places]
) -> Failures:
    failures: Failures = []
    services.apart = True

    def work() -> None:
        with contextlib.nullcontext(True) if places is None else placed(places, services) as entered:
            if entered:
                failures.extend(straight(linked, slots))

    with within(services.stop):
        await in_thread(work, lambda error: services.stop())
    return failures


async def in_thread(work: Callable[[], None], stop: Callable[[BaseException], None]) -> None:
    """Await `work` in a thread; when this task is cancelled, call `stop` on it, and await the end all the same."""
    loop = asyncio.get_running_loop()
    over = asyncio.Event()

    def coordinate() -> None:
        try:
            work()
        finally:
            loop.call_soon_threadsafe(over.set)

    run = contextvars.copy_context().run
    thread = threading.Thread(target=run, args=(alike(coordinate),), name="hypernodes-coordinator", daemon=True)
    stopped: List[BaseException] = []

    def stop_thread(error: BaseException) -> None:
        stopped.append(error)
        stop(error)

    with interruptible_await(stop_thread):
        thread.start()
        try:
            await over.wait()
        except asyncio.CancelledError as cancelled:
            stop_thread(cancelled)
            while not over.is_set():
                with contextlib.suppress(asyncio.CancelledError):
                    await over.wait()
        finally:
            thread.join()
    if stopped:
        raise stopped[0]


async def on_loop(run: Run) -> None:
    """Coordinate a run whose lanes are all on this loop: there is nothing to do but to wait for its end."""
    wakeup = run.wakeup = LoopWakeup(asyncio.get_running_loop())
    cancelled: Optional[asyncio.CancelledError] = None
    with interruptible_await(run.interrupt), within(run.halt):
        with run.lock:
            more = run.wake()
        if more and run.threads is not None:
            run.threads.grow(more)
        while not run.schedule.done:
            try:
                await wakeup.wait(lambda: run.schedule.done)
            except asyncio.CancelledError as error:
                cancelled = error
                run.interrupt(error)
    run.close()
    if cancelled is not None:
        raise cancelled
