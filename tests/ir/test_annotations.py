"""What a callable declares: read as objects, read as text, and read from what misbehaves."""

import enum
import functools
import sys
import textwrap
import types
from typing import Dict, List, Optional

import pytest

from hypernodes.ir.types import UNKNOWN, clash, hints, show, tuple_elements


class Color(enum.Enum):
    RED = 1


def in_module(source, name="made_for_a_test"):
    """Run source as a module of its own, with annotations kept as text."""
    module = types.ModuleType(name)
    sys.modules[name] = module
    exec(compile("from __future__ import annotations\n" + textwrap.dedent(source), name, "exec"), module.__dict__)
    return module


@pytest.fixture
def made():
    yield in_module
    sys.modules.pop("made_for_a_test", None)


def test_a_function_without_annotations_has_no_hints():
    assert hints(lambda x: x) == {}
    assert hints(len) == {}
    assert hints(3) == {}


def test_annotations_that_are_objects_are_taken_as_they_are():
    def fn(a: int, b: List[str], *c: int, d: None = None) -> Optional[int]: ...

    assert hints(fn) == {"a": int, "b": List[str], "c": int, "d": None, "return": Optional[int]}


def test_a_result_can_be_changed_without_changing_the_function():
    def fn(a: int): ...

    hints(fn).clear()
    assert hints(fn) == {"a": int}


def test_text_that_does_not_resolve_leaves_the_others_alone(made):
    module = made(
        """
        from typing import *
        import sys
        def fn(
            a: int, b: Missing, c: Dict[str, int], d: sys.exit(), e: 1 / 0, f: "int", g: "no type", h: int.missing,
            i: "", j: Optional["Missing"], k: (yield), l: [][0], m: None,
        ) -> str: ...
        """.replace("k: (yield), ", "")
    )
    found = hints(module.fn)
    assert {name for name, tp in found.items() if tp is UNKNOWN} == set("bdeghil")
    assert (found["a"], found["c"], found["f"], found["m"], found["return"]) == (int, Dict[str, int], int, None, str)
    assert show(found["j"]) == "Missing | None"


def test_a_name_that_raises_anything_is_unknown(made):
    module = made(
        """
        class Strange(BaseException): pass
        class Lazy:
            def __getattr__(self, name): raise Strange
        lazy = Lazy()
        def fn(a: lazy.thing, b: int): ...
        """
    )
    assert hints(module.fn) == {"a": UNKNOWN, "b": int}


def test_newer_notation_in_text_works_on_every_python(made):
    module = made(
        """
        import collections.abc, os, re
        def fn(
            a: list[str], b: dict[str, list[int]], c: int | None, d: tuple[int, ...], e: list[int | None] | str,
            f: collections.abc.Callable[[int], str], g: tuple[()], h: os.PathLike[str],
            i: collections.abc.Iterable[int], j: collections.defaultdict[str, int], k: list, l: type[int],
            m: 'set[str]', n: (1 | 2), o: list["str"],
        ) -> tuple[int, str]: ...
        """
    )
    shown = {name: show(tp) for name, tp in hints(module.fn).items()}
    # Before 3.9 a class with no counterpart in typing keeps its name only.
    assert shown.pop("h") in ("PathLike[str]", "PathLike")
    assert shown == {
        "a": "list[str]",
        "b": "dict[str, list[int]]",
        "c": "int | None",
        "d": "tuple[int, ...]",
        "e": "list[int | None] | str",
        "f": "Callable[[int], str]",
        "g": "tuple[()]",
        "i": "Iterable[int]",
        "j": "defaultdict[str, int]",
        "k": "list",
        "l": "type[int]",
        "m": "set[str]",
        "n": "?",
        "o": "list[str]",
        "return": "tuple[int, str]",
    }
    assert clash(hints(module.fn)["a"], List[int])


def test_names_of_a_class_body_and_of_a_closure_resolve(made):
    module = made(
        """
        from typing import *
        class Outer:
            Row = Dict[str, int]
            class Inner: pass
            def list(self): ...
            def method(self, a: Row, b: Inner, c: list) -> Outer: ...
            @staticmethod
            def static(a: Inner): ...
            @classmethod
            def make(cls, a: Inner) -> Outer: ...
            def __call__(self, x: Inner) -> int: ...
            def __init__(self, x: Row = {}): ...
        def local():
            class Here:
                def method(self, a: Here): ...
            def fn(a: Here, b: int): return Here
            later: Later
            def other(a: int):
                return later
            return Here, fn, other
        """
    )
    outer = module.Outer
    expected = {"a": Dict[str, int], "b": outer.Inner, "c": list, "return": outer}
    assert hints(outer.method) == hints(outer().method) == expected
    assert hints(outer.static) == {"a": outer.Inner}
    assert hints(vars(outer)["static"]) == {"a": outer.Inner}
    assert hints(outer.make) == {"a": outer.Inner, "return": outer}
    assert hints(outer()) == {"x": outer.Inner, "return": int}
    assert hints(outer) == {"x": Dict[str, int], "return": outer}
    here, fn, other = module.local()
    assert hints(fn) == {"a": here, "b": int}
    assert hints(here().method) == {"a": here}
    assert hints(other) == {"a": int}


