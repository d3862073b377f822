"""Nested graphs in, one flat graph out: an Invoke is replaced by the operations of its graph.

Inner values take the names they have outside, so there is nothing left to copy at run time; each inlined operation
keeps its `Scope`, which is what errors and callbacks call it by. Bodies of maps are flattened too, each in its own
frame.
"""

from __future__ import annotations

from typing import Dict, List, Optional

from hypernodes.ir.graph import Call, Graph, Invoke, MapOver, Operation, Scope, Use, Value
from hypernodes.records import evolve


def inline(graph: Graph) -> Graph:
    """Return `graph` without any Invoke, at any depth."""
    if all(type(operation) is Call for operation in graph.operations):
        return graph
    operations: List[Operation] = []
    for operation in graph.operations:
        if isinstance(operation, Invoke):
            operations.extend(_flatten(operation))
        elif isinstance(operation, MapOver):
            operations.append(evolve(operation, graph=inline(operation.graph)))
        else:
            operations.append(operation)
    return evolve(graph, operations=tuple(operations))


def _flatten(outer: Invoke) -> List[Operation]:
    inner = inline(outer.graph)
    scope = Scope(outer.name, outer.scope, outer.owner)
    given = {use.parameter: use for use in outer.uses}
    exported = dict(zip(outer.yields, outer.results))
    renamed: Dict[str, Value] = {}
    scopes: Dict[int, Scope] = {}
    operations: List[Operation] = []
    for operation in inner.operations:
        uses: List[Use] = []
        for use in operation.uses:
            name = use.value.name
            feed = given.get(name)
            if name in renamed:
                uses.append(evolve(use, value=renamed[name]))
            elif feed is not None:
                # The outer reader decides whether the value may be missing only together with the inner one.
                uses.append(evolve(use, value=feed.value))
        results = []
        for value in operation.results:
            value_outside = exported.get(value.name) or Value(f"{outer.name}/{value.name}", value.type)
            renamed[value.name] = value_outside
            results.append(value_outside)
        operations.append(
            evolve(operation, uses=tuple(uses), results=tuple(results), scope=_rebased(operation.scope, scope, scopes))
        )
    return operations


def _rebased(scope: Optional[Scope], root: Scope, memo: Dict[int, Scope]) -> Scope:
    """Hang a chain of scopes below `root`; equal links stay one object, since a Scope is known by its identity."""
    if scope is None:
        return root
    found = memo.get(id(scope))
    if found is None:
        found = memo[id(scope)] = Scope(scope.name, _rebased(scope.parent, root, memo), scope.owner)
    return found
