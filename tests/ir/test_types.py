"""Tables of type pairs with their verdicts, and random types that no verdict may contradict."""

import abc
import collections
import dataclasses
import decimal
import enum
import functools
import importlib
import io
import itertools
import numbers
import os
import pathlib
import re
import sys
import textwrap
import types
import typing
import unittest.mock
from typing import (
    Any,
    AsyncIterator,
    Awaitable,
    Callable,
    ClassVar,
    Coroutine,
    DefaultDict,
    Deque,
    Dict,
    Final,
    FrozenSet,
    Generator,
    Generic,
    Iterable,
    Iterator,
    List,
    Literal,
    Mapping,
    NamedTuple,
    NewType,
    NoReturn,
    Optional,
    Protocol,
    Sequence,
    Set,
    Tuple,
    Type,
    TypedDict,
    TypeVar,
    Union,
    runtime_checkable,
)

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hypernodes.ir.forms import AllOf
from hypernodes.ir.types import (
    UNKNOWN,
    clash,
    fits,
    iterable_of,
    list_of,
    show,
    tuple_elements,
    unmappable,
)

T = TypeVar("T")
Bound = TypeVar("Bound", bound=int)
OneKind = TypeVar("OneKind", int, str)
UserId = NewType("UserId", int)
NewTypeAgain = NewType("UserId", int)
AdminId = NewType("AdminId", UserId)
OrderId = NewType("OrderId", int)


class Plain:
    pass


class Other:
    pass


class Child(Plain):
    pass


class Slotted:
    __slots__ = ("x",)


class AlsoSlotted:
    __slots__ = "y"


class WeakOnly:
    __slots__ = ("__weakref__",)


class Color(enum.Enum):
    RED = 1
    BLUE = 2


ColorAgain = enum.Enum("Color", "RED BLUE", module=__name__, qualname="Color")


class Level(enum.IntEnum):
    LOW = 1


class Tag(str, enum.Enum):
    A = "a"


class Memberless(enum.Enum):
    pass


class Point(NamedTuple):
    x: int
    label: str


Bare = collections.namedtuple("Bare", "a b")


class Movie(TypedDict):
    title: str
    year: int


class LongMovie(Movie):
    minutes: int


class Sized(Protocol):
    def size(self) -> int: ...


@runtime_checkable
class Closing(Protocol):
    def close(self) -> None: ...


class Named(Protocol):
    name: str


class Unsized:
    size = None


class Boxed:
    def size(self) -> int: ...


@dataclasses.dataclass
class WithField:
    size: Callable[[], int]


class WithSet:
    def __init__(self) -> None:
        self.size = len


class AlsoSet(WithSet):
    def __init__(self) -> None:
        super().__init__()


class Proxy:
    def __getattr__(self, name): ...


class Door:
    def close(self) -> None: ...


class Box(Generic[T]):
    pass


Out = TypeVar("Out", covariant=True)
In = TypeVar("In", contravariant=True)


class Source(Generic[Out]):
    pass


class Sink(Generic[In]):
    pass


class Boxes(Box[List[T]]):
    pass


class Letters(Boxes[str]):
    pass


class Words(List[str]):
    pass


class Settings(dict):
    pass


class MoreWords(Words):
    pass


class Meta(type):
    def __instancecheck__(cls, instance):
        return True


class Duck(metaclass=Meta):
    __slots__ = ("feathers",)


class Shape(abc.ABC):
    @abc.abstractmethod
    def area(self): ...


class Circle(Shape):
    def area(self): ...


class Plotted(abc.ABC):
    @abc.abstractmethod
    def plot(self): ...


Plotted.register(Circle)


class Family(abc.ABC):  # noqa: B024
    pass


class Model(Family):
    pass


class Narrowing(abc.ABCMeta):
    def __instancecheck__(cls, instance):
        return False

    __instancecheck__.__module__ = "pydantic._internal._model_construction"


class Record(metaclass=Narrowing):
    pass


class Page(Record):
    pass


class Query(Record):
    pass


def again(name, module=__name__):
    """Return a class of this module as its definition would make it a second time."""
    cls = globals()[name]
    return type(cls)(name, cls.__bases__, {"__module__": module, "__qualname__": name})


class Raising(type):
    def __subclasscheck__(cls, sub):
        raise RuntimeError("look elsewhere")

    def __hash__(cls):
        raise RuntimeError("nor here")

    def __eq__(cls, other):
        raise RuntimeError("nor here")


class Weird(metaclass=Raising):
    pass


class Unhashable:
    __hash__ = None


