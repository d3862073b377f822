"""Options of `@node` as they were written in, a checked Policy out."""

from __future__ import annotations

import math
from typing import Callable, NoReturn, Optional, Tuple

from hypernodes.errors import NodeDefinitionError, did_you_mean
from hypernodes.ir.graph import DEFAULT_POLICY, PLACEMENTS, Policy


def policy(
    node: str,
    is_coroutine: bool,
    cache: Optional[bool],
    retries: object,
    retry_on: object,
    backoff: object,
    jitter: object,
    timeout: object,
    placement: object,
) -> Policy:
    """Return the policy of a node called `node`.

    Raises
    ------
    NodeDefinitionError
        For the first option that makes no sense.
    """
    unasked = cache is None and retry_on is Exception and timeout is None and placement is None
    if (
        unasked
        and type(retries) is int
        and type(backoff) is type(jitter) is float
        and not (retries or backoff or jitter)
    ):
        # Most nodes; looking at each option would cost as much as all the rest of a node.
        return DEFAULT_POLICY
    if isinstance(retries, bool) or not isinstance(retries, int) or retries < 0:
        _refuse(node, "retries", retries, "pass a whole number, 0 for none")
    classes = _classes(node, retry_on)
    checked = Policy(
        cache,
        retries,
        classes,
        _seconds(node, "backoff", backoff),
        _seconds(node, "jitter", jitter),
        None if timeout is None else _seconds(node, "timeout", timeout, lambda seconds: seconds > 0),
        _placement(node, is_coroutine, placement),
    )
    if not retries and (checked.backoff or checked.jitter or classes != DEFAULT_POLICY.retry_on):
        given = "retry_on" if classes != DEFAULT_POLICY.retry_on else "backoff" if checked.backoff else "jitter"
        raise NodeDefinitionError(node, f"has {given} and no retries, so it would do nothing", "pass retries=1 or more")
    return DEFAULT_POLICY if checked == DEFAULT_POLICY else checked


def _classes(node: str, given: object) -> Tuple[type, ...]:
    classes = tuple(given) if isinstance(given, (tuple, list, set, frozenset)) else (given,)
    if not classes:
        raise NodeDefinitionError(
            node, "has retry_on=(), so no failure would be tried again", "pass exception classes, or leave out both"
        )
    for cls in classes:
        if not isinstance(cls, type) or not issubclass(cls, Exception):
            _refuse(node, "retry_on", given, "pass exception classes: retry_on=(TimeoutError, ConnectionError)")
    return classes


def _seconds(
    node: str, option: str, given: object, fits: Callable[[float], bool] = lambda seconds: seconds >= 0
) -> float:
    number = isinstance(given, (int, float)) and not isinstance(given, bool)
    if not number or not math.isfinite(given) or not fits(given):  # type: ignore[arg-type]
        _refuse(node, option, given, "pass a number of seconds")
    return float(given)  # type: ignore[arg-type]


def _placement(node: str, is_coroutine: bool, given: object) -> Optional[str]:
    if given is None:
        return None
    if given not in PLACEMENTS:
        hint = did_you_mean(given, PLACEMENTS) if isinstance(given, str) else ""
        _refuse(node, "placement", given, f"use one of {', '.join(map(repr, PLACEMENTS))}{hint}")
    if given == "loop" and not is_coroutine:
        raise NodeDefinitionError(
            node,
            "has placement='loop' and is a plain function, which would stop everything else on the event loop",
            "write it with async def, or use placement='thread'",
        )
    return str(given)


def _refuse(node: str, option: str, given: object, fix: str) -> NoReturn:
    raise NodeDefinitionError(node, f"has {option}={given!r}, which means nothing", fix)
