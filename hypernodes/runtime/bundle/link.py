"""Steps of a plan in, code for the interpreter out: each step becomes an instruction specialised to its shape.

What is around a step (`layers`) or its call (retries, a timeout) is applied here, once, when the plan is linked; a plan
that nobody listens to is linked without, and runs as if there were no such thing. ::

    Step ──shape──▶ (fn, slots…) rows ──neighbours of one shape──▶ segments
         ──layers─▶ closure over the slots                           (interpreter.general)
"""

from __future__ import annotations

from operator import itemgetter
from types import CoroutineType
from typing import Any, Callable, List, Optional, Sequence, Tuple

from hypernodes.errors import OutputCountError
from hypernodes.lowering.plan import Hosted, MapStep, PlanStep, Step
from hypernodes.lowering.readers import returns_data
from hypernodes.runtime.bundle import interpreter
from hypernodes.runtime.bundle.awaiting import finished
from hypernodes.runtime.bundle.collect import Salvage, collecting
from hypernodes.runtime.bundle.interpreter import Code, Shape, Slots, Stopped, settled
from hypernodes.runtime.bundle.items import loop_over
from hypernodes.runtime.bundle.layers import Layers
from hypernodes.runtime.bundle.maps import Fill, row_filler
from hypernodes.runtime.bundle.observe import Awaited, Instruction
from hypernodes.runtime.bundle.once import listing
from hypernodes.runtime.bundle.policies import governed, governed_coroutine


def link(steps: Sequence[PlanStep], layers: Optional[Layers] = None, reads: Sequence[int] = ()) -> Code:
    """Return the code of steps that run one after another in this thread, and between them read the slots `reads`.

    A coroutine function is awaited by ``slots[0].wait_for``, a hosted frame run by ``slots[0].host``: the driver
    provides both.
    """
    code = _segments(steps, layers)
    if layers is None or not layers.collects:
        return code
    return ((collecting, ((code, Salvage(steps, reads, lambda step: _alone(step, layers))),)),)


def _alone(step: PlanStep, layers: Layers) -> Instruction:
    """Return a step as an instruction of its own."""
    shape, row = _row(step, layers)
    return row[0] if shape is interpreter.general else layers.plain(step, _instruction(step))  # type: ignore[arg-type]


def _segments(steps: Sequence[PlanStep], layers: Optional[Layers]) -> Code:
    segments: List[Tuple[Shape, List[Tuple[Any, ...]]]] = []
    for step in steps:
        shape, row = _row(step, layers)
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


def link_coroutine(step: Step, layers: Optional[Layers] = None) -> Awaited:
    """Return a coroutine function that runs one coroutine step on the event loop."""
    call, store, frees = _coroutine_call(step), _store(step), step.frees

    async def run(slots: Slots) -> None:
        if slots[0].stopped:
            raise Stopped
        value = await call(slots)
        store(slots, await finished(value) if type(value) is CoroutineType else value)
        for slot in frees:
            slots[slot] = None

    return layers.coroutine(step, run) if layers else run


def link_filler(step: MapStep, layers: Optional[Layers] = None) -> Fill:
    """Return what fills the slots of each item of a map."""
    fill = row_filler(step)
    return layers.filler(step, fill) if layers else fill


def _row(step: PlanStep, layers: Optional[Layers]) -> Tuple[Shape, Tuple[Any, ...]]:
    out = step.results[0] if step.results else 0
    if isinstance(step, MapStep):
        bundles = step.body.bundles
        reads = tuple([slot for bundle in bundles for slot in bundle.imports])
        code = link([inner for bundle in bundles for inner in bundle.steps], layers, reads)
        return interpreter.general, (loop_over(step, code, link_filler(step, layers), layers), out)
    if isinstance(step, Hosted):
        return interpreter.general, (_hosted(step), out)
    told = layers is not None and (layers.nodes or step.runs_plan)
    if not told and not step.is_coroutine and not step.unpack and not step.policy.governs_calls:
        slots = [argument.slot for argument in step.arguments]
        if not any(argument.keyword for argument in step.arguments):
            if not step.frees and len(slots) <= 2:
                return _PLAIN[len(slots)], (listing(step), *slots, out)
            if len(slots) in (1, 2) and set(step.frees) <= set(slots):
                last = () if len(slots) == 1 else (step.frees[0], step.frees[-1])
                return _LAST[len(slots)], (listing(step), *slots, out, *last)
    run = _instruction(step)
    return interpreter.general, (layers.plain(step, run) if layers else run, out)


_PLAIN = (interpreter.nullary, interpreter.unary, interpreter.binary)
_LAST = {1: interpreter.unary_last, 2: interpreter.binary_last}


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
