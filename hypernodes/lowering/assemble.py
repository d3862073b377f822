"""A pruned graph and its groups in, a Plan out: slots numbered, bundles linked, waves and ranks counted, slots freed.

Every walk here is linear in operations and their uses.
"""

from __future__ import annotations

from typing import AbstractSet, Callable, Dict, List, Sequence, Set, Tuple

from hypernodes.ir.graph import DISCARD, Call, Graph, Isolated, MapOver
from hypernodes.lowering.defaults import spread_name
from hypernodes.lowering.fuse import Group
from hypernodes.lowering.last_use import Freed, last_uses
from hypernodes.lowering.plan import Argument, Axis, Bundle, MapStep, Options, Plan, PlanStep, Slot, SpreadInput, Step
from hypernodes.lowering.readers import NOBODY, cells_read_again, mapped_over, may_make_stream, read_again
from hypernodes.lowering.waves import Flow, flow
from hypernodes.lowering.widths import Width

Body = Tuple[Plan, Width]
LowerBody = Callable[[MapOver, AbstractSet[str]], Body]


def assemble(
    graph: Graph,
    options: Options,
    depth: int,
    groups: Sequence[Group],
    ordered: bool,
    body: LowerBody,
    outside: AbstractSet[str] = NOBODY,
) -> Plan:
    """Return the plan of one frame.

    Parameters
    ----------
    graph : Graph
        Pruned, without Invokes; its inputs are all provided.
    groups : sequence of Group
        Every operation in exactly one group, groups in a topological order.
    ordered : bool
        Whether each bundle also waits for the one before it.
    body : callable
        Lowers the body of a MapOver, given which of its outputs have several readers; returns its plan and the width
        of the map.
    outside : set of str
        Outputs that have several readers.
    """
    operations = graph.operations
    slot_of: Dict[str, int] = {}
    names: List[Tuple[str, object]] = [("", None)]
    for entry in graph.inputs:
        slot_of[entry.value.name] = len(names)
        names.append((entry.value.name, entry.value.type))
    inputs = tuple(range(1, len(names)))
    reads: List[List[int]] = []
    results: List[Tuple[int, ...]] = []
    for operation in operations:
        reads.append([slot_of[use.value.name] for use in operation.uses])
        own = []
        for value in operation.results:
            own.append(len(names))
            if value.name != DISCARD:
                slot_of[value.name] = len(names)
            names.append((value.name, value.type))
        results.append(tuple(own))
    outputs = tuple([slot_of[value.name] for value in graph.outputs])

    again = read_again(graph, outside)
    bodies = {
        index: body(op, cells_read_again(op, again)) for index, op in enumerate(operations) if isinstance(op, MapOver)
    }
    shared = {slot_of[name] for name in again}
    listed = shared.union([slot_of[name] for name in mapped_over(graph)])
    weights = [1 + bodies[index][0].critical_path if index in bodies else 1 for index in range(len(operations))]
    links = flow(groups, reads, results, weights, ordered)
    freed = last_uses(groups, reads, results, set(outputs), len(inputs), ordered)

    bundles: List[Bundle] = []
    asked = set(outputs)
    for number, group in enumerate(groups):
        steps: List[PlanStep] = []
        for index in group.members:
            operation = operations[index]
            frees = freed.by_step.get(index, ())
            if isinstance(operation, Call):
                steps.append(_step(operation, reads[index], results[index], frees, listed))
            else:
                assert isinstance(operation, MapOver)
                steps.append(_map_step(operation, reads[index], results[index], frees, *bodies[index]))
        bundles.append(_bundle(number, group, steps, reads, results, links, freed, outputs, asked))
    slots = tuple([Slot(name, tp, freed.by_bundle.get(index)) for index, (name, tp) in enumerate(names)])
    inputs_again = tuple([slot for slot in inputs if slot in shared])
    return Plan(graph.name, options, depth, slots, inputs, tuple(bundles), links.waves, outputs, inputs_again)


def _bundle(
    number: int,
    group: Group,
    steps: List[PlanStep],
    reads: Sequence[Sequence[int]],
    results: Sequence[Tuple[int, ...]],
    links: Flow,
    freed: Freed,
    outputs: Sequence[int],
    asked: Set[int],
) -> Bundle:
    if len(group.members) == 1:
        index = group.members[0]
        local: Sequence[int] = results[index]
        imports = tuple(dict.fromkeys(reads[index]))
    else:
        local = [slot for index in group.members for slot in results[index]]
        inside = set(local)
        imports = tuple(dict.fromkeys([slot for index in group.members for slot in reads[index] if slot not in inside]))
    exports = tuple([slot for slot in local if slot in asked or slot in freed.crossing])
    if len(links.waits) == 1:
        # A frame of one bundle may be an item of a chunk, whose results are dealt out in the order of its outputs.
        here = set(exports)
        exports = tuple([slot for slot in outputs if slot in here])
    return Bundle(
        number,
        tuple(steps),
        group.placement,
        group.reason,
        imports,
        exports,
        links.waits[number],
        tuple(links.releases[number]),
        links.ranks[number],
        links.levels[number],
        tuple(freed.by_end.get(number, ())),
        tuple(freed.shared.get(number, ())),
    )


def _step(
    call: Call, reads: List[int], results: Tuple[int, ...], frees: Tuple[int, ...], again: AbstractSet[int]
) -> Step:
    shared: Tuple[int, ...] = ()
    if not again.isdisjoint(results) and may_make_stream(call):
        shared = tuple([slot for slot in results if slot in again])
    return Step(
        call.name,
        call.fn,
        tuple([Argument(use.parameter, slot, use.keyword) for use, slot in zip(call.uses, reads)]),
        results,
        tuple([value.name for value in call.results]),
        call.unpack,
        call.is_coroutine,
        call.policy,
        call.scope,
        frees,
        shared,
        type(call) is Isolated,
    )


def _map_step(
    operation: MapOver, reads: List[int], results: Tuple[int, ...], frees: Tuple[int, ...], body: Plan, width: Width
) -> MapStep:
    inner = {body.slots[slot].name: slot for slot in body.inputs}
    source = {use.parameter: slot for use, slot in zip(operation.uses, reads)}
    axes = tuple([Axis(name, source[name], inner.get(name, 0)) for name in operation.axes])
    spread: Tuple[SpreadInput, ...] = ()
    if operation.spread:
        entries = [(entry.value.name, entry.default) for entry in operation.graph.inputs]
        spread = tuple([SpreadInput(spread_name(name), inner[name], default) for name, default in entries])
    shared = tuple([(inner[name], slot) for name, slot in source.items() if name not in operation.axes])
    return MapStep(
        operation.name,
        body,
        axes,
        shared,
        results,
        tuple([value.name for value in operation.results]),
        operation.mode,
        width,
        spread,
        operation.scope,
        frees,
        operation.around,
    )
