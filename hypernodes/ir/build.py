"""Declared operations in, a verified Graph out: names become values, operations get an order, types are checked.

A declared operation reads placeholder values that carry only names. `link` finds who defines each name, makes an input
of every name that nobody defines, and puts the operations in def-before-use order: the given order where that is one
already, the order of `graphlib` otherwise.
"""

from __future__ import annotations

from graphlib import CycleError as GraphlibCycle
from graphlib import TopologicalSorter
from typing import Dict, Iterable, List, Mapping, Sequence, Tuple

from hypernodes.errors import CycleError, DuplicateOutputError, PipelineDefinitionError, TypeMismatchError
from hypernodes.ir.graph import GIVEN, REQUIRED, Call, Graph, Input, Invoke, MapOver, Operation, Use, Value
from hypernodes.ir.inputs import Inputs, check_readers
from hypernodes.ir.joining import joined
from hypernodes.ir.types import UNKNOWN, clash, fits, holds_items, iterable_of, list_of, show, unmappable
from hypernodes.ir.verify import verify
from hypernodes.records import evolve


def link(name: str, declared: Sequence[Operation], type_check: object = True) -> Graph:
    """Wire declared operations into one graph, in time linear in their number.

    Parameters
    ----------
    name : str
        The pipeline's name, for messages and dumps.
    declared : sequence of Call, Invoke or MapOver
        Their uses hold placeholder values: the name is what counts, the type is what the parameter wants.
    type_check : bool or "strict"
        True refuses types that clash, ``"strict"`` also wider-to-narrower, False nothing.

    Raises
    ------
    PipelineDefinitionError, DuplicateOutputError, CycleError, TypeMismatchError
    """
    if not declared:
        raise PipelineDefinitionError(name, "it has no nodes", "pass at least one node: Pipeline(nodes=[...])")
    defined = _definitions(name, declared)
    ordered = _in_order(name, declared, defined)
    inputs = Inputs()
    operations: List[Operation] = []
    for operation in ordered:
        axes = operation.axes if type(operation) is MapOver else ()
        uses = []
        for use in operation.uses:
            entry = defined.get(use.value.name)
            value = inputs.read(use, use.parameter in axes) if entry is None else entry[1]
            uses.append(Use(use.parameter, value, use.wanted, use.optional, use.keyword, use.positional, use.default))
        operations.append(_with_uses(operation, tuple(uses)))
    if inputs.differing:
        if type_check:
            check_readers(name, operations, inputs.differing)
        inputs.narrow()
        operations = [_reading(operation, inputs) for operation in operations]
    if type_check:
        _check_types(name, operations, {key: entry[0].name for key, entry in defined.items()}, type_check == "strict")
    outputs = tuple(value for operation in declared for value in operation.results)
    return verify(Graph(name, tuple(inputs.found.values()), tuple(operations), outputs))


def mapped(
    graph: Graph,
    axes: Sequence[str],
    mode: str,
    owner: object = None,
    overrides: Sequence[str] = (),
    fed: bool = False,
    returned: Sequence[str] = (),
) -> Graph:
    """Return the graph with one MapOver around `graph`: what ``pipeline.map`` runs and, `fed`, ``pipeline.stream``.

    Its inputs are those of `graph`, the axes among them iterables; its outputs are lists of what `graph` returns.
    An axis may also name an output of `graph`, which each item then overrides; an output in `overrides` gets one value
    for all items. Of these, what is in `returned` is an output as well: its input is called `GIVEN` and the name.
    """
    known = {entry.value.name: entry for entry in graph.inputs}
    produced = {value.name: value for value in graph.outputs}
    inputs: List[Input] = []
    uses: List[Use] = []
    extra = [name for name in (*axes, *overrides) if name not in known]
    for name in (*known, *dict.fromkeys(extra)):
        entry = known.get(name) or Input(produced[name])
        tp = iterable_of(entry.value.type) if name in axes else entry.value.type
        value = Value(GIVEN + name if name in returned else name, tp)
        inputs.append(Input(value) if name in axes else Input(value, entry.default))
        uses.append(Use(name, value, tp, inputs[-1].optional, default=inputs[-1].default))
    results = tuple(
        [Value(v.name, list_of(v.type)) for v in graph.outputs if v.name not in extra or v.name in returned]
    )
    yields = tuple(value.name for value in results)
    operation = MapOver(
        graph.name, graph, tuple(uses), results, yields, tuple(axes), mode, False, owner, fed=fed, around=True
    )
    return verify(Graph(graph.name, tuple(inputs), (operation,), results))


