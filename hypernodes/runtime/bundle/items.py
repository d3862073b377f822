"""The code of a straight body and the rows of a map in, columns of results out: the loop that runs items one by one.

One set of slots serves all items. The loop over items is the hottest of the package after the interpreter's, so it is
specialised as that is: a single axis needs no row, and a body that is one chain of calls no slots until one fails.
"""

from __future__ import annotations

from itertools import islice
from operator import itemgetter
from types import CoroutineType
from typing import Any, Callable, Iterator, List, Optional, Sequence, Tuple

from hypernodes.lowering.plan import MapStep
from hypernodes.runtime.bundle.interpreter import UNARY, Code, Slots, StepFailed, execute, settled
from hypernodes.runtime.bundle.maps import frame_slots, map_columns, rows_of

BLOCK = 4096
"""Items whose results are gathered end to end before they are dealt out to their columns: enough to make that cheap,
few enough to take no memory beside the columns themselves."""

Add = Callable[[Any], None]
Pick = Callable[[Slots], Any]


def loop_over(
    step: MapStep, code: Code, fill: Callable[[Slots, Tuple[Any, ...], int], None]
) -> Callable[[Slots], None]:
    """Return an instruction that runs `code` for each item of a map in turn, its slots filled by `fill`."""
    outputs = step.body.outputs
    width = len(outputs)
    pick: Pick = itemgetter(*outputs) if outputs else _nothing
    single = step.axes[0].body_slot if len(step.axes) == 1 and not step.spreads else None
    chained = _chain(code, single, outputs)

    def run(slots: Slots) -> None:
        given, total = map_columns(step, slots)
        own = frame_slots(step, slots)
        columns: List[List[Any]] = [[] for _ in outputs]
        flat: List[Any] = []
        add: Add = flat.append if width == 1 else flat.extend
        values: Iterator[Any] = rows_of(step.mode, given) if single is None else iter(given[0])
        for start in range(0, total, BLOCK):
            block = islice(values, BLOCK)
            try:
                if single is None:
                    for index, row in enumerate(block, start):
                        fill(own, row, index)
                        execute(code, own)
                        add(pick(own))
                elif chained is not None:
                    _run_chain(chained, block, own, flat.append)
                else:
                    for own[single] in block:
                        for shape, steps in code:
                            shape(steps, own)
                        add(pick(own))
            except StepFailed as failed:
                failed.trail.append((step, start + len(flat) // max(1, width), own))
                raise
            deal(flat, columns)
        for result, column in zip(step.results, columns):
            slots[result] = column
        for slot in step.frees:
            slots[slot] = None

    return run


def _chain(code: Code, item: Optional[int], outputs: Sequence[int]) -> Optional[List[Tuple[Any, bool, int, int]]]:
    """Return calls, each of what the one before it returned, with whether that is an output; None for another body."""
    links: List[Tuple[Any, bool, int, int]] = []
    last = item
    for shape, table in code:
        if shape not in UNARY:
            return None
        for fn, a, out in table:
            if a != last:
                return None
            links.append((fn, out in outputs, a, out))
            last = out
    # Results are gathered in the order in which they are made.
    made = tuple([out for _, asked, _, out in links if asked])
    return links if outputs and made == tuple(outputs) else None


def _run_chain(links: List[Tuple[Any, bool, int, int]], values: Iterator[Any], own: Slots, add: Add) -> None:
    out = 0
    calls = [(fn, asked, out) for fn, asked, _, out in links]
    value: Any = None
    try:
        for value in values:
            for fn, asked, out in calls:  # noqa: B007  out is read where a call raises
                made = fn(value)
                value = settled(own, made) if type(made) is CoroutineType else made
                if asked:
                    add(value)
    except BaseException as error:
        own[next((a for _, _, a, last in links if last == out), 0)] = value
        raise StepFailed(out, error) from None


def _nothing(slots: Slots) -> Sequence[Any]:
    return ()


def deal(flat: List[Any], columns: Sequence[List[Any]]) -> None:
    """Move rows of results, laid end to end in `flat`, into their columns."""
    width = len(columns)
    for number, column in enumerate(columns):
        column += flat[number::width]
    flat.clear()
