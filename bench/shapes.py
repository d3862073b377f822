"""A number of nodes in, node functions of a known shape and hand-written code that calls the same functions out."""

from __future__ import annotations

import functools
from typing import Any, Callable, Dict, List, NamedTuple, Sequence, Tuple

from hypernodes import node

LAYER = 10


class Shape(NamedTuple):
    """Functions in order, each with the names it reads; its own name is that of its output."""

    functions: Tuple[Callable[..., Any], ...]
    reads: Tuple[Tuple[str, ...], ...]

    def nodes(self) -> List[Any]:
        return [node(output_name=fn.__name__)(fn) for fn in self.functions]

    def by_hand(self) -> Callable[[int], Dict[str, int]]:
        """Return straight-line code: one call for each function, and a dict of what they returned."""
        lines = [f"    v_{fn.__name__} = {fn.__name__}({_locals(r)})" for fn, r in zip(self.functions, self.reads)]
        result = ", ".join([f"{fn.__name__!r}: v_{fn.__name__}" for fn in self.functions])
        scope: Dict[str, Any] = {fn.__name__: fn for fn in self.functions}
        exec("\n".join(["def by_hand(v_x):", *lines, f"    return {{{result}}}"]), scope)
        return scope["by_hand"]  # type: ignore[no-any-return]


def _locals(reads: Sequence[str]) -> str:
    return ", ".join([f"v_{name}" for name in reads])


def _shape(reads: Sequence[Tuple[str, ...]], annotated: bool) -> Shape:
    colon, arrow = (": int", " -> int") if annotated else ("", "")
    source = [
        f"def n{number}({', '.join([name + colon for name in names])}){arrow}: return {' + '.join(names)} + 1"
        for number, names in enumerate(reads)
    ]
    scope: Dict[str, Any] = {"__name__": __name__}
    exec("\n".join(source), scope)
    return Shape(tuple([scope[f"n{number}"] for number in range(len(reads))]), tuple(reads))


@functools.lru_cache(maxsize=None)
def chain(count: int, annotated: bool = False) -> Shape:
    """Each function reads the one before it."""
    return _shape([("x",), *[(f"n{number - 1}",) for number in range(1, count)]], annotated)


@functools.lru_cache(maxsize=None)
def wide(count: int, annotated: bool = False) -> Shape:
    """Every function reads the input."""
    return _shape([("x",)] * count, annotated)


@functools.lru_cache(maxsize=None)
def layered(count: int, annotated: bool = False) -> Shape:
    """Layers of ten; each function reads two neighbours of the layer before."""
    reads: List[Tuple[str, ...]] = []
    for number in range(count):
        place, below = number % LAYER, number - number % LAYER - LAYER
        reads.append((f"n{below + place}", f"n{below + (place + 1) % LAYER}") if below >= 0 else ("x",))
    return _shape(reads, annotated)


SHAPES: Dict[str, Callable[..., Shape]] = {"chain": chain, "wide": wide, "layered": layered}