def declare_nested(
    graph: Graph,
    name: str,
    outer_of: Mapping[str, str],
    output_mapping: Mapping[str, str],
    axes: Tuple[str, ...],
    mode: str,
    owner: object,
    checked: bool = True,
) -> Operation:
    """Declare `graph` as one operation of an outer graph.

    `outer_of` has the outer name of each input, `output_mapping` that of each output. `axes` are outer names. A single
    axis that leads to no inner input is spread: its items are mappings.
    """
    lift = list_of if axes else _same
    results = tuple(Value(output_mapping[value.name], lift(value.type)) for value in graph.outputs)
    yields = graph.output_names
    if len(axes) == 1 and axes[0] not in outer_of.values():
        uses: Tuple[Use, ...] = (Use(axes[0], Value(axes[0])),)
        return MapOver(name, graph, uses, results, yields, axes, mode, True, owner)
    graph = joined(graph, outer_of, checked)
    inner_of = {outer_of[inner]: inner for inner in graph.input_names}
    uses = tuple(_use_of_input(entry, outer_of[entry.value.name]) for entry in graph.inputs)
    if not axes:
        return Invoke(name, graph, uses, results, yields, owner)
    inner_axes = tuple(inner_of[axis] for axis in axes)
    uses = tuple(evolve(use, optional=False, default=REQUIRED) if use.parameter in inner_axes else use for use in uses)
    return MapOver(name, graph, uses, results, yields, inner_axes, mode, False, owner)


def _same(tp: object) -> object:
    return tp


def _use_of_input(entry: Input, outer: str) -> Use:
    inner = entry.value
    return Use(inner.name, Value(outer), inner.type, entry.optional, False, False, entry.default)


def _with_uses(operation: Operation, uses: Tuple[Use, ...]) -> Operation:
    # attrs.evolve reads every field by name; calls are most of any graph, and this is on the construction path.
    if type(operation) is Call:
        return Call(
            operation.name,
            operation.fn,
            uses,
            operation.results,
            operation.unpack,
            operation.is_coroutine,
            operation.policy,
            operation.scope,
        )
    return evolve(operation, uses=uses)


def _definitions(name: str, declared: Iterable[Operation]) -> Dict[str, Tuple[Operation, Value]]:
    defined: Dict[str, Tuple[Operation, Value]] = {}
    collisions = []
    for operation in declared:
        for value in operation.results:
            if value.name in defined:
                collisions.append((value.name, defined[value.name][0].name, operation.name))
            else:
                defined[value.name] = (operation, value)
    if collisions:
        raise DuplicateOutputError(name, *collisions[0], tuple(collisions))
    return defined


def _in_order(
    name: str, declared: Sequence[Operation], defined: Dict[str, Tuple[Operation, Value]]
) -> Sequence[Operation]:
    seen = set()
    for operation in declared:
        for use in operation.uses:
            if use.value.name in defined and use.value.name not in seen:
                return _sorted(name, declared, defined)
        seen.update([value.name for value in operation.results])
    return declared


def _sorted(
    name: str, declared: Sequence[Operation], defined: Dict[str, Tuple[Operation, Value]]
) -> Sequence[Operation]:
    index = {id(operation): number for number, operation in enumerate(declared)}
    sorter: TopologicalSorter[int] = TopologicalSorter()
    for number, operation in enumerate(declared):
        reads = [use.value.name for use in operation.uses]
        sorter.add(number, *[index[id(defined[read][0])] for read in reads if read in defined])
    try:
        return [declared[number] for number in sorter.static_order()]
    except GraphlibCycle as fault:
        # graphlib lists the cycle with each element an input of the next, and its first element again at the end.
        raise CycleError(name, tuple(declared[number].name for number in fault.args[1])) from None


def _reading(operation: Operation, inputs: Inputs) -> Operation:
    """Return an operation that reads the inputs whose type has changed since it was wired."""
    if not any(use.value.name in inputs.differing for use in operation.uses):
        return operation
    uses = []
    for use in operation.uses:
        changed = use.value.name in inputs.differing
        uses.append(evolve(use, value=inputs.found[use.value.name].value) if changed else use)
    return _with_uses(operation, tuple(uses))


def _check_types(name: str, operations: Sequence[Operation], producer_of: Dict[str, str], strict: bool) -> None:
    """Compare what each operation makes with what its readers declare; of inputs, the readers are all there is."""
    for operation in operations:
        axes = operation.axes if isinstance(operation, MapOver) else ()
        for use in operation.uses:
            produced, wanted = use.value.type, use.wanted
            if produced is UNKNOWN or produced is wanted or use.value.name not in producer_of:
                continue
            is_axis = use.parameter in axes
            if is_axis:
                bad = unmappable(produced, UNKNOWN if operation.spread else wanted)  # type: ignore[union-attr]
                wanted = iterable_of(wanted)
            else:
                bad = clash(produced, wanted)
            if bad or (strict and not fits(produced, wanted)):
                raise _mismatch(name, use, producer_of[use.value.name], operation.name, is_axis)


def _mismatch(name: str, use: Use, producer: str, consumer: str, is_axis: bool) -> TypeMismatchError:
    # Worded only now: the walk is on the construction path, and almost every use passes.
    value, produced, wanted = use.value.name, use.value.type, use.wanted
    shown, hint = show(wanted), ""
    if is_axis:
        shown = f"an iterable of {shown if wanted is not UNKNOWN else 'items'}"
    elif holds_items(produced, wanted):
        hint = f"run {consumer!r} once per item, as a nested pipeline with as_node(map_over={value!r})"
    return TypeMismatchError(name, value, producer, show(produced), consumer, use.parameter, shown, hint)
