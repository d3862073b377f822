"""What does a thread lane add to an item or a bundle? Trivial work, so that everything measured is overhead."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any, Iterator

import pytest

from bench.duel import OURS, Duel, microseconds_each, name_of, play
from bench.shapes import chain, wide
from hypernodes import LocalBackend, Pipeline

ITEMS = 10_000
NODES = 1_000


@contextmanager
def items(workers: int) -> Iterator[Duel]:
    made = chain(1)
    fn = made.functions[0]
    pipeline = Pipeline(nodes=made.nodes(), backend=LocalBackend(map_execution="threaded", max_workers=workers))
    xs = list(range(ITEMS))
    with ThreadPoolExecutor(workers) as pool:
        sides = {
            "ThreadPoolExecutor.map": lambda: list(pool.map(fn, xs)),
            OURS: lambda: pipeline.map(inputs={"x": xs}, map_over="x"),
        }
        yield Duel(f"threaded map, per item, {workers} workers", sides, 2.0, microseconds_each(ITEMS), "µs")


@contextmanager
def bundles(workers: int) -> Iterator[Duel]:
    made = wide(NODES)
    pipeline = Pipeline(nodes=made.nodes(), backend=LocalBackend("threaded", max_workers=workers))
    with ThreadPoolExecutor(workers) as pool:
        sides = {
            "ThreadPoolExecutor.map": lambda: list(pool.map(lambda fn: fn(1), made.functions)),
            OURS: lambda: pipeline.run(inputs={"x": 1}),
        }
        yield Duel(
            f"threaded run, per bundle of {NODES:,}, {workers} workers", sides, 1.5, microseconds_each(NODES), "µs"
        )


@contextmanager
def steps() -> Iterator[Duel]:
    """Nodes one after another are one bundle: in a lane they should cost what they cost in the caller's thread."""
    made = chain(NODES)
    alone = Pipeline(nodes=made.nodes())
    pipeline = Pipeline(nodes=made.nodes(), backend=LocalBackend("threaded", max_workers=2))
    sides = {
        "sequential": lambda: alone.run(inputs={"x": 1}),
        OURS: lambda: pipeline.run(inputs={"x": 1}),
    }
    yield Duel(f"threaded run, a chain of {NODES:,}", sides, 2.0)


QUESTIONS = [steps, partial(items, 6), partial(items, 2), partial(bundles, 6), partial(bundles, 2)]


@pytest.mark.parametrize("side", ["sequential", OURS])
def bench_steps(benchmark: Any, side: str) -> None:
    play(benchmark, steps, side)


@pytest.mark.parametrize("side", ["ThreadPoolExecutor.map", OURS])
@pytest.mark.parametrize("question", QUESTIONS[1:], ids=name_of)
def bench_threaded(benchmark: Any, question: Any, side: str) -> None:
    play(benchmark, question, side)