NEVER = [
    # The same, wider, narrower.
    (int, int),
    (int, object),
    (object, int),
    (bool, int),
    (int, bool),
    (int, float),
    (float, int),
    (int, complex),
    (float, complex),
    (Optional[int], int),
    (int, Optional[int]),
    (Optional[int], Optional[str]),
    (Union[int, str], Union[str, bytes]),
    (None, Optional[int]),
    (None, None),
    (None, type(None)),
    # Nothing is known.
    (Any, int),
    (int, Any),
    (UNKNOWN, int),
    (int, UNKNOWN),
    (T, int),
    (str, T),
    (typing.ForwardRef("Missing"), int),
    ("int", str),
    (int, NoReturn),
    (int, 5),
    (5, "five"),
    (Awaitable[int], str),
    (Coroutine[Any, Any, int], int),
    (AsyncIterator[int], Iterable[str]),
    # Qualifiers and aliases say nothing about the value.
    (Final[int], int),
    (ClassVar[int], int),
    (Final, str),
    (UserId, int),
    (int, UserId),
    (dataclasses.InitVar[int], int),
    # Containers.
    (list, List[int]),
    (List[int], list),
    (List[Any], List[int]),
    (List[T], List[int]),
    (List[bool], List[int]),
    (List[int], List[float]),
    (List[int], Sequence[int]),
    (List[int], Iterable),
    (List[str], Sequence[str]),
    (str, Sequence[str]),
    (str, Iterable[str]),
    (bytes, Iterable[int]),
    (Dict[str, int], Mapping[str, int]),
    (Dict[str, int], dict),
    (Dict[str, int], Iterable[str]),
    (DefaultDict[str, int], Dict[str, int]),
    (typing.Counter[str], Dict[str, int]),
    (typing.KeysView[str], typing.AbstractSet[str]),
    (typing.ItemsView[str, int], Iterable[Tuple[str, int]]),
    (Iterator[int], Iterable[int]),
    (Generator[int, None, None], Iterator[int]),
    (Tuple[int, str], Tuple[int, str]),
    (Tuple[int, ...], Tuple[int, int]),
    (Tuple[int, ...], Tuple[int, ...]),
    (Tuple[int, ...], Tuple[()]),
    (Tuple, Tuple[int, str]),
    (tuple, Tuple[()]),
    (Tuple[int, str], Sequence[Union[int, str]]),
    (Point, Tuple[int, str]),
    (Point, tuple),
    (Bare, Tuple[int, str]),
    (Movie, Dict[str, Any]),
    (Movie, dict),
    (Dict[str, Union[str, int]], Movie),
    (LongMovie, Movie),
    (Words, List[int]),  # what a subclass holds is not read from its bases
    (Box[int], Box[str]),  # variance of a user's generic is not known
    (Box, Box[int]),
    # Literals.
    (Literal["a"], str),
    (Literal["a"], Literal["a", "b"]),
    (Literal["a", 1], int),
    (Literal[Color.RED], Color),
    (Tag, Literal["a"]),
    (Literal[None], None),
    # Classes that anybody may count as, or that take each other's place.
    (Plain, Child),
    (Child, Plain),
    (int, Iterable),
    (int, Sequence[str]),
    (int, Callable),
    (int, Shape),
    (Plain, Shape),
    (int, Sized),
    (None, Sized),
    (int, Closing),
    (bool, Closing),
    (int, Duck),
    (None, Duck),
    (Weird, int),
    (None, Weird),
    (bytes, bytearray),
    (memoryview, bytes),
    (Level, int),
    (int, Level),
    (Level, float),
    (Tag, str),
    (Color, enum.Enum),
    (typing.IO, typing.TextIO),
    (str, typing.TextIO),
    (Type[int], type),
    (Type[int], Type[bool]),
    (Type, Type[int]),
    (Type[int], Callable[..., int]),
    (Callable[[int], str], Callable[[str], int]),
    (Callable, Callable[[int], str]),
    (types.FunctionType, Callable[[int], str]),
    (re.Pattern, typing.Pattern[str]),
    (ValueError, Exception),
    (Plain, Iterable[Plain]),
    (Plain, typing.Hashable),
    (str, os.PathLike),
    (decimal.Decimal, numbers.Number),
    (Circle, Shape),
    (Circle, Plotted),  # registered, not derived from
    (Plain, io.TextIOBase),
    (unittest.mock.Mock, Plain),
    # A class, an enum and a NewType that a notebook's cell defined again.
    (Plain, again("Plain")),
    (Child, again("Plain")),
    (Child, again("Plain", "__main__")),
    (Color, ColorAgain),
    (UserId, NewTypeAgain),
    # A NewType is a narrowing of what it names.
    (List[UserId], List[int]),
    (AdminId, UserId),
    (UserId, Optional[int]),
    (AllOf((int, Literal[1])), int),
    (AllOf((Sized, Closing)), Plain),
]

