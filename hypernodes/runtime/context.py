"""A coroutine and a `contextvars.Context` in, an awaitable that runs the one inside the other out.

Lanes of the event loop await the coroutines of many items one after another in one asyncio task, which costs a
fraction of a task an item. Each coroutine still gets a context of its own, as a task would give it.
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
