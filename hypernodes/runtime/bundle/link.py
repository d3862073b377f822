"""Steps of a plan in, code for the interpreter out: each step becomes an instruction specialised to its shape.

What wraps a step (a listener) or its call (retries, a timeout) is applied here, once, when the plan is linked; a plan
that nobody listens to is linked without, and runs as if wrapping did not exist. ::

    Step ──shape──▶ (fn, slots…) rows ──neighbours of one shape──▶ segments
         ──wrap───▶ closure over the slots                           (interpreter.general)
"""

from __future__ import annotations

from operator import itemgetter
from types import CoroutineType
from typing import Any, Awaitable, Callable, List, Optional, Protocol, Sequence, Tuple

from hypernodes.errors import OutputCountError
from hypernodes.lowering.plan import Hosted, MapStep, PlanStep, Step
from hypernodes.lowering.readers import returns_data
from hypernodes.runtime.bundle import interpreter
from hypernodes.runtime.bundle.awaiting import finished
from hypernodes.runtime.bundle.interpreter import Code, Shape, Slots, settled
from hypernodes.runtime.bundle.items import loop_over
from hypernodes.runtime.bundle.maps import row_filler
from hypernodes.runtime.bundle.once import listing
from hypernodes.runtime.bundle.policies import governed, governed_coroutine

Instruction = Callable[[Slots], Any]
Awaited = Callable[[Slots], Awaitable[None]]
Fill = Callable[[Slots, Tuple[Any, ...], int], None]
"""Puts the row of an item, and what follows from its index, into the slots of its frame."""


class Wrap(Protocol):
    """Takes a step and what runs it, returns what to run instead."""

    def plain(self, step: PlanStep, run: Instruction) -> Instruction: ...

    def coroutine(self, step: Step, run: Awaited) -> Awaited: ...

    def loop(self, step: MapStep, code: Code, fill: Fill) -> Instruction: ...

    def filler(self, step: MapStep, fill: Fill) -> Fill: ...


def link(steps: Sequence[PlanStep], wrap: Optional[Wrap] = None) -> Code:
    """Return the code of steps that run one after another in this thread.

    A coroutine function is awaited by ``slots[0].wait_for``, a hosted frame run by ``slots[0].host``: the driver
    provides both.
    """
    segments: List[Tuple[Shape, List[Tuple[Any, ...]]]] = []
    for step in steps:
        shape, row = _row(step, wrap)
        if segments and segments[-1][0] is shape:
            segments[-1][1].append(row)
        else:
            segments.append((shape, [row]))
    return tuple([(_sharper(shape, rows), tuple(rows)) for shape, rows in segments])


def _sharper(shape: Shape, rows: Sequence[Tuple[Any, ...]]) -> Shape:
    if len(rows) == 1:
        return shape
    if shape is interpreter.unary and all(after[1] == before[2] for before, after in zip(rows, rows[1:])):
        shape = interpreter.chain
    sharper = interpreter.OF_DATA.get(shape)
    return sharper if sharper and all(returns_data(row[0]) for row in rows) else shape


def link_coroutine(step: Step, wrap: Optional[Wrap] = None) -> Awaited:
    """Return a coroutine function that runs one coroutine step on the event loop."""
    call, store, frees = _coroutine_call(step), _store(step), step.frees

    async def run(slots: Slots) -> None:
        value = await call(slots)
        store(slots, await finished(value) if type(value) is CoroutineType else value)
        for slot in frees:
            slots[slot] = None

    return wrap.coroutine(step, run) if wrap else run


def link_filler(step: MapStep, wrap: Optional[Wrap] = None) -> Fill:
    """Return what fills the slots of each item of a map."""
    fill = row_filler(step)
    return wrap.filler(step, fill) if wrap else fill


def _row(step: PlanStep, wrap: Optional[Wrap]) -> Tuple[Shape, Tuple[Any, ...]]:
    out = step.results[0] if step.results else 0
    if isinstance(step, MapStep):
        code = link([inner for bundle in step.body.bundles for inner in bundle.steps], wrap)
        fill = link_filler(step, wrap)
        return interpreter.general, (wrap.loop(step, code, fill) if wrap else loop_over(step, code, fill), out)
    if isinstance(step, Hosted):
        return interpreter.general, (_hosted(step), out)
    if wrap is None and not step.is_coroutine and not step.unpack and not step.policy.governs_calls:
        slots = [argument.slot for argument in step.arguments]
        if not any(argument.keyword for argument in step.arguments):
            if not step.frees and len(slots) <= 2:
                return _PLAIN[len(slots)], (listing(step), *slots, out)
            if len(slots) == 1 and step.frees == (slots[0],):
                return interpreter.unary_last, (listing(step), slots[0], out)
        run = _instruction(step)
    else:
        run = _instruction(step)
    return interpreter.general, (wrap.plain(step, run) if wrap else run, out)


_PLAIN = (interpreter.nullary, interpreter.unary, interpreter.binary)


def _instruction(step: Step) -> Instruction:
    """Return a closure that calls the step's function, stores what it returns, and frees what is read no more."""
    store, frees = _store(step), step.frees
    if step.is_coroutine:
        begin = _coroutine_call(step)

        def run(slots: Slots) -> None:
            store(slots, settled(slots, slots[0].wait_for(begin(slots))))
            for slot in frees:
                slots[slot] = None

    else:
        call = governed(step, _settled_call(step)) if step.policy.governs_calls else _settled_call(step)

        def run(slots: Slots) -> None:
            store(slots, call(slots))
            for slot in frees:
                slots[slot] = None

    return run


def _hosted(step: Hosted) -> Instruction:
    plan = step.plan
    return lambda slots: slots[0].host(plan, slots)


def _settled_call(step: Step) -> Instruction:
    call = _call(step)

    def run(slots: Slots) -> Any:
        value = call(slots)
        return settled(slots, value) if type(value) is CoroutineType else value

    return run


def _coroutine_call(step: Step) -> Instruction:
    call = _call(step)
    if not step.policy.governs_calls:
        return call

    async def run(slots: Slots) -> Any:
        return await finished(await call(slots))

    return governed_coroutine(step, run)


def _call(step: Step) -> Instruction:
    fn = listing(step)
    positional = [argument.slot for argument in step.arguments if not argument.keyword]
    keywords = [(argument.parameter, argument.slot) for argument in step.arguments if argument.keyword]
    if keywords:
        names = [name for name, _ in keywords]
        sources = [slot for _, slot in keywords]
        return lambda slots: fn(*[slots[i] for i in positional], **{n: slots[i] for n, i in zip(names, sources)})
    if not positional:
        return lambda slots: fn()
    if len(positional) == 1:
        only = positional[0]
        return lambda slots: fn(slots[only])
    pick = itemgetter(*positional)
    return lambda slots: fn(*pick(slots))


def _store(step: Step) -> Callable[[Slots, Any], None]:
    results = step.results
    if not step.unpack:
        out = results[0]

        def store(slots: Slots, value: Any) -> None:
            slots[out] = value

        return store
    count = len(results)

    def unpack(slots: Slots, value: Any) -> None:
        if not isinstance(value, (tuple, list)) or len(value) != count:
            given = f"{type(value).__name__} of {len(value)}" if hasattr(value, "__len__") else type(value).__name__
            raise OutputCountError(step.name, step.outputs, given)
        for slot, element in zip(results, value):
            slots[slot] = element

    return unpack
