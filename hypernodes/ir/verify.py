"""A graph in, the same graph out, or an error that says why it is no graph: the specification of well-formed.

The rules: a value is defined once; it is read only after its definition, and as the very value that was defined; an
operation passes each parameter once; a nested graph is well-formed itself, gets a value for every input it requires,
and yields outputs that it has; every output of the graph is defined.
"""

from __future__ import annotations

from typing import Dict

from hypernodes.errors import HyperNodesError
from hypernodes.ir.graph import DISCARD, NESTED, Graph, MapOver, Nested, Value


class MalformedGraphError(HyperNodesError):
    """A graph that breaks a rule of this module: a bug in whoever made it, not in a user's pipeline."""


def verify(graph: Graph) -> Graph:
    """Return `graph` unchanged when it is well-formed.

    Raises
    ------
    MalformedGraphError
        For the first rule broken, naming graph, operation and value.
    """
    defined: Dict[str, Value] = {}
    for entry in graph.inputs:
        _define(graph, defined, entry.value, "an input")
    for operation in graph.operations:
        parameters = set()
        for use in operation.uses:
            if defined.get(use.value.name) is not use.value and defined.get(use.value.name) != use.value:
                raise MalformedGraphError(
                    f"{graph.name}: {operation.name} reads {use.value.name!r} before its definition"
                )
            if use.parameter in parameters:
                raise MalformedGraphError(f"{graph.name}: {operation.name} passes {use.parameter!r} twice")
            parameters.add(use.parameter)
        if isinstance(operation, NESTED):
            _verify_nested(graph, operation, parameters)
        for value in operation.results:
            _define(graph, defined, value, operation.name)
    for value in graph.outputs:
        if value.name not in defined:
            raise MalformedGraphError(f"{graph.name}: output {value.name!r} is never defined")
    return graph


def _define(graph: Graph, defined: Dict[str, Value], value: Value, by: str) -> None:
    if value.name in defined:
        raise MalformedGraphError(f"{graph.name}: {value.name!r} is defined twice, the second time by {by}")
    if value.name != DISCARD:
        defined[value.name] = value


def _verify_nested(graph: Graph, operation: Nested, parameters: set[str]) -> None:
    where = f"{graph.name}: {operation.name}"
    inner = operation.graph
    if len(operation.yields) != len(operation.results):
        raise MalformedGraphError(f"{where} has {len(operation.results)} results for {len(operation.yields)} yields")
    unknown = set(operation.yields) - set(inner.output_names)
    if unknown:
        raise MalformedGraphError(f"{where} yields {sorted(unknown)}, which the nested graph does not return")
    if isinstance(operation, MapOver):
        if not set(operation.axes) <= parameters:
            raise MalformedGraphError(f"{where} maps over {operation.axes}, but reads only {sorted(parameters)}")
        if operation.spread:
            return
    for entry in inner.inputs:
        if entry.value.name not in parameters and not entry.optional:
            raise MalformedGraphError(f"{where} passes nothing for the required input {entry.value.name!r}")
