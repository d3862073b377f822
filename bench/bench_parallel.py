"""What do processes cost? A warm call of nothing, a first call, many small items and some larger ones.

The 1.0 of the last two is `multiprocessing.Pool.map` with the chunk size that suits it best (found here by trying, on a
warm pool); joblib and mpire join where they are installed.
"""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from functools import lru_cache, partial
from typing import Any, Callable, Dict, Iterator, List

import pytest

from bench.duel import FIRST, OURS, Duel, Reading, milliseconds, name_of, play
from hypernodes import LocalBackend, Pipeline, node
from hypernodes.backends.local import usable_cores

CHUNKS = (1, 4, 16, 64, 256, 1024)


def spin(seconds: float) -> None:
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass


def small(x: int) -> int:
    spin(20e-6)
    return x


def large(x: int) -> int:
    spin(10e-3)
    return x


def trivial(x: int) -> int:
    return x


def _pipeline(fn: Callable[[int], int], backend: LocalBackend) -> Pipeline:
    return Pipeline(nodes=[node(output_name="y")(fn)], backend=backend)


@contextmanager
def warm_call() -> Iterator[Duel]:
    with LocalBackend(map_execution="parallel", max_workers=2) as backend, multiprocessing.Pool(2) as pool:
        pipeline = _pipeline(trivial, backend)
        sides = {
            "multiprocessing.Pool.map": lambda: pool.map(trivial, [1, 2]),
            OURS: lambda: pipeline.map(inputs={"x": [1, 2]}, map_over="x"),
        }
        yield Duel("parallel, second call of 2 trivial items", sides, 2.0, milliseconds, "ms")


@contextmanager
def first_call() -> Iterator[Duel]:
    """A cold pool each time: what a program pays once, without the imports of the first pool of all."""

    def cold() -> object:
        with LocalBackend(map_execution="parallel", max_workers=2) as backend:
            return _pipeline(trivial, backend).map(inputs={"x": [1, 2]}, map_over="x")

    def cold_spawn() -> object:
        with multiprocessing.get_context("spawn").Pool(2) as pool:
            return pool.map(trivial, [1, 2])

    sides = {"multiprocessing spawn": cold_spawn, OURS: cold}
    yield Duel("parallel, first call of 2 trivial items", sides, 1.0, turns=7)


@contextmanager
def items(size: str) -> Iterator[Duel]:
    fn, count = {"20 µs": (small, 20_000), "10 ms": (large, 200)}[size]
    workers, xs = usable_cores(), list(range(count))
    with ExitStack() as stack:
        backend = stack.enter_context(LocalBackend(map_execution="parallel", max_workers=workers))
        pool = stack.enter_context(multiprocessing.Pool(workers))
        pipeline = _pipeline(fn, backend)
        # Tried at the first turn, which is not counted.
        chunk = lru_cache()(lambda: _best_chunk(pool, fn, xs))
        sides: Dict[str, Callable[[], object]] = {
            "Pool.map, tuned": lambda: pool.map(fn, xs, chunk()),
            OURS: lambda: pipeline.map(inputs={"x": xs}, map_over="x"),
            **_peers(stack, workers, fn, xs),
        }
        yield Duel(f"parallel map, {count:,} x {size}", sides, 1.0, turns=8)


def _best_chunk(pool: Any, fn: Callable[[int], int], xs: List[int]) -> int:
    def seconds(chunk: int) -> float:
        started = time.perf_counter()
        pool.map(fn, xs, chunk)
        return time.perf_counter() - started

    return min([chunk for chunk in CHUNKS if chunk <= len(xs)], key=seconds)


def _peers(stack: ExitStack, workers: int, fn: Callable[[int], int], xs: List[int]) -> Dict[str, Callable[[], object]]:
    found: Dict[str, Callable[[], object]] = {}
    try:
        import joblib
    except ImportError:
        pass
    else:
        parallel = stack.enter_context(joblib.Parallel(n_jobs=workers))
        found["joblib"] = lambda: parallel([joblib.delayed(fn)(x) for x in xs])
    try:
        import mpire
    except ImportError:
        pass
    else:
        pool = stack.enter_context(mpire.WorkerPool(n_jobs=workers, keep_alive=True))
        found["mpire"] = lambda: pool.map(fn, xs)
    return found


PROGRAM = """
from hypernodes import LocalBackend, Pipeline, node

@node(output_name="y")
def double(x): return 2 * x

Pipeline(nodes=[double], backend=LocalBackend(map_execution="parallel", max_workers=2)).map({"x": [1, 2]}, "x")
"""


@contextmanager
def program() -> Iterator[Reading]:
    """From `python` to the results of a parallel map of two items, in seconds, imports and exit included."""

    def read() -> float:
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", PROGRAM], check=True)
        return time.perf_counter() - started

    yield Reading("parallel, a whole program of 2 items", read, float("inf"), "s")


QUESTIONS = [warm_call, first_call, partial(items, "20 µs"), partial(items, "10 ms"), program]


@pytest.mark.parametrize("side", [FIRST, OURS, "joblib", "mpire"])
@pytest.mark.parametrize("question", QUESTIONS[:4], ids=name_of)
def bench_parallel(benchmark: Any, question: Any, side: str) -> None:
    play(benchmark, question, side)
