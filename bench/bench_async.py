"""How many coroutines can be in flight? 10,000 items of 10 ms, 1,000 at once, against `gather` with a semaphore."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import Any, Iterator, List

import pytest

from bench.duel import OURS, Duel, play
from hypernodes import LocalBackend, Pipeline, node

ITEMS = 10_000
WIDTH = 1_000
SECONDS = 0.01


@node(output_name="y")
async def fetch(x):  # type: ignore[no-untyped-def]
    await asyncio.sleep(SECONDS)
    return x


async def gathered(xs: List[int]) -> List[int]:
    semaphore = asyncio.Semaphore(WIDTH)

    async def one(x: int) -> int:
        async with semaphore:
            return await fetch.fn(x)  # type: ignore[no-any-return, misc]

    return await asyncio.gather(*[one(x) for x in xs])


@contextmanager
def items() -> Iterator[Duel]:
    pipeline = Pipeline(nodes=[fetch], backend=LocalBackend(map_execution="async", max_workers=WIDTH))
    xs = list(range(ITEMS))
    assert pipeline.map(inputs={"x": xs}, map_over="x")["y"] == xs
    sides = {
        "gather with a semaphore": lambda: asyncio.run(gathered(xs)),
        OURS: lambda: pipeline.map(inputs={"x": xs}, map_over="x"),
    }
    yield Duel(f"async map, {ITEMS:,} items of 10 ms, width {WIDTH:,}", sides, 0.75)


QUESTIONS = [items]


@pytest.mark.parametrize("side", ["gather with a semaphore", OURS])
def bench_async(benchmark: Any, side: str) -> None:
    play(benchmark, items, side)
