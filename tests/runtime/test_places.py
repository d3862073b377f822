"""So many functions at once over all runs of a backend; what waits holds no place: one is enough for any nesting."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
from graphs import ids
from observing import Gauge

from hypernodes import LocalBackend, Pipeline, node
from hypernodes.runtime.drivers.places import Places, Turn, waiting

THREADED = [("threaded", "sequential"), ("async", "sequential"), ("sequential", "threaded"), ("threaded", "threaded")]


# -- places alone ------------------------------------------------------------------------------------------------------


def test_who_asks_first_gets_the_next_place():
    places, order = Places(1), []
    assert places.enter(Turn())

    def ask(number):
        assert places.enter(Turn())
        order.append(number)
        places.leave()

    threads = []
    for number in range(4):
        threads.append(threading.Thread(target=ask, args=(number,)))
        threads[-1].start()
        while len(places.queue) <= number:
            time.sleep(0.001)
    assert not places.enter(Turn(), wait=False)
    places.leave()
    for thread in threads:
        thread.join(20)
    assert order == [0, 1, 2, 3]
    assert places.enter(Turn(), wait=False)
    places.leave()


def test_a_turn_that_is_over_gets_none():
    places, turn, found = Places(1), Turn(), []
    assert places.enter(Turn())
    thread = threading.Thread(target=lambda: found.append(places.enter(turn)))
    thread.start()
    while not places.queue:
        time.sleep(0.001)
    places.end(turn)
    thread.join(20)
    assert found == [False]
    assert not places.queue
    assert not places.enter(turn)
    places.leave()
    assert places.enter(Turn(), wait=False)
    places.leave()


def test_what_waits_gives_its_place_back_and_goes_on_without_queueing():
    places = Places(1)
    assert places.enter(Turn())
    with waiting(), waiting():
        assert another(lambda: places.enter(Turn(), wait=False))  # and never leaves
    assert not another(lambda: places.enter(Turn(), wait=False))
    places.leave()  # one too many was out
    assert not another(lambda: places.enter(Turn(), wait=False))


def another(call):
    found = []
    thread = threading.Thread(target=lambda: found.append(call()))
    thread.start()
    thread.join(20)
    return found[0]


def test_who_holds_none_gives_none_back():
    places = Places(1)
    with waiting():
        assert another(lambda: places.enter(Turn(), wait=False))
    assert not places.enter(Turn(), wait=False)


# -- runs --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pair", [*THREADED, ("async", "async")], ids=ids)
def test_a_service_computes_no_more_at_once_than_its_backend_allows(pair):
    inside = Gauge()

    def work(x):
        with inside:
            time.sleep(0.002)
        return x + 1

    def after(y):
        with inside:
            time.sleep(0.001)
        return y + 1

    pipeline = Pipeline(nodes=[node("y")(work), node("z")(after)], backend=LocalBackend(*pair, max_workers=4))

    async def service():
        return await asyncio.gather(*[pipeline.arun({"x": number}) for number in range(120)])

    assert [found["z"] for found in asyncio.run(service())] == [number + 2 for number in range(120)]
    assert inside.most <= 4


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
