"""The event loop that the coroutines of `run` and `map` run on: one for the process, in a thread of its own.

It outlives runs and backends, so that what a node opens on it (a client, a semaphore, a pool of connections) works in
the next run too. A run that is called in the thread of that loop, and so holds it up, gets a loop of its own, and what
runs within it does as well. ::

    run, in any thread ──▶ home ─┬─ the loop of the process, unless this is its thread
                                 └─ one that is closed with the run
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import contextvars
import os
import re
import threading
from typing import List, Optional, Tuple

from hypernodes.errors.notes import add_note, said
from hypernodes.lowering.plan import PlanStep
from hypernodes.runtime.bundle.interpreter import Slots
from hypernodes.runtime.bundle.locate import EXPLANATIONS
from hypernodes.runtime.drivers.libraries import alike, kept_by_thread, put

GRACE = 1.0
"""Seconds that tasks which clients keep on the loop of the process have for their end when the program ends."""


class LoopThread:
    """An event loop in a thread of its own, started by the first who asks for it."""

    def __init__(self, name: str = "hypernodes-loop") -> None:
        self._name = name
        self._thread: Optional[threading.Thread] = None
        self._loop: Optional[asyncio.AbstractEventLoop] = None
        self._starting = threading.Lock()
        self._ending = False

    def loop(self) -> asyncio.AbstractEventLoop:
        """Return the running loop, a new one where somebody has closed it."""
        with self._starting:
            if self._loop is None or self._loop.is_closed():
                self._loop = asyncio.new_event_loop()
                serve = alike(self._serve)
                self._thread = threading.Thread(target=serve, args=(self._loop,), name=self._name, daemon=True)
                self._thread.start()
            return self._loop

    def catch_up(self) -> None:
        """Let libraries keep for the loop's thread, which may be older than this run, what they keep for this one."""
        loop = self._loop
        kept = kept_by_thread(defaults=True) if loop is not None else ()
        if loop is not None and kept:
            loop.call_soon_threadsafe(put, kept)

    @property
    def closed(self) -> bool:
        """Whether it was closed with its run."""
        return self._ending

    def serves(self, thread: threading.Thread) -> bool:
        """Return whether a thread is this one."""
        return thread is self._thread

    def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        try:
            while not (self._ending or loop.is_closed()):
                # SystemExit and KeyboardInterrupt of a task, or of a callback, end the loop, and so may a node that
                # stops it; whoever awaits that task gets them as well, and has to hear of it.
                try:
                    loop.run_forever()
                except BaseException as error:
                    loop.call_exception_handler({"message": "raised on the event loop of a run", "exception": error})
        finally:
            asyncio.set_event_loop(None)
            loop.close()

    def close(self) -> None:
        """Cancel what still runs on the loop, wait for it, and end the thread."""
        with self._starting:
            loop, thread, self._loop, self._thread = self._loop, self._thread, None, None
        if loop is None or thread is None:
            self._ending = True
            return
        asyncio.run_coroutine_threadsafe(_settle(), loop).result()
        self._ending = True
        loop.call_soon_threadsafe(loop.stop)
        thread.join()

    def wind_down(self) -> None:
        """Cancel what still runs on the loop, and give it `GRACE` for its end."""
        if self._loop is not None and not self._loop.is_closed():
            with contextlib.suppress(BaseException):  # whatever is wrong with it: the program has ended
                asyncio.run_coroutine_threadsafe(_settle(executor=False), self._loop).result(GRACE)


async def _settle(executor: bool = True) -> None:
    """End everything on this loop, as `asyncio.run` does before it closes one."""
    loop = asyncio.get_running_loop()
    others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await loop.shutdown_asyncgens()
    if executor and hasattr(loop, "shutdown_default_executor"):
        await loop.shutdown_default_executor()


# The last one; those before it are of the processes that this one was forked from.
_of_process: List[LoopThread] = [LoopThread()]


_home: contextvars.ContextVar[Optional[LoopThread]] = contextvars.ContextVar("hypernodes.home", default=None)
"""The loop of the run around, where that is not the one of the process, which is held up meanwhile."""


def home() -> Tuple[LoopThread, bool]:
    """Return the loop of a run that begins here, and whether it is the run's own, which has to close it."""
    around = _home.get()
    found = _of_process[-1] if around is None or around.closed else around
    return (LoopThread(), True) if found.serves(threading.current_thread()) else (found, False)


def lead_home(context: contextvars.Context, thread: LoopThread) -> None:
    """Let runs that begin in `context`, and in copies of it, have that loop."""
    context.run(_home.set, thread)


_ELSEWHERE = re.compile("attached to a different loop|bound to a different event loop|Event loop is closed")


def explain_loop(error: BaseException, step: PlanStep, slots: Slots) -> None:
    """Add a note to an error of what belongs to another event loop."""
    if issubclass(type(error), RuntimeError) and _ELSEWHERE.search(said(error)):
        add_note(
            error,
            "something that this node uses, such as a client or a semaphore, was opened on another event loop; run and "
            "map have one for the whole program, and arun and amap use the caller's: open it in a node, or run the "
            "pipeline in the way, and on the loop, that it was opened for",
        )


EXPLANATIONS.append(explain_loop)


@atexit.register
def _at_exit() -> None:
    _of_process[-1].wind_down()


def _after_fork() -> None:
    # The parent's is kept: to drop a loop that nobody has closed is worth a warning to Python.
    _of_process.append(LoopThread())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
