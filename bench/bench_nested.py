"""Do nested maps keep all workers busy? 20 x 10 items of 2 ms, 8 at once, against one flat pool of 8."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Iterator

import pytest

from bench.duel import OURS, Duel, play
from hypernodes import LocalBackend, Pipeline, node

OUTER, INNER, WIDTH = 20, 10, 8


@node(output_name="y")
def work(x):  # type: ignore[no-untyped-def]
    time.sleep(0.002)
    return x


@contextmanager
def items() -> Iterator[Duel]:
    inner = Pipeline(nodes=[work], name="inner").as_node(input_mapping={"xs": "x"}, map_over="xs")
    outer = Pipeline(nodes=[inner], backend=LocalBackend(map_execution="threaded", max_workers=WIDTH))
    rows = [list(range(INNER)) for _ in range(OUTER)]
    flat = [x for row in rows for x in row]
    assert outer.map(inputs={"xs": rows}, map_over="xs")["y"] == rows
    with ThreadPoolExecutor(WIDTH) as pool:
        sides = {
            "flat pool": lambda: list(pool.map(work.fn, flat)),
            OURS: lambda: outer.map(inputs={"xs": rows}, map_over="xs"),
        }
        yield Duel(f"nested maps, {OUTER} x {INNER} items of 2 ms, width {WIDTH}", sides, 1.05, turns=31)


QUESTIONS = [items]


@pytest.mark.parametrize("side", ["flat pool", OURS])
def bench_nested(benchmark: Any, side: str) -> None:
    play(benchmark, items, side)