ALWAYS = [
    (str, int),
    (int, str),
    (str, bytes),
    (int, list),
    (float, str),
    (None, int),
    (int, None),
    (None, str),
    (None, Plain),
    (None, Iterable[int]),
    (None, Callable[[], int]),
    (bool, Iterable),
    (bool, str),
    (Optional[str], int),
    (Union[str, bytes], Union[int, float]),
    (UserId, str),
    (OneKind, bytes),
    (Bound, str),
    (str, Optional[int]),
    (Final[int], str),
    (dataclasses.InitVar[int], str),
    (List[str], List[int]),
    (List[Optional[int]], List[str]),
    (list, dict),
    (list, tuple),
    (list, str),
    (List[int], Set[int]),
    (List[str], Iterable[int]),
    (List[str], Sequence[int]),
    (Set[str], FrozenSet[str]),
    (Deque[int], List[int]),
    (List[List[str]], List[List[int]]),
    (Dict[str, int], Dict[str, str]),
    (Dict[str, int], Dict[int, int]),
    (Dict[str, int], List[str]),
    (Dict[str, Any], Iterable[int]),
    (DefaultDict[str, int], Mapping[str, str]),
    (typing.Counter[str], Dict[str, str]),
    (typing.ItemsView[str, int], Iterable[int]),
    (str, Iterable[int]),
    (str, Mapping[int, int]),
    (bytes, Sequence[str]),
    (range, Iterable[str]),
    (Iterator[int], Iterable[str]),
    (Generator[int, None, None], Iterator[str]),
    (Tuple[int, str], Tuple[int]),
    (Tuple[int, str], Tuple[str, int]),
    (Tuple[int, ...], Tuple[str, ...]),
    (Tuple[int, ...], Tuple[int, str]),
    (Tuple[int, str], Tuple[int, ...]),
    (Tuple[int, str], Sequence[int]),
    (Tuple[()], Tuple[int]),
    (Tuple[int, ...], list),
    (Tuple[int, ...], List[int]),
    (Point, Tuple[str, str]),
    (Point, Tuple[int, str, int]),
    (Movie, List[str]),
    (Movie, Mapping[int, Any]),
    (Movie, str),
    (Literal["a"], int),
    (Literal["a"], Literal["b"]),
    (Literal[1], str),
    (Literal[Color.RED], int),
    (Literal[Color.RED], Literal[Color.BLUE]),
    (Slotted, AlsoSlotted),
    (Slotted, int),
    (pathlib.PurePath, str),
    (str, pathlib.Path),
    (decimal.Decimal, float),
    (Color, int),
    (Color, Tag),
    (Level, str),
    (Color, Iterable[int]),
    (types.FunctionType, int),
    (Type[int], Type[str]),
    (Type[int], int),
    (re.Pattern, str),
    (StopIteration, OSError),
    (ValueError, int),
    # Ordinary classes of which neither derives from the other, although a third could derive from both.
    (Plain, Other),
    (Plain, Slotted),
    (WeakOnly, Slotted),
    (Plain, int),
    (Plain, str),
    (Memberless, int),
    (ValueError, KeyError),
    (ValueError, OSError),
    (Circle, Plain),  # of an ABC's family, and nothing abstract itself
    (Circle, Model),
    (Page, Query),  # a metaclass that only narrows, as pydantic's
    (List[Plain], Plain),
    (List[Plain], List[Other]),
    (Optional[Plain], Other),
    (Dict[str, Plain], Dict[str, Other]),
    (Box[int], Plain),
    (Movie, Plain),
    (types.SimpleNamespace, Plain),
    (types.FunctionType, functools.partial),
    (pathlib.Path, Plain),
    (Plain, again("Plain", "elsewhere")),
    (UserId, OrderId),
    (List[UserId], List[OrderId]),
    (UserId, Optional[str]),
    (AllOf((int, str)), int),
    (AllOf((Union[int, str], Union[str, bytes])), int),
]

FIT = [
    (int, int),
    (int, object),
    (bool, int),
    (int, float),
    (int, complex),
    (bool, float),
    (float, complex),
    (Child, Plain),
    (int, Optional[int]),
    (None, Optional[int]),
    (Optional[int], Optional[int]),
    (Optional[int], Union[None, str, int]),
    (Union[int, str], object),
    (Any, int),
    (int, Any),
    (UNKNOWN, int),
    (int, UNKNOWN),
    (T, int),
    ("Missing", int),
    (UserId, int),
    (List[int], list),
    (List[int], List[Any]),
    (List[Any], List[int]),
    (List[bool], List[int]),
    (List[int], Sequence[int]),
    (List[int], Iterable),
    (list, Iterable),
    (list, List[object]),
    (str, Iterable[str]),
    (Dict[str, int], Mapping[str, Optional[int]]),
    (Dict[str, int], Iterable[str]),
    (typing.Counter[str], Mapping[str, int]),
    (Tuple[int, str], tuple),
    (Tuple[int, str], Tuple[Union[int, str], ...]),
    (Tuple[int, str], Sequence[Union[int, str]]),
    (Point, Tuple[int, str]),
    (Words, List[str]),
    (Movie, dict),
    (Movie, Mapping[str, object]),
    (LongMovie, Movie),
    (Literal["a"], str),
    (Literal["a"], Literal["a", "b"]),
    (Literal["a", 1], Union[int, str]),
    (Literal["a", "c"], Union[Literal["a", "b"], Literal["c"]]),
    (Level, int),
    (Door, Closing),
    (int, Duck),
    (Weird, int),
    (str, typing.TextIO),
    (types.FunctionType, Callable[[int], str]),
    (Callable[[int], str], Callable),
    (Type[bool], Type[int]),
    (Type[int], type),
    (Generator[int, None, None], Iterable[int]),
    (Coroutine[Any, Any, int], int),
    (Proxy, Sized),  # gets its attributes as it runs
    (Boxed, Sized),
    (WithField, Sized),
    (WithSet, Sized),
    (AlsoSet, Sized),
    (Plain, Named),  # attributes may be set anywhere
    (types.ModuleType, Sized),
    (Plain, again("Plain")),
    (Child, again("Plain")),
    (AdminId, UserId),
    (UserId, Optional[UserId]),
    (UserId, Union[str, int]),
    (List[UserId], List[int]),
    (Callable[[object], bool], Callable[[int], int]),
    (Callable[..., int], Callable[[int, str], int]),
    (Callable[[int], int], Callable[..., object]),
    (Box[int], Box[int]),
    (Box[int], Box),
    (Box[bool], Box[int]),
    (Boxes[str], Box[List[str]]),
    (Boxes, Box[List[int]]),
    (Letters, Box[List[str]]),
    (MoreWords, List[str]),
    (Settings, Dict[str, int]),
    (Source[bool], Source[int]),
    (Sink[int], Sink[bool]),
    (typing.Pattern[str], typing.Pattern[str]),
    (int, AllOf((int, float))),
    (AllOf((Plain, Sized)), Plain),
]

