"""A linked plan and the running event loop in, the root frame's slots filled out: one run that blocks nothing.

Coroutine nodes run on the caller's loop. Where that is all there is, no thread is started; otherwise the seat is a
thread of its own, and the caller's task awaits its end. A cancelled task stops the run and still awaits its end.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import ctypes
import threading
from typing import Callable, List, Optional

from hypernodes.lowering.plan import LOOP
from hypernodes.runtime.interpreter import Slots
from hypernodes.runtime.interrupts import interruptible_await
from hypernodes.runtime.linked import LinkedPlan
from hypernodes.runtime.run import SEAT, Failures, Resources, Run, Services, SlotZero, straight

POLL = 0.05
"""Seconds between looks at a seat that was told to stop, in case the telling itself kept it from saying goodbye."""


async def arun_plan(
    linked: LinkedPlan, slots: Slots, resources: Resources, slot_zero: Optional[SlotZero] = None
) -> Failures:
    """Run a plan with its coroutines on the running loop, and everything else beside it."""
    services = Services(asyncio.get_running_loop())
    slots[0] = slot_zero(services) if slot_zero else services
    if linked.inline:
        return await _straight_in_thread(linked, slots, services)
    run = Run(linked, slots, resources, services)
    if linked.placements_used <= {LOOP}:
        await on_loop(run)
    else:
        await in_thread(run.work, lambda thread, error: run.interrupt(error))
    return run.schedule.failures


async def _straight_in_thread(linked: LinkedPlan, slots: Slots, services: Services) -> Failures:
    failures: Failures = []

    def work() -> None:
        failures.extend(straight(linked, slots))

    def stop(thread: threading.Thread, error: BaseException) -> None:
        services.cancel(error)
        _raise_in(thread)

    await in_thread(work, stop)
    return failures


async def in_thread(work: Callable[[], None], stop: Callable[[threading.Thread, BaseException], None]) -> None:
    """Await `work` in a thread; when this task is cancelled, call `stop` on it, and await the end all the same."""
    loop = asyncio.get_running_loop()
    over = asyncio.Event()

    def seat() -> None:
        with contextlib.suppress(KeyboardInterrupt):
            # `stop` may raise it anywhere in here, and what the work left undone nobody will ask for.
            work()
        loop.call_soon_threadsafe(over.set)

    thread = threading.Thread(target=contextvars.copy_context().run, args=(seat,), name="hypernodes-seat", daemon=True)
    stopped: List[BaseException] = []

    def stop_thread(error: BaseException) -> None:
        stopped.append(error)
        if not over.is_set():
            stop(thread, error)
            look()

    def look() -> None:
        if thread.is_alive():
            loop.call_later(POLL, look)
        else:
            over.set()

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


def _raise_in(thread: threading.Thread) -> None:
    """Stop a thread that runs nodes one after another as Ctrl-C would: by an exception between two bytecodes."""
    if thread.ident is not None:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(KeyboardInterrupt))


class _LoopBell:
    """The bell of a seat that is a task on the loop where all the lanes are."""

    def __init__(self) -> None:
        self.rung = asyncio.Event()

    def put(self, token: object) -> None:
        self.rung.set()


async def on_loop(run: Run) -> None:
    bell = run.bell = _LoopBell()
    cancelled: Optional[asyncio.CancelledError] = None
    with interruptible_await(run.interrupt):
        with run.lock:
            run.wake(SEAT)
        while not run.schedule.done:
            try:
                await bell.rung.wait()
            except asyncio.CancelledError as error:
                cancelled = error
                run.interrupt(error)
            bell.rung.clear()
    if cancelled is not None:
        raise cancelled
