"""Ctrl-C in, a clean stop of the run out: SIGINT while the seat waits becomes a failure of the run.

Python raises KeyboardInterrupt between any two bytecodes of the main thread. Inside a node that is what people
expect; inside our own bookkeeping it could lose a task and hang the run. So while a run works, the handler raises
only when a node runs in the main thread, and otherwise leaves a note and rings the bell.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from typing import TYPE_CHECKING, Any, Iterator

if TYPE_CHECKING:
    from hypernodes.runtime.run import Run


@contextlib.contextmanager
def interruptible(run: Run) -> Iterator[None]:
    """Handle SIGINT for `run` while the block runs; does nothing outside the main thread or under a foreign handler."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.getsignal(signal.SIGINT)
    if not _raises_keyboard_interrupt(previous):
        yield
        return

    def handle(number: int, frame: Any) -> None:
        if run.in_node:
            raise KeyboardInterrupt
        run.interrupted = KeyboardInterrupt()
        # SimpleQueue.put is documented as reentrant: safe in a handler that interrupts a put or a get.
        run.bell.put(None)

    handle._hypernodes = True  # type: ignore[attr-defined]
    signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


def _raises_keyboard_interrupt(handler: object) -> bool:
    if handler is signal.default_int_handler or getattr(handler, "_hypernodes", False):
        return True
    # asyncio.run, since Python 3.11, installs a partial of this method; it cancels the main task, which we keep
    # blocked.
    return getattr(getattr(handler, "func", None), "__name__", "") == "_on_sigint"
