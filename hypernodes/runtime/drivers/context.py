"""A coroutine in, the same coroutine run inside a `contextvars.Context`, or certain to begin, out.

Lanes of the event loop await the coroutines of many items one after another in one asyncio task, which costs a
fraction of a task an item. Each coroutine still gets a context of its own, as a task would give it. The lanes
themselves, and all else that has to account for something at its end, are coroutines that begin in any case.
"""

from __future__ import annotations

import contextvars
from typing import Any, Coroutine, Generator


class InContext:
    """Await `coroutine` with every step of it run inside `context`."""

    __slots__ = ("context", "coroutine")

    def __init__(self, coroutine: Coroutine[Any, Any, Any], context: contextvars.Context) -> None:
        self.coroutine = coroutine
        self.context = context

    def __await__(self) -> Generator[Any, Any, Any]:
        run, send = self.context.run, self.coroutine.send
        sent: Any = None
        try:
            yielded = run(send, None)
            while True:
                try:
                    sent = yield yielded
                except GeneratorExit:
                    run(self.coroutine.close)
                    raise
                except BaseException as error:
                    yielded = run(self.coroutine.throw, error)
                else:
                    yielded = run(send, sent)
        except StopIteration as stop:
            return stop.value


class Begun(Coroutine[Any, Any, Any]):
    """`coroutine` for a task, which makes its first step even when the task is cancelled before.

    A cancellation is thrown into a coroutine, and ends one that has not begun without running a line of it: what it
    was given would be lost, who waits for it would wait for ever, and Python would complain that nobody awaited it.
    """

    __slots__ = ("_begun", "_coroutine")

    def __init__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self._coroutine = coroutine
        self._begun = False

    def send(self, value: Any) -> Any:
        self._begun = True
        return self._coroutine.send(value)

    def throw(self, *error: Any) -> Any:
        if not self._begun:
            future = self.send(None)
            if future is not None:
                # As a task does it: the cancellation comes out of what is waited for.
                if future.cancel():
                    return future
                future._asyncio_future_blocking = False
        return self._coroutine.throw(*error)

    def close(self) -> None:
        self._coroutine.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._coroutine.__await__()