DO_NOT_FIT = [
    (Optional[int], int),
    (object, int),
    (float, int),
    (int, bool),
    (Plain, Child),
    (Plain, Other),
    (Union[int, str], int),
    (list, List[int]),
    (Iterable, List[int]),
    (Iterable[int], List[int]),
    (List[object], List[int]),
    (List[Optional[int]], List[int]),
    (Dict[str, object], Dict[str, int]),
    (dict, Dict[str, int]),
    (dict, Movie),
    (Dict[str, Any], Movie),
    (Movie, LongMovie),
    (Tuple[int, ...], Tuple[int, int]),
    (tuple, Tuple[int, str]),
    (tuple, Point),
    (Tuple[int, str], Point),
    (str, Literal["a"]),
    (Literal["a", "b"], Literal["a"]),
    (Plain, Closing),
    (int, Iterable),
    (type, Type[int]),
    (object, Callable),
    (str, int),
    (Plain, Sized),
    (Unsized, Sized),
    (int, UserId),
    (Literal[5], UserId),
    (UserId, AdminId),
    (UserId, OrderId),
    (List[int], List[UserId]),
    (Callable[[int], int], Callable[[object], int]),
    (Callable[[int], int], Callable[[str], int]),
    (Callable[[int], int], Callable[[int, int], int]),
    (Callable[[int], object], Callable[[int], int]),
    (Box[int], Box[str]),
    (Boxes[str], Box[List[int]]),
    (Letters, Box[List[int]]),
    (MoreWords, List[int]),
    (Source[int], Source[bool]),
    (Sink[bool], Sink[int]),
    (typing.Pattern[str], typing.Pattern[bytes]),
    (int, AllOf((int, bool))),
]

SHOWN = [
    (int, "int"),
    (None, "None"),
    (type(None), "None"),
    (Any, "Any"),
    (object, "object"),
    (UNKNOWN, "?"),
    (Ellipsis, "..."),
    (List, "list"),
    (List[str], "list[str]"),
    (List[UserId], "list[UserId]"),
    (Dict, "dict"),
    (Dict[str, int], "dict[str, int]"),
    (Dict[str, List[Optional[int]]], "dict[str, list[int | None]]"),
    (Optional[int], "int | None"),
    (Union[None, int], "int | None"),
    (Union[str, int, None], "str | int | None"),
    (Union[List[int], int], "list[int] | int"),
    (Literal["a"], "Literal['a']"),
    (Literal["b", 1, None, True], "Literal['b', 1, None, True]"),
    (Literal[Color.RED], "Literal[Color.RED]"),
    (Optional[Literal["a"]], "Literal['a'] | None"),
    (Tuple, "tuple"),
    (Tuple[()], "tuple[()]"),
    (Tuple[int, str], "tuple[int, str]"),
    (Tuple[int, ...], "tuple[int, ...]"),
    (Callable, "Callable"),
    (Callable[[int], str], "Callable[[int], str]"),
    (Callable[..., Optional[str]], "Callable[..., str | None]"),
    (Callable[[], None], "Callable[[], None]"),
    (Iterable[int], "Iterable[int]"),
    (Mapping[str, int], "Mapping[str, int]"),
    (DefaultDict[str, int], "defaultdict[str, int]"),
    (Type[int], "type[int]"),
    (Type, "type"),
    (T, "T"),
    (UserId, "UserId"),
    (NoReturn, "NoReturn"),
    (Final[int], "int"),
    (ClassVar[List[int]], "list[int]"),
    (dataclasses.InitVar[int], "int"),
    (typing.ForwardRef("Missing"), "Missing"),
    (List[typing.ForwardRef("Missing")], "list[Missing]"),
    ("Missing", "Missing"),
    (Plain, "Plain"),
    (Box[int], "Box[int]"),
    (Point, "Point"),
    (Movie, "Movie"),
    (Color, "Color"),
    (re.Pattern, "Pattern"),
    (typing.Pattern[str], "Pattern[str]"),
    (abc.ABC, "ABC"),
    (Plain(), "?"),
    (5, "?"),
    (Weird, "Weird"),
]


