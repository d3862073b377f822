"""A node is wired by what its callable takes, whatever a decorator says that it wraps."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import functools
import inspect
import os
from unittest import mock

import pytest

from hypernodes import LocalBackend, Pipeline, node
from hypernodes.errors import NodeDefinitionError
from hypernodes.ir.graph import REQUIRED


def plain(a, b, c=3):
    return a, b, c


def spelled(fn):
    """Return the wired parameters of a callable as a signature would show them, ``*`` and ``/`` on each."""
    kinds = {(False, False): "", (True, False): "*", (False, True): "/"}
    return [
        kinds[p.keyword, p.positional] + p.name + ("" if p.default is REQUIRED else f"={p.default!r}")
        for p in node("out")(fn).parameters
    ]


def called(fn, **inputs):
    return Pipeline(nodes=[node("out")(fn)]).run(inputs)["out"]


# -- wrappers ---------------------------------------------------------------------------------------------------------


@functools.wraps(plain)
def through(*args, **kwargs):
    return plain(*args, **kwargs)


@functools.wraps(plain)
def narrowing(a):
    return plain(a, 100)


@functools.wraps(plain)
def other_names(p, q=0):
    return plain(p, q)


@functools.wraps(plain)
def same_first(a, *args, **kwargs):
    return plain(a, *args, **kwargs)


@functools.wraps(plain)
def one_more(log, *args, **kwargs):
    return (log, *plain(*args, **kwargs))


@functools.wraps(plain)
def out_of_order(b, *args, **kwargs):
    return plain(*args, b=b, **kwargs)


@functools.wraps(plain)
def by_name(*args, b=5, **kwargs):
    return plain(*args, b=b, **kwargs)


@functools.wraps(plain)
def only_args(*args):
    return plain(*args)


@functools.wraps(plain)
def only_kwargs(**kwargs):
    return plain(**kwargs)


@functools.wraps(through)
def twice(*args, **kwargs):
    return through(*args, **kwargs)


@functools.wraps(narrowing)
def around_narrowing(*args, **kwargs):
    return narrowing(*args, **kwargs)


class Forwarding:
    def __init__(self, fn):
        functools.update_wrapper(self, fn)
        self.fn = fn

    def __call__(self, *args, **kwargs):
        return self.fn(*args, **kwargs)


class Narrowing(Forwarding):
    def __call__(self, a):
        return self.fn(a, 0)


@pytest.mark.parametrize(
    ("fn", "parameters", "inputs", "output"),
    [
        (through, ["a", "b", "c=3"], {"a": 1, "b": 2}, (1, 2, 3)),
        (narrowing, ["a"], {"a": 1}, (1, 100, 3)),
        (other_names, ["p", "q=0"], {"p": 1}, (1, 0, 3)),
        (same_first, ["a", "b", "c=3"], {"a": 1, "b": 2, "c": 0}, (1, 2, 0)),
        (one_more, ["log", "a", "b", "c=3"], {"log": 0, "a": 1, "b": 2}, (0, 1, 2, 3)),
        (out_of_order, ["b", "*a", "*c=3"], {"a": 1, "b": 2}, (1, 2, 3)),
        (by_name, ["a", "*b=5", "*c=3"], {"a": 1, "c": 0}, (1, 5, 0)),
        (only_args, ["/a", "/b", "/c=3"], {"a": 1, "b": 2}, (1, 2, 3)),
        (only_kwargs, ["*a", "*b", "*c=3"], {"a": 1, "b": 2}, (1, 2, 3)),
        (twice, ["a", "b", "c=3"], {"a": 1, "b": 2}, (1, 2, 3)),
        (around_narrowing, ["a"], {"a": 1}, (1, 100, 3)),
        (Forwarding(plain), ["a", "b", "c=3"], {"a": 1, "b": 2}, (1, 2, 3)),
        (Narrowing(plain), ["a"], {"a": 1}, (1, 0, 3)),
        (functools.singledispatch(plain), ["a", "b", "c=3"], {"a": 1, "b": 2}, (1, 2, 3)),
        (functools.lru_cache(maxsize=None)(plain), ["a", "b", "c=3"], {"a": 1, "b": 2}, (1, 2, 3)),
        (functools.lru_cache(maxsize=None)(narrowing), ["a"], {"a": 1}, (1, 100, 3)),
    ],
    ids=lambda case: getattr(case, "__code__", None) and case.__code__.co_name,
)
def test_a_wrapper_is_followed_where_it_is_open(fn, parameters, inputs, output):
    assert spelled(fn) == parameters
    assert called(fn, **inputs) == output


def test_an_explicit_signature_wins():
    def takes_anything(*args, **kwargs):
        return args, kwargs

    takes_anything.__signature__ = inspect.signature(lambda x, y=2: None)
    assert spelled(takes_anything) == ["x", "y=2"]
    assert called(takes_anything, x=1) == ((1,), {})


def test_what_wraps_itself_is_refused():
    def around(*args):
        return args

    around.__wrapped__ = around
    with pytest.raises(NodeDefinitionError):
        node("out")(around)


def test_a_context_manager_is_what_it_is_made_of():
    @contextlib.contextmanager
    def opened(path, mode="r"):
        yield path, mode

    assert spelled(opened) == ["path", "mode='r'"]


# -- partials ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fn", "parameters", "inputs", "output"),
    [
        (functools.partial(plain, 10), ["b", "c=3"], {"b": 1}, (10, 1, 3)),
        (functools.update_wrapper(functools.partial(plain, 10), plain), ["b", "c=3"], {"b": 1}, (10, 1, 3)),
        (functools.partial(plain, c=0), ["a", "b", "*c=0"], {"a": 1, "b": 2}, (1, 2, 0)),
        (functools.partial(plain, a=0), ["*a=0", "*b", "*c=3"], {"b": 2}, (0, 2, 3)),
        (functools.partial(functools.partial(plain, 1), 2), ["c=3"], {}, (1, 2, 3)),
        (functools.partial(through, 1), ["b", "c=3"], {"b": 2}, (1, 2, 3)),
        (functools.partial(only_kwargs, b=0), ["*a", "*b=0", "*c=3"], {"a": 1}, (1, 0, 3)),
    ],
    ids=["position", "update_wrapper", "name", "first-by-name", "of-partial", "of-wrapper", "of-kwargs"],
)
def test_a_partial_is_what_it_leaves_open(fn, parameters, inputs, output):
    assert spelled(fn) == parameters
    assert called(fn, **inputs) == output


@pytest.mark.skipif(not hasattr(functools, "Placeholder"), reason="places can be left open from Python 3.14 on")
def test_a_place_that_a_partial_leaves_open():
    left = functools.partial(plain, functools.Placeholder, 2)
    assert spelled(left) == ["/a", "c=3"]
    assert called(left, a=1) == (1, 2, 3)


# -- mock.patch -------------------------------------------------------------------------------------------------------


@mock.patch("os.getcwd")
def patched(x, getcwd):
    return x, getcwd is os.getcwd


@mock.patch("os.getcwd", new=lambda: "here")  # noqa: PT008
@mock.patch("os.getpid")
@mock.patch.object(os, "getppid")
@mock.patch.multiple("os", stat=mock.DEFAULT)
def patched_often(x, y, getppid, getpid, stat):
    return x, y, os.getcwd(), (getpid, getppid, stat) == (os.getpid, os.getppid, os.stat)


@functools.wraps(patched_often)
def around_patched(*args, **kwargs):
    return patched_often(*args, **kwargs)


def test_mocks_are_no_inputs():
    assert spelled(patched) == ["x"]
    assert called(patched, x=1) == (1, True)
    for fn in (patched_often, around_patched):
        assert spelled(fn) == ["x", "y"]
        assert called(fn, x=1, y=2) == (1, 2, "here", True)


# -- methods and classes ----------------------------------------------------------------------------------------------


class Model:
    def scale(self, x, by=2):
        return x * by

    tripled = functools.partialmethod(scale, by=3)

    @functools.wraps(plain)
    def wrapped(self, *args, **kwargs):
        return plain(*args, **kwargs)

    @functools.lru_cache(maxsize=None)  # noqa: B019
    def cached(self, x):
        return x

    @mock.patch("os.getcwd")
    def patched(self, x, getcwd):
        return x

    @functools.singledispatchmethod
    def by_type(self, x, by=1):
        return x, by

    @by_type.register(int)
    def by_number(self, x, by=1):
        return "number", by


@pytest.mark.parametrize(
    ("name", "parameters", "inputs", "output"),
    [
        ("scale", ["x", "by=2"], {"x": 1}, 2),
        ("tripled", ["x", "*by=3"], {"x": 1}, 3),
        ("cached", ["x"], {"x": 1}, 1),
        ("patched", ["x"], {"x": 1}, 1),
        ("by_type", ["x", "by=1"], {"x": 1}, ("number", 1)),
        ("by_type", ["x", "by=1"], {"x": "a", "by": 2}, ("a", 2)),
    ],
)
def test_a_bound_method_is_without_what_is_bound(name, parameters, inputs, output):
    method = getattr(Model(), name)
    assert spelled(method) == parameters
    assert called(method, **inputs) == output


class Narrow:
    @functools.wraps(plain)
    def __init__(self, a):
        self.a = a


class Through:
    @functools.wraps(Narrow.__init__)
    def __init__(self, *args, **kwargs):
        Narrow.__init__(self, *args, **kwargs)


class Made:
    def __new__(cls, q):
        return q


@dataclasses.dataclass
class Record:
    a: int
    b: int = 2


@pytest.mark.parametrize(
    ("cls", "parameters"),
    [
        (Narrow, ["a"]),
        (Through, ["a"]),
        (Made, ["q"]),
        (Record, ["a", "b=2"]),
        (collections.namedtuple("Pair", "p q"), ["p", "q"]),
    ],
    ids=lambda case: getattr(case, "__name__", None),
)
def test_a_class_is_what_makes_its_objects(cls, parameters):
    assert spelled(cls) == parameters


@pytest.mark.parametrize(
    "fn", [functools.partial(plain, 1, 2, 3, 4), lambda *args: args, 5, min], ids=["full", "args", "int", "builtin"]
)
def test_what_cannot_be_known_is_refused(fn):
    with pytest.raises(NodeDefinitionError):
        node("out")(fn)


def test_a_node_shows_the_signature_it_is_wired_by():
    assert str(inspect.signature(node("y")(one_more))) == "(log, a, b, c=3)"
    assert repr(node("y")(patched)) == "<Node patched(x) as y>"


# -- positional-only ones ---------------------------------------------------------------------------------------------


def positional(a, b=2, c=3, /, d=4, *, e=5):
    return a, b, c, d, e


@pytest.mark.parametrize(
    ("inputs", "output"),
    [
        ({"a": 1}, (1, 2, 3, 4, 5)),
        ({"a": 1, "c": 0}, (1, 2, 0, 4, 5)),
        ({"a": 1, "c": 0, "e": 0}, (1, 2, 0, 4, 0)),
        ({"a": 1, "b": 0, "d": 0}, (1, 0, 3, 0, 5)),
        ({"a": 1, "c": 0, "d": 0}, (1, 2, 0, 0, 5)),
    ],
    ids=str,
)
def test_the_default_of_a_positional_only_parameter_is_filled_in(inputs, output):
    assert called(positional, **inputs) == output


def test_it_is_filled_in_for_a_coroutine_function_a_map_and_a_worker():
    async def later(a=1, b=2, c=3, /):
        return a, b, c

    inner = Pipeline(nodes=[node("y")(later), node("z")(positional)], name="inner")
    assert inner.map({"c": [0, 7], "a": 1}, "c").rows() == [
        {"y": (1, 2, 0), "z": (1, 2, 0, 4, 5)},
        {"y": (1, 2, 7), "z": (1, 2, 7, 4, 5)},
    ]
    outer = Pipeline(nodes=[inner.as_node(map_over="rows")])
    assert outer.run({"rows": [{"c": 0, "a": 1}]})["y"] == [(1, 2, 0)]
    with LocalBackend("parallel", max_workers=1) as backend:
        assert Pipeline(nodes=[inner], backend=backend).run({"a": 1, "c": 0})["z"] == (1, 2, 0, 4, 5)


# -- in class bodies --------------------------------------------------------------------------------------------------


class Settings:
    size = 5

    @classmethod
    @node("of_class")
    def of_class(cls, x):
        return cls.size + x

    @staticmethod
    @node("of_nobody")
    def of_nobody(x):
        return x * 2

    @node("of_object")
    def of_object(self, x):
        return x + self.size

    @node("later")
    async def later(self, x):
        return x + self.size

    @node("through")
    @functools.wraps(plain)
    def through(self, *args, **kwargs):
        return plain(*args, **kwargs)

    part = node("part")(functools.partial(plain, 10, c=0))
    bound = node("bound")(Model().scale)
    called = node("called")(Narrowing(plain))
    made = node("made")(Record)
    builtin = node("builtin")(divmod)
    in_c = node("in_c")(str.upper)
    short = node("short")(lambda self, x: (self.size, x))
    cached = node("cached")(functools.lru_cache(maxsize=None)(lambda self, x: x))


def test_nodes_in_class_bodies():
    found = Settings()
    cases = [
        (Settings.of_class, {"x": 1}, 6),
        (found.of_class, {"x": 1}, 6),
        (Settings.of_nobody, {"x": 1}, 2),
        (found.of_nobody, {"x": 1}, 2),
        (found.of_object, {"x": 1}, 6),
        (found.later, {"x": 1}, 6),
        (found.part, {"b": 1}, (10, 1, 0)),
        (Settings.part, {"b": 1}, (10, 1, 0)),
        (found.bound, {"x": 1}, 2),
        (found.called, {"a": 1}, (1, 0, 3)),
        (found.made, {"a": 1}, Record(1)),
        (found.builtin, {"x": 7, "y": 2}, (3, 1)),
        (found.short, {"x": 1}, (5, 1)),
        (found.cached, {"x": 1}, 1),
    ]
    with LocalBackend("parallel", max_workers=1) as backend:
        for made, inputs, output in cases:
            for where in (None, backend):
                outputs = Pipeline(nodes=[made], backend=where).run(inputs)
                assert list(outputs.values()) == [output], made
    upper = Pipeline(nodes=[found.in_c])
    assert upper.run({upper.inputs[0]: "a"}) == {"in_c": "A"}
    assert (found.of_class(1), Settings.of_nobody(1), found.of_object(1), found.bound(2)) == (6, 2, 6, 4)


@pytest.mark.parametrize("kind", [classmethod, staticmethod])
def test_a_method_kind_below_node_is_refused(kind):
    with pytest.raises(NodeDefinitionError) as caught:
        node("y")(kind(plain))
    assert caught.value.node == "plain"
    assert f"put @{kind.__name__} above @node" in str(caught.value)
