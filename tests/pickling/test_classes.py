"""Classes that go by value: each is one class, in every process, and what it is where it came from."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import pytest
from scripts import Script

from hypernodes import LocalBackend, Pipeline, node


@pytest.fixture(scope="module")
def warm():
    with LocalBackend(map_execution="parallel", max_workers=1) as backend:
        yield backend


def test_a_class_of_the_caller_stays_what_it_is_when_results_come_back(warm):
    class Point:
        made = 0

        def __init__(self, x):
            self.x = x
            type(self).made += 1

        def where(self):
            return offset + self.x

    offset = 1
    method = Point.where
    pipeline = Pipeline(nodes=[node(output_name="y")(lambda x: Point(x))], backend=warm)
    point = pipeline.map(inputs={"x": [1]}, map_over="x")["y"][0]
    offset = 100
    assert type(point) is Point
    assert point.where() == 101
    assert (Point.where, Point.made) == (method, 0)


def test_functions_share_a_class_with_items_and_with_other_functions(warm):
    script = Script("class C: k = 1\ndef fn(x): return C.k\ndef other(x): return -C.k\ndef of_item(x): return x.k")
    fn, other, of_item = [
        Pipeline(nodes=[node(output_name="y")(script[name])], backend=warm) for name in ("fn", "other", "of_item")
    ]
    for k in (1, 2, 1):
        script["C"].k = k
        for pipeline, x, y in [(of_item, script["C"](), k), (other, 0, -k), (fn, 0, k)][:: -1 if k == 2 else 1]:
            assert pipeline.map(inputs={"x": [x]}, map_over="x")["y"] == [y]
    script["C"].k = 3
    assert of_item.map(inputs={"x": [script["C"]()]}, map_over="x")["y"] == [3]
    script["C"].k = 1
    assert fn.map(inputs={"x": [0]}, map_over="x")["y"] == [1]


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork")
def test_a_forked_executor_sees_what_becomes_of_a_class():
    script = Script("class C:\n  k = 1\n  extra = 1\ndef fn(x): return C.k, hasattr(C, 'extra')")
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as executor:
        backend = LocalBackend(map_execution="parallel", max_workers=1, executor=executor)
        pipeline = Pipeline(nodes=[node(output_name="y")(script["fn"])], backend=backend)
        assert pipeline.map(inputs={"x": [0]}, map_over="x")["y"] == [(1, True)]
        script["C"].k = 2
        del script["C"].extra
        assert pipeline.map(inputs={"x": [0]}, map_over="x")["y"] == [(2, False)]


REGISTRIES = [
    """
class Base:
    known = []
    def __init_subclass__(cls, **keywords):
        Base.known.append(cls)
""",
    """
known = []
class Base:
    def __init_subclass__(cls, *, name="", **keywords):
        known.append(cls)
        cls.name = name
""",
    """
import abc
known = []
class Base(abc.ABC):
    __slots__ = ()
    def __init_subclass__(cls, **keywords):
        known.append(cls)
""",
]


@pytest.mark.parametrize("base", REGISTRIES)
def test_a_base_class_hears_of_each_subclass_once(warm, base):
    script = Script(f"{base}\nclass One(Base): pass\nclass Two(Base): pass")
    script.run(
        f"def names(x): return One(), [c.__name__ for c in {'known' if 'known' in script.space else 'Base.known'}]"
    )
    pipeline = Pipeline(nodes=[node(output_name="y")(script["names"])], backend=warm)
    for _ in range(2):
        for made, names in pipeline.map(inputs={"x": [0, 1]}, map_over="x")["y"]:
            assert type(made) is script["One"]
            assert names == ["One", "Two"]
    assert script["names"](0)[1] == ["One", "Two"]


def test_a_subclass_with_arguments_of_its_own(warm):
    script = Script("class Base:\n  def __init_subclass__(cls, *, by, **kw):\n    cls.by = by")
    script.run("class Child(Base, by=7): pass\ndef fn(x): return Child.by + x")
    pipeline = Pipeline(nodes=[node(output_name="y")(script["fn"])], backend=warm)
    assert pipeline.map(inputs={"x": [1]}, map_over="x")["y"] == [8]


SLOTTED = """
import collections, dataclasses, typing
class Private:
    __slots__ = ("__x", "__weakref__")
    def __init__(self): self.__x = 1
    def __repr__(self): return f"{type(self).__qualname__} {self.__x} {hasattr(self, '__dict__')}"
class Child(Private):
    __slots__ = "one"
    def __init__(self): super().__init__(); self.one = 2
class Grandchild(Child): pass
class Generic(typing.Generic[typing.TypeVar("T")]):
    __slots__ = ("x", "__dict__")
    def __init__(self): self.x = self.y = 1
    def __repr__(self): return f"{self.x} {self.y}"
class Empty(tuple):
    __slots__ = ()
class Named(typing.NamedTuple):
    x: int = 1
class SubNamed(collections.namedtuple("Base", "x", defaults=(1,))):
    __slots__ = ()
class Outer:
    @dataclasses.dataclass
    class Inner: x: int = 1
Inner = Outer.Inner
def by_attrs():
    import attrs
    @attrs.define
    class Local: x: int = 1
    return Local
Local = by_attrs()
import msgspec
class Struct(msgspec.Struct, rename="camel", tag=True, order=True):
    x_y: int
    z: list = []
    def twice(self): return 2 * self.x_y
class Later(Struct, frozen=True, kw_only=True):
    x_y: int = 3
    made: "Later" = None
    by: dict = msgspec.field(default_factory=lambda: {"by": Later})
def shown(cls):
    one, other = cls(x_y=4), cls(x_y=5)
    return repr(one), msgspec.json.encode(cls(x_y=1, z=[2]) if cls is Struct else 0), one < other, one.twice()
"""


@pytest.mark.parametrize(
    "name", ["Private", "Child", "Grandchild", "Generic", "Empty", "Named", "SubNamed", "Inner", "Local"]
)
def test_instances_of_a_class_come_and_go(warm, name):
    cls = Script(SLOTTED)[name]
    pipeline = Pipeline(nodes=[node(output_name="y")(lambda x: (cls(), x, repr(cls()), type(x) is cls))], backend=warm)
    for made, back, shown, same in pipeline.map(inputs={"x": [cls(), cls()]}, map_over="x")["y"]:
        assert type(made) is type(back) is cls
        assert repr(made) == repr(back) == shown == repr(cls())
        assert same


@pytest.mark.parametrize("name", ["Struct", "Later"])
def test_structs_keep_fields_defaults_and_options(warm, name):
    script = Script(SLOTTED)
    cls, shown = script[name], script["shown"]
    pipeline = Pipeline(nodes=[node(output_name="y")(lambda x: (cls(x_y=1), x, shown(cls)))], backend=warm)
    ((made, back, found),) = pipeline.map(inputs={"x": [cls(x_y=1)]}, map_over="x")["y"]
    assert type(made) is type(back) is cls
    assert made == back == cls(x_y=1)
    assert found == shown(cls)
