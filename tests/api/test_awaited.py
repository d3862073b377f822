"""Plain callables that return coroutines: these are awaited, in every mode, and nothing else that could be is."""

from __future__ import annotations

import asyncio
import functools
import gc
import threading
from typing import Any, Awaitable, Coroutine, Union

import pytest
from graphs import PAIRS, ids
from observing import notes_of

from hypernodes import Pipeline, PipelineCallback, node
from hypernodes.errors import NodeTimeoutError, TypeMismatchError
from hypernodes.runtime.bundle import awaiting


async def add(x, by=1):
    await asyncio.sleep(0)
    return x + by


async def both(x):
    return x, -x


@functools.wraps(add)
def wrapped(*args, **kwargs):
    return add(*args, **kwargs)


class Client:
    """A plain `__call__` that forwards to a coroutine function."""

    def __call__(self, c):
        return add(c, by=10)


def nodes():
    return [
        node("a")(wrapped),
        node("b")(lambda a: add(a)),
        node("c")(functools.lru_cache(maxsize=None)(lambda b: add(b))),
        node("d")(Client()),
        node(("e", "f"))(lambda d: both(d)),
        node("g")(lambda f, *, a: add(a, by=f)),
        node("last")(lambda g: g),
    ]


EXPECTED = {"a": 2, "b": 3, "c": 4, "d": 14, "e": 14, "f": -14, "g": -12, "last": -12}


def column(name, count):
    return [EXPECTED[name] + (item if name not in ("f", "g", "last") else 0) for item in range(count)]


async def collected(stream):
    return [outputs async for _, outputs in stream]


@pytest.mark.parametrize("pair", PAIRS, ids=ids)
def test_a_coroutine_is_awaited(backends, pair):
    pipeline = Pipeline(nodes=nodes(), backend=backends(pair))
    assert pipeline.run({"x": 1}) == EXPECTED
    assert asyncio.run(pipeline.arun({"x": 1})) == EXPECTED
    assert pipeline.run({"x": 1}, error_policy="collect") == EXPECTED


@pytest.mark.parametrize("pair", PAIRS, ids=ids)
def test_a_coroutine_of_an_item_is_awaited(backends, pair):
    simple = Pipeline(nodes=[node("a")(wrapped), node("b")(lambda a: add(a))], name="p", backend=backends(pair))
    asked = {"inputs": {"x": [1, 2, 3]}, "map_over": "x"}
    rows = [{"a": 2, "b": 3}, {"a": 3, "b": 4}, {"a": 4, "b": 5}]
    assert simple.map(**asked).rows() == rows
    assert simple.map(**asked, output_name="b")["b"] == [3, 4, 5]
    assert simple.map(**asked, error_policy="collect").rows() == rows
    assert asyncio.run(simple.amap(**asked)).rows() == rows
    assert [outputs for _, outputs in simple.stream(**asked, ordered=True)] == rows
    assert asyncio.run(collected(simple.astream(**asked, ordered=True))) == rows
    outer = Pipeline(nodes=[simple.as_node(map_over="x")], backend=backends(pair))
    assert outer.run({"x": [1, 2, 3]}) == {"a": [2, 3, 4], "b": [3, 4, 5]}
    # One call an item: what a worker process runs without any slots.
    one = Pipeline(nodes=[node("a")(wrapped)], backend=backends(pair))
    assert one.map(**asked)["a"] == [2, 3, 4]


@pytest.mark.parametrize("placement", ["inline", "thread", "process"])
def test_a_coroutine_of_a_pinned_node_is_awaited(backends, placement):
    pinned = node("a", placement=placement)(lambda x: add(x))
    pipeline = Pipeline(nodes=[pinned, node("b")(lambda a: a)], backend=backends(("threaded", "sequential")))
    assert pipeline.run({"x": 1}) == {"a": 2, "b": 2}
    assert pipeline.map({"x": [1, 2]}, "x")["b"] == [2, 3]


@pytest.mark.parametrize("after", [0, 2, 4])
@pytest.mark.parametrize("shape", ["chain", "wide", "pairs"])
def test_one_among_many_steps_is_awaited(shape, after):
    """Long rows of steps of one shape run in a loop of their own, chosen by what their functions can return."""

    def made(number):
        reads = {"chain": f"v{number - 1}" if number else "x", "wide": "x", "pairs": "x, y"}[shape]
        body = "add(x)" if shape != "chain" else f"add({reads})"
        scope = {"add": add}
        exec(f"def v{number}({reads}): return {body if number == after else reads.split(',')[0] + ' + 1'}", scope)
        return node(f"v{number}")(scope[f"v{number}"])

    pipeline = Pipeline(nodes=[made(number) for number in range(5)])
    inputs = {"x": 1, "y": 2} if shape == "pairs" else {"x": 1}
    expected = {f"v{number}": number + 2 if shape == "chain" else 2 for number in range(5)}
    assert pipeline.run(inputs) == expected
    assert pipeline.map({**inputs, "x": [1]}, "x") == {name: [value] for name, value in expected.items()}


