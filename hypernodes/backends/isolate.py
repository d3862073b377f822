"""Nested pipelines with a backend of their own in, calls that run them by it out.

A nested pipeline that shares its parent's backend is part of the parent's plan. One with another backend is, to the
parent, a single function: it has its own plan, its own workers and its own run.
"""

from __future__ import annotations

import threading
from typing import AbstractSet, Any, Dict, Tuple

from hypernodes.backends.local import LocalBackend
from hypernodes.backends.prepared import Prepared, prepare
from hypernodes.ir.build import mapped
from hypernodes.ir.graph import Call, Graph, Input, Invoke, MapOver, Operation, Value
from hypernodes.lowering.inline import inline
from hypernodes.lowering.readers import read_again
from hypernodes.records import evolve


def isolate(graph: Graph, backend: LocalBackend) -> Graph:
    """Return `graph` with every nested pipeline that has another backend than `backend` turned into one call."""
    if all(type(operation) is Call for operation in graph.operations):
        return graph
    operations = tuple([_isolated(operation, backend) for operation in graph.operations])
    if all(new is old for new, old in zip(operations, graph.operations)):
        return graph
    return evolve(graph, operations=operations)


def _isolated(operation: Operation, backend: LocalBackend) -> Operation:
    if isinstance(operation, Call):
        return operation
    own = getattr(operation.owner, "backend", None)
    if own is None or own is backend:
        body = isolate(operation.graph, backend)
        return operation if body is operation.graph else evolve(operation, graph=body)
    run = Subrun(_standalone(operation, own), operation.yields, own)
    uses = tuple([evolve(use, keyword=True) for use in operation.uses])
    unpack = len(operation.results) > 1
    return Call(operation.name, run, uses, operation.results, unpack, False, scope=operation.scope)


def _standalone(operation: Operation, backend: LocalBackend) -> Graph:
    """Return a graph that does what the operation does, with the operation's parameters as inputs."""
    assert not isinstance(operation, Call)
    body = isolate(operation.graph, backend)
    if isinstance(operation, Invoke):
        return body
    assert isinstance(operation, MapOver)
    if not operation.spread:
        return mapped(body, operation.axes, operation.mode)
    (use,) = operation.uses
    value = Value(use.parameter)
    inner = evolve(
        operation,
        graph=body,
        around=True,
        uses=(evolve(use, value=value),),
        results=tuple([Value(name) for name in operation.yields]),
    )
    return Graph(operation.name, (Input(value),), (inner,), inner.results)


class Subrun:
    """A graph and the backend that runs it, as a function of the graph's inputs by keyword."""

    runs_plan = True

    def __init__(self, graph: Graph, asked: Tuple[str, ...], backend: LocalBackend) -> None:
        # The map around a nested pipeline is that pipeline's own, as in `Pipeline.map`.
        self._maps = len(graph.operations) == 1 and isinstance(graph.operations[0], MapOver)
        # A run of the outer pipeline may override what this one defines, which then reaches the nodes in here as well.
        self.overrides = () if self._maps else asked
        self._graph = graph
        self._asked = asked
        self._backend = backend
        self._prepared: Dict[Tuple[str, ...], Prepared] = {}
        self._guard = threading.Lock()

    def __call__(self, /, **inputs: Any) -> Any:
        key = tuple(inputs)
        with self._guard:
            prepared = self._prepared.get(key)
            if prepared is None:
                prepared = self._prepared[key] = prepare(self._graph, dict(zip(key, key)), self._asked, self._backend)
        values = tuple(prepared.run_nested(inputs).values())
        return values[0] if len(values) == 1 else values

    @property
    def reads_again(self) -> AbstractSet[str]:
        """The inputs that several read in here."""
        return read_again(inline(self._graph))

    def __reduce__(self) -> Tuple[object, ...]:
        return Subrun, (self._graph, self._asked, self._backend)
