"""What does the engine add to a call? Sequential runs of `x + 1` against straight-line code."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import Any, Iterator

import pytest

from bench.duel import OURS, Duel, microseconds_over, name_of, play
from bench.shapes import SHAPES, chain
from hypernodes import Pipeline


@contextmanager
def graph(shape: str, count: int) -> Iterator[Duel]:
    made = SHAPES[shape](count)
    pipeline, by_hand = Pipeline(nodes=made.nodes()), made.by_hand()
    assert pipeline.run(inputs={"x": 1}) == by_hand(1)
    sides = {"by hand": lambda: by_hand(1), OURS: lambda: pipeline.run(inputs={"x": 1})}
    yield Duel(f"run, {shape} of {count:,}", sides, 1.6, one_thread=True)


@contextmanager
def freed(count: int) -> Iterator[Duel]:
    """Ask for the last layer alone: every other value is let go by the last of the two who read it."""
    made = SHAPES["layered"](count)
    pipeline, by_hand = Pipeline(nodes=made.nodes()), made.by_hand()
    last = pipeline.outputs[-10:]
    sides = {"by hand": lambda: by_hand(1), OURS: lambda: pipeline.run(inputs={"x": 1}, output_name=last)}
    yield Duel(f"run, layered of {count:,}, values let go", sides, 1.6, one_thread=True)


@contextmanager
def one_node() -> Iterator[Duel]:
    made = chain(1)
    pipeline, fn = Pipeline(nodes=made.nodes()), made.functions[0]
    sides = {"by hand": lambda: fn(1), OURS: lambda: pipeline.run(inputs={"x": 1})}
    yield Duel("run, 1 node, over the call", sides, 1.5, microseconds_over, "µs", one_thread=True)


@contextmanager
def listed_outputs() -> Iterator[Duel]:
    """Ask for one output of 200 nodes, by a list as people write it and by a name."""
    made = chain(200)
    pipeline = Pipeline(nodes=made.nodes())
    last = pipeline.outputs[-1]
    sides = {
        "by a name": lambda: pipeline.run(inputs={"x": 1}, output_name=last),
        OURS: lambda: pipeline.run(inputs={"x": 1}, output_name=[last]),
    }
    yield Duel("run, outputs as a list", sides, 1.05, one_thread=True)


QUESTIONS = [
    *[partial(graph, shape, count) for shape in SHAPES for count in (100, 1000)],
    partial(freed, 1000),
    one_node,
    listed_outputs,
]


@pytest.mark.parametrize("side", ["by hand", OURS])
@pytest.mark.parametrize("question", QUESTIONS, ids=name_of)
def bench_run(benchmark: Any, question: Any, side: str) -> None:
    play(benchmark, question, side)
