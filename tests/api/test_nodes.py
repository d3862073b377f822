"""What can be a node, what it keeps of its function, and how a pipeline calls it."""

from __future__ import annotations

import asyncio
import functools
import inspect
import operator
import pickle

import pytest

from hypernodes import Node, Pipeline, node
from hypernodes.errors import NodeDefinitionError, OutputCountError


@node(output_name="total")
def total(a: int, b: int = 2, *, c: int = 3) -> int:
    """Add."""
    return a + b + c


class Scaler:
    def __init__(self, factor):
        self.factor = factor

    def scale(self, x):
        return x * self.factor

    def __call__(self, x):
        return x * self.factor

    @node(output_name="declared")
    def declared(self, x):
        return x + self.factor


class Point:
    def __init__(self, x, y=0):
        self.x, self.y = x, y

    def __eq__(self, other):
        return (self.x, self.y) == (other.x, other.y)


def test_a_node_is_called_like_its_function():
    assert total(1) == 6
    assert total(1, 1, c=1) == 3
    assert total(a=1, b=0) == 4


def test_a_node_keeps_what_its_function_says_of_itself():
    assert (total.__name__, total.__doc__, total.__module__) == ("total", "Add.", __name__)
    assert inspect.signature(total) == inspect.signature(total.fn)
    assert inspect.getdoc(total) == "Add."


def test_a_node_prints_well():
    assert "total" in repr(total)
    assert " at 0x" not in repr(total)


def test_a_decorated_name_pickles_by_reference():
    assert pickle.loads(pickle.dumps(total)) is total


def test_a_node_without_an_importable_name_pickles_with_its_function():
    copy = pickle.loads(pickle.dumps(node("y")(operator.neg)))
    assert copy(3) == -3
    assert copy.output_names == ("y",)


@pytest.mark.parametrize(
    ("fn", "inputs", "output"),
    [
        (Scaler(3).scale, {"x": 2}, 6),
        (Scaler(3), {"x": 2}, 6),
        (functools.partial(total.fn, c=10), {"a": 1}, 13),
        (functools.partial(total.fn, 5), {"b": 1}, 9),
        (Point, {"x": 1}, Point(1)),
        (lambda x: -x, {"x": 1}, -1),
        (functools.lru_cache(maxsize=None)(total.fn), {"a": 1}, 6),
        (divmod, {"x": 7, "y": 2}, (3, 1)),
    ],
    ids=["bound", "callable", "partial-keyword", "partial-positional", "class", "lambda", "lru_cache", "builtin"],
)
def test_kinds_of_callables(fn, inputs, output):
    assert Pipeline(nodes=[node(output_name="out")(fn)]).run(inputs) == {"out": output}


def test_a_node_in_a_class_body_binds_like_a_method():
    scaler = Scaler(10)
    assert scaler.declared(1) == 11
    assert Pipeline(nodes=[scaler.declared]).run({"x": 1}) == {"declared": 11}


def test_coroutine_functions_and_callables():
    class Fetch:
        async def __call__(self, x):
            await asyncio.sleep(0)
            return x + 1

    async def fetch(x, by=1):
        return x + by

    nodes = [node("a")(fetch), node("b")(Fetch()), node("c")(functools.partial(fetch, by=5))]
    assert Pipeline(nodes=nodes).run({"x": 1}) == {"a": 2, "b": 2, "c": 6}
    assert all(n.is_coroutine for n in nodes)


@pytest.mark.parametrize("fn", [min, dict, type], ids=["min", "dict", "type"])
def test_a_builtin_whose_parameters_cannot_be_known_is_refused(fn):
    with pytest.raises(NodeDefinitionError) as caught:
        node(output_name="out")(fn)
    assert caught.value.node == fn.__name__


def test_only_variable_arguments_are_refused():
    with pytest.raises(NodeDefinitionError):
        node(output_name="out")(lambda *args: args)
    with pytest.raises(NodeDefinitionError):
        node(output_name="out")(lambda **kwargs: kwargs)


def test_variable_arguments_beside_named_ones_stay_empty():
    @node("out")
    def f(a, *args, b=1, **kwargs):
        return a, args, b, kwargs

    assert Pipeline(nodes=[f]).run({"a": 0, "b": 5}) == {"out": (0, (), 5, {})}


def test_positional_only_parameters():
    namespace = {}
    exec("def f(a, b=2, /, c=3, *, d=4): return a, b, c, d", namespace)
    pipeline = Pipeline(nodes=[node("out")(namespace["f"])])
    assert pipeline.run({"a": 1}) == {"out": (1, 2, 3, 4)}
    assert pipeline.run({"a": 1, "b": 0}) == {"out": (1, 0, 3, 4)}
    assert pipeline.run({"a": 1, "c": 0, "d": 0}) == {"out": (1, 2, 0, 0)}


def test_defaults_and_keyword_only():
    pipeline = Pipeline(nodes=[total])
    assert pipeline.run({"a": 1}) == {"total": 6}
    assert pipeline.run({"a": 1, "c": 0}) == {"total": 3}
    assert pipeline.run({"a": 1, "b": 0, "c": 0}) == {"total": 1}


def test_two_readers_with_different_defaults_keep_their_own():
    nodes = [node("a")(lambda x=1: x), node("b")(lambda x=2: x)]
    assert Pipeline(nodes=nodes).run() == {"a": 1, "b": 2}
    assert Pipeline(nodes=nodes).run({"x": 0}) == {"a": 0, "b": 0}
    inner = Pipeline(nodes=nodes, name="inner")
    assert Pipeline(nodes=[inner]).run() == {"a": 1, "b": 2}


def test_two_readers_with_different_defaults_keep_their_own_in_a_spread_map():
    inner = Pipeline(nodes=[node("a")(lambda x=1: x), node("b")(lambda x=2: x)], name="inner")
    outer = Pipeline(nodes=[inner.as_node(map_over="rows")])
    assert outer.run({"rows": [{}, {"x": 0}]}) == {"a": [1, 0], "b": [2, 0]}


@pytest.mark.parametrize("given", ["", "1a", "a b", "a-b", None, 3, ("a", ""), ("a", "a"), ()], ids=repr)
def test_output_names_are_identifiers_each_once(given):
    with pytest.raises(NodeDefinitionError):
        node(output_name=given)(lambda: None)


def test_a_bare_decorator_says_what_is_missing():
    with pytest.raises(NodeDefinitionError) as caught:

        @node
        def f():
            return 1

    assert "output_name" in str(caught.value)


@pytest.mark.parametrize("value", [(1,), (1, 2, 3), 5, "ab", None, {"a": 1, "b": 2}], ids=repr)
def test_a_wrong_number_of_outputs(value):
    with pytest.raises(OutputCountError) as caught:
        Pipeline(nodes=[node(output_name=("a", "b"))(lambda: value)]).run()
    assert caught.value.outputs == ("a", "b")


@pytest.mark.parametrize("value", [(1, 2), [1, 2]], ids=repr)
def test_several_outputs(value):
    assert Pipeline(nodes=[node(output_name=("a", "b"))(lambda: value)]).run() == {"a": 1, "b": 2}


def test_a_tuple_of_one_name_unpacks_a_tuple_of_one():
    assert Pipeline(nodes=[node(output_name=("a",))(lambda: (1,))]).run() == {"a": 1}


def test_name_and_cache():
    made = node("x", name="fancy", cache=False)(lambda: 1)
    assert isinstance(made, Node)
    assert made.name == "fancy"
    assert made.policy.cache is False
