"""Work overlaps where a mode says so: proved by work that cannot end alone.

A barrier lets nobody pass before all its parties are inside at once; under an engine that runs them one after the other
it times out, breaks and fails the run. Nothing here measures time.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from graphs import MODES
from observing import Gauge

from hypernodes import LocalBackend, Pipeline, node

PATIENCE = 20
THREADS = ("async", "threaded")


class AsyncBarrier:
    """Lets coroutines of one loop pass when `parties` of them wait."""

    def __init__(self, parties):
        self.parties = parties
        self.inside = 0
        self.open = None

    async def wait(self):
        if self.open is None:
            self.open = asyncio.Event()
        self.inside += 1
        if self.inside == self.parties:
            self.open.set()
        await asyncio.wait_for(self.open.wait(), PATIENCE)


def pair_of_nodes(first, second):
    return Pipeline(nodes=[node("a")(first), node("b")(second)])


# -- nodes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("items", MODES[:3])
@pytest.mark.parametrize("nodes", THREADS)
def test_plain_nodes_meet(nodes, items):
    meet = threading.Barrier(2, timeout=PATIENCE)

    def first():
        return meet.wait() >= 0

    def second():
        return meet.wait() >= 0

    pipeline = pair_of_nodes(first, second)
    pipeline.backend = LocalBackend(nodes, items, max_workers=2)
    assert pipeline.run() == {"a": True, "b": True}


@pytest.mark.parametrize("nodes", THREADS)
def test_coroutine_nodes_meet(nodes):
    meet = AsyncBarrier(2)

    async def first():
        await meet.wait()
        return 1

    async def second():
        await meet.wait()
        return 2

    pipeline = pair_of_nodes(first, second)
    pipeline.backend = LocalBackend(nodes, max_workers=2)
    assert pipeline.run() == {"a": 1, "b": 2}


@pytest.mark.parametrize("nodes", THREADS)
def test_a_coroutine_and_a_plain_node_meet(nodes):
    """The coroutine is on the loop while the plain function blocks a thread, and each waits for the other."""
    told, answered = threading.Event(), threading.Event()

    async def first():
        told.set()
        while not answered.is_set():
            await asyncio.sleep(0)
        return 1

    def second():
        assert told.wait(PATIENCE)
        answered.set()
        return 2

    pipeline = pair_of_nodes(first, second)
    pipeline.backend = LocalBackend(nodes, max_workers=2)
    assert pipeline.run() == {"a": 1, "b": 2}


@pytest.mark.parametrize("nodes", THREADS)
def test_a_wave_is_no_barrier(nodes):
    """`late` is a wave behind `slow`, and runs while `slow` still does."""
    late_ran = threading.Event()

    @node("slow")
    def slow():
        return late_ran.wait(PATIENCE)

    @node("quick")
    def quick():
        return 1

    @node("other")
    def other(quick):
        return quick

    @node("late")
    def late(quick, other):
        late_ran.set()
        return other

    pipeline = Pipeline(nodes=[slow, quick, other, late], backend=LocalBackend(nodes, max_workers=2))
    assert pipeline.run()["slow"] is True


@pytest.mark.parametrize("nodes", THREADS)
def test_nodes_of_two_nested_pipelines_meet(nodes):
    meet = threading.Barrier(2, timeout=PATIENCE)

    def wait():
        return meet.wait() >= 0

    inner = [Pipeline(nodes=[node(name)(wait)], name=name) for name in "ab"]
    outer = Pipeline(nodes=inner, backend=LocalBackend(nodes, max_workers=2))
    assert outer.run() == {"a": True, "b": True}


# -- items ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("nodes", MODES[:3])
@pytest.mark.parametrize("items", THREADS)
def test_plain_items_meet(nodes, items):
    meet = threading.Barrier(4, timeout=PATIENCE)

    @node("y")
    def wait(x):
        meet.wait()
        return x

    pipeline = Pipeline(nodes=[wait], backend=LocalBackend(nodes, items, max_workers=4))
    assert pipeline.map({"x": range(4)}, "x") == {"y": [0, 1, 2, 3]}


@pytest.mark.parametrize("nodes", MODES[:3])
@pytest.mark.parametrize("items", THREADS)
def test_coroutine_items_meet(nodes, items):
    meet = AsyncBarrier(50)

    @node("y")
    async def wait(x):
        await meet.wait()
        return x

    pipeline = Pipeline(nodes=[wait], backend=LocalBackend(nodes, items, max_workers=50))
    assert pipeline.map({"x": range(50)}, "x") == {"y": list(range(50))}


@pytest.mark.parametrize("nodes", MODES[:3])
@pytest.mark.parametrize("items", THREADS)
def test_items_of_coroutine_and_plain_nodes_meet(nodes, items):
    """Every item has both: the coroutines meet on the loop, then the plain functions in threads."""
    on_loop, in_threads = AsyncBarrier(3), threading.Barrier(3, timeout=PATIENCE)

    @node("y")
    async def first(x):
        await on_loop.wait()
        return x

    @node("z")
    def second(y):
        in_threads.wait()
        return y + 1

    pipeline = Pipeline(nodes=[first, second], backend=LocalBackend(nodes, items, max_workers=3))
    assert pipeline.map({"x": range(3)}, "x")["z"] == [1, 2, 3]


def test_ten_thousand_coroutine_items_in_flight():
    meet = AsyncBarrier(10_000)

    @node("y")
    async def wait(x):
        await meet.wait()
        return x

    pipeline = Pipeline(nodes=[wait], backend=LocalBackend(map_execution="async", max_workers=10_000))
    assert pipeline.map({"x": range(10_000)}, "x")["y"] == list(range(10_000))


@pytest.mark.parametrize("items", THREADS)
def test_every_worker_of_a_users_pool_works(items):
    meet = threading.Barrier(3, timeout=PATIENCE)

    @node("y")
    def wait(x):
        meet.wait()
        return threading.current_thread().name

    with ThreadPoolExecutor(3, thread_name_prefix="mine") as executor:
        pipeline = Pipeline(nodes=[wait], backend=LocalBackend(map_execution=items, max_workers=3, executor=executor))
        names = set(pipeline.map({"x": range(3)}, "x")["y"])
    assert len(names) == 3
    assert all(name.startswith("mine") for name in names)


# -- one at a time ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("coroutine", [False, True])
@pytest.mark.parametrize("items", MODES[:3])
def test_sequential_nodes_are_one_at_a_time_within_an_item(items, coroutine):
    """Two independent nodes of one item never overlap, whatever the items do."""
    gauges = {x: Gauge() for x in range(6)}

    def work(x):
        with gauges[x]:
            return x

    async def awork(x):
        with gauges[x]:
            await asyncio.sleep(0)
            return x

    fn = awork if coroutine else work
    pipeline = Pipeline(
        nodes=[node(name)(fn) for name in "abc"], backend=LocalBackend("sequential", items, max_workers=6)
    )
    pipeline.map({"x": range(6)}, "x")
    assert {gauge.most for gauge in gauges.values()} == {1}


@pytest.mark.parametrize("nodes", MODES[:3])
def test_sequential_items_are_one_at_a_time_and_in_order(nodes):
    seen = []
    gauge = Gauge()

    @node("y")
    def first(x):
        with gauge:
            seen.append(x)
            return x

    @node("z")
    async def second(y):
        seen.append(y)
        return y

    pipeline = Pipeline(nodes=[first, second], backend=LocalBackend(nodes, "sequential", max_workers=8))
    pipeline.map({"x": range(5)}, "x")
    assert gauge.most == 1
    assert seen == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]


def test_sequential_runs_in_the_callers_thread():
    @node("y")
    def where(x):
        return threading.current_thread()

    result = Pipeline(nodes=[where]).map({"x": range(3)}, "x")
    assert set(result["y"]) == {threading.current_thread()}


# -- widths -----------------------------------------------------------------------------------------------------------


class Meter:
    """Knows how many items of one map are in flight: between the first node of an item and the last."""

    def __init__(self):
        self.lock = threading.Lock()
        self.open = {}
        self.most = 0

    def enter(self, key):
        with self.lock:
            self.open[key] = self.open.get(key, 0) + 1
            self.most = max(self.most, self.open[key])

    def leave(self, key):
        with self.lock:
            self.open[key] -= 1


def three_levels(meters, total, barrier=None):
    """Return a pipeline, to be mapped over `a`, that maps over `bs` and in that over `cs`."""
    gauge = Gauge()

    @node("c_done")
    def innermost(c, b_in):
        meters[2].enter(b_in)
        with gauge:
            total.append(c)
        meters[2].leave(b_in)
        return c

    low = Pipeline(nodes=[innermost], name="low")

    @node("b_in")
    def b_enter(b, a_in):
        meters[1].enter(a_in)
        return (a_in, b)

    @node("b_out")
    def b_leave(c_done, b_in):
        meters[1].leave(b_in[0])
        return sum(c_done)

    middle = Pipeline(nodes=[b_enter, low.as_node(input_mapping={"cs": "c"}, map_over="cs"), b_leave], name="middle")

    @node("a_in")
    def a_enter(a):
        meters[0].enter("top")
        if barrier is not None:
            barrier.wait()
        return a

    @node("a_out")
    def a_leave(b_out):
        meters[0].leave("top")
        return sum(b_out)

    top = Pipeline(nodes=[a_enter, middle.as_node(input_mapping={"bs": "b"}, map_over="bs"), a_leave], name="top")
    return top, gauge


@pytest.mark.parametrize("nodes", ["async", "threaded"])
@pytest.mark.parametrize("items", THREADS)
def test_widths_of_nested_maps(nodes, items):
    """The guide: eight at the top, the square root of eight one level down, one at a time below."""
    meters, total = [Meter() for _ in range(3)], []
    pipeline, gauge = three_levels(meters, total, threading.Barrier(8, timeout=PATIENCE))
    pipeline.backend = LocalBackend(nodes, items, max_workers=8)
    result = pipeline.map({"a": range(16), "bs": list(range(9)), "cs": [1, 2, 3]}, "a")
    assert result["a_out"] == [54] * 16
    assert len(total) == 16 * 9 * 3
    assert meters[0].most == 8  # the barrier has eight parties
    assert meters[1].most <= 3
    assert meters[2].most == 1
    assert gauge.most <= 8


@pytest.mark.parametrize("items", THREADS)
def test_one_level_down_three_do_overlap(items):
    """A map within a single item: three of its items meet, and never more."""
    meet, gauge = threading.Barrier(3, timeout=PATIENCE), Gauge()

    @node("y")
    def wait(x):
        with gauge:
            meet.wait()
            return x

    inner = Pipeline(nodes=[wait], name="inner")
    outer = Pipeline(
        nodes=[inner.as_node(input_mapping={"xs": "x"}, map_over="xs")],
        backend=LocalBackend(map_execution=items, max_workers=8),
    )
    assert outer.map({"xs": [list(range(9))]}, "xs") == {"y": [list(range(9))]}
    assert gauge.most == 3


@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("items", MODES[:3])
@pytest.mark.parametrize("nodes", MODES[:3])
def test_max_workers_bounds_all_depths_together(nodes, items, workers):
    gauge = Gauge()

    @node("y")
    def plain(x):
        with gauge:
            time.sleep(0)
            return x

    @node("z")
    async def coroutine(x):
        with gauge:
            await asyncio.sleep(0)
            return x

    inner = Pipeline(nodes=[plain, coroutine], name="inner")
    middle = Pipeline(nodes=[inner.as_node(input_mapping={"xs": "x"}, map_over="xs")], name="middle")
    backend = LocalBackend(nodes, items, max_workers=workers)
    outer = Pipeline(nodes=[middle.as_node(input_mapping={"xss": "xs"}, map_over="xss")], backend=backend)
    data = [[[1, 2, 3], [4, 5]], [[6], [7, 8]]]
    assert outer.map({"xss": data}, "xss")["y"] == data
    assert gauge.most <= (1 if (nodes, items) == ("sequential", "sequential") else workers)


# -- processes --------------------------------------------------------------------------------------------------------


def meet_in_files(folder, name, parties):
    """Leave a file, and wait until as many are there as there are parties; return the process id."""
    with open(os.path.join(folder, str(name)), "w"):
        pass
    end = time.monotonic() + PATIENCE
    while len(os.listdir(folder)) < parties:
        assert time.monotonic() < end, "nobody else came"
        time.sleep(0.001)
    return os.getpid()


@pytest.fixture(scope="module")
def processes():
    with LocalBackend("parallel", "parallel", max_workers=2) as backend:
        yield backend


@pytest.mark.parametrize("items", MODES)
def test_parallel_nodes_meet(items, tmp_path):
    folder = str(tmp_path)

    @node("a")
    def first(folder):
        return meet_in_files(folder, "a", 2)

    @node("b")
    def second(folder):
        return meet_in_files(folder, "b", 2)

    with LocalBackend("parallel", items, max_workers=2) as backend:
        result = Pipeline(nodes=[first, second], backend=backend).run({"folder": folder})
    assert len({result["a"], result["b"], os.getpid()}) == 3


@pytest.mark.parametrize("nodes", MODES)
def test_parallel_items_meet(nodes, tmp_path):
    folder = str(tmp_path)

    @node("pid")
    def wait(folder, x):
        return meet_in_files(folder, x, 2)

    with LocalBackend(nodes, "parallel", max_workers=2) as backend:
        result = Pipeline(nodes=[wait], backend=backend).map({"folder": folder, "x": [1, 2]}, "x")
    assert len({*result["pid"], os.getpid()}) == 3


@pytest.mark.parametrize("nodes", ["async", "threaded"])
def test_nodes_meet_within_an_item_in_a_worker(nodes, tmp_path):
    """A chunk in a worker has threads and a loop of its own."""
    folder = str(tmp_path)

    @node("a")
    def first(folder, x):
        return meet_in_files(folder, f"{x}a", 2 * (x + 1))

    @node("b")
    def second(folder, x):
        return meet_in_files(folder, f"{x}b", 2 * (x + 1))

    with LocalBackend(nodes, "parallel", max_workers=2) as backend:
        pipeline = Pipeline(nodes=[first, second], backend=backend)
        result = pipeline.map({"folder": folder, "x": [0]}, "x")
    assert result["a"] == result["b"]
    assert result["a"] != [os.getpid()]


def test_a_linear_chain_stays_in_one_process(processes):
    @node("a")
    def first():
        return os.getpid()

    @node("b")
    def second(a):
        return (a, os.getpid())

    result = Pipeline(nodes=[first, second], backend=processes).run()
    assert result["b"] == (result["a"], result["a"])
    assert result["a"] != os.getpid()


@pytest.mark.parametrize("items", THREADS)
def test_items_in_flight_share_the_processes(items, tmp_path):
    """Nodes of two items are in two processes at once, though each item has only one node at a time."""
    folder = str(tmp_path)

    @node("pid")
    def wait(folder, x):
        return meet_in_files(folder, x, 2)

    with LocalBackend("parallel", items, max_workers=2) as backend:
        result = Pipeline(nodes=[wait], backend=backend).map({"folder": folder, "x": [1, 2]}, "x")
    assert len({*result["pid"], os.getpid()}) == 3


def test_parallel_and_plain_nested_maps_meet(tmp_path):
    """Three nested levels under parallel items: the innermost chunks go to processes, and nothing waits for itself."""
    inner = Pipeline(nodes=[node("y")(lambda x: (x, os.getpid()))], name="inner")
    middle = Pipeline(nodes=[inner.as_node(input_mapping={"xs": "x"}, map_over="xs")], name="middle")
    with LocalBackend(map_execution="parallel", max_workers=1) as backend:
        outer = Pipeline(nodes=[middle.as_node(input_mapping={"xss": "xs"}, map_over="xss")], backend=backend)
        result = outer.map({"xss": [[[1, 2], [3]], [[4]]]}, "xss")
    assert [[[x for x, _ in xs] for xs in xss] for xss in result["y"]] == [[[1, 2], [3]], [[4]]]