class Promise:
    """Like a client, a task or a future of another library: to be awaited by whoever wants to."""

    def __await__(self):
        raise AssertionError("it was awaited")
        yield


@pytest.mark.parametrize("pair", PAIRS[::5], ids=ids)
def test_other_awaitables_are_values(backends, pair):
    pipeline = Pipeline(nodes=[node("y")(lambda x: Promise())], backend=backends(pair))
    assert type(pipeline.run({"x": 1})["y"]).__name__ == "Promise"
    assert type(pipeline.map({"x": [1]}, "x")["y"][0]).__name__ == "Promise"


def test_a_task_is_a_value():
    async def main():
        running = Pipeline(nodes=[node("task")(lambda start: start)])
        task = asyncio.ensure_future(add(1))
        assert (await running.arun({"start": task}))["task"] is task
        return await task

    assert asyncio.run(main()) == 2


def test_a_coroutine_that_comes_out_of_a_coroutine_is_awaited():
    async def twice(x):
        return add(x)

    assert Pipeline(nodes=[node("y")(twice)]).run({"x": 1}) == {"y": 2}
    assert asyncio.run(Pipeline(nodes=[node("y")(twice)]).arun({"x": 1})) == {"y": 2}


# -- what is known when the node is made ------------------------------------------------------------------------------


class Fetch:
    async def __call__(self, x):
        return x


@functools.wraps(add)
def runs_it(x):
    return asyncio.run(add(x))


@pytest.mark.parametrize(
    ("fn", "certain"),
    [
        (Fetch(), True),
        (functools.partial(add, by=2), True),
        (functools.lru_cache(maxsize=None)(add), False),
        (wrapped, False),
        (runs_it, False),
    ],
    ids=["callable", "partial", "lru_cache", "wraps", "wraps-and-runs"],
)
def test_only_what_is_certain_is_a_coroutine_function(fn, certain):
    assert node("y")(fn).is_coroutine is certain


def test_a_wrapper_that_runs_the_coroutine_itself_returns_a_value():
    assert Pipeline(nodes=[node("y")(runs_it)]).run({"x": 1}) == {"y": 2}
    assert asyncio.run(Pipeline(nodes=[node("y")(runs_it)]).arun({"x": 1})) == {"y": 2}


# -- types ------------------------------------------------------------------------------------------------------------


def as_coroutine(x: int) -> Coroutine[Any, Any, int]:
    return add(x)


def as_awaitable(x: int) -> Awaitable[int]:
    return add(x)


def as_either(x: int) -> Union[int, Coroutine[Any, Any, int]]:
    return add(x)


@pytest.mark.parametrize("fn", [as_coroutine, as_awaitable, as_either])
def test_the_type_that_counts_is_the_awaited_one(fn):
    def reads(y: int) -> int:
        return y

    def clashes(y: str) -> str:
        return y

    made = node("y")(fn)
    assert Pipeline(nodes=[made, node("z")(reads)], type_check="strict").run({"x": 1}) == {"y": 2, "z": 2}
    with pytest.raises(TypeMismatchError) as caught:
        Pipeline(nodes=[made, node("z")(clashes)])
    assert caught.value.produced == "int"


def test_the_types_of_several_outputs_are_those_of_the_awaited_tuple():
    def pair(x: int) -> Coroutine[Any, Any, tuple]:
        return both(x)

    assert Pipeline(nodes=[node(("a", "b"))(pair)]).run({"x": 1}) == {"a": 1, "b": -1}


# -- policies, failures and what is left ------------------------------------------------------------------------------


def failing_until(attempts):
    calls = []

    async def fail(x):
        calls.append(x)
        if len(calls) < attempts:
            raise ConnectionError(f"call {len(calls)}")
        return len(calls)

    return fail


@pytest.mark.parametrize("pair", PAIRS[::5], ids=ids)
def test_what_fails_while_it_is_awaited_is_tried_again(backends, pair):
    def start(x):
        return fail(x)

    fail = failing_until(3)
    retried = Pipeline(nodes=[node("y", retries=2)(start)], backend=backends(pair))
    assert retried.run({"x": 1}) == {"y": 3}
    fail = failing_until(9)
    with pytest.raises(ConnectionError) as caught:
        Pipeline(nodes=[node("y", retries=2)(start)], name="p", backend=backends(pair)).run({"x": 1})
    assert notes_of(caught.value)[-2:] == ["tried 3 times", "node 'start' of pipeline 'p', inputs x=1"]


