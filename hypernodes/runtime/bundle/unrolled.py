"""The shape of a chain of calls in, a loop over items that makes them out: as source, compiled once for each shape.

A loop over the calls of a chain, within that over its items, costs as much as a small function. Written out, as one
would by hand, it costs a third of that. Which call has failed is read off the line that raised. ::

    for value in values:
        made = f0(value)
        if type(made) is Coroutine: made = settled(own, made)
        add(made)
        value = f1(made)
        ...
"""

from __future__ import annotations

import linecache
from functools import lru_cache
from types import CoroutineType
from typing import Any, Callable, Dict, Iterable, List, NamedTuple, Sequence, Tuple

from hypernodes.runtime.bundle.interpreter import Slots, StepFailed, Stopped, settled

LONGEST = 16
"""Calls in a chain that is written out: to compile one takes 20 µs, and in long ones a loop costs little."""

Add = Callable[[Any], None]
Loop = Callable[..., None]

_LINES = 4  # for each call
_FIRST = 5  # line of the first call


class Link(NamedTuple):
    """One call of a chain: of slot `a`, into slot `out`, which may be `asked` for.

    It is `of_data` when its function certainly returns no coroutine.
    """

    fn: Callable[[Any], Any]
    asked: bool
    of_data: bool
    a: int
    out: int


def run_chain(links: Sequence[Link], values: Iterable[Any], own: Slots, add: Add) -> None:
    """Make the calls of a chain for each value, and hand on what is asked for, item by item.

    Raises
    ------
    StepFailed
        With the argument of the call that failed in its slot.
    """
    run = own[0]
    loop = _loop(tuple([(link.asked, link.of_data) for link in links]), run.apart)

    def failed(error: BaseException, value: Any, made: Any) -> StepFailed:
        line = error.__traceback__.tb_lineno if error.__traceback__ is not None else 0
        number = min(len(links) - 1, max(0, line - _FIRST) // _LINES)
        own[links[number].a] = made if number % 2 else value
        return StepFailed(links[number].out, error)

    loop(values, own, run, add, failed, *[link.fn for link in links])


@lru_cache(maxsize=256)
def _loop(shape: Tuple[Tuple[bool, bool], ...], apart: bool) -> Loop:
    """Return the loop over a chain with calls that are asked for and of data; one that is `apart` may be stopped."""
    body: List[str] = []
    before, after = "value", "made"
    for number, (asked, of_data) in enumerate(shape):
        body += [
            "            if run.stopped: raise Stopped" if apart else "",
            f"            {after} = f{number}({before})",
            "" if of_data else f"            if kind({after}) is coroutine: {after} = settled(own, {after})",
            f"            add({after})" if asked else "",
        ]
        before, after = after, before
    functions = ", ".join([f"f{number}" for number in range(len(shape))])
    lines = [
        f"def loop(values, own, run, add, failed, {functions}):",
        "    value = made = None; kind = type; coroutine = Coroutine",
        "    try:",
        "        for value in values:",
        *body,
        "    except BaseException as error:",
        "        raise failed(error, value, made) from None",
    ]
    source = "\n".join(lines) + "\n"
    name = f"<hypernodes: a chain of {len(shape)} calls, kind {_loop.cache_info().misses}>"
    names: Dict[str, Any] = {"__name__": __name__, "Coroutine": CoroutineType, "Stopped": Stopped, "settled": settled}
    exec(compile(source, name, "exec"), names)
    linecache.cache[name] = len(source), None, source.splitlines(True), name
    loop: Loop = names["loop"]
    return loop
