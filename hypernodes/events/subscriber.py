"""Who calls the hooks of a run: whoever tells of something, at once, or one thread for all, in the order of telling.

Where everything runs in the caller's thread, hooks do too. Elsewhere a slow hook would hold up others, and a lock may
be held by who tells of something: it only leaves that here. A hook that raises is the last one that is called, and
stops the run. A run that was interrupted or cancelled gives its hooks `GRACE` to hear the rest.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import queue
import threading
from typing import Any, Callable, Optional

Stop = Callable[[BaseException], None]

GRACE = 1.0
"""Seconds for the hooks of a run that is in a hurry to end; what is not told by then is dropped."""


class AtOnce:
    """Calls what it is given, there and then."""

    error: Optional[BaseException] = None
    """What a hook has raised that nobody has got yet."""

    def put(self, call: Callable[..., None], *arguments: Any) -> None:
        """Have a call made after those that were put here before."""
        call(*arguments)

    def begin(self, stop: Optional[Stop] = None) -> None:
        """Make calls from now on; `stop` is called with what a hook raises."""

    def serves(self, thread: threading.Thread) -> bool:
        """Return whether a thread is the one that makes the calls."""
        return False

    def close(self, hurry: bool = False) -> None:
        """Wait until every call has been made; in a hurry, `GRACE` at the most."""

    async def aclose(self, hurry: bool = False) -> None:
        """Do what `close` does on a running event loop, however often this task is cancelled meanwhile."""


AT_ONCE = AtOnce()
"""The one for all who need no other."""


class _Calls:
    """Calls in the order in which they were put in, and what became of them; it refers to nobody who serves it."""

    def __init__(self) -> None:
        self.queue: Any = queue.SimpleQueue()
        self.error: Optional[BaseException] = None
        self.dropped = False
        self.stop: Optional[Stop] = None

    def work(self) -> None:
        """Make the calls, until one stands alone that is the last."""
        while True:
            entry = self.queue.get()
            if type(entry) is not tuple:
                entry()
                return
            if not self.dropped:
                call, arguments = entry
                try:
                    call(*arguments)
                except BaseException as error:
                    self._failed(error)
                del call, arguments
            del entry

    def _failed(self, error: BaseException) -> None:
        self.error, self.dropped, stop = error, True, self.stop
        if stop is not None:
            stop(error)


class InThread(AtOnce):
    """Makes calls in a thread, which the first one after `begin` starts and `close` ends; any thread puts them here.

    Parameters
    ----------
    around : callable
        Makes of the thread's function one that finds what libraries keep for each thread as it is here.
    """

    def __init__(self, around: Callable[[Callable[[], None]], Callable[[], None]]) -> None:
        self._context = contextvars.copy_context()
        self._calls = _Calls()
        self._serve = around(self._calls.work)
        self._starting = threading.Lock()
        self._thread: Optional[threading.Thread] = None
        self._own: Optional[threading.Thread] = None  # also when it is about to end
        self._begun = False

    @property
    def error(self) -> Optional[BaseException]:  # type: ignore[override]
        return self._calls.error

    def put(self, call: Callable[..., None], *arguments: Any) -> None:
        if not self._calls.dropped:
            self._calls.queue.put((call, arguments))
            if self._thread is None and self._begun:
                self._start()

    def begin(self, stop: Optional[Stop] = None) -> None:
        self._calls.stop, self._begun = stop, True
        if not self._calls.queue.empty():
            self._start()
        if stop is not None and self.error is not None:
            stop(self.error)

    def serves(self, thread: threading.Thread) -> bool:
        return thread is self._own

    def close(self, hurry: bool = False) -> None:
        thread = self._end()
        if thread is None or thread is threading.current_thread():
            return
        try:
            thread.join(GRACE if hurry else None)
        finally:
            # An interrupt does not wait for all that is still to be told.
            self._calls.dropped = self._calls.dropped or thread.is_alive()

    async def aclose(self, hurry: bool = False) -> None:
        loop, over = asyncio.get_running_loop(), asyncio.Event()

        def ended() -> None:
            with contextlib.suppress(RuntimeError):  # raised by a loop that was closed meanwhile
                loop.call_soon_threadsafe(over.set)

        thread = self._end(ended)
        if thread is None:
            return
        timer = loop.call_later(GRACE, over.set) if hurry else None
        cancelled: Optional[asyncio.CancelledError] = None
        while not over.is_set():
            try:
                await over.wait()
            except asyncio.CancelledError as error:
                cancelled = error
                timer = timer or loop.call_later(GRACE, over.set)
        if timer is not None:
            timer.cancel()
        thread.join(None if timer is None else 0.01)  # at its last line, unless it was in a hurry
        self._calls.dropped = self._calls.dropped or thread.is_alive()
        if cancelled is not None:
            raise cancelled

    def _start(self) -> None:
        with self._starting:
            if self._thread is not None:
                return
            target = self._context.copy().run
            thread = threading.Thread(target=target, args=(self._serve,), name="hypernodes-hooks", daemon=True)
            # Where there is no thread to be had, a later call may find one; else who ends the run makes the calls.
            with contextlib.suppress(RuntimeError):
                thread.start()
                self._thread = self._own = thread

    def _end(self, ended: Callable[[], None] = lambda: None) -> Optional[threading.Thread]:
        """Let the thread end when it has made all calls, and `ended` as the last; return it, if there is one."""
        with self._starting:
            thread, self._thread, self._calls.stop = self._thread, None, None
        if thread is None and not self._begun:
            return None
        self._calls.queue.put(ended)
        if thread is None:
            self._calls.work()
        return thread
