"""A linked plan and rows to feed its map in, the outputs of items out as they finish, on a running event loop.

Rows are pulled by a task of their own, on the caller's loop, while the window has room; coroutine nodes run on that
loop too. The coordinator of the run is where `arun` has it. ::

    pump (task) ─push─▶ Run ◀─ coordinator, lanes, workers
         ▲               │ deliver, from any thread
         └───room─── consumer ◀─wakeup
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import AsyncGenerator, AsyncIterator, Deque, Optional

from hypernodes.runtime.bundle.interpreter import Slots
from hypernodes.runtime.bundle.linked import LinkedPlan
from hypernodes.runtime.drivers.arun import coordinate
from hypernodes.runtime.drivers.context import Begun
from hypernodes.runtime.drivers.run import Resources, Run
from hypernodes.runtime.drivers.services import Services
from hypernodes.runtime.drivers.sources import Rows
from hypernodes.runtime.drivers.stream import Conclude
from hypernodes.runtime.drivers.waits import waiting
from hypernodes.runtime.drivers.wakeup import LoopWakeup
from hypernodes.runtime.schedule.feed import Feed
from hypernodes.runtime.schedule.sink import Delivery
from hypernodes.runtime.schedule.source import Row


async def astream_plan(
    linked: LinkedPlan,
    slots: Slots,
    resources: Resources,
    rows: Rows[AsyncIterator[Row]],
    ordered: bool,
    conclude: Conclude,
) -> AsyncGenerator[Delivery, None]:
    """Yield the items of the map that `linked` is; nothing is started before the first of them is asked for."""
    if not linked.count:
        index = 0
        async for _ in rows.reader:
            yield index, {}
            index += 1
        conclude([])
        return
    loop = asyncio.get_running_loop()
    services = slots[0] = Services(loop)
    ready: Deque[Delivery] = deque()
    wakeup = LoopWakeup(loop)

    def deliver(delivery: Delivery) -> None:
        ready.append(delivery)
        wakeup.set()

    def stop(error: BaseException) -> None:
        run.stop()
        services.cancel()

    feed = Feed(linked.map_steps[0], linked.plan.output_names, deliver, ordered, rows.total)
    run = Run(linked, slots, resources, services, feed, beside=True)
    pump = _Pump(run, rows.reader)
    coordinator, pumping = loop.create_task(Begun(coordinate(run, stop))), loop.create_task(Begun(pump.work()))
    coordinator.add_done_callback(lambda task: wakeup.set())
    try:
        while True:
            while ready:
                pump.yielded += 1
                pump.room.set()
                yield ready.popleft()
            if coordinator.done():
                break
            with waiting():
                await wakeup.wait(lambda: bool(ready) or coordinator.done())
    finally:
        try:
            with waiting():
                await _end(pumping)
        finally:
            try:
                with waiting():
                    await _end(coordinator)
            finally:
                services.close()
                await run.subscriber.aclose(run.hurries)
    failures = run.schedule.failures
    if pump.fault is not None:
        failures.append((None, pump.fault))
    conclude(failures)
    await run.subscriber.aclose()
    if run.subscriber.error is not None:
        conclude([(None, run.subscriber.error)])


class _Pump:
    """Pulls rows while the window has room for them."""

    def __init__(self, run: Run, reader: AsyncIterator[Row]) -> None:
        self._run = run
        self._reader = reader
        self._pulled = 0
        self.yielded = 0
        self.room = asyncio.Event()
        self.fault: Optional[BaseException] = None

    async def work(self) -> None:
        run = self._run
        try:
            while run.schedule.wants_rows:
                if self._pulled - self.yielded >= run.window():
                    self.room.clear()
                    await self.room.wait()
                    continue
                run.push(await self._reader.__anext__())
                self._pulled += 1
        except StopAsyncIteration:
            pass
        except Exception as error:
            # The rows before it are good: it is raised in its turn, as it would be without an engine.
            self.fault = error
        except asyncio.CancelledError as error:
            # By the end of the stream, or by the iterator itself.
            self.fault = error
            raise
        finally:
            run.end_feed()


async def _end(task: asyncio.Task[None]) -> None:
    """Cancel a task and wait until it has ended, however often this one is cancelled meanwhile."""
    cancelled: Optional[asyncio.CancelledError] = None
    task.cancel()
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancelled = error
    if not task.cancelled() and task.exception() is not None:
        raise task.exception()  # type: ignore[misc]
    if cancelled is not None:
        raise cancelled
