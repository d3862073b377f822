"""What `run`, `map` and `as_node` mean, in sequential mode; the other modes have to agree (test_differential.py)."""

from __future__ import annotations

import array
import asyncio

import pytest
from graphs import PAIRS, ids

from hypernodes import LocalBackend, MapResult, Pipeline, node
from hypernodes.errors import MapInputError


def returning(name, value=None, **named):
    """Return a node that hands back `value`, and counts how often it ran."""
    calls = []

    def fn():
        calls.append(1)
        return value

    made = node(output_name=name, **named)(fn)
    return made, calls


@node("double")
def double(x):
    return 2 * x


@node("square")
def square(x):
    return x * x


@node("both")
def both(double, square):
    return double + square


SMALL = Pipeline(nodes=[both, square, double], name="small")


def test_run_returns_outputs_of_all_nodes_and_no_inputs():
    assert SMALL.run(inputs={"x": 3}) == {"both": 15, "square": 9, "double": 6}


def test_a_call_is_a_run():
    assert SMALL(x=3) == SMALL.run({"x": 3})


def test_a_pipeline_without_inputs_runs_without():
    one, calls = returning("a", 1)
    assert Pipeline(nodes=[one]).run() == {"a": 1}
    assert calls == [1]


@pytest.mark.parametrize(
    ("asked", "expected"), [("double", {"double": 6}), (["square", "double"], {"square": 9, "double": 6})]
)
def test_output_name_prunes(asked, expected):
    result = SMALL.run({"x": 3}, output_name=asked)
    assert list(result.items()) == list(expected.items())


def test_what_is_not_asked_for_does_not_run():
    (a, a_calls), (b, b_calls) = returning("a", 1), returning("b", 2)
    assert Pipeline(nodes=[a, b]).run(output_name="b") == {"b": 2}
    assert (a_calls, b_calls) == ([], [1])


def test_what_only_a_pruned_node_needs_may_be_missing():
    assert Pipeline(nodes=[double, node("z")(lambda y: y)]).run({"x": 1}, output_name="double") == {"double": 2}


def test_an_override_keeps_the_node_and_what_only_it_needed_from_running():
    first, first_calls = returning("first", 1)
    second_calls = []

    @node("second")
    def second(first):
        second_calls.append(1)
        return first

    last = node("last")(lambda second: second + 1)
    pipeline = Pipeline(nodes=[first, second, last])
    assert pipeline.run({"second": 10}) == {"first": 1, "last": 11}
    assert pipeline.run({"second": 10}, output_name="last") == {"last": 11}
    assert first_calls == [1]
    assert second_calls == []


def test_an_override_of_one_of_several_outputs():
    split = node(output_name=("a", "b"))(lambda: (1, 2))
    pipeline = Pipeline(nodes=[split, node("c")(lambda a, b: (a, b))])
    assert pipeline.run({"a": 10}) == {"b": 2, "c": (10, 2)}


def test_an_override_is_returned_when_asked_for():
    assert SMALL.run({"x": 1, "double": 5}, output_name=("double", "both")) == {"double": 5, "both": 6}


def test_an_override_in_a_map():
    """One value for all items, or, as an axis, one for each."""
    assert SMALL.map({"x": [1, 2], "double": 0}, "x") == {"both": [1, 4], "square": [1, 4]}
    assert SMALL.map({"x": 3, "double": [0, 1]}, "double") == {"both": [9, 10], "square": [9, 9]}
    assert SMALL.map({"x": [1, 2], "double": [5, 6]}, ["x", "double"]) == {"both": [6, 10], "square": [1, 4]}