@pytest.mark.parametrize(("one", "other"), NEVER, ids=lambda tp: show(tp))
def test_types_that_could_share_a_value_do_not_clash(one, other):
    assert not clash(one, other)
    assert not clash(other, one)


@pytest.mark.parametrize(("one", "other"), ALWAYS, ids=lambda tp: show(tp))
def test_types_without_a_common_value_clash(one, other):
    assert clash(one, other)
    assert clash(other, one)
    assert not fits(one, other)


@pytest.mark.parametrize(("produced", "wanted"), FIT, ids=lambda tp: show(tp))
def test_a_narrower_type_fits_a_wider_one(produced, wanted):
    assert fits(produced, wanted)


@pytest.mark.parametrize(("produced", "wanted"), DO_NOT_FIT, ids=lambda tp: show(tp))
def test_a_wider_type_does_not_fit_a_narrower_one(produced, wanted):
    assert not fits(produced, wanted)


@pytest.mark.parametrize(("tp", "text"), SHOWN, ids=[text for _, text in SHOWN])
def test_a_type_has_one_text_on_every_python(tp, text):
    assert show(tp) == text


@pytest.mark.skipif(sys.version_info < (3, 9), reason="list[str] needs Python 3.9")
def test_built_in_and_typing_generics_mean_the_same():
    assert show(list[str]) == "list[str]"
    assert show(tuple[()]) == "tuple[()]"
    assert show(dict[str, tuple[int, ...]]) == "dict[str, tuple[int, ...]]"
    assert show(collections.abc.Callable[[int], str]) == "Callable[[int], str]"
    assert clash(list[str], List[int])
    assert clash(tuple[()], Tuple[int])
    assert not clash(tuple, Tuple[int])
    assert fits(list[int], List[int])
    assert fits(List[int], list[int])


@pytest.mark.skipif(sys.version_info < (3, 10), reason="int | None needs Python 3.10")
def test_unions_of_both_notations_mean_the_same():
    assert show(int | None) == show(None | int) == show(Optional[int])
    assert clash(int | None, Union[str, bytes])
    assert fits(int | None, Optional[int])
    assert not fits(int | None, int)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="typing.final leaves no mark before Python 3.11")
def test_a_final_class_clashes_with_what_it_does_not_derive_from():
    @typing.final
    class Last(Plain):
        pass

    assert clash(Last, Other)
    assert clash(Other, Last)
    assert clash(Last, Iterable)
    assert not clash(Last, Plain)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="these are in typing from Python 3.11 on")
def test_newer_special_forms_are_looked_through_or_unknown():
    names = {}
    exec(
        textwrap.dedent(
            """
            from typing import *
            Ts = TypeVarTuple("Ts")
            P = ParamSpec("P")
            class Part(TypedDict):
                a: Required[int]
                b: NotRequired[str]
            class Mocked(Any): pass
            class Pair(NamedTuple, Generic[TypeVar("T")]):
                a: int
                b: str
            """
        ),
        names,
    )
    for unknown in ("Self", "Never", "LiteralString", "Ts", "P", "Mocked"):
        assert not clash(names[unknown], int)
        assert not clash(int, names[unknown])
    unpacked = Tuple[(int, typing.Unpack[Tuple[str, ...]])]
    assert not clash(unpacked, Tuple[int, str, str])
    assert not clash(tuple[(int, *tuple[str, ...])], Tuple[int])
    parameters = names["P"]
    assert show(Callable[parameters, int]) == "Callable[P, int]"
    assert show(Callable[typing.Concatenate[int, parameters], int]) == "Callable[Concatenate[int, P], int]"
    assert fits(names["Part"], Mapping[str, Union[int, str]])
    assert not clash(names["Pair"][int], Tuple[int, str])
    assert clash(names["Pair"], Tuple[str, str])
    assert fits(names["Pair"][int], names["Pair"])
    assert show(typing.Self) == "Self"


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the type statement needs Python 3.12")
def test_type_aliases_stand_for_their_value_and_may_be_recursive():
    names = {}
    exec(
        textwrap.dedent(
            """
            type Number = int
            type Json = int | str | list[Json] | dict[str, Json]
            type Tree = list[Tree]
            type Bush = list[Bush]
            type Many[T] = list[T]
            type Turned[A, B] = dict[B, A]
            type Self = Self
            type Broken = missing
            type A = tuple[A, A, int] | dict[str, A]
            type B = tuple[B, B, str] | dict[str, B]
            """
        ),
        names,
    )
    number, json, tree, bush, many = (names[name] for name in ("Number", "Json", "Tree", "Bush", "Many"))
    assert clash(number, str)
    assert fits(number, int)
    assert show(number) == "Number"
    assert show(many[int]) == "Many[int]"
    assert clash(many[int], List[str])
    assert not clash(many, List[str])
    assert fits(names["Turned"][int, str], Dict[str, int])
    assert clash(many[int], int)
    assert clash(json, bytes)
    assert not clash(json, List[int])
    assert fits(List[int], json)
    assert not clash(tree, bush)
    assert fits(tree, bush)
    assert not clash(names["Self"], int)
    assert not clash(names["Broken"], int)
    assert fits(names["Broken"], int)
    clash(names["A"], names["B"])
    assert show(List[tree]) == "list[Tree]"


