"""What does a sequential map add to a loop? 3 nodes x 100,000 items against a loop that fills three lists."""

from __future__ import annotations

import gc
import sys
import tracemalloc
from contextlib import contextmanager
from typing import Any, Dict, Iterator, List, Sequence

import pytest

from bench.duel import OURS, Duel, Reading, play
from hypernodes import Pipeline, node

ITEMS = 100_000


@node(output_name="a")
def first(x):  # type: ignore[no-untyped-def]
    return x + 1


@node(output_name="b")
def second(a):  # type: ignore[no-untyped-def]
    return a + 1


@node(output_name="c")
def third(b):  # type: ignore[no-untyped-def]
    return b + 1


def by_hand(xs: Sequence[int], f: Any = first.fn, g: Any = second.fn, h: Any = third.fn) -> Dict[str, List[int]]:
    a_list, b_list, c_list = [], [], []
    for x in xs:
        a = f(x)
        b = g(a)
        c = h(b)
        a_list.append(a)
        b_list.append(b)
        c_list.append(c)
    return {"a": a_list, "b": b_list, "c": c_list}


@contextmanager
def items() -> Iterator[Duel]:
    pipeline, xs = Pipeline(nodes=[first, second, third]), list(range(ITEMS))
    assert dict(pipeline.map(inputs={"x": xs}, map_over="x")) == by_hand(xs)
    sides = {"by hand": lambda: by_hand(xs), OURS: lambda: pipeline.map(inputs={"x": xs}, map_over="x")}
    yield Duel(f"map, 3 nodes x {ITEMS:,} items", sides, 2.0, one_thread=True)


@contextmanager
def memory() -> Iterator[Reading]:
    """Nodes that hand on what they get, so that nothing but the engine and the lists takes memory."""
    same = [node(output_name=name)(_identity(source)) for source, name in (("x", "a"), ("a", "b"), ("b", "c"))]
    pipeline, xs = Pipeline(nodes=same), list(range(ITEMS))
    pipeline.map(inputs={"x": xs[:10]}, map_over="x")

    def read() -> float:
        gc.collect()
        tracemalloc.start()
        result = pipeline.map(inputs={"x": xs}, map_over="x")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak / sum([sys.getsizeof(list(column)) for column in result.values()])

    yield Reading("map, peak memory over the lists alone", read, 1.5)


def _identity(parameter: str) -> Any:
    scope: Dict[str, Any] = {}
    exec(f"def same({parameter}): return {parameter}", scope)
    return scope["same"]


@contextmanager
def collected() -> Iterator[Duel]:
    """Two nodes that never fail: what does it cost to be ready for it? (1.5 is where this is to go.)"""
    pipeline, xs = Pipeline(nodes=[first, second]), list(range(ITEMS))
    sides = {
        "raise": lambda: pipeline.map(inputs={"x": xs}, map_over="x"),
        OURS: lambda: pipeline.map(inputs={"x": xs}, map_over="x", error_policy="collect"),
    }
    yield Duel(f"map, collect, 2 nodes x {ITEMS:,} items", sides, 1.5, one_thread=True)


QUESTIONS = [items, memory, collected]


@pytest.mark.parametrize("side", ["by hand", OURS])
def bench_map(benchmark: Any, side: str) -> None:
    play(benchmark, items, side)


def bench_memory(capsys: Any) -> None:
    """Not timed: tracing makes everything slow."""
    with memory() as reading, capsys.disabled():
        print(f"\n{reading.name}: {reading.read():.2f} x, target {reading.limit:g} x")