@pytest.mark.parametrize("pair", PAIRS, ids=ids)
def test_an_override_in_a_map_is_returned_when_asked_for(pair, backends):
    tokens = node("tokens")(lambda text: text.split())
    count = node("count")(lambda tokens, factor: len(tokens) * factor)
    last = node("last", placement="thread")(lambda count: count)
    factor = node("factor")(lambda: 2)
    pipeline = Pipeline(nodes=[tokens, count, factor, last], backend=backends(pair))
    lists = [["a"] * number for number in range(20)]
    wanted = {
        ("tokens", "count"): {"tokens": lists, "count": [3 * number for number in range(20)]},
        ("last", "factor", "tokens"): {"last": [3 * n for n in range(20)], "factor": [3] * 20, "tokens": lists},
        ("factor",): {"factor": [3] * 20},
        ("tokens",): {"tokens": lists},
    }

    async def awaited(stream):
        return [found async for found in stream]

    for asked, expected in wanted.items():
        arguments = {"tokens": lists, "factor": 3}, "tokens", "zip", asked
        rows = [dict(zip(asked, values)) for values in zip(*expected.values())]
        for policy in ("raise", "collect"):
            found = pipeline.map(*arguments, error_policy=policy)
            assert found == expected
            assert list(found) == list(asked)
        assert asyncio.run(pipeline.amap(*arguments)) == expected
        assert list(pipeline.stream(*arguments, ordered=True)) == list(enumerate(rows))
        assert asyncio.run(awaited(pipeline.astream(*arguments, ordered=True))) == list(enumerate(rows))
        assert pipeline.plan(*arguments[:1], asked, "tokens").run(arguments[0]) == expected
    product = pipeline.map(
        {"tokens": lists[1:3], "factor": [5, 7]}, ["factor", "tokens"], "product", ["tokens", "count"]
    )
    assert product == {"tokens": lists[1:3] * 2, "count": [5, 10, 7, 14]}


def test_an_override_for_all_items_is_one_object():
    shared = object()
    found = SMALL.map({"x": [1, 2], "double": shared}, "x", output_name=["double", "square"])
    assert found == {"double": [shared, shared], "square": [1, 4]}


def test_an_override_of_a_nested_output_is_returned_when_asked_for(backends):
    for own in (None, backends(("threaded", "sequential"))):
        inner = Pipeline(nodes=[node("a")(lambda x: x), node("b")(lambda a: a + 1)], name="inner", backend=own)
        pipeline = Pipeline(nodes=[inner, node("c")(lambda a, b: (a, b))])
        found = pipeline.map({"x": 0, "a": [1, 2]}, "a", output_name=["a", "c"])
        assert found == {"a": [1, 2], "c": [(1, 2), (2, 3)]}


def test_an_override_of_a_nested_output_means_the_same_whatever_the_backend():
    def nested(backend):
        inner = Pipeline(nodes=[node("a")(lambda x: x), node("b")(lambda a: a)], name="inner", backend=backend)
        return Pipeline(nodes=[inner, node("c")(lambda a, b: (a, b))]).run({"x": 1, "a": 2})

    assert nested(None) == nested(LocalBackend())


# -- map --------------------------------------------------------------------------------------------------------------


def test_map_zip_and_product():
    pipeline = Pipeline(nodes=[node("pair")(lambda a, b, c: (a, b, c))])
    inputs = {"b": "xy", "a": [1, 2], "c": 0}
    inputs["b"] = list("xy")
    assert pipeline.map(inputs, ["a", "b"]) == {"pair": [(1, "x", 0), (2, "y", 0)]}
    product = {"pair": [(1, "x", 0), (1, "y", 0), (2, "x", 0), (2, "y", 0)]}
    assert pipeline.map(inputs, ["a", "b"], "product") == product
    swapped = {"pair": [(1, "x", 0), (2, "x", 0), (1, "y", 0), (2, "y", 0)]}
    assert pipeline.map(inputs, ["b", "a"], "product") == swapped


@pytest.mark.parametrize(
    "values",
    [[1, 2], (1, 2), range(1, 3), {1: "a", 2: "b"}.keys(), array.array("i", [1, 2]), iter([1, 2]), (x for x in (1, 2))],
    ids=lambda values: type(values).__name__,
)
@pytest.mark.parametrize("items", ["sequential", "threaded"])
def test_any_iterable_can_be_mapped_over(values, items):
    if items == "threaded" and not hasattr(values, "__len__"):
        values = iter([1, 2])
    pipeline = Pipeline(nodes=[double], backend=LocalBackend(map_execution=items))
    assert pipeline.map({"x": values}, "x") == {"double": [2, 4]}


