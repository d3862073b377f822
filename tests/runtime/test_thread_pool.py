"""So many functions at once over all runs of a backend; what waits holds no place: one is enough for any nesting."""

from __future__ import annotations

import asyncio
import os
import threading
import time

import pytest
from graphs import ids
from observing import Gauge, ours

from hypernodes import LocalBackend, Pipeline, node
from hypernodes.runtime.drivers import thread_pool
from hypernodes.runtime.drivers.latch import Latch
from hypernodes.runtime.drivers.thread_pool import LULL, ThreadPool
from hypernodes.runtime.drivers.waits import waiting

THREADED = [("threaded", "sequential"), ("async", "sequential"), ("sequential", "threaded"), ("threaded", "threaded")]


# -- the pool alone ----------------------------------------------------------------------------------------------------


class Lane:
    """Notes its name and waits, where it is told to."""

    kept = ()
    wanted = True

    def __init__(self, name, ran, hold=None):
        self.latch = Latch()
        self.name, self.ran, self.hold = name, ran, hold
        self.began = threading.Event()
        self.errors = []

    def progress(self):
        return ()

    def work(self):
        self.ran.append(self.name)
        self.began.set()
        if self.hold is not None:
            assert self.hold.wait(20)

    def refused(self, error):
        self.errors.append(error)


class RUN:
    """Stands for a run."""

    caller = threading.main_thread()


@pytest.fixture
def pool():
    pool = ThreadPool(1)
    pool.enter(RUN)
    yield pool
    pool.leave(RUN)
    assert not [thread for thread in threading.enumerate() if thread.name == "hypernodes-1"]


def ask(pool, *lanes):
    for lane in lanes:
        if pool.ask(lane):
            pool.start()


def test_lanes_run_in_the_order_in_which_they_were_asked_for(pool):
    ran, go = [], threading.Event()
    lanes = [Lane(0, ran, go), *[Lane(number, ran) for number in range(1, 5)]]
    ask(pool, *lanes)
    go.set()
    for lane in lanes:
        lane.latch.wait()
    assert ran == [0, 1, 2, 3, 4]


def test_a_lane_that_is_taken_back_is_not_run(pool):
    ran, go = [], threading.Event()
    first, second, third = Lane(1, ran, go), Lane(2, ran), Lane(3, ran)
    ask(pool, first, second, third)
    assert first.began.wait(20)
    assert pool.take_back(second)
    second.latch.wait()
    assert not pool.take_back(second)
    assert not pool.take_back(first)
    go.set()
    third.latch.wait()
    first.latch.wait()
    assert ran == [1, 3]


def test_a_lane_is_pressed_where_others_wait_and_not_by_itself(pool):
    ran, go = [], threading.Event()
    first, second = Lane(1, ran, go), Lane(2, ran)
    ask(pool, first)
    assert pool.presses is None
    ask(pool, first)
    assert pool.presses is first
    ask(pool, second)
    assert pool.presses not in (None, first, second)
    go.set()
    first.latch.wait()
    second.latch.wait()


