"""What does it cost to hand items over as they finish? The same items as a map that returns them all at once."""

from __future__ import annotations

from collections import deque
from contextlib import contextmanager
from functools import partial
from typing import Any, Iterator

import pytest

from bench.duel import OURS, Duel, microseconds_each, play
from hypernodes import LocalBackend, Pipeline, node

ITEMS = 20_000
LIMITS = {"sequential": 2.0, "threaded": 10.0, "parallel": 10.0}
"""Microseconds per item. What a lane hands over crosses to the consumer's thread, which costs a switch where the items
are as small as these."""


@node(output_name="y")
def step(x):  # type: ignore[no-untyped-def]
    return x + 1


@contextmanager
def stream(items: str, ordered: bool = False) -> Iterator[Duel]:
    xs = range(ITEMS)
    with LocalBackend(map_execution=items, max_workers=2) as backend:
        pipeline = Pipeline(nodes=[step], backend=backend)
        sides = {
            "map": lambda: pipeline.map({"x": xs}, "x"),
            OURS: lambda: deque(pipeline.stream({"x": iter(xs)}, "x", ordered=ordered), maxlen=0),
        }
        name = f"stream, per item, {items}{', ordered' if ordered else ''}"
        yield Duel(name, sides, LIMITS[items], microseconds_each(ITEMS), "µs", 7)


QUESTIONS = [
    partial(stream, "sequential"),
    partial(stream, "threaded"),
    partial(stream, "threaded", True),
    partial(stream, "parallel"),
]


@pytest.mark.parametrize("side", ["map", OURS])
@pytest.mark.parametrize("items", list(LIMITS))
def bench_stream(benchmark: Any, items: str, side: str) -> None:
    play(benchmark, partial(stream, items), side)