@pytest.mark.parametrize("mode", ["zip", "product"])
@pytest.mark.parametrize("values", [[], (), iter(())], ids=["list", "tuple", "iterator"])
def test_no_items_give_empty_lists(values, mode):
    result = SMALL.map({"x": values}, "x", mode)
    assert result == {"both": [], "square": [], "double": []}
    assert result.rows() == []


def test_a_map_result_as_rows_and_as_a_table():
    result = SMALL.map({"x": [1, 2]}, "x", output_name=["double", "square"])
    assert isinstance(result, MapResult)
    assert isinstance(result, dict)
    assert result.rows() == [{"double": 2, "square": 1}, {"double": 4, "square": 4}]
    table = pytest.importorskip("pandas") and result.to_pandas()
    assert list(table.columns) == ["double", "square"]
    assert table["square"].tolist() == [1, 4]


def test_all_items_share_the_other_inputs():
    shared = object()
    pipeline = Pipeline(nodes=[node("y")(lambda x, shared: shared)])
    assert all(value is shared for value in pipeline.map({"x": [1, 2], "shared": shared}, "x")["y"])


# -- nesting ----------------------------------------------------------------------------------------------------------


def test_a_pipeline_is_a_node():
    outer = Pipeline(nodes=[SMALL, node("last")(lambda both: -both)])
    assert outer.run({"x": 3}) == {"both": 15, "square": 9, "double": 6, "last": -15}


def test_mappings_go_from_outer_to_inner_and_from_inner_to_outer():
    inner = SMALL.as_node(input_mapping={"number": "x"}, output_mapping={"both": "sum"}, name="inner")
    assert Pipeline(nodes=[inner]).run({"number": 3}) == {"sum": 15, "square": 9, "double": 6}


def test_one_pipeline_twice_under_two_names():
    once = SMALL.as_node(output_mapping={name: f"{name}_a" for name in SMALL.outputs})
    twice = SMALL.as_node({"both_a": "x"}, {name: f"{name}_b" for name in SMALL.outputs})
    assert Pipeline(nodes=[twice, once]).run({"x": 1}, output_name="both_b") == {"both_b": 15}


def test_a_nested_map():
    inner = SMALL.as_node(input_mapping={"numbers": "x"}, map_over="numbers")
    outer = Pipeline(nodes=[inner, node("total")(lambda both: sum(both))])
    assert outer.run({"numbers": [1, 2]}, output_name=["both", "total"]) == {"both": [3, 8], "total": 11}


def test_a_nested_product_and_a_shared_input():
    inner = Pipeline(nodes=[node("y")(lambda a, b, c: (a, b, c))])
    outer = Pipeline(nodes=[inner.as_node(map_over=["a", "b"], map_mode="product")])
    assert outer.run({"a": [1, 2], "b": [3], "c": 0}) == {"y": [(1, 3, 0), (2, 3, 0)]}


def test_items_that_are_mappings_are_spread():
    inner = Pipeline(nodes=[node("y")(lambda a, b=5: (a, b))], name="inner")
    outer = Pipeline(nodes=[inner.as_node(map_over="rows")])
    assert outer.run({"rows": [{"a": 1}, {"a": 2, "b": 3}]}) == {"y": [(1, 5), (2, 3)]}


@pytest.mark.parametrize("mode", ["sequential", "async", "threaded", "parallel"])
def test_a_spread_map_whose_pipeline_takes_nothing(mode):
    """The number of rows still counts; coroutine nodes once found a row where the run's services belong."""

    async def coroutine():
        return 1

    inner = Pipeline(nodes=[node("y")(coroutine), node("z")(lambda: 2)], name="inner")
    with LocalBackend(map_execution=mode, max_workers=1) as backend:
        outer = Pipeline(nodes=[inner.as_node(map_over="rows")], backend=backend)
        assert outer.run({"rows": [{}, {}]}) == {"y": [1, 1], "z": [2, 2]}