def test_constructors_return_their_class(made):
    module = made(
        """
        import dataclasses, attrs
        from typing import *
        @dataclasses.dataclass
        class Data:
            a: int
            b: Missing = None
        @attrs.frozen
        class Frozen:
            a: Dict[str, int]
        class Named(NamedTuple):
            a: int
            b: Data
        class New:
            def __new__(cls, a: int): return super().__new__(cls)
        class Nothing: pass
        """
    )
    assert hints(module.Data) == {"a": int, "b": UNKNOWN, "return": module.Data}
    assert hints(module.Frozen) == {"a": Dict[str, int], "return": module.Frozen}
    assert hints(module.Named) == {"a": int, "b": module.Data, "return": module.Named}
    assert hints(module.New) == {"a": int, "return": module.New}
    assert hints(module.Nothing) == {"return": module.Nothing}
    assert hints(int) == {"return": int}
    assert hints(Color) == {"return": Color}
    assert tuple_elements(module.Named, 2) == (int, module.Data)


def test_wrappers_are_looked_through(made):
    module = made("def fn(a: int, b: Here) -> list[int]: ...\nclass Here: pass")
    expected = hints(module.fn)
    assert expected["b"] is module.Here

    @functools.wraps(module.fn)
    def wrapper(*args, **kwargs):
        return module.fn(*args, **kwargs)

    def bare(*args): ...

    bare.__wrapped__ = module.fn
    assert hints(wrapper) == hints(bare) == expected
    assert hints(functools.lru_cache(module.fn) if sys.version_info >= (3, 8) else module.fn) == expected
    assert hints(functools.partial(functools.partial(module.fn, 1), b=2)) == expected
    assert hints(functools.partial(module.Here)) == {"return": module.Here}


def test_cycles_and_hostile_objects_declare_nothing():
    def fn(a: int): ...

    fn.__wrapped__ = fn
    assert hints(fn) == {"a": int}

    def empty(a): ...

    empty.__wrapped__ = empty
    assert hints(empty) == {}

    class Hostile:
        def __getattr__(self, name):
            raise RuntimeError(name)

    assert hints(Hostile()) == {}
    circle = functools.partial(fn)
    circle.__setstate__((circle, (), {}, {}))
    try:
        assert hints(circle) == {}
    finally:
        circle.__setstate__((fn, (), {}, {}))


def test_extras_of_annotated_are_dropped(made):
    source = "typing" if sys.version_info >= (3, 9) else "typing_extensions"
    pytest.importorskip(source)
    module = made(f"from {source} import Annotated\ndef fn(a: Annotated[int, 'metres'], b: Annotated[Missing, 1]): ...")
    assert hints(module.fn) == {"a": int, "b": UNKNOWN}


@pytest.mark.skipif(sys.version_info < (3, 12), reason="type parameters need Python 3.12")
def test_type_parameters_resolve(made):
    module = made("def fn[T](a: T, b: list[T]) -> T: ...")
    assert hints(module.fn)["a"] is module.fn.__type_params__[0]
    assert show(hints(module.fn)["b"]) == "list[T]"


@pytest.mark.skipif(sys.version_info < (3, 14), reason="annotations are deferred from Python 3.14 on")
def test_deferred_annotations_resolve_one_by_one():
    names = {"__name__": "deferred", "sys": sys}
    source = """
    def outer():
        class Here: pass
        def fn(a: Here, b: Missing, c: list[int]) -> Here: ...
        def worse(a: Here, b: sys.exit(), c: list[int], d: int.missing): ...
        return Here, fn, worse
    """
    exec(compile(textwrap.dedent(source), "deferred", "exec", dont_inherit=True), names)
    here, fn, worse = names["outer"]()
    assert hints(fn) == {"a": here, "b": UNKNOWN, "c": list[int], "return": here}
    assert hints(worse) == {"a": here, "b": UNKNOWN, "c": list[int], "d": UNKNOWN}
