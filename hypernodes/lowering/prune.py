"""A graph, the names provided and the names asked for in; the graph that this one kind of run needs out.

What nobody asked for is gone, with what only it needed. A provided name that an operation defines overrides it. A
parameter that nobody provides and that has a default is no longer passed, so that the function's own default applies.
"""

from __future__ import annotations

from typing import AbstractSet, List, Sequence, Set, Tuple

from hypernodes.errors import MissingInputError
from hypernodes.ir.graph import DISCARD, Call, Graph, Input, Isolated, MapOver, Operation, Use, Value
from hypernodes.lowering.defaults import Filling, with_own_defaults
from hypernodes.records import evolve

Need = Tuple[str, str, str]
"""The path of a pipeline, a node of it, and the name of the value that the node reads."""


def prune(graph: Graph, provided: AbstractSet[str], asked: Sequence[str], keep: Sequence[str] = ()) -> Graph:
    """Return the part of `graph` that computes `asked` from `provided`.

    Parameters
    ----------
    graph : Graph
        Verified, without Invokes of its own.
    provided : set of str
        Names of inputs, or of outputs to override.
    asked : sequence of str
        Names of outputs, in the order to hand them back.
    keep : sequence of str
        Names among `provided` that stay inputs even when nothing reads them.

    Raises
    ------
    MissingInputError
        For all values that nobody provides, with the operations that need them, in order.
    """
    inputs = {entry.value.name: entry.value for entry in graph.inputs}
    needed: Set[str] = {*asked, *keep}
    kept: List[Operation] = []
    missing: List[Need] = []
    for operation in reversed(graph.operations):
        live = [value.name in needed and value.name not in provided for value in operation.results]
        if not any(live):
            continue
        uses: List[Use] = []
        absent: List[Use] = []
        behind_gap = False
        for use in operation.uses:
            name = use.value.name
            if name in provided or name not in inputs:
                uses.append(evolve(use, keyword=True) if behind_gap and not use.positional else use)
            elif not use.optional:
                absent.append(use)
            else:
                behind_gap = True
        inside = operation.overridable if type(operation) is Isolated else ()
        for value, inner in zip(operation.results, inside):
            if value.name in provided:
                uses.append(Use(inner, value, keyword=True))
        if behind_gap and type(operation) is Call:
            operation = _filled(operation, uses)
        pruned = _pruned(operation, uses, live, provided)
        if absent:
            missing = [*_needs(graph, operation, absent, pruned), *missing]
        needed.update([use.value.name for use in pruned.uses])
        kept.append(pruned)
    if missing:
        raise MissingInputError(*missing[0], tuple(sorted(provided)), missing=tuple(dict.fromkeys(missing)))
    kept.reverse()
    defined = {value.name: value for operation in kept for value in operation.results}
    # Overriding inputs have no Value yet; one with the type of what they override keeps every use readable.
    overridden = {value.name: value for operation in graph.operations for value in operation.results}
    declared = {entry.value.name: entry for entry in graph.inputs}
    entries = [
        declared.get(name) or Input(overridden[name]) for name in _provided_order(graph, provided) if name in needed
    ]
    values = {entry.value.name: entry.value for entry in entries}
    outputs = tuple([defined.get(name) or values[name] for name in asked])
    return Graph(graph.name, tuple(entries), tuple(kept), outputs)


def _provided_order(graph: Graph, provided: AbstractSet[str]) -> List[str]:
    names = [entry.value.name for entry in graph.inputs if entry.value.name in provided]
    extra = len(provided) - len(names)
    if extra:
        names += [v.name for operation in graph.operations for v in operation.results if v.name in provided]
    return names


def _filled(call: Call, uses: Sequence[Use]) -> Call:
    """Return the call with the defaults of parameters that cannot be left out: a positional-only one is behind them."""
    kept = {use.parameter for use in uses}
    last = max([i for i, use in enumerate(call.uses) if use.positional and use.parameter in kept], default=0)
    skipped = [(i, use.default) for i, use in enumerate(call.uses[:last]) if use.parameter not in kept]
    return evolve(call, fn=Filling(call.fn, skipped)) if skipped else call


def _pruned(operation: Operation, uses: List[Use], live: Sequence[bool], provided: AbstractSet[str]) -> Operation:
    if isinstance(operation, Call):
        if all(live) and len(uses) == len(operation.uses):
            return operation
        results = tuple(
            [Value(DISCARD, value.type) if value.name in provided else value for value in operation.results]
        )
        return evolve(operation, uses=tuple(uses), results=results)
    kept = [(value, inner) for value, inner, alive in zip(operation.results, operation.yields, live) if alive]
    spread = isinstance(operation, MapOver) and operation.spread
    # An axis nobody reads still says how many items there are; an item that is a mapping may carry any input.
    axes = operation.axes if isinstance(operation, MapOver) else ()
    keep = operation.graph.input_names if spread else axes
    if spread:
        given = set(keep)
    else:
        passed = {use.parameter for use in uses}
        given = {use.parameter for use in operation.uses if use.parameter in passed or not use.optional}
    body = prune(operation.graph, given, [inner for _, inner in kept], keep)
    if spread:
        body = with_own_defaults(body)
    reads = {entry.value.name for entry in body.inputs} | set(axes)
    return evolve(
        operation,
        graph=body,
        uses=tuple([use for use in uses if use.parameter in reads]),
        results=tuple([value for value, _ in kept]),
        yields=tuple([inner for _, inner in kept]),
    )


def _needs(graph: Graph, operation: Operation, absent: Sequence[Use], pruned: Operation) -> List[Need]:
    """Return who needs the values of `absent`: the operation, or within a map the nodes of its body."""
    path = (graph.name, *(operation.scope.path if operation.scope else ()))
    if isinstance(pruned, Call):
        return [(".".join(path), operation.name, use.value.name) for use in absent]
    # The map that `pipeline.map` is has the pipeline's own name, and is no pipeline within it.
    inner = path if operation.name == graph.name else (*path, operation.name)
    axes = pruned.axes if isinstance(pruned, MapOver) else ()
    needs: List[Need] = []
    for use in absent:
        nodes = [(where, node, use.value.name) for where, node in _readers(pruned.graph, inner, use.parameter)]
        needs += nodes or ([(".".join(path), operation.name, use.value.name)] if use.parameter in axes else [])
    return needs


def _readers(graph: Graph, path: Tuple[str, ...], name: str) -> List[Tuple[str, str]]:
    """Return the path and the name of the nodes that read an input of `graph`, those of maps within it included."""
    found: List[Tuple[str, str]] = []
    for operation in graph.operations:
        own = (*path, *(operation.scope.path if operation.scope else ()))
        for use in operation.uses:
            if use.value.name != name:
                continue
            if isinstance(operation, Call):
                found.append((".".join(own), operation.name))
            else:
                nodes = _readers(operation.graph, (*own, operation.name), use.parameter)
                found += nodes or [(".".join(own), operation.name)]
    return found
