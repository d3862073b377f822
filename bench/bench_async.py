"""What do coroutines cost? Many in flight, alone and before plain functions, against `gather`; and a small run.

Peers make the same calls: what blocks the loop goes to a thread (`asyncio.to_thread`), what is trivial is called on it.
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any, Callable, Iterator, List

import pytest

from bench.duel import OURS, Duel, microseconds_each, name_of, play
from hypernodes import LocalBackend, Pipeline, node

ITEMS = 10_000
WIDTH = 1_000
SECONDS = 0.01
REQUESTS = 100
SERVED = 1_000
SIZE = 400  # of a matrix: about 5 ms of a core


@node(output_name="y")
async def fetch(x):  # type: ignore[no-untyped-def]
    await asyncio.sleep(SECONDS)
    return x


@node(output_name="z")
def parse(y):  # type: ignore[no-untyped-def]
    return y + 1


async def gathered(xs: List[int], call: Callable[[Any], Any]) -> List[int]:
    semaphore = asyncio.Semaphore(WIDTH)

    async def one(x: int) -> int:
        async with semaphore:
            return call(await fetch.fn(x))  # type: ignore[no-any-return, misc]

    return await asyncio.gather(*[one(x) for x in xs])


def _same(y: Any) -> Any:
    return y


@contextmanager
def items() -> Iterator[Duel]:
    pipeline = Pipeline(nodes=[fetch], backend=LocalBackend(map_execution="async", max_workers=WIDTH))
    xs = list(range(ITEMS))
    assert pipeline.map(inputs={"x": xs}, map_over="x")["y"] == xs
    sides = {
        "gather with a semaphore": lambda: asyncio.run(gathered(xs, _same)),
        OURS: lambda: pipeline.map(inputs={"x": xs}, map_over="x"),
    }
    yield Duel(f"async map, {ITEMS:,} items of 10 ms, width {WIDTH:,}", sides, 0.75)


@contextmanager
def chained(nodes: str) -> Iterator[Duel]:
    backend = LocalBackend(nodes, "async", max_workers=WIDTH)
    pipeline = Pipeline(nodes=[fetch, parse], backend=backend)
    xs = list(range(ITEMS))
    assert pipeline.map(inputs={"x": xs}, map_over="x")["z"] == [x + 1 for x in xs]
    sides = {
        "gather with a semaphore": lambda: asyncio.run(gathered(xs, parse.fn)),
        OURS: lambda: pipeline.map(inputs={"x": xs}, map_over="x"),
    }
    yield Duel(f"async map, and a plain function, {nodes} nodes", sides, 0.9, turns=5)


@contextmanager
def requests() -> Iterator[Duel]:
    """A service whose every request multiplies matrices; numpy has threads of its own as well."""
    numpy = pytest.importorskip("numpy")
    matrix = numpy.random.default_rng(0).random((SIZE, SIZE))

    def multiply(y: float) -> float:
        return float((matrix @ matrix * y).sum())

    pipeline = Pipeline(nodes=[fetch, node("product")(multiply)], backend=LocalBackend("async", max_workers=REQUESTS))

    async def by_hand() -> List[float]:
        async def one(x: int) -> float:
            y = await fetch.fn(x)  # type: ignore[misc]
            return await asyncio.get_running_loop().run_in_executor(None, multiply, y)

        return await asyncio.gather(*[one(x) for x in range(REQUESTS)])

    async def ours() -> List[Any]:
        return await asyncio.gather(*[pipeline.arun({"x": x}) for x in range(REQUESTS)])

    sides = {"to_thread": lambda: asyncio.run(by_hand()), OURS: lambda: asyncio.run(ours())}
    yield Duel(f"numpy behind {REQUESTS} requests in flight", sides, 1.5, turns=5)


@contextmanager
def service() -> Iterator[Duel]:
    """Requests that wait in plain functions, many more than there are threads for them."""

    def work(x: int) -> int:
        time.sleep(0.001)
        return x + 1

    pipeline = Pipeline(nodes=[node("y")(work)], backend=LocalBackend("threaded", max_workers=4))

    async def by_hand() -> List[int]:
        with ThreadPoolExecutor(4) as executor:
            call = asyncio.get_running_loop().run_in_executor
            return await asyncio.gather(*[call(executor, work, x) for x in range(SERVED)])

    async def ours() -> List[Any]:
        return await asyncio.gather(*[pipeline.arun({"x": x}) for x in range(SERVED)])

    sides = {"run_in_executor": lambda: asyncio.run(by_hand()), OURS: lambda: asyncio.run(ours())}
    yield Duel(f"{SERVED} requests of 1 ms on 4 threads", sides, 1.5, turns=5)


@contextmanager
def small() -> Iterator[Duel]:
    @node(output_name="y")
    async def at_once(x):  # type: ignore[no-untyped-def]
        return x

    pipeline = Pipeline(nodes=[at_once], backend=LocalBackend("async", max_workers=4))
    sides = {"nothing": lambda: None, OURS: lambda: pipeline.run({"x": 1})}
    yield Duel("run of one coroutine node, warm", sides, 100.0, microseconds_each(1), "µs")


QUESTIONS = [items, *[partial(chained, nodes) for nodes in ("sequential", "async")], requests, service, small]


@pytest.mark.parametrize("side", [OURS])
@pytest.mark.parametrize("question", QUESTIONS, ids=name_of)
def bench_async(benchmark: Any, question: Any, side: str) -> None:
    play(benchmark, question, side)
