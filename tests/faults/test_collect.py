"""With error_policy="collect" everything runs that does not depend on a failure, in every mode, and nothing is lost."""

from __future__ import annotations

import asyncio
import gc
import os
import pickle
import weakref

import pytest
from graphs import PAIRS, ids
from observing import notes_of

from hypernodes import Failure, LocalBackend, Pipeline, PipelineCallback, node
from hypernodes.errors import MapInputError, NotPicklableError, OptionError, WorkerDiedError


@node(output_name="a")
def a(x):
    if x % 5 == 3:
        raise ValueError(f"bad {x}")
    return x


@node(output_name="b")
async def b(a):
    await asyncio.sleep(0)
    return a * 2


@node(output_name="c")
def c(x):
    return -x


@node(output_name="e")
def e(b, c):
    return b + c


@node(output_name="total")
def total(e):
    return sum(e)


@node(output_name="n")
def n(xs):
    return len(xs)


NODES = [a, b, c, e]


@node(output_name="y")
def faulty(x):
    """Kill its worker for 7, and return what does not pickle for 9."""
    if x == 7:
        os._exit(3)
    return (i for i in ()) if x == 9 else x


def items(result):
    return [failure.item for failure in result.failures]


@pytest.mark.parametrize("pair", PAIRS, ids=ids)
def test_what_depends_on_no_failure_runs(pair):
    with LocalBackend(*pair, max_workers=2) as backend:
        pipeline = Pipeline(nodes=NODES, name="p", backend=backend)
        result = pipeline.map(inputs={"x": range(10)}, map_over="x", error_policy="collect")
        assert items(result) == [3, 8]
        assert result["c"] == [-x for x in range(10)]
        assert all(type(result[name][3]) is Failure for name in "abe")
        assert result.ok()["e"] == [x for x in range(10) if x % 5 != 3]
        assert list(result.ok().index) == [0, 1, 2, 4, 5, 6, 7, 9]
        failure = result.failures[1]
        assert (failure.node, str(failure.exception)) == ("a", "bad 8")
        assert "node 'a' of pipeline 'p', item 8, inputs x=8" in failure.exception.__notes__
        assert "ValueError: bad 8" in failure.traceback
        assert not failure
        again = result.retry()
        assert items(again) == [3, 8]
        assert "item 8, " in again.failures[1].exception.__notes__[0]
        outer = Pipeline(nodes=[pipeline.as_node(input_mapping={"xs": "x"}, map_over="xs"), total, n], backend=backend)
        run = outer.run(inputs={"xs": list(range(5))}, error_policy="collect")
        assert items(run) == [3]
        assert (run["n"], run["c"]) == (5, [0, -1, -2, -3, -4])
        assert type(run["total"]) is Failure
        assert set(run.ok()) == {"n", "c"}
        assert items(run.retry()) == [3]
        nested = outer.map(inputs={"xs": [[1, 2], [3], 7]}, map_over="xs", error_policy="collect")
        assert items(nested) == [(1, 0), 2, 2]
        assert nested["total"][0] == 3
        assert isinstance(nested.failures[1].exception, MapInputError)


def test_awaited_runs_collect():
    async def main():
        pipeline = Pipeline(nodes=NODES, backend=LocalBackend("async", "async"))
        assert items(await pipeline.amap(inputs={"x": range(10)}, map_over="x", error_policy="collect")) == [3, 8]
        result = await pipeline.arun(inputs={"x": 3}, error_policy="collect")
        assert items(result) == [None]
        assert result.ok() == {"c": -3}
        assert items(await result.aretry()) == [None]

    asyncio.run(main())


def test_what_failed_is_awaited_again():
    async def main():
        seen = set()

        @node(output_name="y")
        async def flaky(x):
            if x % 2 and x not in seen:
                seen.add(x)
                raise OSError("not yet")
            return x

        result = await Pipeline(nodes=[flaky]).amap(inputs={"x": range(6)}, map_over="x", error_policy="collect")
        assert items(result) == [1, 3, 5]
        done = await result.aretry()
        assert done["y"] == list(range(6))
        assert await done.aretry() is done

    asyncio.run(main())