def test_nested_outputs_in_another_order_than_their_nodes_come_back_from_processes():
    """Results of a chunk are dealt out in the order of outputs, which need not be the order in which nodes run."""
    inner = Pipeline(nodes=[node("late")(lambda early: -early), node("early")(lambda x: x)], name="inner")
    with LocalBackend(map_execution="parallel", max_workers=1) as backend:
        outer = Pipeline(nodes=[inner.as_node(map_over="x")], backend=backend)
        assert outer.run({"x": [1, 2]}) == {"late": [-1, -2], "early": [1, 2]}
        assert inner.map({"x": [1, 2]}, "x") == {"late": [-1, -2], "early": [1, 2]}


def test_a_nested_pipeline_inherits_its_backend_unless_it_has_one():
    import threading

    def where():
        return threading.current_thread().name

    inner = Pipeline(nodes=[node("inner_thread")(where)], name="inner")
    outer = Pipeline(nodes=[inner, node("outer_thread")(where)], backend=LocalBackend("sequential"))
    main = threading.current_thread().name
    assert outer.run() == {"inner_thread": main, "outer_thread": main}
    inner.backend = LocalBackend("async", max_workers=2)
    assert outer.run()["outer_thread"] == main


def test_setting_a_backend_is_seen_by_the_next_run_and_by_pipelines_around():
    barrier_of = {}
    import threading

    @node("a")
    def a():
        return barrier_of["it"].wait(10) >= 0

    @node("b")
    def b():
        return barrier_of["it"].wait(10) >= 0

    inner = Pipeline(nodes=[a, b], name="inner")
    outer = Pipeline(nodes=[inner])
    barrier_of["it"] = threading.Barrier(1)
    assert outer.run() == {"a": True, "b": True}
    barrier_of["it"] = threading.Barrier(2)
    inner.backend = LocalBackend("threaded", max_workers=2)
    assert outer.run() == {"a": True, "b": True}


MODES = ["sequential", "async", "threaded", "parallel"]


@pytest.mark.parametrize("mode", MODES)
def test_ten_thousand_nodes_in_a_chain(mode):
    nodes = [node(f"v{i + 1}")(_plus_one(i)) for i in range(10_000)]
    with LocalBackend(mode, max_workers=2) as backend:
        pipeline = Pipeline(nodes=nodes, backend=backend)
        assert pipeline.run({"v0": 0}, output_name="v10000") == {"v10000": 10_000}


def _plus_one(number):
    namespace = {"__name__": "made_up"}  # without a module's name, cloudpickle looks for the function in all modules
    exec(f"def f(v{number}): return v{number} + 1", namespace)
    return namespace["f"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("mapped", [False, True], ids=["once", "mapped"])
def test_fifty_levels_of_nesting(mode, mapped):
    pipeline = Pipeline(nodes=[node("y")(lambda x: x + 1)], name="level0")
    value = 1
    for level in range(50):
        inner = pipeline.as_node(map_over="x") if mapped else pipeline
        pipeline = Pipeline(nodes=[inner], name=f"level{level + 1}")
        value = [value]
    with LocalBackend(mode, mode, max_workers=2) as backend:
        pipeline.backend = backend
        result = pipeline.run({"x": value if mapped else 1})["y"]
    for _ in range(50 if mapped else 0):
        (result,) = result
    assert result == 2


def test_a_table_is_not_mapped_over_by_mistake():
    """As an iterable it is its columns, as a sized one its rows."""
    pandas = pytest.importorskip("pandas")
    pipeline = Pipeline(nodes=[node(output_name="y")(lambda x: x)])
    table = pandas.DataFrame({"a": [1, 2, 3], "b": [4, 5, 6]})
    with pytest.raises(MapInputError, match="to_dict"):
        pipeline.map({"x": table}, "x")
    assert pipeline.map({"x": table["a"]}, "x")["y"] == [1, 2, 3]
    assert pipeline.map({"x": table.to_dict("records")}, "x")["y"][0] == {"a": 1, "b": 4}