def test_a_coroutine_that_is_late_ends_with_its_process(backends):
    def start(x):
        return asyncio.sleep(60)

    slow = Pipeline(nodes=[node("y", timeout=0.2)(start)], backend=backends(("parallel", "sequential")))
    with pytest.raises(NodeTimeoutError):
        slow.run({"x": 1})


@pytest.mark.parametrize("pair", PAIRS, ids=ids)
def test_a_failure_says_where(backends, pair):
    async def fail(x):
        raise KeyError(x)

    pipeline = Pipeline(nodes=[node("y", name="start")(lambda x: fail(x))], name="p", backend=backends(pair))
    with pytest.raises(KeyError) as caught:
        pipeline.map({"x": [1]}, "x")
    assert notes_of(caught.value)[-1] == "node 'start' of pipeline 'p', item 0, inputs x=1"


@pytest.mark.parametrize("nodes_mode", ["async", "threaded"])
def test_a_failure_beside_it_cancels_what_is_awaited(backends, nodes_mode):
    started, ended = threading.Event(), []

    async def wait(x):
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(x)

    def fail(x):
        assert started.wait(30)
        raise ValueError("beside it")

    pipeline = Pipeline(
        nodes=[node("a")(lambda x: wait(x)), node("b")(fail)], backend=backends((nodes_mode, "sequential"))
    )
    with pytest.raises(ValueError, match="beside it"):
        pipeline.run({"x": 1})
    assert ended == [1]


def test_all_coroutines_share_one_loop_which_outlives_runs():
    loops = []

    async def note(x):
        loops.append(asyncio.get_running_loop())
        return x

    inner = Pipeline(nodes=[node("y")(lambda x: note(x))], name="inner")
    outer = Pipeline(nodes=[inner.as_node(map_over="x"), node("z")(lambda y: note(y))])
    assert outer.run({"x": [1, 2]}) == {"y": [1, 2], "z": [1, 2]}
    assert len(loops) == 3
    assert len(set(map(id, loops))) == 1
    before = threading.active_count()
    assert Pipeline(nodes=[node("y")(lambda x: note(x)), node("z")(lambda y: note(y))]).run({"x": 1})["z"] == 1
    assert len(set(map(id, loops))) == 1
    assert not loops[0].is_closed()
    assert threading.active_count() == before


def test_they_run_on_the_callers_loop():
    async def where(x):
        return asyncio.get_running_loop()

    async def main():
        pipeline = Pipeline(nodes=[node("y")(lambda x: where(x))])
        return (await pipeline.arun({"x": 1}))["y"] is asyncio.get_running_loop()

    assert asyncio.run(main())


def test_listeners_are_told_what_it_came_to():
    told = []

    class Ends(PipelineCallback):
        def on_node_end(self, node_id, outputs, duration, ctx):
            told.append(outputs)

    assert Pipeline(nodes=[node("y")(lambda x: add(x))], callbacks=[Ends()]).run({"x": 1}) == {"y": 2}
    assert told == [{"y": 2}]


@pytest.mark.parametrize("pair", PAIRS, ids=ids)
def test_a_coroutine_that_a_cache_hands_out_again_has_its_result(backends, pair):
    cached = node("y")(functools.lru_cache(maxsize=None)(add))
    pipeline = Pipeline(nodes=[cached], backend=backends(pair))
    assert pipeline.map({"x": [1, 2, 1, 1, 2]}, "x")["y"] == [2, 3, 2, 2, 3]
    assert pipeline.run({"x": 1}) == pipeline.run({"x": 1}) == {"y": 2}
    assert asyncio.run(pipeline.amap({"x": [1, 3, 3]}, "x"))["y"] == [2, 4, 4]


@pytest.mark.parametrize("pair", PAIRS[::5], ids=ids)
def test_a_stream_that_a_coroutine_comes_to_is_listed_for_its_readers(backends, pair):
    async def stream(x):
        return (x + number for number in range(3))

    readers = [node("total")(lambda xs: sum(xs)), node("most")(lambda xs: max(xs))]
    for made in (node("xs")(lambda x: stream(x)), node("xs")(lambda *, x: stream(x)), node("xs")(stream)):
        pipeline = Pipeline(nodes=[made, *readers], backend=backends(pair))
        asked = ["total", "most"]
        assert pipeline.run({"x": 1}, output_name=asked) == {"total": 6, "most": 3}
        assert pipeline.map({"x": [1]}, "x", output_name=asked) == {"total": [6], "most": [3]}
        assert asyncio.run(pipeline.arun({"x": 1}, output_name=asked)) == {"total": 6, "most": 3}


def test_results_of_coroutines_are_kept_no_longer_than_these():
    Pipeline(nodes=[node("y")(lambda x: add(x))]).map({"x": [1, 2, 3]}, "x")
    gc.collect()
    assert len(awaiting._results) == 0