@pytest.mark.parametrize("pair", PAIRS, ids=ids)
def test_streams_go_on_behind_a_failure(pair, backends):
    pipeline = Pipeline(nodes=NODES, backend=backends(pair))
    expected = dict(enumerate(pipeline.map(inputs={"x": range(20)}, map_over="x", error_policy="collect").rows()))

    async def awaited():
        stream = pipeline.astream({"x": range(20)}, "x", error_policy="collect")
        return {index: outputs async for index, outputs in stream}

    ordered = list(pipeline.stream({"x": iter(range(20))}, "x", ordered=True, error_policy="collect"))
    assert [index for index, _ in ordered] == list(range(20))
    for found in (dict(ordered), asyncio.run(awaited())):
        assert {index: repr(outputs) for index, outputs in found.items()} == {
            index: repr(outputs) for index, outputs in expected.items()
        }
        assert found[8]["e"].item == 8
        assert type(found[8]["e"]) is Failure


def test_streams_go_on_behind_a_dead_worker_and_what_does_not_pickle():
    with LocalBackend(map_execution="parallel", max_workers=2) as backend:
        stream = Pipeline(nodes=[faulty], backend=backend).stream({"x": range(40)}, "x", error_policy="collect")
        found = {index: outputs["y"] for index, outputs in stream}
    assert isinstance(found.pop(7).exception, WorkerDiedError)
    assert isinstance(found.pop(9).exception, NotPicklableError)
    assert found == {x: x for x in range(40) if x not in (7, 9)}


def test_what_failed_is_run_again_and_nothing_else():
    ran = []

    @node(output_name="y")
    def flaky(x, z):
        ran.append((x, z))
        if len(ran) < 5 and x == 2:
            raise OSError("not yet")
        return x * z

    pipeline = Pipeline(nodes=[flaky])
    inputs = {"x": iter([1, 2]), "z": (10, 20)}
    result = pipeline.map(inputs=inputs, map_over=["x", "z"], map_mode="product", error_policy="collect")
    assert items(result) == [2, 3]
    done = result.retry()
    assert done.failures == []
    assert done["y"] == [10, 20, 20, 40]
    assert ran[4:] == [(2, 10), (2, 20)]
    assert done.retry() is done


def test_a_run_keeps_what_it_has():
    ran = []

    @node(output_name="first")
    def first(x):
        ran.append("first")
        return x

    @node(output_name="second")
    def second(first):
        ran.append("second")
        if ran.count("second") == 1:
            raise OSError("not yet")
        return first + 1

    result = Pipeline(nodes=[first, second]).run(inputs={"x": 1}, error_policy="collect")
    assert items(result) == [None]
    assert dict(result.retry()) == {"first": 1, "second": 2}
    assert ran == ["first", "second", "second"]


def test_faults_of_the_engine_are_collected():
    with LocalBackend(map_execution="parallel", max_workers=2) as backend:
        result = Pipeline(nodes=[faulty], backend=backend).map(
            inputs={"x": range(40)}, map_over="x", error_policy="collect"
        )
    assert items(result) == [7, 9]
    died, unpicklable = [failure.exception for failure in result.failures]
    assert isinstance(died, WorkerDiedError)
    assert died.items == "item 7"
    assert isinstance(unpicklable, NotPicklableError)
    assert result.ok()["y"] == [x for x in range(40) if x not in (7, 9)]


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("pair", [("sequential", "sequential"), ("threaded", "threaded"), ("sequential", "parallel")])
def test_what_ends_programs_is_not_collected(pair, stop):
    @node(output_name="y")
    def end(x):
        raise stop

    with LocalBackend(*pair, max_workers=2) as backend, pytest.raises(stop):
        Pipeline(nodes=[end], backend=backend).map(inputs={"x": [1]}, map_over="x", error_policy="collect")


def test_callbacks_hear_of_failures_and_of_ends():
    heard = []

    class Listener(PipelineCallback):
        def on_error(self, node_id, error, ctx):
            heard.append((node_id, ctx.items))

        def on_nested_pipeline_end(self, parent_id, child_id, duration, ctx):
            heard.append((child_id, ctx.items))

        def on_pipeline_end(self, pipeline_id, outputs, duration, ctx):
            heard.append("end")

    inner = Pipeline(nodes=NODES, name="inner")
    outer = Pipeline(nodes=[inner], name="outer", callbacks=[Listener()])
    outer.run(inputs={"x": 3}, error_policy="collect")
    assert heard == [("a", ()), ("inner", ()), "end"]


