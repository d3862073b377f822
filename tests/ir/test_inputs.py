"""An input is of the narrowest type that its readers declare, in any order, and readers that clash are both named."""

from __future__ import annotations

import itertools
from typing import Any, Dict, Iterable, List, Mapping, NewType, Optional, Sequence, Sized, Union

import pytest

from hypernodes import Pipeline, node
from hypernodes.errors import ReaderMismatchError, TypeMismatchError
from hypernodes.ir.narrow import narrowest
from hypernodes.ir.types import UNKNOWN, show

UserId = NewType("UserId", int)


class Animal: ...


class Dog(Animal): ...


class Document: ...


def reader(name, tp, **annotations):
    """Return a node called `name` that reads x as `tp`."""

    def read(x):
        return x

    if tp is not UNKNOWN:
        read.__annotations__ = {"x": tp}
    return node(name, name=name)(read)


@pytest.mark.parametrize(
    ("types", "narrow"),
    [
        ([int, float, complex], "int"),
        ([Animal, Dog, object], "Dog"),
        ([UNKNOWN, int], "int"),
        ([UNKNOWN, UNKNOWN], "?"),
        ([Any, int, UNKNOWN], "int"),
        ([List[Any], List[int], list], "list[int]"),
        ([Iterable[int], Sequence[int], List[int]], "list[int]"),
        ([Optional[int], int], "int"),
        ([Optional[int], Optional[float], float], "float & int | None"),
        ([Optional[Dog], Optional[Animal]], "Dog | None"),
        ([UserId, int], "UserId"),
        ([Union[int, str], Union[str, bytes]], "int | str & str | bytes"),
        ([Dict[str, int], Mapping[str, int], dict], "dict[str, int]"),
        ([Sized, Iterable[int], object], "Iterable[int] & Sized"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_narrowest_of_several_types_in_any_order(types, narrow):
    for order in itertools.permutations(types):
        assert show(narrowest(order)) == narrow
    for strict in (True, "strict"):
        for order in itertools.permutations(enumerate(types)):
            pipeline = Pipeline([reader(f"r{number}", tp) for number, tp in order], type_check=strict)
            (entry,) = pipeline.graph.inputs
            assert show(entry.value.type) == narrow


def test_nested_readers_count_and_strict_does_not_refuse_by_order():
    inner = Pipeline([reader("inner", bool)], name="nested")
    for order in itertools.permutations([inner, reader("wide", float), reader("plain", UNKNOWN)]):
        pipeline = Pipeline(order, type_check="strict")
        assert str(pipeline.graph).startswith("graph pipeline(x: bool)")
        assert pipeline.run({"x": True}) == {"inner": True, "wide": True, "plain": True}


def test_a_producer_has_to_fit_every_nested_reader():
    def make() -> Union[int, str]: ...

    both = Pipeline([reader("a", Union[int, str]), reader("b", Union[str, bytes])], name="both")
    Pipeline([node("x")(make), both])
    with pytest.raises(TypeMismatchError) as caught:
        Pipeline([node("x")(make), both], type_check="strict")
    assert caught.value.wanted == "int | str & str | bytes"

    def make_number() -> int: ...

    with pytest.raises(TypeMismatchError):
        Pipeline([node("x")(make_number), both])


def test_one_that_maps_over_an_input_and_one_that_takes_it_whole():
    each = Pipeline([reader("doubled", int)], name="each").as_node(map_over="x")
    for order in itertools.permutations([each, reader("whole", List[int])]):
        pipeline = Pipeline(order, type_check="strict")
        assert pipeline.graph.inputs[0].value.type == List[int]
        assert pipeline.run({"x": [1, 2]}) == {"doubled": [1, 2], "whole": [1, 2]}
    for whole in (int, str, Dict[int, int]):
        for order in itertools.permutations([each, reader("whole", whole)]):
            with pytest.raises(ReaderMismatchError):
                Pipeline(order)


def test_a_map_within_a_map_takes_iterables_of_iterables():
    def rows() -> List[List[int]]: ...

    def numbers() -> List[int]: ...

    each = Pipeline([reader("y", int)], name="each")
    middle = Pipeline([each.as_node(map_over="x")], name="middle")
    assert show(middle.graph.inputs[0].value.type) == "Iterable[int]"
    Pipeline([node("x")(rows), middle.as_node(map_over="x")], type_check="strict")
    Pipeline([node("x")(numbers), middle], type_check="strict")
    with pytest.raises(TypeMismatchError):
        Pipeline([node("x")(numbers), middle.as_node(map_over="x")], type_check="strict")


@pytest.mark.parametrize("others", [[], [UNKNOWN], [object, Any]], ids=["two", "unknown", "wide"])
def test_readers_that_clash_are_both_named(others):
    nodes = [reader("one", int), reader("two", str), *[reader(f"o{i}", tp) for i, tp in enumerate(others)]]
    for order in itertools.permutations(nodes):
        with pytest.raises(ReaderMismatchError) as caught:
            Pipeline(order, name="p")
        error = caught.value
        assert {(error.producer, error.produced), (error.consumer, error.wanted)} == {("one", "int"), ("two", "str")}
        assert (error.pipeline, error.value, error.parameter) == ("p", "x", "x")
        unchecked = Pipeline(order, type_check=False)
        assert unchecked.graph.inputs[0].value.type is UNKNOWN
        assert unchecked.run({"x": 1})["one"] == 1


def test_nested_readers_that_clash_are_named():
    inner = Pipeline([reader("y", str)], name="inner").as_node({"text": "x"})

    def outer(text: int): ...

    with pytest.raises(ReaderMismatchError, match=r"'text' is read by 'inner' as str, and by 'outer'.*as int"):
        Pipeline([inner, node("z")(outer)])


def test_many_readers_of_one_input_take_no_time():
    nodes = [reader(f"r{number}", List[int] if number % 2 else Sequence[int]) for number in range(2000)]
    assert show(Pipeline(nodes).graph.inputs[0].value.type) == "list[int]"


def test_a_forgotten_map_over_is_recognised():
    def load() -> List[Document]: ...

    def embed(document: Document) -> str: ...

    def count(document: int) -> str: ...

    embedding = Pipeline([node("vector")(embed)], name="embedding")
    for consumer in (node("vector")(embed), embedding):
        with pytest.raises(TypeMismatchError) as caught:
            Pipeline([node("document")(load), consumer])
        assert "once per item" in caught.value.hint
        assert "as_node(map_over='document')" in str(caught.value)
    Pipeline([node("document")(load), embedding.as_node(map_over="document")], type_check="strict")
    with pytest.raises(TypeMismatchError) as caught:
        Pipeline([node("document")(load), node("n")(count)])
    assert caught.value.hint == ""
    assert "Protocol" in str(caught.value)
    assert "type_check=False" in str(caught.value)


def number_or_not(x: int = None): ...  # noqa: RUF013


def text_or_not(x: str = None): ...  # noqa: RUF013


def kind_or_not(x: Union[str, bytes] = None): ...  # noqa: RUF013


def maybe(q) -> Optional[int]: ...


def test_a_default_of_none_lets_none_pass():
    both = Pipeline(nodes=[node("a")(number_or_not), node("b")(text_or_not)])
    assert both.run({}) == {"a": None, "b": None}
    for fn, shown in ((number_or_not, "int | None"), (text_or_not, "str | None"), (kind_or_not, "str | bytes | None")):
        assert show(Pipeline(nodes=[node("a")(fn)]).graph.inputs[0].value.type) == shown
    made = node("x")(maybe)
    assert Pipeline(nodes=[made, node("a")(number_or_not)], type_check="strict").run({"q": 1}, "a") == {"a": None}
    with pytest.raises(TypeMismatchError):
        Pipeline(nodes=[made, node("a")(text_or_not)], type_check="strict")
