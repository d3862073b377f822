"""Which outer name leads to which input and output of a nested pipeline; what contradicts itself is refused at once."""

from __future__ import annotations

import asyncio
from typing import List

import pytest
from graphs import PAIRS, ids
from observing import notes_of

from hypernodes import LocalBackend, Pipeline, node
from hypernodes.errors import (
    MapInputError,
    MissingInputError,
    OptionError,
    ReaderMismatchError,
    TypeMismatchError,
    UnknownNameError,
)


@pytest.fixture(scope="module")
def inner():
    """Two inputs that have to be given, and one that need not be."""
    return Pipeline(
        nodes=[
            node("pair", name="pair")(lambda left, right: (left, right)),
            node("scaled", name="scaled")(lambda right, scale=10: right * scale),
        ],
        name="inner",
    )


# -- contradictions ---------------------------------------------------------------------------------------------------


def test_names_the_pipeline_does_not_have(inner):
    for options in (
        {"input_mapping": {"outer": "lefft"}},
        {"input_mapping": {"outer": ["left", "rihgt"]}},
        {"output_mapping": {"pairr": "outer"}},
        {"map_over": ["left", "rihgt"]},
    ):
        with pytest.raises(UnknownNameError, match="did you mean") as caught:
            inner.as_node(**options)
        assert caught.value.pipeline == "inner"


def test_two_outer_names_for_one_input(inner):
    with pytest.raises(OptionError) as caught:
        inner.as_node(input_mapping={"a": "left", "rigth": "left"})
    assert caught.value.option == "input_mapping"
    assert "'a' and 'rigth' both lead to the input 'left' of pipeline 'inner'" in caught.value.fix
    assert "did you mean 'right'?" in caught.value.fix


def test_two_outputs_of_one_name(inner):
    for mapping in ({"pair": "x", "scaled": "x"}, {"pair": "scaled"}):
        with pytest.raises(OptionError) as caught:
            inner.as_node(output_mapping=mapping)
        assert caught.value.option == "output_mapping"
        assert "'pair' and 'scaled'" in caught.value.fix
    swapped = inner.as_node(output_mapping={"pair": "scaled", "scaled": "pair"})
    assert Pipeline(nodes=[swapped]).run({"left": 1, "right": 2}) == {"scaled": (1, 2), "pair": 20}


@pytest.mark.parametrize(
    ("option", "given"),
    [("input_mapping", {5: "left"}), ("output_mapping", {"pair": ["a"]}), ("output_mapping", {"pair": None})],
)
def test_outer_names_that_are_none(inner, option, given):
    with pytest.raises(OptionError, match="is no name; pass a dict of") as caught:
        inner.as_node(**{option: given})
    assert caught.value.option == option


def test_a_mapping_beside_items_that_are_spread(inner):
    for mapping, axis, meant in [({"lefts": "left"}, "left", "lefts"), ({"a": "left"}, "rights", "right")]:
        with pytest.raises(UnknownNameError) as caught:
            inner.as_node(input_mapping=mapping, map_over=axis)
        assert caught.value.given == axis
        assert f"did you mean {meant!r}?" in str(caught.value)


def test_a_near_miss_without_a_mapping_is_spread_and_the_run_says_what_was_meant():
    single = Pipeline(nodes=[node("length")(lambda text: len(text))], name="single")
    outer = Pipeline(nodes=[single.as_node(map_over="texts")])
    assert outer.run({"texts": [{"text": "a"}, {"text": "bc"}]}) == {"length": [1, 2]}
    with pytest.raises(MapInputError, match="did you mean 'text'"):
        outer.run({"texts": ["a", "bc"]})
    with pytest.raises(UnknownNameError, match="did you mean 'text'"):
        outer.run({"texts": [{"texts": "a"}]})
    with pytest.raises(MissingInputError, match="needs 'text'"):
        outer.run({"texts": [{}]})


@pytest.mark.parametrize("pair", PAIRS, ids=ids)
def test_a_map_that_cannot_read_its_values_says_where(pair, backends):
    single = Pipeline(nodes=[node("length")(lambda text: len(text))], name="single")
    over = single.as_node(input_mapping={"texts": "text"}, map_over="texts")
    middle = Pipeline(nodes=[over], name="middle")
    outer = Pipeline(nodes=[middle.as_node(map_over="texts")], name="outer", backend=backends(pair))
    with pytest.raises(MapInputError) as caught:
        outer.run({"texts": [["a"], 5]})
    assert notes_of(caught.value)[-1] == "map 'single' over text in pipeline 'outer.middle', item 1"
    one = Pipeline(nodes=[over], name="one", backend=backends(pair))
    with pytest.raises(MapInputError) as caught:
        one.run({"texts": None})
    assert notes_of(caught.value)[-1] == "map 'single' over text in pipeline 'one'"


