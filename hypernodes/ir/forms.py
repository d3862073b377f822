"""Any spelling of a type in, one normal form or one text out, the same on every Python from 3.8 on.

`typing` spells a type in many ways, and differently in each Python: ``List[int]``, ``list[int]``; ``Optional[int]``,
``int | None``; aliases, `NewType`, `Annotated`. What compares types (`types`) sees only the forms below.
Whatever is not understood is ANYTHING, which never makes an error.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import types
import typing
from collections import abc
from typing import Any, Dict, FrozenSet, List, Optional, Tuple, Union

import attrs

from hypernodes.ir.annotations import UNKNOWN, field_hints, is_annotated, is_class

_LAYERS = 32
"""How many aliases, qualifiers and bounds around one type are looked through; more is an alias of itself."""

_UNIONS = (Union, getattr(types, "UnionType", Union))
_TYPING = ("typing", "typing_extensions")
_QUALIFIERS = ("Final", "ClassVar", "Required", "NotRequired", "ReadOnly")
NoneType = type(None)


@attrs.frozen
class Anything:
    """Nothing is known: Any, a missing annotation, a type variable, a name that does not resolve."""


ANYTHING = Anything()


@attrs.frozen
class OneOf:
    """A value of one of the members."""

    members: Tuple[object, ...]


@attrs.frozen
class AllOf:
    """A value of all members at once: what an input has to be whose readers declare types that overlap."""

    members: Tuple[object, ...]


@attrs.frozen
class Renamed:
    """A NewType: a value of `base` that somebody has called by this name."""

    name: object
    base: object


@attrs.frozen
class Values:
    """One of these values."""

    values: Tuple[object, ...]


@attrs.frozen
class Instance:
    """An object of a class.

    `args` is None where the class is not subscripted; those of a tuple are its elements, with a last `...` for any
    number. `keys` are those that a TypedDict requires.
    """

    cls: type
    args: Optional[Tuple[object, ...]] = None
    keys: Optional[FrozenSet[str]] = None


Form = Union[Anything, OneOf, AllOf, Renamed, Values, Instance]
_FORMS = (Anything, OneOf, AllOf, Renamed, Values, Instance)


def form_of(tp: Any) -> Form:
    """Return the normal form of an annotation; a form is its own."""
    for _ in range(_LAYERS):
        if is_class(tp):
            return _form_of_class(tp)
        if isinstance(tp, _FORMS):
            return tp
        if tp is None or tp is typing.Tuple:
            return Instance(NoneType if tp is None else tuple)
        tp = _unqualified(tp)
        origin, args = _parts(tp)
        if is_class(origin):
            return _form_of_parts(origin, args)
        if isinstance(tp, typing.TypeVar):
            if tp.__bound__ is None:
                return OneOf(tp.__constraints__) if tp.__constraints__ else ANYTHING
            tp = tp.__bound__
        elif hasattr(tp, "__supertype__"):  # NewType
            return Renamed(tp, tp.__supertype__)
        elif not is_class(tp):
            alias = tp if origin is None else origin
            if type(alias).__name__ != "TypeAliasType":
                return _form_of_parts(origin, args)
            tp = _filled_in(alias, args)
    return ANYTHING


def _filled_in(alias: Any, args: Tuple[object, ...]) -> Any:
    """Return what an alias stands for; type parameters without an argument stay type variables, which are ANYTHING."""
    return _substituted(alias.__value__, dict(zip(alias.__type_params__, args)))


@functools.lru_cache(maxsize=1024)
def _form_of_class(cls: type) -> Form:
    if cls in _UNIONS or any(_stands_for_any(base) for base in cls.__mro__):
        return ANYTHING
    if type(cls).__name__ == "_TypedDictMeta":
        fields = field_hints(cls)
        required = getattr(cls, "__required_keys__", frozenset(fields))
        return Instance(dict, (str, OneOf(tuple(fields.values())) if fields else ANYTHING), frozenset(required))
    if issubclass(cls, abc.Awaitable):  # what is awaited on the way to its reader is not known here
        return ANYTHING
    if issubclass(cls, tuple) and isinstance(getattr(cls, "_fields", None), tuple):
        declared = next(base for base in cls.__mro__ if "_fields" in vars(base))
        fields = field_hints(declared)
        return Instance(cls, tuple([fields.get(name, UNKNOWN) for name in declared._fields]))  # type: ignore[attr-defined]
    return Instance(cls)


def _stands_for_any(cls: type) -> bool:
    return cls.__module__ == "unittest.mock" or (cls.__name__ == "Any" and cls.__module__ in _TYPING)


def _form_of_parts(origin: Any, args: Tuple[object, ...]) -> Form:
    if any(origin is union for union in _UNIONS):
        return OneOf(args)
    if _is_literal(origin):
        return Values(_flat(args))
    if not is_class(origin):
        return ANYTHING
    if origin is tuple:
        return Instance(tuple, (UNKNOWN, ...) if any(map(_is_unpacked, args)) else args)
    form = _form_of_class(origin)
    if isinstance(form, Instance) and form.args is None and args:
        return Instance(origin, args)
    return form


def unnamed(form: Form) -> Form:
    """Return what lies under a NewType, or under a NewType of one; any other form is its own."""
    while isinstance(form, Renamed):
        form = form_of(form.base)
    return form


def seen_as(form: Instance, cls: type) -> Instance:
    """Return the form of an object taken for one of a base class, where what that is subscripted with is known."""
    if form.cls is cls or cls not in form.cls.__mro__:
        return form
    given = dict(zip(getattr(form.cls, "__parameters__", ()), form.args or ()))
    for base in vars(form.cls).get("__orig_bases__", ()):
        origin, args = _parts(base)
        if is_class(origin) and cls in origin.__mro__ and args:
            return seen_as(Instance(origin, tuple([_substituted(arg, given) for arg in args])), cls)
    seen = seen_as(Instance(next(base for base in form.cls.__bases__ if cls in base.__mro__)), cls)
    return form if seen.args is None else seen


def _substituted(tp: Any, given: Dict[Any, object]) -> Any:
    if isinstance(tp, typing.TypeVar):
        return given.get(tp, tp)
    variables = () if is_class(tp) else getattr(tp, "__parameters__", ())
    return tp[tuple([given.get(variable, variable) for variable in variables])] if variables else tp


def awaited(tp: Any) -> object:
    """Return the type of what comes out of a function that is annotated to return `tp`: coroutines are awaited."""
    if is_class(tp) or tp is UNKNOWN:
        return tp
    try:
        origin, args = _parts(_unqualified(tp))
        if origin in (abc.Coroutine, types.CoroutineType) and len(args) == 3:
            return awaited(args[2])
        if origin is abc.Awaitable and args:
            return awaited(args[0])
        if any(origin is union for union in _UNIONS):
            members = tuple([awaited(member) for member in args])
            return tp if members == args else Union[members]
    except Exception:  # an annotation that is no type
        pass
    return tp


def or_none(tp: Any) -> object:
    """Return the type of a parameter whose default is None: that value will do as well, whatever is declared."""
    if tp is UNKNOWN or tp is typing.Any:
        return tp
    try:
        form = form_of(tp)
        members = (*form.members, None) if isinstance(form, OneOf) else (tp, None)
        return Union[members]
    except Exception:  # no type, for typing
        return tp


def show(tp: object) -> str:
    """Return the text of a type, the same on every Python: ``list[str]``, ``int | None``, ``?`` for UNKNOWN.

    Classes go by their qualified name without the module, aliases and NewTypes by their name, and the extras of
    ``Annotated`` are left out. The text never holds an address, and no type makes this raise.
    """
    try:
        return _text(tp)
    except Exception:
        return "?"


def _text(tp: Any) -> str:
    tp = _unqualified(tp)
    if tp is UNKNOWN:
        return "?"
    if tp is None or tp is NoneType:
        return "None"
    if tp is Ellipsis:
        return "..."
    if isinstance(tp, AllOf):
        return " & ".join(map(_text, tp.members))
    if isinstance(tp, list):  # the parameters of a Callable
        return f"[{', '.join(map(_text, tp))}]"
    if isinstance(tp, (str, typing.ForwardRef)):
        return tp if isinstance(tp, str) else tp.__forward_arg__
    origin, args = _parts(tp)
    if origin is None:
        return _name(tp) or "?"
    if any(origin is union for union in _UNIONS):
        members = dict.fromkeys(map(_text, args))
        return " | ".join(sorted(members, key="None".__eq__))  # None last, the others as they are declared
    if _is_literal(origin):
        return f"Literal[{', '.join(map(_text_of_value, _flat(args)))}]"
    if _name(origin) == "ndarray" and len(args) == 2:
        kind = _parts(args[1])[1]
        return f"NDArray[{_text(kind[0]) if kind else '?'}]"
    if origin is tuple and not args and tp is not typing.Tuple:
        return "tuple[()]"
    return f"{_name(origin)}[{', '.join(map(_text, args))}]" if args else _name(origin) or "?"


def _text_of_value(value: object) -> str:
    if isinstance(value, enum.Enum):
        return f"{type(value).__qualname__}.{value.name}"
    return repr(value) if isinstance(value, (str, bytes, int, NoneType)) else "?"


def _unqualified(tp: Any) -> Any:
    """Look through what says nothing about the values: Annotated, Final, ClassVar, Required, InitVar."""
    for _ in range(_LAYERS):
        if is_class(tp):
            return tp
        if is_annotated(tp):
            tp = tp.__origin__
        elif isinstance(tp, dataclasses.InitVar):
            tp = tp.type
        else:
            origin, args = _parts(tp)
            if is_class(origin) or not args or _name(origin) not in _QUALIFIERS:
                return tp
            tp = args[0]
    return UNKNOWN


def _parts(tp: Any) -> Tuple[Any, Tuple[Any, ...]]:
    """Return what is subscripted and with what; (None, ()) for anything else. Bare ``typing.List`` is (list, ())."""
    if is_class(tp):
        return None, ()
    origin = typing.get_origin(tp)
    if origin is None:  # numpy's own aliases on Python 3.8
        origin = getattr(tp, "__origin__", None)
        return (origin, tuple(tp.__args__)) if is_class(origin) and hasattr(tp, "__args__") else (None, ())
    args = typing.get_args(tp)
    return origin, () if args == ((),) else args  # Tuple[()] before Python 3.11


def _name(tp: Any) -> str:
    for attribute in ("__qualname__",) if is_class(tp) else ("__name__", "_name"):
        name = getattr(tp, attribute, None)
        if isinstance(name, str):
            return name
    return ""


def _is_literal(origin: object) -> bool:
    return not is_class(origin) and _name(origin) == "Literal"  # typing_extensions has one of its own


def _is_unpacked(arg: Any) -> bool:
    """Tell whether an element of a tuple stands for any number of them: ``*Ts``, ``*tuple[int, ...]``."""
    if is_class(arg):
        return False
    return getattr(arg, "__unpacked__", False) or "Unpack" in (_name(arg), _name(_parts(arg)[0]))


def _flat(values: Tuple[Any, ...]) -> Tuple[object, ...]:
    """Return the values of a Literal; Python 3.8 keeps a Literal within a Literal."""
    flat: List[object] = []
    for value in values:
        inner = _parts(value)
        flat.extend(_flat(inner[1]) if _is_literal(inner[0]) else [value])
    return tuple(flat)
