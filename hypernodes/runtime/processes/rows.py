"""The code of a straight body and the rows of a request in, results laid end to end out: a worker's loop over items.

Each row runs in a context of its own. No row is begun after the request's time is up, so what was slower than expected
goes back to the parent. A body that nobody listens to fills one set of slots again and again; a body of one call needs
none.
"""

from __future__ import annotations

import contextvars
import time
from types import CoroutineType
from typing import Any, Callable, Iterable, Iterator, List, Optional, Sequence, Tuple

from hypernodes.lowering.plan import Program
from hypernodes.runtime.bundle.interpreter import Code, Slots, StepFailed, execute, settled, unary, unary_last
from hypernodes.runtime.bundle.locate import located
from hypernodes.runtime.bundle.maps import blank
from hypernodes.runtime.processes.wire import Place


def in_turn(slots: Slots, targets: Sequence[int], rows: Iterable[Sequence[Any]], until: float) -> Iterator[Slots]:
    """Fill the same slots for one row after another, as the loop over the items of a map does, until the time is up."""
    clock = time.perf_counter
    if len(targets) == 1:
        (only,) = targets
        for (slots[only],) in rows:
            yield slots
            if clock() > until:
                return
    else:
        for row in rows:
            for slot, value in zip(targets, row):
                slots[slot] = value
            yield slots
            if clock() > until:
                return


def observed(
    template: Slots, targets: Sequence[int], rows: Iterable[Sequence[Any]], until: float, layers: Any, first: int
) -> Iterator[Slots]:
    """Fill slots of its own for each row, and tell, where somebody listens, when items start and end."""
    for number, row in enumerate(rows, first):
        slots = template.copy()
        for slot, value in zip(targets, row):
            slots[slot] = value
        if layers is not None:
            layers.item_started(slots, number)
        yield slots
        if layers is not None:
            layers.item_ended(slots)
        if time.perf_counter() > until:
            return


def execute_frames(
    program: Program,
    code: Code,
    frames: Iterator[Slots],
    context: Callable[[], contextvars.Context],
    place: Place,
    results: List[Any],
) -> Tuple[int, Optional[BaseException]]:
    """Run code in one frame after another, each in a context of its own; return how many ended, and what one raised."""
    exports = program.exports
    completed = 0
    slots: Slots = []
    # `execute` would only go on to the one segment that most bodies have.
    shape: Any
    table: Any
    shape, table = code[0] if len(code) == 1 else (execute, code)
    try:
        if len(exports) == 1:
            (only,) = exports
            for slots in frames:
                context().run(shape, table, slots)
                results.append(slots[only])
                completed += 1
        else:
            for slots in frames:
                context().run(shape, table, slots)
                results.extend([slots[slot] for slot in exports])
                completed += 1
    except BaseException as error:
        return completed, _located(error, program, slots, place, completed)
    return completed, None


def execute_call(
    program: Program,
    call: Tuple[Any, int, int],
    values: Iterable[Any],
    until: float,
    context: Callable[[], contextvars.Context],
    place: Place,
    results: List[Any],
    services: Any,
) -> Tuple[int, Optional[BaseException]]:
    """Do what `execute_frames` does for code that is one call of one value: no slots are needed until it fails."""
    fn, slot, out = call
    value: Any = None
    add, clock = results.append, time.perf_counter
    try:
        for value in values:
            own = context()
            result = own.run(fn, value)
            add(own.run(settled, [services], result) if type(result) is CoroutineType else result)
            if clock() > until:
                break
    except BaseException as error:
        slots = blank(program.size)
        slots[slot] = value
        return len(results), _located(StepFailed(out, error), program, slots, place, len(results))
    return len(results), None


def only_call(code: Code, imports: Sequence[int], exports: Sequence[int]) -> Optional[Tuple[Any, int, int]]:
    """Return the call that code consists of, when it takes the one import and makes the one export."""
    if len(code) == 1 and code[0][0] in (unary, unary_last) and len(code[0][1]) == 1:
        fn, slot, out = code[0][1][0]
        if (slot,) == tuple(imports) and (out,) == tuple(exports):
            return fn, slot, out
    return None


def _located(error: BaseException, program: Program, slots: Slots, place: Place, completed: int) -> BaseException:
    # Returned, not raised: raised again it would lose what it was raised from.
    return located(error, program.steps, slots, place.location(completed))