def test_after_a_lull_as_many_as_there_are_cores_begin(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(thread_pool, "monotonic", lambda: now[0])
    pool, ran = ThreadPool(64), []
    pool.enter(RUN)
    for pause, left in [(LULL / 2, True), (LULL * 2, False)]:
        pool._grown = 7
        first, second = Lane(1, ran), Lane(2, ran)
        ask(pool, first)
        first.latch.wait()
        now[0] += pause
        ask(pool, second)
        second.latch.wait()
        assert (pool._grown == 7) is left
    pool.leave(RUN)


def test_what_waits_lets_another_compute_and_goes_on_without_queueing(pool):
    ran, told, go, go_on = [], [], threading.Event(), threading.Event()
    second = Lane(2, ran, go)

    class Waits(Lane):
        def work(self):
            super().work()
            with waiting(), waiting():
                assert second.began.wait(20)
            told.append(pool.presses)  # one too many computes
            go_on.set()

    first = Waits(1, ran)
    ask(pool, first, second)
    assert go_on.wait(20)
    go.set()
    first.latch.wait()
    second.latch.wait()
    assert (ran, told) == ([1, 2], [pool])


def test_who_is_no_thread_of_the_pool_waits_without_it(pool):
    ran, go = [], threading.Event()
    first, second = Lane(1, ran, go), Lane(2, ran)
    ask(pool, first, second)
    assert first.began.wait(20)
    with waiting():
        assert not second.began.wait(0.05)
    go.set()
    second.latch.wait()
    first.latch.wait()


def test_a_lane_for_which_there_is_no_thread_hears_of_it(pool, monkeypatch):
    lane = Lane(1, [])

    def fails(self):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", fails)
        ask(pool, lane)
        lane.latch.wait()
    assert [str(error) for error in lane.errors] == ["can't start new thread"]
    again = Lane(2, [])
    ask(pool, again)
    again.latch.wait()
    assert again.ran == [2]


def another(call):
    found = []
    thread = threading.Thread(target=lambda: found.append(call()))
    thread.start()
    thread.join(20)
    return found[0]


# -- runs --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pair", [*THREADED, ("async", "async"), ("sequential", "sequential")], ids=ids)
@pytest.mark.parametrize("requests", [300, 1000])
def test_a_service_has_no_more_threads_than_its_backend_allows(pair, requests):
    inside, threads = Gauge(), []

    def work(x):
        with inside:
            time.sleep(0.001)
            threads.append(len(ours()))
        return x + 1

    def last(y):
        with inside:
            return y + 1

    pipeline = Pipeline(nodes=[node("y")(work), node("z")(last)], backend=LocalBackend(*pair, max_workers=4))
    allowed = 4 if pair != ("sequential", "sequential") else min(32, (os.cpu_count() or 1) + 4)

    async def service():
        return await asyncio.gather(*[pipeline.arun({"x": number}) for number in range(requests)])

    assert [found["z"] for found in asyncio.run(service())] == [number + 2 for number in range(requests)]
    assert inside.most <= allowed
    assert max(threads) <= allowed + 1  # and the one that looks whether it should be more
    assert ours() == []


def test_a_quick_request_waits_for_its_turn_and_not_for_the_slow_ones():
    """Two workers; of a thousand items before it, each in turn with one of others, not all are to be done first."""
    backend = LocalBackend("threaded", "threaded", max_workers=2)
    done = []

    def slow(x):
        time.sleep(0.002)
        done.append(x)
        return x

    long = Pipeline(nodes=[node("y")(slow)], backend=backend)
    quick = Pipeline(nodes=[node("y")(lambda x: x)], backend=backend)

    async def main():
        longest = asyncio.ensure_future(long.amap({"x": range(400)}, "x"))
        while not done:
            await asyncio.sleep(0.001)
        await quick.arun({"x": 1})
        before = len(done)
        await longest
        return before

    assert asyncio.run(main()) < 200


def test_threads_that_call_runs_are_not_counted_and_do_not_wait():
    held, go = threading.Barrier(3), threading.Event()

    def holds(x):
        held.wait(20)
        assert go.wait(20)
        return x

    backend = LocalBackend("threaded", "threaded", max_workers=2)
    slow = Pipeline(nodes=[node("y")(holds)], backend=backend)
    found = []

    def main():
        found.append(asyncio.run(slow.amap({"x": [1, 2]}, "x"))["y"])

    thread = threading.Thread(target=main)
    thread.start()
    held.wait(20)  # both places are taken
    quick = Pipeline(nodes=[node("a")(lambda x: x), node("b")(lambda x: x), node("c")(lambda a, b: a + b)])
    quick.backend = backend
    assert quick.run({"x": 1})["c"] == 2
    assert quick.map({"x": range(20)}, "x")["c"] == [2 * x for x in range(20)]
    go.set()
    thread.join(20)
    assert found == [[1, 2]]


@pytest.mark.parametrize("turns", ["one backend", "two in turn"])
@pytest.mark.parametrize("pair", THREADED, ids=ids)
def test_towers_of_runs_end_on_one_worker(pair, turns):
    backends = [LocalBackend(*pair, max_workers=1)]
    backends.append(backends[0] if turns == "one backend" else LocalBackend(*pair, max_workers=1))
    pipeline = Pipeline(nodes=[node("y")(lambda x: x + 1), node("z")(lambda x: x)], backend=backends[0])
    for depth in range(3):
        inner = pipeline

        def plain(x, inner=inner):
            return inner.run({"x": x})["y"]

        def mapped(x, inner=inner):
            return inner.map({"x": [x]}, "x")["y"][0]

        async def holding(x, inner=inner):
            return inner.run({"x": x})["y"]

        async def awaiting(x, inner=inner):
            return (await inner.arun({"x": x}))["y"]

        def looping(x, inner=inner):
            try:
                asyncio.get_running_loop()
            except RuntimeError:
                return asyncio.run(awaiting(x, inner))
            return inner.run({"x": x})["y"]  # on the loop of a run, where asyncio.run is refused

        nodes = [node(name)(fn) for name, fn in zip("abcde", (plain, mapped, holding, awaiting, looping))]
        pipeline = Pipeline(
            nodes=[*nodes, node("y")(lambda a, b, c, d, e: max(a, b, c, d, e))],
            backend=backends[depth % 2],
            name=f"depth {depth}",
        )
    assert pipeline.run({"x": 1}, "y") == {"y": 2}
    assert asyncio.run(pipeline.arun({"x": 1}, "y")) == {"y": 2}
    assert pipeline.map({"x": [1, 2]}, "x", output_name="y")["y"] == [2, 3]


@pytest.mark.parametrize("pair", THREADED, ids=ids)
def test_streams_within_runs_end_on_one_worker(pair):
    backend = LocalBackend(*pair, max_workers=1)
    inner = Pipeline(nodes=[node("a")(lambda x: x + 1), node("b")(lambda x: x), node("y")(lambda a, b: a + b)])
    inner.backend = backend

    def streaming(x):
        return sorted(found["y"] for _, found in inner.stream({"x": [x, x]}, "x"))

    def awaiting(x):
        async def main():
            return sorted([found["y"] async for _, found in inner.astream({"x": [x, x]}, "x")])

        return asyncio.run(main())

    outer = Pipeline(nodes=[node("s")(streaming), node("t")(awaiting)], backend=backend)
    for found in (outer.run({"x": 1}), another(lambda: asyncio.run(outer.arun({"x": 1})))):
        assert found == {"s": [3, 3], "t": [3, 3]}


@pytest.mark.parametrize("pair", THREADED[:2], ids=ids)
def test_who_waits_to_try_again_holds_no_place(pair):
    """Of two runs on one worker the second runs while the first waits; the first is there when it has run."""
    ran = threading.Event()

    @node("y", retries=1, backoff=0.05)
    def tries(x):
        if not ran.is_set():
            raise OSError("not yet")
        return x

    @node("z")
    def other(x):
        ran.set()
        return x

    backend = LocalBackend(*pair, max_workers=1)
    first, second = Pipeline(nodes=[tries], backend=backend), Pipeline(nodes=[other], backend=backend)

    async def main():
        waits = asyncio.ensure_future(first.arun({"x": 1}))
        await asyncio.sleep(0.01)
        return await second.arun({"x": 2}), await waits

    assert asyncio.run(main()) == ({"z": 2}, {"y": 1})


def test_two_maps_that_meet_end_where_there_is_room_for_both():
    meet = threading.Barrier(2)
    backend = LocalBackend("threaded", "threaded", max_workers=2)
    pipeline = Pipeline(nodes=[node("y")(lambda x: meet.wait(20) and None)], backend=backend)
    threads = [threading.Thread(target=pipeline.map, args=({"x": range(5)}, "x")) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()


def test_a_run_that_is_cancelled_waits_for_no_place():
    held, go = threading.Event(), threading.Event()

    def holds(x):
        held.set()
        assert go.wait(20)
        return x

    backend = LocalBackend("threaded", max_workers=1)
    slow = Pipeline(nodes=[node("y")(holds)], backend=backend)

    async def main():
        first = asyncio.ensure_future(slow.arun({"x": 1}))
        while not held.is_set():
            await asyncio.sleep(0.001)
        others = [asyncio.ensure_future(slow.arun({"x": number})) for number in range(5)]
        await asyncio.sleep(0.02)
        for other in others:
            other.cancel()
        gone = await asyncio.gather(*others, return_exceptions=True)
        go.set()
        return await first, [type(each).__name__ for each in gone]

    assert asyncio.run(main()) == ({"y": 1}, ["CancelledError"] * 5)
