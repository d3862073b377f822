"""Ctrl-C in, a clean stop of the run out: SIGINT while the coordinator waits becomes a failure of the run.

Python raises KeyboardInterrupt between any two bytecodes of the main thread. Inside a node that is what people
expect; inside our own bookkeeping it could lose a task and hang the run. So while a run works, the handler raises
only when a node runs in the main thread, and otherwise leaves a note and wakes the coordinator.

The same holds for a run that is awaited. From Python 3.11 on `asyncio.run` has a handler that cancels its task; before,
and under a loop that is run in another way, ours ends the run with KeyboardInterrupt between two callbacks of the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from typing import Any, Callable, Iterator, List, Protocol

try:
    # The one in `signal` looks the handler up in an enum, and the error of that, before Python 3.12, has its repr: with
    # the handler of asyncio that of a task and all it is within, more than the rest of a small run costs.
    from _signal import getsignal  # type: ignore[import-not-found]
except ImportError:
    from signal import getsignal


class Interruptible(Protocol):
    """Who works in the main thread: a coordinator."""

    in_node: bool
    """Whether a function of the user's runs here, which Ctrl-C is to reach."""

    def interrupt(self) -> None:
        """Take note of Ctrl-C while none does; called by a signal handler."""


@contextlib.contextmanager
def interruptible(coordinator: Interruptible) -> Iterator[None]:
    """Handle SIGINT for a run while the block runs; does nothing outside the main thread or under a foreign handler."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = getsignal(signal.SIGINT)
    if not _raises_keyboard_interrupt(previous):
        yield
        return

    def handle(number: int, frame: Any) -> None:
        if coordinator.in_node:
            raise KeyboardInterrupt
        coordinator.interrupt()

    handle._hypernodes = True  # type: ignore[attr-defined]
    signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


_awaited: List[Callable[[], None]] = []


@contextlib.contextmanager
def interruptible_await(stop: Callable[[BaseException], None]) -> Iterator[None]:
    """Handle SIGINT for an awaited run while the block runs, where Python's own handler would."""
    loop = asyncio.get_running_loop()
    in_main = threading.current_thread() is threading.main_thread()
    if not in_main or getsignal(signal.SIGINT) not in (signal.default_int_handler, _stop_first):
        yield
        return

    def entry() -> None:
        loop.call_soon_threadsafe(stop, KeyboardInterrupt())

    _awaited.append(entry)
    signal.signal(signal.SIGINT, _stop_first)
    try:
        yield
    finally:
        _awaited.remove(entry)
        if not _awaited and getsignal(signal.SIGINT) is _stop_first:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def _stop_first(number: int, frame: Any) -> None:
    # One is enough: KeyboardInterrupt ends the loop, and who runs the loop cancels the others.
    for entry in _awaited[:1]:
        entry()


_stop_first._hypernodes = True  # type: ignore[attr-defined]


def _raises_keyboard_interrupt(handler: object) -> bool:
    if handler is signal.default_int_handler or getattr(handler, "_hypernodes", False):
        return True
    # asyncio.run, since Python 3.11, installs a partial of this method; it cancels the main task, which we keep
    # blocked.
    return getattr(getattr(handler, "func", None), "__name__", "") == "_on_sigint"