def test_annotated_is_looked_through():
    source = typing if sys.version_info >= (3, 9) else pytest.importorskip("typing_extensions")
    annotated = source.Annotated[int, Unhashable()]
    assert clash(annotated, str)
    assert clash(List[annotated], List[str])
    assert fits(List[annotated], List[int])
    assert show(List[annotated]) == "list[int]"
    assert list_of(annotated)
    assert tuple_elements(source.Annotated[Tuple[int, str], 1], 2) == (int, str)


def test_typing_extensions_mean_the_same_as_typing():
    extensions = pytest.importorskip("typing_extensions")
    assert clash(extensions.Literal["a"], Literal["b"])
    assert clash(extensions.Literal["a"], int)
    assert not clash(extensions.Literal["a", "b"], Literal["b"])
    assert show(extensions.Literal["a"]) == "Literal['a']"
    assert not clash(extensions.Self, int)
    assert not clash(extensions.Any, int)
    assert show(extensions.Any) == "Any"
    assert clash(extensions.TypedDict("Part", {"a": extensions.Required[int]}), List[str])
    assert clash(extensions.TypeAliasType("Alias", int), str)


def test_numpy_scalars_stand_in_for_numbers_and_arrays_are_arrays():
    numpy = pytest.importorskip("numpy")
    arrays = importlib.import_module("numpy.typing").NDArray
    numbers_ = [numpy.int64, numpy.uint8, numpy.float64, numpy.bool_, numpy.floating, numpy.number, numpy.generic]
    for scalar, other in itertools.product(numbers_, [int, float, complex, bool, *numbers_]):
        assert not clash(scalar, other)
        assert not clash(other, scalar)
    for scalar, python in [(numpy.str_, str), (numpy.bytes_, bytes), (numpy.bool_, bool), (numpy.int64, int)]:
        assert fits(scalar, python)
        assert not clash(python, scalar)
        assert not fits(python, scalar)
    assert fits(numpy.int64, float)
    assert fits(numpy.float32, complex)
    assert not fits(numpy.float64, int)
    assert not fits(numpy.float64, numpy.int64)
    assert fits(numpy.float64, numpy.floating)
    assert clash(numpy.str_, int)
    assert clash(numpy.str_, numpy.float64)
    assert clash(numpy.float64, str)
    assert not clash(numpy.datetime64, int)
    assert clash(numpy.float64, decimal.Decimal)
    assert clash(numpy.int64, list)
    assert not clash(arrays[numpy.float64], numpy.ndarray)
    assert not clash(arrays[numpy.float64], arrays[numpy.int64])
    assert not clash(numpy.ndarray, Iterable[int])
    assert not clash(numpy.ndarray, Sequence[int])
    assert clash(numpy.ndarray, list)
    assert clash(numpy.ndarray, str)
    assert fits(arrays[numpy.float64], numpy.ndarray)
    assert fits(arrays[numpy.float64], arrays[numpy.float64])
    assert fits(arrays[numpy.float64], arrays[numpy.floating])
    assert fits(arrays[numpy.float64], arrays[Any])
    assert not fits(arrays[numpy.float64], arrays[numpy.int64])
    assert not fits(arrays[numpy.floating], arrays[numpy.float64])
    assert clash(numpy.ndarray, Plain)
    assert show(numpy.ndarray) == "ndarray"
    assert show(arrays[numpy.float64]) == "NDArray[float64]"
    assert show(arrays[Any]) == "NDArray[Any]"
    assert show(Optional[arrays[numpy.uint8]]) == "NDArray[uint8] | None"
    assert not unmappable(numpy.ndarray, int)
    assert not unmappable(arrays[numpy.float64], str)


def test_pandas_frames():
    pandas = pytest.importorskip("pandas")
    assert not clash(pandas.DataFrame, Iterable[str])
    assert not clash(pandas.Series, Sequence[int])
    assert clash(pandas.DataFrame, None)
    assert clash(str, pandas.DataFrame)
    assert clash(pandas.DataFrame, pandas.Series)
    assert clash(List[pandas.DataFrame], pandas.DataFrame)
    assert clash(pandas.DataFrame, Plain)
    assert not clash(Optional[pandas.DataFrame], pandas.DataFrame)
    assert not clash(pandas.DataFrame, Sized)
    assert show(Dict[str, pandas.DataFrame]) == "dict[str, DataFrame]"


