"""Nested pipelines with a backend of their own in, calls that run them by it out.

A nested pipeline that shares its parent's backend is part of the parent's plan. One with another backend is, to the
parent, a single function: it has its own plan, its own workers and its own run.
"""

from __future__ import annotations

from typing import Any, Dict, Tuple

from hypernodes.backends.base import Backend, Executable
from hypernodes.ir.build import mapped
from hypernodes.ir.graph import Call, Graph, Input, Invoke, Isolated, MapOver, Operation, Value
from hypernodes.records import evolve
from hypernodes.request import Request


def isolate(graph: Graph, backend: Backend) -> Graph:
    """Return `graph` with every nested pipeline that has another backend than `backend` turned into one call."""
    if all(type(operation) is Call for operation in graph.operations):
        return graph
    operations = tuple([_isolated(operation, backend) for operation in graph.operations])
    if all(new is old for new, old in zip(operations, graph.operations)):
        return graph
    return evolve(graph, operations=operations)


def _isolated(operation: Operation, backend: Backend) -> Operation:
    if isinstance(operation, Call):
        return operation
    own = getattr(operation.owner, "backend", None)
    if own is None or own is backend:
        body = isolate(operation.graph, backend)
        return operation if body is operation.graph else evolve(operation, graph=body)
    graph = _standalone(operation, own)
    return Isolated(
        operation.name,
        RunBy(own, graph, operation.yields),
        tuple([evolve(use, keyword=True) for use in operation.uses]),
        operation.results,
        unpack=len(operation.results) > 1,
        scope=operation.scope,
        graph=graph,
        yields=operation.yields,
    )


def _standalone(operation: Operation, backend: Backend) -> Graph:
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


class RunBy:
    """A backend that runs a graph, as a function of the graph's inputs by keyword; it returns the outputs `asked`."""

    def __init__(self, backend: Backend, graph: Graph, asked: Tuple[str, ...]) -> None:
        self._backend = backend
        self._graph = graph
        self._asked = asked
        self._executables: Dict[Tuple[str, ...], Executable] = {}

    def __call__(self, /, **inputs: Any) -> Any:
        names = tuple(inputs)
        executable = self._executables.get(names)
        if executable is None:
            # Without a lock, since what is tried here runs code of the user's; of two that do so one is kept.
            made = self._backend.compile(self._graph, Request(names, self._asked))
            executable = self._executables.setdefault(names, made)
        values = tuple(executable.run_nested(inputs).values())
        return values[0] if len(values) == 1 else values

    def __reduce__(self) -> Tuple[object, ...]:
        return RunBy, (self._backend, self._graph, self._asked)