def test_a_table_of_what_is_fine_says_which_items_these_are():
    pytest.importorskip("pandas")
    result = Pipeline(nodes=NODES).map(inputs={"x": range(6)}, map_over="x", error_policy="collect")
    table = result.ok().to_pandas()
    assert list(table.index) == [0, 1, 2, 4, 5]
    assert list(table["c"]) == [0, -1, -2, -4, -5]
    assert list(result.to_pandas().index) == list(range(6))


def test_results_can_be_pickled():
    result = Pipeline(nodes=NODES).map(inputs={"x": range(4)}, map_over="x", error_policy="collect")
    copy = pickle.loads(pickle.dumps(result))
    assert items(copy) == [3]
    assert str(copy.failures[0].exception) == "bad 3"


def test_another_policy_is_refused():
    with pytest.raises(OptionError, match="did you mean 'collect'"):
        Pipeline(nodes=NODES).run(inputs={"x": 1}, error_policy="colect")


@pytest.mark.parametrize("pair", PAIRS, ids=ids)
def test_an_iterator_that_a_node_returns_is_mapped_over(pair, backends):
    inner = Pipeline(nodes=[node(output_name="y")(lambda x: x + 1)], name="inner")
    numbers = node(output_name="xs", placement="thread")(lambda n: iter(range(n)))
    outer = Pipeline(nodes=[numbers, inner.as_node(input_mapping={"xs": "x"}, map_over="xs")], backend=backends(pair))
    for policy in ("raise", "collect"):
        assert outer.run({"n": 3}, output_name="y", error_policy=policy)["y"] == [1, 2, 3]


def test_failures_of_two_maps_at_one_item_are_two():
    inner = Pipeline(nodes=[node(output_name="y")(lambda x: 1 / x)], name="inner")
    first, second = [
        inner.as_node(input_mapping={"xs": "x"}, output_mapping={"y": name}, map_over="xs", name=name) for name in "ab"
    ]
    result = Pipeline(nodes=[first, second]).run({"xs": [1, 0]}, error_policy="collect")
    assert items(result) == [1, 1]


def test_one_exception_of_many_items_has_few_words():
    shared = ValueError("always")

    @node(output_name="y")
    def fail(x):
        raise shared

    pipeline = Pipeline(nodes=[fail])
    for _ in range(2):
        result = pipeline.map({"x": range(200)}, "x", error_policy="collect")
        assert len(result.failures) == 200
        assert len(shared.__notes__) == 1
        assert max(len(failure.traceback) for failure in result.failures) < 3000
    for x in range(3):
        pipeline.run({"x": x}, error_policy="collect")
    assert len(shared.__notes__) == 1


def test_failures_keep_no_frames():
    class Large:
        pass

    kept = weakref.WeakSet()

    @node(output_name="y")
    def fail(x):
        large = Large()
        kept.add(large)
        try:
            raise KeyError(x)
        except KeyError as error:
            raise ValueError(x) from error

    result = Pipeline(nodes=[fail]).map({"x": range(5)}, "x", error_policy="collect")
    gc.collect()
    assert len(result.failures) == 5
    assert not kept


def test_what_is_run_again_says_which_item_it_is():
    @node(output_name="y", timeout=0.1)
    async def late(x):
        await asyncio.sleep(60 if x == 3 else 0)

    @node(output_name="z")
    def odd(x):
        return (i for i in ()) if x == 12 else x

    with LocalBackend(map_execution="parallel", max_workers=2) as backend:
        result = Pipeline(nodes=[late, odd], backend=backend).map({"x": range(14)}, "x", error_policy="collect").retry()
    assert items(result) == [3, 12]
    said = [" ".join([str(failure.exception), *notes_of(failure.exception)]) for failure in result.failures]
    assert "item 3" in said[0]
    assert "item 12" in said[1]
    assert not any("item 0" in each for each in said)
