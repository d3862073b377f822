"""A graph and the outer names of its inputs in, the graph with one input for each outer name out.

As one input, a value that several inputs share is one item of a map, read once, in every mode.
"""

from __future__ import annotations

import itertools
from typing import Dict, List, Mapping

from hypernodes.errors import ReaderMismatchError
from hypernodes.ir.graph import REQUIRED, Graph, Input, Operation, Value
from hypernodes.ir.narrow import narrowest
from hypernodes.ir.types import clash, show
from hypernodes.records import evolve


def joined(graph: Graph, outer_of: Mapping[str, str], checked: bool = True) -> Graph:
    """Return `graph` with the inputs of one outer name made one, which has the name of the first of them.

    Raises
    ------
    ReaderMismatchError
        Where it is `checked`, for inputs of one outer name whose types clash.
    """
    groups: Dict[str, List[Input]] = {}
    for entry in graph.inputs:
        groups.setdefault(outer_of[entry.value.name], []).append(entry)
    if len(groups) == len(graph.inputs):
        return graph
    if checked:
        for outer, group in groups.items():
            _check(graph.name, outer, group)
    inputs = tuple([group[0] if len(group) == 1 else _one_of(group) for group in groups.values()])
    values = {
        entry.value.name: new.value for new, group in zip(inputs, groups.values()) if len(group) > 1 for entry in group
    }
    return evolve(graph, inputs=inputs, operations=tuple([_reading(each, values) for each in graph.operations]))


def _check(name: str, outer: str, group: List[Input]) -> None:
    for one, other in itertools.combinations([entry.value for entry in group], 2):
        if clash(one.type, other.type):
            raise ReaderMismatchError(
                *(name, outer, one.name, show(one.type)),
                *(other.name, other.name, show(other.type)),
            )


def _one_of(group: List[Input]) -> Input:
    """Return the input that stands for several; it may be left out only where each of them may."""
    first = group[0]
    value = Value(first.value.name, narrowest([entry.value.type for entry in group]))
    return Input(value, first.default if all(entry.optional for entry in group) else REQUIRED)


def _reading(operation: Operation, values: Mapping[str, Value]) -> Operation:
    uses = [evolve(use, value=values.get(use.value.name, use.value)) for use in operation.uses]
    return evolve(operation, uses=tuple(uses))
