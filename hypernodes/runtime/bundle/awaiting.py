"""A coroutine that a plain function returned in, what awaiting it comes to out, the second time as well.

Python awaits a coroutine once. But who keeps one, as ``functools.lru_cache`` around an ``async def`` does, hands the
same object out again: to a later item, or to one that runs at the same moment in another thread. All of them get the
result of the one time. It is kept as long as somebody keeps the coroutine; of one that failed nothing is kept.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from types import CoroutineType
from typing import Any, Coroutine
from weakref import WeakKeyDictionary

_results: WeakKeyDictionary[Coroutine[Any, Any, Any], Future[Any]] = WeakKeyDictionary()


async def once(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Await a coroutine, or whoever awaits it already, or return what it came to before."""
    result: Future[Any] = Future()
    result.set_running_or_notify_cancel()  # so that nobody who waits for it can cancel it
    # Atomic, and no lock that could be held in another thread when a node forks.
    known = _results.setdefault(coroutine, result)
    if known is not result:
        return await asyncio.wrap_future(known)
    try:
        value = await coroutine
    except BaseException as error:
        del _results[coroutine]
        result.set_exception(error)
        raise
    result.set_result(value)
    return value


async def finished(value: Any) -> Any:
    """Await coroutines until there is something else."""
    while type(value) is CoroutineType:
        value = await once(value)
    return value
