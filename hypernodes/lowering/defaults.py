"""The body of a spread map in, the same body with an input for each default out.

A mapping may leave out an input that has a default. In a run the parameter is then not passed, and each function
applies its own; but one plan serves all items, so here the default has to be filled in. Readers whose defaults differ
therefore get inputs of their own, all fed by the one name.
"""

from __future__ import annotations

from typing import Dict, List, Tuple

from hypernodes.ir.graph import Graph, Input, Operation, Value
from hypernodes.records import evolve

_TWIN = "="
"""Stands between a name and a number in the inputs made here; no identifier has it."""


def with_own_defaults(body: Graph) -> Graph:
    """Return `body` with every optional read fed by an input that has the reader's own default."""
    declared = {entry.value.name: entry for entry in body.inputs if entry.optional}
    twins: Dict[Tuple[str, int], Input] = {}
    operations: List[Operation] = []
    for operation in body.operations:
        uses = []
        for use in operation.uses:
            entry = declared.get(use.value.name)
            if entry is not None and use.optional and use.default is not entry.default:
                key = (use.value.name, id(use.default))
                if key not in twins:
                    name = f"{use.value.name}{_TWIN}{len(twins) + 1}"
                    twins[key] = Input(Value(name, entry.value.type), use.default)
                use = evolve(use, value=twins[key].value)
            uses.append(use)
        operations.append(evolve(operation, uses=tuple(uses)))
    if not twins:
        return body
    return evolve(body, inputs=(*body.inputs, *twins.values()), operations=tuple(operations))


def spread_name(name: str) -> str:
    """Return the name that an item carries the value of an input under."""
    return name.partition(_TWIN)[0]
