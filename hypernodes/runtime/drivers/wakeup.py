"""How a coordinator that waits is woken: by a lane, by a signal handler, from any thread.

What is said while nobody waits is not lost. The coordinator of a run with worker processes waits for them instead,
and its wake-up is the transport's.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
from typing import Any, Callable, Optional, Protocol


class Wakeup(Protocol):
    """Ends a wait."""

    def set(self) -> None:
        """Let who waits, or who will next, go on; safe in a signal handler, from any thread."""


class ThreadWakeup:
    """A thread waits."""

    def __init__(self) -> None:
        # Its put is documented as reentrant: safe in a handler that interrupts a put or a get.
        self._queue: Any = queue.SimpleQueue()

    def set(self) -> None:
        self._queue.put(None)

    def wait(self, timeout: Optional[float] = None) -> None:
        """Block until it was set, `timeout` seconds at the most."""
        with contextlib.suppress(queue.Empty):
            self._queue.get(timeout=timeout)


class LoopWakeup:
    """A task on an event loop waits."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._event = asyncio.Event()

    def set(self) -> None:
        # Of an event that is set but not yet seen nobody has to hear again, which would cost a system call each.
        if not self._event.is_set():
            with contextlib.suppress(RuntimeError):
                # Raised by a loop that was closed over an open stream, and that nobody waits on any more.
                self._loop.call_soon_threadsafe(self._event.set)

    async def wait(self, otherwise: Callable[[], bool]) -> bool:
        """Wait until it is set, unless `otherwise` there is a reason already not to; return whether it waited."""
        self._event.clear()
        return not otherwise() and await self._event.wait()

    async def turn(self) -> bool:
        """Wait until whatever else is ready on the loop has had its turn."""
        self._event.clear()
        self._loop.call_soon(self._event.set)
        return await self._event.wait()
