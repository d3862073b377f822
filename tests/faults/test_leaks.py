"""A thousand runs in a row leave as much behind as one does: nothing; and a long map keeps its results and no more."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import threading
import tracemalloc

import pytest
from graphs import MODES, PAIRS, ids
from scripts import Program, children, linux

from hypernodes import LocalBackend, Pipeline, node

pytestmark = [pytest.mark.slow, linux]
RUNS = 1000


def plain(x):
    if x < 0:
        raise ValueError(x)
    return x + 1


async def coroutine(x):
    return plain(x)


def small(backend):
    """Two independent nodes, a plain and a coroutine function, and one that reads both."""
    return Pipeline(nodes=[node("a")(plain), node("b")(coroutine), node("c")(lambda a, b: a + b)], backend=backend)


def what_there_is():
    """Return threads, child processes, descriptors and shared memory with semaphores of this session."""
    gc.collect()
    own = [name for name in os.listdir("/dev/shm") if str(os.getpid()) in name] if os.path.isdir("/dev/shm") else []
    return threading.enumerate(), sorted(children(os.getpid())), sorted(os.listdir("/proc/self/fd"), key=int), own


def ok(pipeline):
    assert pipeline.run({"x": 1})["c"] == 4


def failing(pipeline):
    with pytest.raises(ValueError):
        pipeline.run({"x": -1})


def mapped(pipeline):
    assert pipeline.map({"x": [1, 2]}, "x")["c"] == [4, 6]


def failing_map(pipeline):
    with pytest.raises(ValueError):
        pipeline.map({"x": [1, -1]}, "x")


def awaited(pipeline):
    async def some():
        for _ in range(5):
            assert (await pipeline.arun({"x": 1}))["c"] == 4
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(some())


def grown(act, pipeline, times):
    """Return the bytes by which Python's objects grow over a third of `times` acts: the least of three thirds.

    What leaks, leaks in each of them; tables of weak references, which pickling fills, grow in the first ones only.
    """
    growths = []
    tracemalloc.start()
    try:
        act(pipeline)
        for _ in range(3):
            gc.collect()
            before = tracemalloc.get_traced_memory()[0]
            for _ in range(times // 3):
                act(pipeline)
            gc.collect()
            growths.append(tracemalloc.get_traced_memory()[0] - before)
    finally:
        tracemalloc.stop()
    return min(growths)


@pytest.mark.parametrize(
    ("act", "times"),
    [(ok, RUNS), (mapped, RUNS // 5), (failing, RUNS // 5), (failing_map, RUNS // 5), (awaited, RUNS // 16)],
)
@pytest.mark.parametrize("mode", MODES)
def test_runs_in_a_row_leave_nothing(mode, act, times):
    """Forty bytes a run would be 13 kB after a third of a thousand."""
    if mode == "parallel" and act in (failing, failing_map):
        times //= 10  # a failing run may end the workers of what else was running, and start them anew
    with LocalBackend(mode, mode, max_workers=2) as backend:
        mapped(small(backend))
    before = what_there_is()
    with LocalBackend(mode, mode, max_workers=2) as backend:
        pipeline = small(backend)
        mapped(pipeline)
        bytes_left = grown(act, pipeline, times)
        mapped(pipeline)
        threads, processes, _, _ = what_there_is()
        assert threads == before[0]
        assert len(processes) <= len(before[1]) + 2
        del pipeline
    assert what_there_is() == before
    assert bytes_left < 10_000


@pytest.mark.sweep
@pytest.mark.parametrize("pair", PAIRS, ids=ids)
def test_a_thousand_maps_leave_nothing(pair):
    with LocalBackend(*pair, max_workers=2) as backend:
        pipeline = small(backend)
        for _ in range(3):
            mapped(pipeline)
        before = what_there_is()
        bytes_left = grown(mapped, pipeline, RUNS)
        assert what_there_is() == before
        assert bytes_left < 10_000


@pytest.mark.parametrize("mode", MODES)
def test_pipelines_and_backends_come_and_go(mode):
    """Nothing outlives the objects that a program lets go of; a pool goes with its backend, closed or not."""

    def use(_):
        pipeline = small(LocalBackend(mode, mode, max_workers=1))
        ok(pipeline)

    use(None)
    before = what_there_is()
    bytes_left = grown(use, None, 6 if mode == "parallel" else 99)
    after = what_there_is()
    assert after == before
    assert bytes_left < 10_000


# -- a long map -------------------------------------------------------------------------------------------------------

# Each item makes ten kilobytes on its way to a small number: kept, a million of them would be ten gigabytes.
LONG = """
    import resource, sys
    from hypernodes import LocalBackend, Pipeline, node

    def make(x):
        return bytes(10_000)

    def measure(big):
        return len(big)

    def peak():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # kilobytes

    pipeline = Pipeline(nodes=[node("big")(make), node("n")(measure)])
    pipeline.backend = LocalBackend(MODES, max_workers=2)
    pipeline.map({"x": range(1000)}, "x", output_name="n")
    before = peak()
    result = pipeline.map({"x": range(COUNT)}, "x", output_name="n")["n"]
    assert len(result) == COUNT and set(result) == {10_000}
    print(peak() - before)
"""


@pytest.mark.parametrize(
    ("pair", "count"),
    [
        (("sequential", "sequential"), 1_000_000),
        (("sequential", "threaded"), 100_000),
        (("threaded", "async"), 50_000),
        (("sequential", "parallel"), 200_000),
        (("parallel", "threaded"), 5_000),
        *[
            pytest.param(pair, 1_000_000, marks=pytest.mark.sweep)
            for pair in [("sequential", "threaded"), ("sequential", "parallel"), ("sequential", "async")]
        ],
    ],
    ids=lambda value: ids(value) if isinstance(value, tuple) else str(value),
)
def test_a_long_map_keeps_its_results_only(pair, count, tmp_path):
    """A list of pointers is 8 bytes an item, twice for what is gathered; the rest is there for ten megabytes."""
    text = LONG.replace("MODES", f"*{pair!r}").replace("COUNT", str(count))
    with Program(tmp_path, text) as program:
        status, out, err = program.finish()
    assert (status, err) == (0, "")
    assert int(out) < 10_000 + 3 * 8 * count / 1000 + (0 if sys.version_info >= (3, 9) else 10_000)
