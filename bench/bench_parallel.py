"""What do processes cost? A warm call of nothing, a first call, many small items, some larger ones, and large arrays.

The 1.0 of the items is `multiprocessing.Pool.map` with the chunk size that suits it best (found here by trying, on a
warm pool); joblib and mpire join where they are installed. Large arrays need numpy, and 1.5 GB of memory.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from functools import lru_cache, partial
from typing import Any, Callable, Dict, Iterator, List

import pytest

from bench.duel import FIRST, OURS, Duel, Reading, milliseconds, name_of, play
from hypernodes import LocalBackend, Pipeline, node
from hypernodes.runtime.drivers.cores import usable_cores

try:
    import joblib
except ImportError:
    joblib = None
try:
    import numpy
except ImportError:
    numpy = None

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


def _pipeline(fn: Callable[..., Any], backend: LocalBackend) -> Pipeline:
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

    own = -(-len(xs) // (4 * pool._processes))  # what the pool takes when it is not told
    return min([*[chunk for chunk in CHUNKS if chunk <= len(xs)], own], key=seconds)


def _peers(stack: ExitStack, workers: int, fn: Callable[[Any], Any], xs: List[Any]) -> Dict[str, Callable[[], object]]:
    found: Dict[str, Callable[[], object]] = {}
    if joblib is not None:
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


def halve(x: Any) -> Any:
    return x * 0.5


def column(x: int, fixed: Any) -> float:
    return float(fixed[x::100].sum())


@contextmanager
def arrays() -> Iterator[Duel]:
    """Arrays of 64 MB in and out."""
    xs = [numpy.full(8 << 20, float(n)) for n in range(4)]
    with ExitStack() as stack:
        backend = stack.enter_context(LocalBackend(map_execution="parallel", max_workers=2))
        pool = stack.enter_context(multiprocessing.Pool(2))
        pipeline = _pipeline(halve, backend)
        sides: Dict[str, Callable[[], object]] = {
            "Pool.map": lambda: pool.map(halve, xs, 1),
            OURS: lambda: pipeline.map(inputs={"x": xs}, map_over="x"),
            **_peers(stack, 2, halve, xs),
        }
        yield Duel("parallel map, 4 x 64 MB in and out", sides, 1.0, turns=7)


def column_of_file(x: int, path: str) -> float:
    return column(x, numpy.load(path, mmap_mode="r"))


@contextmanager
def shared_array() -> Iterator[Duel]:
    """An array of 512 MB that all items read; by hand, and by joblib, it goes to a file once and the workers map it."""
    fixed, xs = numpy.ones(64 << 20), list(range(100))
    with ExitStack() as stack:
        backend = stack.enter_context(LocalBackend(map_execution="parallel", max_workers=2))
        pool = stack.enter_context(multiprocessing.Pool(2))
        pipeline = _pipeline(column, backend)

        def by_hand() -> object:
            with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as folder:
                path = os.path.join(folder, "fixed.npy")
                numpy.save(path, fixed)
                return pool.starmap(column_of_file, [(x, path) for x in xs])

        def by_joblib() -> object:
            # A context of its own for each call: the file of the first call would serve all others.
            with joblib.Parallel(n_jobs=2) as parallel:
                return parallel([joblib.delayed(column)(x, fixed) for x in xs])

        sides: Dict[str, Callable[[], object]] = {
            "Pool.starmap, a file": by_hand,
            OURS: lambda: pipeline.map(inputs={"x": xs, "fixed": fixed}, map_over="x"),
        }
        if joblib is not None:
            sides["joblib"] = by_joblib
        yield Duel("parallel map, 100 items share 512 MB", sides, 1.0, turns=7)


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


DUELS = [warm_call, first_call, partial(items, "20 µs"), partial(items, "10 ms")]
if numpy is not None:
    DUELS += [arrays, shared_array]
QUESTIONS = [*DUELS, program]


@pytest.mark.parametrize("side", [FIRST, OURS, "joblib", "mpire"])
@pytest.mark.parametrize("question", DUELS, ids=name_of)
def bench_parallel(benchmark: Any, question: Any, side: str) -> None:
    play(benchmark, question, side)
