"""The call of a step and the policy of its node in, a call that is tried again or ends in time out.

Linked in only for steps that have such a policy; the others run as if there were none. What a pause or a deadline
needs of the world it asks of slot 0: `pause` ends early when the run stops, `watch` tells whoever can kill this
process. A coroutine needs neither, since its loop cancels it.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
import time
from typing import Any, Awaitable, Callable, Iterator

from hypernodes.errors import NodeTimeoutError
from hypernodes.errors.notes import add_note
from hypernodes.ir.graph import Policy
from hypernodes.lowering.plan import Step, output_path
from hypernodes.runtime.bundle.interpreter import Slots
from hypernodes.runtime.bundle.once import STREAMS

Call = Callable[[Slots], Any]
Coroutine = Callable[[Slots], Awaitable[Any]]


def governed(step: Step, call: Call) -> Call:
    """Return the call of a plain function under its node's policy."""
    policy = step.policy
    if policy.timeout is not None:
        call = _watched(step, policy.timeout, call)
    return _retried(step, call) if policy.retries else call


def governed_coroutine(step: Step, call: Coroutine) -> Coroutine:
    """Return the call of a coroutine function under its node's policy."""
    policy = step.policy
    if policy.timeout is not None:
        call = _cancelled_late(step.name, policy.timeout, call)
    return _retried_coroutine(step, call) if policy.retries else call


def delay(policy: Policy, attempt: int) -> float:
    """Return the seconds to wait after failed attempt number `attempt`, from 0: the backoff doubles, jitter is added.

    References
    ----------
    M. Brooker, "Exponential Backoff and Jitter" (AWS Architecture Blog, 2015): what failed together should not come
    back together.
    """
    seconds = policy.backoff * 2.0 ** min(attempt, 64)
    return seconds + random.uniform(0.0, policy.jitter)


@contextlib.contextmanager
def _last_attempt(policy: Policy) -> Iterator[None]:
    try:
        yield
    except policy.retry_on as error:
        add_note(error, f"tried {policy.retries + 1} times")
        raise


def _refuse_spent(step: Step, slots: Slots, error: BaseException) -> None:
    """Raise an error again where a further attempt would find what this one has left of a stream."""
    for argument in step.arguments:
        kind = type(slots[argument.slot])
        if kind in STREAMS:
            add_note(error, f"not tried again: {argument.parameter!r} is a {kind.__name__}, which can be read once")
            raise error


def _retried(step: Step, call: Call) -> Call:
    key, policy = output_path(step), step.policy

    def run(slots: Slots) -> Any:
        for attempt in range(slots[0].tried.get(key, 0), policy.retries):
            try:
                return call(slots)
            except policy.retry_on as error:
                _refuse_spent(step, slots, error)
                if not slots[0].pause(delay(policy, attempt)):
                    raise
        with _last_attempt(policy):
            return call(slots)

    return run


def _retried_coroutine(step: Step, call: Coroutine) -> Coroutine:
    policy = step.policy

    async def run(slots: Slots) -> Any:
        for attempt in range(policy.retries):
            try:
                return await call(slots)
            except policy.retry_on as error:
                _refuse_spent(step, slots, error)
                seconds = delay(policy, attempt)
            await asyncio.sleep(seconds)
        with _last_attempt(policy):
            return await call(slots)

    return run


def _watched(step: Step, seconds: float, call: Call) -> Call:
    key = output_path(step)

    def run(slots: Slots) -> Any:
        with slots[0].watch(key, seconds):
            return call(slots)

    return run


def _cancelled_late(name: str, seconds: float, call: Coroutine) -> Coroutine:
    async def run(slots: Slots) -> Any:
        task = asyncio.current_task()
        assert task is not None
        late = False

        def expire() -> None:
            nonlocal late
            late = True
            task.cancel()

        # Not asyncio.wait_for: a task of its own would have another context than the steps before and after it.
        timer = asyncio.get_running_loop().call_later(seconds, expire)
        value: Any = None
        begun = time.monotonic()
        try:
            value = await call(slots)
        except BaseException as error:
            timer.cancel()
            cancelled = isinstance(error, asyncio.CancelledError)
            others = late and sys.version_info >= (3, 11) and task.uncancel()
            if not late or not cancelled or others:
                raise  # somebody else has cancelled it, or it failed while it was being cancelled
            raise NodeTimeoutError(name, seconds) from None
        timer.cancel()
        if late and sys.version_info >= (3, 11):
            task.uncancel()
        if late or time.monotonic() - begun > seconds:
            # It was cancelled, and returned all the same; or it held up the loop, and nobody could cancel it.
            raise NodeTimeoutError(name, seconds)
        return value

    return run


__all__ = ["delay", "governed", "governed_coroutine"]