BUILT_IN = [int, bool, float, complex, str, bytes, bytearray, list, tuple, dict, set, frozenset, range, slice]
BUILT_IN += [memoryview, type, object, BaseException, ValueError, OSError, KeyError, StopIteration, type(None)]
BUILT_IN += [
    UnicodeDecodeError,
    collections.OrderedDict,
    collections.deque,
    collections.Counter,
    pathlib.PurePath,
    decimal.Decimal,
]
BUILT_IN += [Plain, Other, Child, Slotted, AlsoSlotted, WeakOnly, Words, Point, re.Pattern, types.FunctionType]


@pytest.mark.parametrize(("one", "other"), list(itertools.combinations(BUILT_IN, 2)), ids=lambda tp: tp.__name__)
def test_ordinary_classes_clash_unless_one_derives_from_the_other(one, other):
    agreed = {bytes, bytearray, memoryview}, {int, bool, float, complex}
    related = issubclass(one, other) or issubclass(other, one) or any({one, other} <= group for group in agreed)
    assert clash(one, other) is not related


@pytest.mark.parametrize(
    ("produced", "item", "refused"),
    [
        (str, str, True),
        (bytes, int, True),
        (Dict[str, int], str, True),
        (Mapping[str, int], UNKNOWN, True),
        (Movie, str, True),
        (int, int, True),
        (float, UNKNOWN, True),
        (bool, UNKNOWN, True),
        (None, UNKNOWN, True),
        (Color, UNKNOWN, True),
        (Literal["a"], str, True),
        (Optional[str], str, True),
        (List[str], int, True),
        (Tuple[int, str], int, True),
        (range, str, True),
        (Iterator[str], int, True),
        (List[str], str, False),
        (List[str], UNKNOWN, False),
        (list, int, False),
        (Optional[List[str]], str, False),
        (Union[str, List[str]], str, False),
        (List[Dict[str, int]], Dict[str, int], False),
        (range, int, False),
        (Set[int], float, False),
        (Iterator[str], str, False),
        (object, int, False),
        (Any, int, False),
        (UNKNOWN, int, False),
        (Plain, int, False),
        (Duck, int, False),
        (bytearray, int, False),
        (Type[Color], Color, False),
        (Awaitable[int], int, False),
        (Weird, int, False),
    ],
    ids=lambda tp: show(tp),
)
def test_what_cannot_be_mapped_over(produced, item, refused):
    assert unmappable(produced, item) is refused


def test_lifted_types():
    assert show(list_of(int)) == "list[int]"
    assert show(list_of(None)) == "list[None]"
    assert show(list_of(Union[str, int])) == "list[str | int]"
    assert list_of(UNKNOWN) is list
    assert show(list_of(list_of(UNKNOWN))) == "list[list]"
    assert show(iterable_of(int)) == "Iterable[int]"
    assert show(iterable_of(UNKNOWN)) == "Iterable"
    assert fits(list_of(int), iterable_of(int))
    assert clash(list_of(int), iterable_of(str))
    assert not clash(list_of(UNKNOWN), iterable_of(int))
    assert not clash(list_of(5), list_of(int))


@pytest.mark.parametrize(
    ("tp", "count", "elements"),
    [
        (Tuple[int, str], 2, (int, str)),
        (Tuple[int, str], 3, None),
        (Tuple[int, ...], 3, (int, int, int)),
        (Tuple[()], 2, None),
        (Tuple, 2, (UNKNOWN, UNKNOWN)),
        (tuple, 2, (UNKNOWN, UNKNOWN)),
        (Point, 2, (int, str)),
        (Point, 3, None),
        (Bare, 2, (UNKNOWN, UNKNOWN)),
        (Bare, 1, None),
        (Optional[Tuple[int, str]], 2, (int, str)),
        (Union[Tuple[int, str], Tuple[str, int]], 2, (UNKNOWN, UNKNOWN)),
        (Union[Tuple[int], Tuple[int, str]], 2, (int, str)),
        (UNKNOWN, 2, (UNKNOWN, UNKNOWN)),
        (Any, 2, (UNKNOWN, UNKNOWN)),
        (object, 2, (UNKNOWN, UNKNOWN)),
        (Sequence[int], 2, (UNKNOWN, UNKNOWN)),
        (Plain, 2, None),
        (List[int], 2, None),
        (Dict[str, int], 2, None),
        (str, 2, None),
        (int, 2, None),
        (None, 2, None),
        (Literal["ab"], 2, None),
        (Optional[int], 2, None),
        (Weird, 2, (UNKNOWN, UNKNOWN)),
    ],
    ids=lambda tp: show(tp),
)
def test_elements_of_a_tuple(tp, count, elements):
    assert tuple_elements(tp, count) == elements