# -- one outer name for several inputs --------------------------------------------------------------------------------


def shared(inner, **options):
    """Return outer pipelines in which x feeds both inputs: by a list, and by a name that is the same on both sides."""
    renamed = Pipeline(nodes=[inner.as_node(input_mapping={"x": "left"})], name="renamed")
    assert renamed.inputs == ("x", "right", "scale")
    by_name = Pipeline(nodes=[inner.as_node({"right": "left"}, **_with(options, "right"))], name="outer")
    assert by_name.inputs == ("right", "scale")
    return [
        (Pipeline(nodes=[inner.as_node({"x": ["left", "right"]}, **options)], name="outer"), "x"),
        (by_name, "right"),
    ]


def _with(options, name):
    return {**options, "map_over": name} if "map_over" in options else options


@pytest.mark.parametrize("pair", PAIRS, ids=ids)
def test_one_outer_name_for_several_inputs(inner, pair, backends):
    backend = backends(pair)
    for outer, x in shared(inner):
        outer.backend = backend
        assert outer.run({x: 1}) == {"pair": (1, 1), "scaled": 10}
        assert outer.map({x: [1, 2]}, x) == {"pair": [(1, 1), (2, 2)], "scaled": [10, 20]}
        assert list(outer.stream({x: iter([1, 2])}, x, ordered=True))[1] == (1, {"pair": (2, 2), "scaled": 20})
    for mode in ("zip", "product"):
        for outer, x in shared(inner, map_over="x", map_mode=mode):
            outer.backend = backend
            assert outer.run({x: [1, 2]}) == {"pair": [(1, 1), (2, 2)], "scaled": [10, 20]}
            assert outer.run({x: iter([1, 2]), "scale": 3})["scaled"] == [3, 6]
            assert outer.map({x: [[1], []]}, x) == {"pair": [[(1, 1)], []], "scaled": [[10], []]}
            assert asyncio.run(outer.arun({x: [3]}))["pair"] == [(3, 3)]


def test_a_shared_name_varies_as_one_in_a_product(inner):
    both = inner.as_node({"x": ["left", "right"]}, map_over=["scale", "x"], map_mode="product")
    outer = Pipeline(nodes=[both])
    assert outer.run({"x": [1, 2], "scale": [10, 100]})["scaled"] == [10, 20, 100, 200]


def test_a_shared_name_reaches_a_pipeline_with_a_backend_of_its_own(inner):
    own = Pipeline(nodes=inner.nodes, name="own", backend=LocalBackend("threaded", max_workers=2))
    for options, value, expected in (({}, 1, (1, 1)), ({"map_over": "x"}, [1], [(1, 1)])):
        outer = Pipeline(nodes=[own.as_node({"x": ["left", "right"]}, **options)])
        assert outer.run({"x": value})["pair"] == expected
        with pytest.raises(MissingInputError) as caught:
            outer.run()
        assert caught.value.parameter == "x"


def test_a_shared_name_is_optional_only_where_each_of_its_inputs_is():
    nested = Pipeline(nodes=[node("a")(lambda p=1, q=2: (p, q)), node("b")(lambda r: r)], name="nested")
    optional = Pipeline(nodes=[nested.as_node({"x": ["p", "q"], "r": "r"})])
    assert optional.run({"r": 0}) == {"a": (1, 2), "b": 0}
    assert optional.run({"r": 0, "x": 5}) == {"a": (5, 5), "b": 0}
    required = Pipeline(nodes=[nested.as_node({"x": ["p", "r"]})])
    assert required.run({"x": 5}) == {"a": (5, 2), "b": 5}
    with pytest.raises(MissingInputError) as caught:
        required.run()
    assert [(node, name) for _, node, name in caught.value.missing] == [("b", "x")]


def test_the_type_of_a_shared_name_is_the_narrowest():
    def add(a: int, b: float) -> float:
        return a + b

    def join(a: int, b: str) -> str: ...

    def make() -> List[str]: ...

    adding = Pipeline(nodes=[node("total")(add)], name="adding")
    outer = Pipeline(nodes=[adding.as_node({"x": ["a", "b"]}, map_over="x")])
    assert str(outer.graph).startswith("graph pipeline(x: Iterable[int])")
    with pytest.raises(TypeMismatchError):
        Pipeline(nodes=[node("x")(make), adding.as_node({"x": ["a", "b"]}, map_over="x")])
    with pytest.raises(ReaderMismatchError) as caught:
        Pipeline(nodes=[Pipeline(nodes=[node("text")(join)], name="joining").as_node({"x": ["a", "b"]})])
    assert (caught.value.producer, caught.value.consumer, caught.value.value) == ("a", "b", "x")
    unchecked = Pipeline(nodes=[node("text")(join)], name="joining", type_check=False)
    Pipeline(nodes=[unchecked.as_node({"x": ["a", "b"]})])
