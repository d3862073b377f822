"""Optional reads in, the same program out where leaving out the argument would not do: there the default is passed.

In a run a parameter that nobody provides is not passed, and the function applies its own default. Two places cannot do
that. A positional-only parameter cannot be left out before another that is given: `Filling` passes its default. And a
mapping of a spread map may leave out an input that has a default; one plan serves all items, so the default has to be
filled in. Readers whose defaults differ therefore get inputs of their own, all fed by the one name.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Sequence, Tuple

from hypernodes.ir.graph import Graph, Input, Operation, Value
from hypernodes.records import evolve

_TWIN = "="
"""Stands between a name and a number in the inputs made here; no identifier has it."""


class Filling:
    """A call of `fn` with more arguments: values at their positions, in rising order, between those it gets."""

    def __init__(self, fn: Callable[..., Any], values: Sequence[Tuple[int, object]]) -> None:
        self.fn = fn
        self.values = values

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        passed = list(args)
        for position, value in self.values:
            passed.insert(position, value)
        return self.fn(*passed, **kwargs)


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