ANY_LEAF = [int, bool, float, str, bytes, list, dict, tuple, object, None, Any, UNKNOWN, T, Bound, OneKind, UserId]
ANY_LEAF += [Plain, Child, Slotted, Color, Level, Tag, Point, Movie, Sized, Closing, Duck, Words, Box, Shape, "Nope"]
ANY_LEAF += [typing.ForwardRef("Missing"), Literal["a"], Literal["b", 1], Literal[Color.RED], Iterable, Callable, List]
ANY_LEAF += [Tuple, Tuple[()], NoReturn, typing.Hashable, typing.TextIO, Type, Awaitable[int], Final, 5, Ellipsis]


def made_of(leaves):
    def subscript(generic, *args):
        try:
            return generic[args if len(args) > 1 else args[0]]
        except Exception:  # not everything may stand everywhere
            return generic

    generics = [List, Set, Sequence, Iterable, Iterator, FrozenSet, Optional, Type, Box, Final, Deque]
    ones = st.builds(subscript, st.sampled_from(generics), leaves)
    twos = st.builds(subscript, st.sampled_from([Dict, Mapping, Union, Tuple, typing.ItemsView]), leaves, leaves)
    many = st.builds(lambda tp: subscript(Tuple, tp, ...), leaves)
    calls = st.builds(lambda a, b: subscript(Callable, [a], b), leaves, leaves)
    return ones | twos | many | calls


ANY_TYPE = st.recursive(st.sampled_from(ANY_LEAF), made_of, max_leaves=6)


@settings(max_examples=500, derandomize=True, deadline=None)
@given(ANY_TYPE, ANY_TYPE, st.integers(1, 3))
def test_no_type_is_too_strange(a, b, count):
    """Nothing raises, and the verdicts do not contradict each other."""
    assert clash(a, a) is False
    assert fits(a, a) is True
    assert clash(a, b) is clash(b, a)
    assert not (fits(a, b) and clash(a, b))
    assert show(a) == show(a)
    assert "0x" not in show(a)
    assert isinstance(unmappable(a, b), bool)
    assert clash(list_of(a), list_of(a)) is False
    elements = tuple_elements(a, count)
    assert elements is None or len(elements) == count
    iterable_of(a)


VALUES = [0, 1, True, 2.5, "a", "b", b"a", None, [1], ["a"], [[1]], [None], {"a": 1}, {"a": "b"}, {1: 1}, (1,)]
VALUES += [(1, "a"), ("a", "b"), (1, 2, 3), {1}, {"a"}, frozenset("a"), Plain(), Child(), Color.RED, Level.LOW, Tag.A]
VALUES += [
    Point(1, "a"),
    [2.5],
    [True],
    ("a", 1),
    [(1, "a")],
    {"a": [1]},
    Slotted(),
    range(3),
    Words("a"),
    [{"a": 1}],
    object(),
]
KNOWN = [int, bool, float, str, bytes, None, list, dict, tuple, object, Plain, Child, Other, Slotted, Color, Level]
KNOWN += [Point, Literal["a"], Literal["b", 1], Iterable]


def known_of(leaves):
    ones = st.builds(lambda generic, a: generic[a], st.sampled_from([List, Set, Sequence, Iterable, Optional]), leaves)
    twos = st.builds(lambda generic, *a: generic[a], st.sampled_from([Dict, Mapping, Union, Tuple]), leaves, leaves)
    return ones | twos | st.builds(lambda a: Tuple[a, ...], leaves)


def holds(value, tp):
    """Tell whether a value is of a type: what the verdicts are measured by, and slower and simpler than they are."""
    if tp is None:
        return value is None
    origin, args = typing.get_origin(tp), typing.get_args(tp)
    if origin is None or (not args and origin is not tuple):
        return isinstance(value, origin or tp) or (tp is float and isinstance(value, int))
    if origin is Union or type(tp) is getattr(types, "UnionType", None):
        return any(holds(value, arg) for arg in args)
    if origin is Literal:
        return any(type(arg) is type(value) and arg == value for arg in args)
    if not isinstance(value, origin):
        return False
    if origin is tuple and Ellipsis not in args:
        return len(value) == len(args) and all(map(holds, value, args))
    if len(args) == 2 and origin is not tuple:
        return all(holds(key, args[0]) and holds(value[key], args[1]) for key in value)
    return all(holds(item, args[0]) for item in value)


@settings(max_examples=2000, derandomize=True, deadline=None)
@given(st.recursive(st.sampled_from(KNOWN), known_of, max_leaves=5), st.recursive(st.sampled_from(KNOWN), known_of))
def test_values_bear_the_verdicts_out(a, b):
    """A value of both types refutes `clash`, a value of one type only refutes `fits`."""
    both = [value for value in VALUES if holds(value, a) and holds(value, b)]
    only = [value for value in VALUES if holds(value, a) and not holds(value, b)]
    assert not (clash(a, b) and both)
    assert not (fits(a, b) and only)
