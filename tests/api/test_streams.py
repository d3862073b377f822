"""Streams: items as they finish, from iterators that are read no further than needed, and a clean end however it comes.

What overlaps is proved by barriers and events, what is bounded by counting; nothing here measures time.
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
import itertools
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from graphs import LOCAL_PAIRS, PAIRS, PARALLEL_PAIRS, build, ids, random_map
from observing import notes_of, our_threads, ours
from scripts import run_script

from hypernodes import LocalBackend, Pipeline, PipelineCallback, node
from hypernodes.errors import (
    MapInputError,
    MapLengthError,
    MissingInputError,
    NotPicklableError,
    OptionError,
    StreamLengthError,
    UnknownNameError,
    WorkerDiedError,
)

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 20
CONCURRENT = [pair for pair in LOCAL_PAIRS if pair != ("sequential", "sequential")]
OVERLAPPING = [pair for pair in LOCAL_PAIRS if pair[1] != "sequential"]
MOST = 8192
"""More than any window, and few enough to count to."""


@pytest.fixture(autouse=True)
def nothing_is_left():
    """No thread of ours outlives a test, whatever it did to its streams."""
    yield
    assert ours() == []


def idle(backend):
    """Whether no worker process is lent to anybody."""
    workers = backend._workers
    return workers is None or not workers.pool._leased


@node("y")
def double(x):
    return 2 * x


@node("z")
async def add(y, k=0):
    await asyncio.sleep(0)
    return y + k


def doubling(backend):
    return Pipeline(nodes=[double, add], name="doubling", backend=backend)


class Counted:
    """Numbers without end, and how many were taken."""

    def __init__(self):
        self.taken = 0

    def __iter__(self):
        return self

    def __next__(self):
        assert self.taken < MOST, "a stream that reads on and on"
        self.taken += 1
        return self.taken - 1

    def __aiter__(self):
        return self

    async def __anext__(self):
        await asyncio.sleep(0)
        return next(self)


def drain(stream, seen):
    """Read a stream to its end, and leave what it yielded in `seen` even if that end is an error."""
    for index, outputs in stream:
        seen.append((index, outputs))


async def adrain(stream, seen):
    async for index, outputs in stream:
        seen.append((index, outputs))


def in_order(pairs):
    return [outputs for _, outputs in sorted(pairs, key=lambda pair: pair[0])]


def items_of(case, stream, lazy, ordered):
    """Return what a stream of a random map yields, as the lists of a map."""
    inputs = dict(case.inputs)
    if lazy:
        inputs.update({axis: iter(inputs[axis]) for axis in case.axes})
    return stream(inputs, case.axes, case.mode, case.asked, ordered)


def check(case, pairs, ordered):
    expected = case.expected
    if ordered:
        assert [index for index, _ in pairs] == list(range(len(pairs)))
    rows = in_order(pairs)
    if expected:
        assert len(rows) == len(next(iter(expected.values())))
    assert {name: [row[name] for row in rows] for name in expected} == expected
    assert all(list(row) == list(expected) for row in rows)


# -- the same results as map ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ordered", [False, True], ids=["as they finish", "ordered"])
@pytest.mark.parametrize("pair", PAIRS, ids=ids)
def test_stream_agrees_with_plain_python(pair, ordered, backends):
    for seed in range(3 if "parallel" in pair else 30):
        case = random_map(seed, depth=2)
        pipeline = build(case.spec, backend=backends(pair))
        check(case, list(items_of(case, pipeline.stream, seed % 2, ordered)), ordered)


@pytest.mark.parametrize("ordered", [False, True], ids=["as they finish", "ordered"])
@pytest.mark.parametrize("pair", PAIRS, ids=ids)
def test_astream_agrees_with_plain_python(pair, ordered, backends):
    async def collect(case):
        pipeline = build(case.spec, backend=backends(pair))
        pairs = [pair async for pair in items_of(case, pipeline.astream, False, ordered)]
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return pairs

    for seed in range(2 if "parallel" in pair else 15):
        case = random_map(seed, depth=2)
        check(case, asyncio.run(collect(case)), ordered)


@pytest.mark.parametrize("pair", PAIRS, ids=ids)
def test_many_items_from_a_generator(pair, backends):
    count = 3000
    pipeline = doubling(backends(pair))
    pairs = list(pipeline.stream({"x": (i for i in range(count)), "k": 1}, "x", ordered=True, output_name="z"))
    assert pairs == [(i, {"z": 2 * i + 1}) for i in range(count)]


@pytest.mark.parametrize("pair", PAIRS, ids=ids)
def test_no_items(pair, backends):
    pipeline = doubling(backends(pair))
    assert list(pipeline.stream({"x": iter(())}, "x")) == []
    assert list(pipeline.stream({"x": []}, "x", ordered=True)) == []

    async def collect():
        return [item async for item in pipeline.astream({"x": []}, "x")]

    assert asyncio.run(collect()) == []


@pytest.mark.parametrize("pair", LOCAL_PAIRS, ids=ids)
def test_nothing_to_compute(pair, backends):
    """Every output was given, so nothing runs; there still is an item for each row."""
    pipeline = Pipeline(nodes=[double], backend=backends(pair))
    inputs = {"x": [1, 2], "y": 5}
    assert list(pipeline.stream(inputs, "x")) == [(0, {}), (1, {})]

    async def collect():
        return [item async for item in pipeline.astream(inputs, "x")]

    assert asyncio.run(collect()) == [(0, {}), (1, {})]


@pytest.mark.parametrize("pair", [("sequential", "sequential"), ("threaded", "threaded"), ("async", "async")], ids=ids)
def test_zip_and_product(pair, backends):
    pipeline = Pipeline(nodes=[node("s")(lambda a, b: (a, b))], backend=backends(pair))
    inputs = {"a": iter("pq"), "b": iter([1, 2])}
    assert list(pipeline.stream(inputs, ["a", "b"], ordered=True)) == [(0, {"s": ("p", 1)}), (1, {"s": ("q", 2)})]
    inputs = {"a": iter("pq"), "b": iter([1, 2])}
    product = list(pipeline.stream(inputs, ["a", "b"], "product", ordered=True))
    assert [outputs["s"] for _, outputs in product] == [("p", 1), ("p", 2), ("q", 1), ("q", 2)]

    async def letters():
        for letter in "pq":
            yield letter

    async def collect():
        inputs = {"a": letters(), "b": [1, 2]}
        return [item async for item in pipeline.astream(inputs, ["a", "b"], "product", ordered=True)]

    assert asyncio.run(collect()) == product


@pytest.mark.parametrize("pair", PAIRS, ids=ids)
def test_one_worker(pair):
    with LocalBackend(*pair, max_workers=1) as backend:
        pairs = list(doubling(backend).stream({"x": range(30)}, "x"))
        assert in_order(pairs) == [{"y": 2 * i, "z": 2 * i} for i in range(30)]


@pytest.mark.parametrize("pair", CONCURRENT, ids=ids)
def test_on_the_pool_that_the_consumer_is_in(pair):
    """Its only thread consumes the stream, so it has to do the work as well."""
    with ThreadPoolExecutor(1) as executor:
        pipeline = doubling(LocalBackend(*pair, max_workers=2, executor=executor))
        future = executor.submit(lambda: in_order(pipeline.stream({"x": range(5)}, "x")))
        assert future.result() == [{"y": 2 * i, "z": 2 * i} for i in range(5)]

        def leave():
            leave_by_break(pipeline.stream({"x": Counted()}, "x"))
            return ours()

        assert executor.submit(leave).result() == []


# -- lazy and bounded -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pair", PAIRS, ids=ids)
def test_an_iterator_without_end(pair, backends):
    backend, source = backends(pair), Counted()
    stream = doubling(backend).stream({"x": source}, "x", ordered=True)
    assert source.taken == 0
    for index, outputs in stream:
        assert outputs["z"] == 2 * index
        # The largest window there is, in worker processes; elsewhere it is twice the width.
        assert source.taken <= index + 1 + (4096 if "parallel" in pair else 4)
        if index == 50:
            break
    stream.close()
    assert idle(backend)


@pytest.mark.parametrize("pair", PAIRS, ids=ids)
def test_an_async_iterator_without_end(pair, backends):
    backend, source = backends(pair), Counted()

    async def consume():
        stream = doubling(backend).astream({"x": source}, "x", ordered=True)
        await asyncio.sleep(0)
        assert source.taken == 0
        async for index, outputs in stream:
            assert outputs["z"] == 2 * index
            assert source.taken <= index + 1 + (4096 if "parallel" in pair else 5)
            if index == 50:
                break
        await stream.aclose()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(consume())
    assert idle(backend)


def test_a_sequential_stream_reads_one_row_for_one_item():
    source = Counted()
    for index, _ in doubling(None).stream({"x": source}, "x"):
        assert source.taken == index + 1
        if index == 3:
            break


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("pair", OVERLAPPING, ids=ids)
def test_a_consumer_that_does_not_come_back_stops_the_reading(pair, ordered, backends):
    """However long it stays away: the window is full, and nobody but the consumer reads."""
    source, ran = Counted(), threading.Semaphore(0)

    def work(x):
        ran.release()
        return x

    pipeline = Pipeline(nodes=[node("y")(work)], backend=backends(pair))
    stream = pipeline.stream({"x": source}, "x", ordered=ordered)
    next(stream)
    taken = source.taken
    for _ in range(taken):
        # What was read is worked on while the consumer is away.
        assert ran.acquire(timeout=PATIENCE)
    assert source.taken == taken <= 5
    stream.close()


@pytest.mark.parametrize("pair", OVERLAPPING, ids=ids)
def test_items_overlap(pair, backends):
    meet = threading.Barrier(2, timeout=PATIENCE)
    pipeline = Pipeline(nodes=[node("y")(lambda x: meet.wait() >= 0)], backend=backends(pair))
    assert list(pipeline.stream({"x": range(6)}, "x", ordered=True)) == [(i, {"y": True}) for i in range(6)]


@pytest.mark.parametrize("pair", OVERLAPPING, ids=ids)
def test_what_finishes_first_comes_first(pair, backends):
    last = threading.Event()

    def work(x):
        assert x or last.wait(PATIENCE)
        return x

    pipeline = Pipeline(nodes=[node("y")(work)], backend=backends(pair))
    order = []
    for index, _ in pipeline.stream({"x": range(4)}, "x"):
        order.append(index)
        if len(order) == 3:
            last.set()
    assert order[-1] == 0
    last.clear()
    source = Counted()
    timer = threading.Timer(0.05, last.set)
    timer.start()
    stream = pipeline.stream({"x": source}, "x", ordered=True)
    # Items behind the one that is late are held back, and bounded all the same.
    assert next(stream)[0] == 0
    assert source.taken <= 5
    stream.close()
    timer.join()


def test_nodes_and_iterators_in_the_callers_thread():
    """So that a connection, or whatever else belongs to a thread, may feed a stream."""
    seen = set()

    def rows():
        for number in range(20):
            seen.add(threading.current_thread())
            yield number

    for pair in LOCAL_PAIRS:
        list(doubling(LocalBackend(*pair, max_workers=2)).stream({"x": rows()}, "x"))
    inline = Pipeline(nodes=[node("y")(lambda x: seen.add(threading.current_thread()))])
    list(inline.stream({"x": rows()}, "x"))
    assert seen == {threading.current_thread()}


variable = contextvars.ContextVar("variable", default="unset")


@pytest.mark.parametrize("pair", PAIRS, ids=ids)
def test_every_node_sees_the_callers_context(pair, backends):
    async def asee(x):
        return variable.get()

    token = variable.set("mine")
    try:
        nodes = [node("a")(lambda x: variable.get()), node("b")(asee)]
        pipeline = Pipeline(nodes=nodes, backend=backends(pair))
        assert [item for _, item in pipeline.stream({"x": range(5)}, "x")] == [{"a": "mine", "b": "mine"}] * 5
    finally:
        variable.reset(token)


# -- how it ends ------------------------------------------------------------------------------------------------------


def leave_by_break(stream):
    for _ in stream:
        break


def leave_by_close(stream):
    next(stream)
    stream.close()
    assert list(stream) == []


def leave_by_exception(stream):
    def consume():
        for _ in stream:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        consume()


def leave_by_forgetting(stream):
    next(stream)


def leave_unstarted(stream):
    stream.close()


def leave_by_throw(stream):
    next(stream)
    with pytest.raises(KeyError):
        stream.throw(KeyError("thrown"))


LEAVING = [
    leave_by_break,
    leave_by_close,
    leave_by_exception,
    leave_by_forgetting,
    leave_unstarted,
    leave_by_throw,
]


@pytest.mark.parametrize("leave", LEAVING, ids=lambda leave: leave.__name__)
@pytest.mark.parametrize("pair", PAIRS, ids=ids)
def test_leaving_a_stream(pair, leave, backends):
    backend = backends(pair)
    pipeline = doubling(backend)
    leave(pipeline.stream({"x": Counted()}, "x"))
    assert ours() == []
    assert idle(backend)
    assert in_order(pipeline.stream({"x": range(3)}, "x", output_name="z")) == [{"z": 0}, {"z": 2}, {"z": 4}]


@pytest.mark.parametrize("pair", PAIRS, ids=ids)
def test_leaving_in_a_cycle_that_only_the_collector_finds(pair, backends):
    backend = backends(pair)
    stream = doubling(backend).stream({"x": Counted()}, "x")
    next(stream)
    cycle = [stream]
    cycle.append(cycle)
    del stream, cycle
    gc.collect()
    assert ours() == []
    assert idle(backend)


@pytest.mark.parametrize("coroutine", [False, True], ids=["plain", "coroutine"])
@pytest.mark.parametrize("pair", CONCURRENT, ids=ids)
def test_closed_by_one_of_its_own_nodes(pair, coroutine, backends):
    """As the garbage collector may do, in whichever thread it happens to run: nobody waits for itself."""
    away, closed = threading.Event(), threading.Event()

    def close(x):
        if x == 1:
            assert away.wait(PATIENCE)
            stream.close()
            closed.set()
        return x

    async def aclose(x):
        return close(x)

    made = Pipeline(nodes=[node("y")(aclose if coroutine else close)], backend=backends(pair))
    stream = made.stream({"x": Counted()}, "x")
    assert next(stream) == (0, {"y": 0})
    threads = our_threads()
    away.set()
    assert closed.wait(PATIENCE)
    assert list(stream) == []
    for thread in [*threads, *our_threads()]:
        thread.join(PATIENCE)


@pytest.mark.parametrize("pair", CONCURRENT, ids=ids)
def test_what_runs_is_awaited_and_nothing_else_starts(pair, backends):
    started, release = threading.Semaphore(0), threading.Event()
    begun, ended = [], []

    def work(x):
        begun.append(x)
        if x:
            started.release()
            assert release.wait(PATIENCE)
        ended.append(x)
        return x

    stream = Pipeline(nodes=[node("y")(work)], backend=backends(pair)).stream({"x": Counted()}, "x")
    next(stream)
    assert started.acquire(timeout=PATIENCE)
    threading.Timer(0.05, release.set).start()
    stream.close()
    assert sorted(begun) == sorted(ended)


@pytest.mark.parametrize("pair", [p for p in LOCAL_PAIRS if p[0] != "sequential" and p[1] != "sequential"], ids=ids)
def test_coroutines_are_cancelled(pair, backends):
    inside, cancelled = threading.Event(), []

    async def work(x):
        if not x:
            return x
        inside.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append(x)

    stream = Pipeline(nodes=[node("y")(work)], backend=backends(pair)).stream({"x": Counted()}, "x")
    assert next(stream) == (0, {"y": 0})
    assert inside.wait(PATIENCE)
    stream.close()
    assert cancelled


def forever(x):
    import time

    while x:
        time.sleep(0.01)
    return x


@pytest.mark.parametrize("pair", PARALLEL_PAIRS, ids=ids)
def test_processes_that_do_not_end_are_dropped(pair):
    with LocalBackend(*pair, max_workers=2) as backend:
        pipeline = Pipeline(nodes=[node("y")(forever)], backend=backend)
        stream = pipeline.stream({"x": Counted()}, "x")
        assert next(stream) == (0, {"y": 0})
        stream.close()
        assert idle(backend)
        assert list(pipeline.stream({"x": [0]}, "x")) == [(0, {"y": 0})]


@pytest.mark.parametrize("pair", PAIRS, ids=ids)
def test_streams_in_threads_that_abandon_them(pair, backends):
    """Two threads with two streams each of one pipeline, read in turns and dropped half-way."""
    backend = backends(pair)
    pipeline, wrong = doubling(backend), []

    def consume(number):
        try:
            for _ in range(3):
                first = pipeline.stream({"x": itertools.count(number)}, "x", ordered=True)
                second = pipeline.stream({"x": itertools.count(number + 1)}, "x", ordered=True)
                for (i, one), (j, other) in itertools.islice(zip(first, second), 20):
                    if (i, one["z"], other["z"]) != (j, 2 * (number + i), 2 * (number + i + 1)):
                        wrong.append((i, one, other))
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=consume, args=(100 * number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert ours() == []
    assert idle(backend)


@pytest.mark.parametrize("pair", PAIRS, ids=ids)
def test_a_consumer_that_runs_more(pair, backends):
    """Another stream, a map and a run inside the loop, on the same workers: a stream keeps none of them for itself."""
    pipeline = doubling(backends(pair))
    for index, _ in pipeline.stream({"x": Counted()}, "x"):
        inner = pipeline.stream({"x": range(3)}, "x", output_name="z")
        assert in_order(inner) == [{"z": 0}, {"z": 2}, {"z": 4}]
        assert pipeline.map({"x": range(3)}, "x", output_name="z") == {"z": [0, 2, 4]}
        assert pipeline.run({"x": 4}, "z") == {"z": 8}
        if index >= 3:
            break


@pytest.mark.parametrize("pair", PAIRS, ids=ids)
def test_a_stream_that_feeds_another(pair, backends):
    """On the same workers; the end of one is the end of both."""
    backend, source = backends(pair), Counted()
    first, second = doubling(backend), doubling(backend)
    between = (outputs["z"] for _, outputs in first.stream({"x": source}, "x", ordered=True))
    seen = []
    for index, outputs in second.stream({"x": between}, "x", ordered=True):
        seen.append(outputs["z"])
        if index == 9:
            break
    assert seen == [4 * i for i in range(10)]
    del between
    assert ours() == []
    assert idle(backend)


@pytest.mark.parametrize("pair", LOCAL_PAIRS, ids=ids)
def test_a_node_that_streams(pair, backends):
    inner = doubling(backends(pair))

    def total(n):
        return sum(outputs["z"] for _, outputs in inner.stream({"x": range(n)}, "x"))

    outer = Pipeline(nodes=[node("total")(total)], backend=backends(pair))
    assert list(outer.stream({"n": range(5)}, "n", ordered=True)) == [(n, {"total": n * (n - 1)}) for n in range(5)]


# -- faults -----------------------------------------------------------------------------------------------------------


def notes(error):
    return "\n".join(getattr(error, "__notes__", ()))


@node("y")
def picky(x):
    if x == 5:
        raise KeyError("five")
    return x


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("pair", PAIRS, ids=ids)
def test_a_node_that_fails(pair, ordered, backends):
    """What was delivered before comes first, then the error as `map` raises it."""
    backend = backends(pair)
    pipeline = Pipeline(nodes=[picky], name="fussy", backend=backend)
    seen = []
    with pytest.raises(KeyError, match="five") as caught:
        drain(pipeline.stream({"x": Counted()}, "x", ordered=ordered), seen)
    indices = [index for index, _ in seen]
    assert seen == [(index, {"y": index}) for index in indices]
    assert 5 not in indices
    assert not ordered or indices == list(range(len(seen)))
    assert "node 'picky' of pipeline 'fussy', item 5, inputs x=5" in notes(caught.value)
    assert ours() == []
    assert idle(backend)


@pytest.mark.parametrize("pair", PAIRS, ids=ids)
def test_an_iterator_that_fails(pair, backends):
    """Its items until then are good."""

    def rows():
        yield from range(7)
        raise OSError("disk gone")

    backend = backends(pair)
    seen = []
    with pytest.raises(OSError, match="disk gone") as caught:
        drain(doubling(backend).stream({"x": rows()}, "x", output_name="z", ordered=True), seen)
    assert seen == [(i, {"z": 2 * i}) for i in range(7)]
    assert "values of 'x', at item 7 of a stream of pipeline 'doubling'" in notes(caught.value)
    assert ours() == []
    assert idle(backend)


@pytest.mark.parametrize("pair", PAIRS, ids=ids)
def test_an_async_iterator_that_fails(pair, backends):
    async def rows():
        for number in range(3):
            yield number
        raise OSError("disk gone")

    async def consume():
        seen = []
        with pytest.raises(OSError, match="disk gone") as caught:
            await adrain(doubling(backends(pair)).astream({"x": rows()}, "x", ordered=True), seen)
        assert "values of 'x', at item 3" in notes(caught.value)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return [index for index, _ in seen]

    assert asyncio.run(consume()) == [0, 1, 2]


@pytest.mark.parametrize("pair", [("sequential", "sequential"), ("threaded", "threaded")], ids=ids)
def test_an_iterator_that_ends_early(pair, backends):
    pipeline = Pipeline(nodes=[node("s")(lambda a, b: (a, b))], name="pairs", backend=backends(pair))
    for inputs in ({"a": iter("pq"), "b": itertools.count()}, {"b": itertools.count(), "a": iter("pq")}):
        seen = []
        with pytest.raises(StreamLengthError, match="'a' ended after 2 items, and 'b' goes on") as caught:
            drain(pipeline.stream(inputs, list(inputs), ordered=True), seen)
        assert seen == [(0, {"s": ("p", 0)}), (1, {"s": ("q", 1)})]
        assert isinstance(caught.value, MapLengthError)
        assert caught.value.lengths == {"a": 2, "b": 3}


def test_mistakes_are_told_at_the_call():
    pipeline = Pipeline(nodes=[node("s")(lambda a, b: (a, b))], name="pairs")
    for stream in (pipeline.stream, pipeline.astream):
        with pytest.raises(UnknownNameError):
            stream({"a": [1], "b": 2, "c": 3}, "a")
        with pytest.raises(UnknownNameError):
            stream({"a": [1], "b": 2}, "a", output_name="t")
        with pytest.raises(MissingInputError):
            stream({"a": [1]}, "a")
        with pytest.raises(MapInputError):
            stream({"a": [1], "b": 2}, ["a", "b"])
        with pytest.raises(MapInputError):
            stream({"a": "text", "b": 2}, "a")
        with pytest.raises(MapLengthError):
            stream({"a": [1], "b": [1, 2]}, ["a", "b"])
        with pytest.raises(OptionError):
            stream({"a": [1], "b": [1, 2]}, ["a", "b"], "outer")
    with pytest.raises(MapInputError, match=r"read it with astream\(\)"):
        pipeline.stream({"a": Aiter(), "b": 2}, "a")


class Aiter:
    def __aiter__(self):
        return self


def test_what_cannot_be_sent():
    with LocalBackend("sequential", "parallel", max_workers=2) as backend:
        lock = threading.Lock()
        with pytest.raises(NotPicklableError):
            Pipeline(nodes=[node("y")(lambda x: lock)], backend=backend).stream({"x": [1]}, "x")
        pipeline = doubling(backend)
        with pytest.raises(NotPicklableError, match="'x' of item 2"):
            list(pipeline.stream({"x": iter([1, 2, lock])}, "x"))
        assert idle(backend)


def die(x):
    if x == 3:
        os._exit(3)
    return x


@pytest.mark.parametrize("pair", PARALLEL_PAIRS, ids=ids)
def test_a_worker_that_dies(pair):
    with LocalBackend(*pair, max_workers=2) as backend:
        pipeline = Pipeline(nodes=[node("y")(die)], backend=backend)
        with pytest.raises(RuntimeError, match="exited with code 3"):
            list(pipeline.stream({"x": Counted()}, "x"))
        assert idle(backend)


# -- on a loop --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pair", PAIRS, ids=ids)
def test_a_cancelled_consumer(pair, backends):
    backend = backends(pair)

    async def main():
        reached = asyncio.Event()

        async def consume():
            async for index, _ in doubling(backend).astream({"x": Counted()}, "x"):
                if index > 5:
                    reached.set()
                    await asyncio.Event().wait()

        task = asyncio.ensure_future(consume())
        await reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0)

    asyncio.run(main())
    assert ours() == []
    assert idle(backend)


@pytest.mark.parametrize("pair", LOCAL_PAIRS, ids=ids)
def test_cancelled_while_it_waits_for_an_item(pair, backends):
    """The coroutine that it waits for is cancelled with it."""

    async def main():
        inside, ended = asyncio.Event(), []

        async def work(x):
            inside.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.append(x)

        async def consume():
            async for _ in Pipeline(nodes=[node("y")(work)], backend=backends(pair)).astream({"x": Counted()}, "x"):
                raise AssertionError

        task = asyncio.ensure_future(consume())
        await inside.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ended
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())


@pytest.mark.parametrize("pair", PAIRS, ids=ids)
def test_an_iterator_that_waits_does_not_hold_up_results(pair, backends):
    async def main():
        answered = asyncio.Event()

        async def rows():
            yield 1
            await answered.wait()
            yield 2

        seen = []
        async for _, outputs in doubling(backends(pair)).astream({"x": rows()}, "x"):
            seen.append(outputs["z"])
            answered.set()
        return seen

    assert asyncio.run(main()) == [2, 4]


@pytest.mark.parametrize("pair", PAIRS, ids=ids)
def test_left_while_the_iterator_waits(pair, backends):
    backend = backends(pair)

    async def main():
        closed = []

        async def rows():
            try:
                yield 1
                await asyncio.Event().wait()
            finally:
                closed.append(True)

        stream = doubling(backend).astream({"x": rows()}, "x")
        assert (await stream.__anext__())[1]["z"] == 2
        await stream.aclose()
        assert closed
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())
    assert idle(backend)


def test_a_stream_forgotten_on_a_loop():
    """The loop closes it, at the latest when it ends itself."""

    async def main():
        stream = doubling(LocalBackend("threaded", "threaded", max_workers=2)).astream({"x": Counted()}, "x")
        await stream.__anext__()

    asyncio.run(main())


@pytest.mark.parametrize("pair", LOCAL_PAIRS, ids=ids)
def test_coroutines_run_on_the_callers_loop(pair, backends):
    async def where(x):
        return asyncio.get_running_loop()

    async def main():
        pipeline = Pipeline(nodes=[node("y")(where)], backend=backends(pair))
        async for _, outputs in pipeline.astream({"x": range(3)}, "x"):
            assert outputs["y"] is asyncio.get_running_loop()

    asyncio.run(main())


# -- callbacks, scripts -----------------------------------------------------------------------------------------------


class Heard(PipelineCallback):
    def __init__(self):
        self.events = []

    def on_pipeline_start(self, pipeline_id, inputs, ctx):
        self.events.append(("start", pipeline_id))

    def on_pipeline_end(self, pipeline_id, outputs, duration, ctx):
        self.events.append(("end", dict(outputs)))

    def on_map_start(self, total_items, ctx):
        self.events.append(("map", total_items))

    def on_map_end(self, duration, ctx):
        self.events.append(("map end",))

    def on_map_item_start(self, index, ctx):
        self.events.append(("item", index))

    def on_map_item_end(self, index, duration, ctx):
        self.events.append(("item end", index))

    def on_node_end(self, node_id, outputs, duration, ctx):
        self.events.append((node_id, ctx.item_index))


@pytest.mark.parametrize("pair", PAIRS, ids=ids)
def test_callbacks(pair, backends):
    def events(consume):
        heard = Heard()
        consume(Pipeline(nodes=[double], name="doubling", backend=backends(pair), callbacks=[heard]))
        return heard.events

    def of_map(total, end):
        each = [("item", 0), ("item", 1), ("double", 0), ("double", 1), ("item end", 0), ("item end", 1)]
        return sorted([("start", "doubling"), ("map", total), *each, ("map end",), ("end", end)], key=repr)

    async def amain(pipeline):
        async for _ in pipeline.astream({"x": [1, 2]}, "x"):
            pass

    found = events(lambda pipeline: list(pipeline.stream({"x": [1, 2]}, "x")))
    assert sorted(found, key=repr) == of_map(2, {})
    assert found[:2] == [("start", "doubling"), ("map", 2)]
    assert found[-2:] == [("map end",), ("end", {})]
    found = events(lambda pipeline: list(pipeline.stream({"x": iter([1, 2])}, "x")))
    assert sorted(found, key=repr) == of_map(None, {})
    found = events(lambda pipeline: asyncio.run(amain(pipeline)))
    assert sorted(found, key=repr) == of_map(2, {})


@pytest.mark.parametrize("pair", PAIRS, ids=ids)
def test_a_program_that_ends_with_a_stream_open(pair, tmp_path):
    process = run_script(
        tmp_path,
        f"""
        import asyncio, itertools
        from hypernodes import LocalBackend, Pipeline, node

        @node(output_name="y")
        async def y(x):
            await asyncio.sleep(0)
            return x

        pipeline = Pipeline(nodes=[node("z")(lambda y: y), y], backend=LocalBackend(*{pair!r}, max_workers=2))
        stream = pipeline.stream({{"x": itertools.count()}}, "x", ordered=True)
        cycle = [stream]
        cycle.append(cycle)
        print(next(stream)[1]["z"])
        """,
    )
    try:
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (out, err, process.returncode) == ("0\n", "", 0)


@pytest.mark.parametrize("pair", PAIRS, ids=ids)
def test_ctrl_c(pair, tmp_path):
    """KeyboardInterrupt comes out of ``next()``, and nothing of the run is left."""
    process = run_script(
        tmp_path,
        f"""
        import itertools, os, threading, time
        from hypernodes import LocalBackend, Pipeline, node

        def work(x):
            if x > 0:
                os.write(1, b"in\\n")
                end = time.monotonic() + 0.5
                while time.monotonic() < end:
                    time.sleep(0.001)
            return x

        with LocalBackend(*{pair!r}, max_workers=2) as backend:
            pipeline = Pipeline(nodes=[node("y")(work)], backend=backend)
            try:
                for _ in pipeline.stream({{"x": itertools.count(1)}}, "x"):
                    pass
            except KeyboardInterrupt:
                print("interrupted", flush=True)
            print(list(pipeline.stream({{"x": [-1]}}, "x")), len(threading.enumerate()), flush=True)
        """,
    )
    try:
        assert process.stdout.readline() == "in\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
    said = [line for line in out.splitlines() if line != "in"]
    assert (said, err, process.returncode) == (["interrupted", "[(0, {'y': -1})] 1"], "", 0)


# -- what comes before a failure --------------------------------------------------------------------------------------


def told(stream):
    """Return the items of a stream and the error that ended it."""
    found = []
    try:
        for item in stream:
            found.append(item)
    except Exception as error:
        return found, error
    return found, None


async def told_async(stream):
    found = []
    try:
        async for item in stream:
            found.append(item)
    except Exception as error:
        return found, error
    return found, None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("pair", "bodies"),
    [(pair, bodies) for pair in PAIRS for bodies in ("plain", "coroutine")]
    + [(pair, bodies) for pair in PAIRS if pair[0] == pair[1] for bodies in ("two in a row", "side by side")],
    ids=lambda value: value if isinstance(value, str) else ids(value),
)
def test_an_ordered_stream_hands_over_all_that_comes_before_a_failure(pair, bodies, backends):
    """As a loop over the items would, and as `Executor.map` does; however many items are on their way."""

    def work(x):
        if x in (70, 71, 75):
            raise ValueError(x)
        return x

    async def work_soon(x):
        await asyncio.sleep(0.002 if x % 7 else 0.01)
        return work(x)

    nodes = [node("y")(work_soon if bodies == "coroutine" else work)]
    if bodies == "two in a row":
        nodes.append(node("z")(lambda y: -y))
    if bodies == "side by side":
        nodes += [node("z")(lambda x: -x), node("sum")(lambda y, z: y + z)]
    pipeline = Pipeline(nodes=nodes, backend=backends(pair))

    inputs = {"x": itertools.count()}
    found, error = told(pipeline.stream(inputs, "x", output_name="y", ordered=True))
    assert found == [(x, {"y": x}) for x in range(70)]
    assert str(error) == "70"
    assert any("item 70," in note for note in notes_of(error))
    inputs = {"x": itertools.count()}
    assert asyncio.run(told_async(pipeline.astream(inputs, "x", output_name="y", ordered=True)))[0] == found


@pytest.mark.parametrize("mode", ["async", "threaded", "parallel"])
def test_a_failure_of_an_ordered_stream_does_not_wait_for_later_items(mode, backends):
    @node("y")
    async def work(x):
        if x == 1:
            raise ValueError(x)
        await asyncio.sleep(0 if x < 1 else 600)
        return x

    pipeline = Pipeline(nodes=[work], backend=backends(("sequential", mode)))
    found, error = told(pipeline.stream({"x": range(4)}, "x", ordered=True))
    assert [index for index, _ in found] == [0]
    assert str(error) == "1"


@pytest.mark.parametrize("pair", PARALLEL_PAIRS, ids=ids)
def test_an_ordered_stream_hands_over_all_that_comes_before_a_dead_worker(pair):
    """Its chunk came apart, and every piece is handed over as it arrives."""

    def work(x):
        if x == 70:
            os._exit(3)
        return x

    with LocalBackend(*pair, max_workers=2) as backend:
        pipeline = Pipeline(nodes=[node("y")(work)], backend=backend)
        found, error = told(pipeline.stream({"x": range(100)}, "x", ordered=True))
    assert [index for index, _ in found] == list(range(70))
    assert isinstance(error, WorkerDiedError)
    assert error.items == "item 70"
