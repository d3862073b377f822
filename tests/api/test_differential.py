"""Whatever the graph, the mode changes the schedule and not the values: sixteen pairs against plain Python.

Every case is a random tree of pipelines from a seed (tests/graphs.py). Pairs without processes see many, those with
processes fewer, on a pool that stays warm.
"""

from __future__ import annotations

import asyncio
import os
import random
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import pytest
from graphs import LOCAL_PAIRS, MODES, PAIRS, PARALLEL_PAIRS, build, ids, random_case, random_map
from hypothesis import given, settings
from hypothesis import strategies as st

from hypernodes import LocalBackend, PipelineCallback

MANY = int(os.environ.get("HYPERNODES_GRAPHS", "40"))
"""Random graphs per test; fewer per pair where each costs a trip to a worker process."""

FEW = max(2, MANY // 8)


@pytest.fixture(scope="module")
def backends():
    """One backend per pair and number of workers, so that worker processes are started once."""
    made = {}

    def backend(pair, max_workers=2):
        key = (pair, max_workers)
        if key not in made:
            made[key] = LocalBackend(*pair, max_workers=max_workers)
        return made[key]

    yield backend
    for each in made.values():
        each.close()


def check_run(case, **options):
    """Compare one run, its order of outputs included."""
    pipeline = build(case.spec, **options)
    assert list(pipeline.run(case.inputs, case.asked).items()) == list(case.expected.items())


def check_map(case, **options):
    pipeline = build(case.spec, **options)
    assert list(case.run(pipeline).items()) == list(case.expected.items())


@pytest.mark.parametrize("max_workers", [1, 2, 8])
@pytest.mark.parametrize("pair", LOCAL_PAIRS, ids=ids)
def test_run_agrees_with_plain_python(pair, max_workers, backends):
    for seed in range(MANY):
        check_run(random_case(seed), backend=backends(pair, max_workers))


@pytest.mark.parametrize("max_workers", [1, 2, 8])
@pytest.mark.parametrize("pair", LOCAL_PAIRS, ids=ids)
def test_map_agrees_with_plain_python(pair, max_workers, backends):
    for seed in range(MANY):
        check_map(random_map(seed), backend=backends(pair, max_workers))


@pytest.mark.parametrize("pair", PARALLEL_PAIRS, ids=ids)
def test_run_agrees_across_processes(pair, backends):
    for seed in range(FEW):
        check_run(random_case(seed, depth=2), backend=backends(pair))


@pytest.mark.parametrize("pair", PARALLEL_PAIRS, ids=ids)
def test_map_agrees_across_processes(pair, backends):
    for seed in range(FEW):
        check_map(random_map(seed, depth=2), backend=backends(pair))


@pytest.mark.slow
@pytest.mark.parametrize("pair", PAIRS, ids=ids)
def test_long_sweep(pair, backends):
    count = MANY // 3 if "parallel" in pair else 3 * MANY
    for seed in range(1000, 1000 + count):
        check_run(random_case(seed), backend=backends(pair))
        check_map(random_map(seed, depth=3), backend=backends(pair))


class Listener(PipelineCallback):
    """Hears of everything there is to hear of nodes and items."""

    def __init__(self):
        self.heard = 0

    def on_node_start(self, node_id, inputs, ctx):
        self.heard += 1

    def on_node_end(self, node_id, outputs, duration, ctx):
        self.heard += 1

    def on_map_item_end(self, index, duration, ctx):
        self.heard += 1


@pytest.mark.parametrize(("heard", "error_policy"), [(True, "raise"), (False, "collect"), (True, "collect")])
@pytest.mark.parametrize("pair", PAIRS, ids=ids)
def test_values_are_the_same_whoever_watches(pair, heard, error_policy, backends):
    """Code is linked in other ways where somebody listens, and where failures are collected."""
    for seed in range(3 if "parallel" in pair else MANY // 2):
        options = {"backend": backends(pair), "callbacks": [Listener()] if heard else None}
        case, many = random_case(seed, depth=2), random_map(seed, depth=2)
        one, other = build(case.spec, **options), build(many.spec, **options)
        found = one.run(case.inputs, case.asked, error_policy=error_policy)
        assert list(found.items()) == list(case.expected.items())
        found = other.map(many.inputs, many.axes, many.mode, many.asked, error_policy=error_policy)
        assert list(found.items()) == list(many.expected.items())
        if heard and case.expected:
            assert options["callbacks"][0].heard


@settings(max_examples=60)
@given(seed=st.integers(min_value=0, max_value=2**32), pair=st.sampled_from(LOCAL_PAIRS), workers=st.integers(1, 9))
def test_any_tree_any_width(seed, pair, workers):
    check_map(random_map(seed, depth=3), backend=LocalBackend(*pair, max_workers=workers))


@pytest.mark.parametrize("pair", PAIRS, ids=ids)
def test_arun_and_amap_agree(pair, backends):
    """On a loop that is already running, whose tasks are all gone afterwards."""

    async def both(case, many):
        one, other = build(case.spec, backend=backends(pair)), build(many.spec, backend=backends(pair))
        assert await one.arun(case.inputs, case.asked) == case.expected
        assert await other.amap(many.inputs, many.axes, many.mode, many.asked) == many.expected
        assert asyncio.all_tasks() == {asyncio.current_task()}

    for seed in range(FEW if "parallel" in pair else MANY):
        depth = 1 if "parallel" in pair else 3
        asyncio.run(both(random_case(seed, depth), random_map(seed, depth)))


@pytest.mark.parametrize("pair", PAIRS, ids=ids)
def test_inside_a_running_loop(pair, backends):
    """`run` and `map`, called from a coroutine, do not enter its loop again."""

    async def both(case, many):
        check_run(case, backend=backends(pair))
        check_map(many, backend=backends(pair))

    for seed in range(2 if "parallel" in pair else 10):
        asyncio.run(both(random_case(seed, 1), random_map(seed, 1)))


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("pair", [p for p in LOCAL_PAIRS if p != ("sequential", "sequential")], ids=ids)
def test_users_thread_pool(pair, workers):
    """However small the pool; it is neither shut down nor left with work."""
    with ThreadPoolExecutor(workers) as executor:
        backend = LocalBackend(*pair, max_workers=4, executor=executor)
        for seed in range(MANY):
            check_run(random_case(seed), backend=backend)
            check_map(random_map(seed), backend=backend)
        assert executor.submit(os.getpid).result() == os.getpid()
        assert executor._work_queue.qsize() == 0


@pytest.fixture(scope="module")
def process_executor():
    import multiprocessing

    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as executor:
        yield executor


@pytest.mark.parametrize("pair", PARALLEL_PAIRS, ids=ids)
def test_users_process_pool(pair, process_executor):
    backend = LocalBackend(*pair, max_workers=4, executor=process_executor)
    for seed in range(2):
        check_run(random_case(seed, 1), backend=backend)
        check_map(random_map(seed, 1), backend=backend)
    assert process_executor.submit(os.getpid).result() != os.getpid()


@pytest.mark.parametrize("pair", LOCAL_PAIRS, ids=ids)
def test_nested_backends_of_their_own(pair):
    """A nested pipeline with another backend is a run of its own, with the same result."""
    for seed in range(MANY):
        backend = LocalBackend(*pair, max_workers=2)
        case, many = random_case(seed), random_map(seed)
        one = build(case.spec, random.Random(seed), backend=backend)
        other = build(many.spec, random.Random(seed), backend=backend)
        assert one.run(case.inputs, case.asked) == case.expected
        assert many.run(other) == many.expected


def test_every_pair_is_tested():
    assert len(PAIRS) == len(MODES) ** 2 == 16


@pytest.mark.parametrize("pair", LOCAL_PAIRS, ids=ids)
def test_the_plan_runs_what_run_runs(pair):
    backend = LocalBackend(*pair, max_workers=3)
    for seed in range(MANY):
        case, many = random_case(seed), random_map(seed)
        plan = build(case.spec, backend=backend).plan(inputs=case.inputs, output_name=case.asked)
        assert plan.run(case.inputs) == case.expected
        plan = build(many.spec, backend=backend).plan(many.inputs, many.asked, many.axes, many.mode)
        assert plan.run(many.inputs) == many.expected
