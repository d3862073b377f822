"""A graph in, the names of values that are read more than once out: a stream of items among those has to be listed.

A stream (a generator, a `map`, a csv reader) gives its items once. Whoever reads it alone gets it as it is; of one that
nodes, maps, items or the caller share, each would find what the others have left. Which values these are is known here,
so that nothing else is looked at while a plan runs. A function that certainly makes no stream is not looked at either.
"""

from __future__ import annotations

import dis
import functools
import inspect
from types import CodeType, FunctionType
from typing import AbstractSet, FrozenSet, Set

from hypernodes.ir.graph import Call, Graph, Isolated, MapOver, Operation
from hypernodes.lowering.defaults import spread_name
from hypernodes.lowering.inline import inline

NOBODY: FrozenSet[str] = frozenset()


def read_again(graph: Graph, outside: AbstractSet[str] = NOBODY) -> Set[str]:
    """Return the names of the values of one frame that are read more than once.

    What all items of a map share counts as read by each. `outside` are outputs of the graph that have several readers
    out there.
    """
    once: Set[str] = {value.name for value in graph.outputs}
    again: Set[str] = set(outside)
    for operation in graph.operations:
        several = NOBODY if type(operation) is Call and type(operation.fn) is FunctionType else _by_several(operation)
        for use in operation.uses:
            name = use.value.name
            if name in once or use.parameter in several:
                again.add(name)
            else:
                once.add(name)
    for entry in graph.inputs:
        # Inputs that each have a reader's own default are fed by one value.
        name = spread_name(entry.value.name)
        if name != entry.value.name:
            again.update((name, entry.value.name))
    return again


def mapped_over(graph: Graph) -> Set[str]:
    """Return the names of the values whose items maps read: all of them, so that a list may be made where they are."""
    maps = [operation for operation in graph.operations if isinstance(operation, MapOver)]
    return {use.value.name for operation in maps for use in operation.uses if use.parameter in operation.axes}


def _by_several(operation: Operation) -> AbstractSet[str]:
    """Return the parameters whose values are read more than once by one operation."""
    if isinstance(operation, MapOver):
        return {use.parameter for use in operation.uses if use.parameter not in operation.axes}
    return read_again(inline(operation.graph)) if type(operation) is Isolated else NOBODY


def cells_read_again(operation: MapOver, again: AbstractSet[str]) -> AbstractSet[str]:
    """Return the outputs of a map's body whose values several read, because they read the list of them."""
    if again.isdisjoint([value.name for value in operation.results]):
        return NOBODY
    return frozenset([inner for value, inner in zip(operation.results, operation.yields) if value.name in again])


def may_make_stream(call: Call) -> bool:
    """Return whether a call may return a stream; certainly not where all it returns are sums, comparisons or lists.

    To look at each result costs a small function a part of its time, and this is what the smallest ones are made of.
    """
    return call.unpack or not returns_data(call.fn)


def returns_data(fn: object) -> bool:
    """Return whether all that a function returns are sums, comparisons, displays or constants."""
    return type(fn) is FunctionType and _ends_in_data(fn.__code__)


_SUSPENDED = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR | inspect.CO_ITERABLE_COROUTINE
_JUMPS = frozenset(dis.hasjrel + dis.hasjabs)
_RETURN = dis.opmap["RETURN_VALUE"]
_BINARY = dis.opmap.get("BINARY_OP", -1)
_ARITHMETIC = frozenset(
    [
        number
        for number, (_, symbol) in enumerate(getattr(dis, "_nb_ops", ()))
        if symbol.rstrip("=") in ("+", "-", "*", "/", "//", "%", "**")
    ]
)
_DATA = frozenset(
    [
        dis.opmap[name]
        for name in (
            *("BINARY_OP", "BINARY_ADD", "BINARY_SUBTRACT", "BINARY_MULTIPLY", "BINARY_TRUE_DIVIDE", "BINARY_MODULO"),
            *("BINARY_FLOOR_DIVIDE", "BINARY_POWER", "COMPARE_OP", "UNARY_NEGATIVE", "UNARY_NOT"),
            *("BUILD_LIST", "BUILD_MAP", "BUILD_SET", "BUILD_STRING", "BUILD_TUPLE", "LOAD_CONST", "LOAD_SMALL_INT"),
        )
        if name in dis.opmap
    ]
)


@functools.lru_cache(maxsize=4096)
def _ends_in_data(function: CodeType) -> bool:
    """Tell a function without branches that ends in an operator, a display or a constant, from any other."""
    if function.co_flags & _SUSPENDED:
        return False
    code = function.co_code
    operations = code[::2]
    place = operations.rfind(_RETURN)
    while place >= 0:
        before = place - 1
        while before > 0 and not operations[before]:  # room for what the interpreter notes
            before -= 1
        kind = operations[before]
        if kind not in _DATA or (kind == _BINARY and code[2 * before + 1] not in _ARITHMETIC):
            return False
        place = operations.rfind(_RETURN, 0, place)
    return _JUMPS.isdisjoint(operations)
