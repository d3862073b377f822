"""Two classes in, what may be said about their instances out.

Nothing is called that a user wrote, except the subclass hooks behind `issubclass`. Libraries such as numpy are known by
the names of their classes, and never imported.
"""

from __future__ import annotations

import abc
import enum
import types
import typing
from collections.abc import Iterable
from typing import Iterator, Optional, Tuple

from hypernodes.ir.annotations import field_hints

_BYTES = (bytes, bytearray, memoryview)
_NUMBERS = (int, float, complex)
_SUBCLASSABLE = 1 << 10  # Py_TPFLAGS_BASETYPE, Include/object.h
_FILES = (typing.IO, typing.TextIO, typing.BinaryIO)  # stand for objects that do not derive from them
_CHECKS = (type.__instancecheck__, abc.ABCMeta.__instancecheck__)
_NARROWING = ("typing", "typing_extensions", "pydantic")  # libraries whose checks of their own let nobody else in
_OPEN = (types.ModuleType, types.SimpleNamespace, type)  # their instances have whatever somebody puts there
_NOT_PROTOCOL = (
    *("__init__", "__new__", "__subclasshook__", "__init_subclass__", "__class_getitem__"),
    *("__annotate__", "__annotate_func__"),
)
"""Functions in a protocol's body that are not its methods."""

_NUMPY_SCALARS = {
    **{"bool": bool, "bool_": bool, "integer": int, "floating": float, "complexfloating": complex},
    **{"number": complex, "str_": str, "bytes_": bytes},
}
"""Python's class for each family of numpy's scalars."""


def disjoint(a: type, b: type) -> bool:
    """Tell whether no object is an instance of both classes, unless its class derives from both.

    Protocols, abstract base classes and classes that decide for themselves what they contain are disjoint from nothing
    that can have subclasses. A class of the same name and module counts as the same: a notebook's cell that ran again
    leaves two.
    """
    if a is b or a is object or b is object or _is_opaque(a) or _is_opaque(b):
        return False
    if issubclass(a, b) or issubclass(b, a) or _converts(a, b) or _converts(b, a):
        return False
    if _derives_again(a, b) or _derives_again(b, a):
        return False
    if _is_sealed(a) or _is_sealed(b):
        return True
    return not (_is_abstract(a) or _is_abstract(b))


def within(a: type, b: type) -> bool:
    """Tell whether every instance of `a` counts as one of `b`, or nobody can say."""
    python = _scalar(a) or a
    if b in a.__mro__ or b in python.__mro__ or _reaches(python, b) or _derives_again(a, b):
        return True
    if _is_protocol(b):
        return _implements(a, b)
    return b in _FILES or _is_opaque(b) or issubclass(a, b)


def never_iterates(cls: type) -> bool:
    """Tell whether certainly no instance can be iterated over."""
    if issubclass(cls, Iterable) or _is_opaque(cls) or any("__getitem__" in vars(base) for base in cls.__mro__):
        return False
    # A number could be iterable in a subclass, and nobody writes one.
    return _is_sealed(cls) or issubclass(cls, _NUMBERS)


def _converts(a: type, b: type) -> bool:
    """Tell whether an `a` is accepted for a `b` by agreement: PEP 484's numbers and bytes, numpy's scalars."""
    if _is_numpy_scalar(a) or _is_numpy_scalar(b):
        one, other = _scalar(a), _scalar(b)
        if one is None or other is None:  # of no family, such as numpy.generic: anything that could be a scalar
            return all(_is_numpy_scalar(cls) or issubclass(cls, (*_NUMBERS, str, bytes)) for cls in (a, b))
        return issubclass(one, other) or (issubclass(one, _NUMBERS) and issubclass(other, _NUMBERS))
    return _reaches(a, b) or (a in _BYTES and b in _BYTES)


def _reaches(a: type, b: type) -> bool:
    """Tell whether an `a` is a `b` in the tower of numbers: bool, int, float, complex."""
    if b is complex:
        return issubclass(a, _NUMBERS)
    return issubclass(a, (int, float)) if b is float else b is int and issubclass(a, int)


def _scalar(cls: type) -> Optional[type]:
    """Return Python's class for one of numpy's scalars, and for the numbers and texts of Python themselves."""
    if not _is_numpy_scalar(cls):
        return cls
    families = (_NUMPY_SCALARS.get(base.__name__) for base in cls.__mro__ if base.__module__ == "numpy")
    return next((family for family in families if family is not None), None)


def _is_numpy_scalar(cls: type) -> bool:
    return any(base.__name__ == "generic" and base.__module__ == "numpy" for base in cls.__mro__)


def _is_protocol(cls: type) -> bool:
    return bool(getattr(cls, "_is_protocol", False))


def _implements(a: type, protocol: type) -> bool:
    """Tell whether a class has the methods of a protocol; attributes may come from anywhere, so they pass."""
    if issubclass(a, _OPEN) or _is_opaque(a) or any("__getattr__" in vars(base) for base in a.__mro__):
        return True
    return all(_has(a, name) for name in _methods(protocol))


def _methods(protocol: type) -> Iterator[str]:
    for base in protocol.__mro__:
        if _is_protocol(base):
            for name, value in vars(base).items():
                if isinstance(value, (types.FunctionType, classmethod, staticmethod)) and name not in _NOT_PROTOCOL:
                    yield name


def _has(cls: type, name: str) -> bool:
    for base in cls.__mro__:
        if name in vars(base):
            return vars(base)[name] is not None  # as in `__hash__ = None`
    # A field that holds a callable, or what a constructor sets.
    return any(name in field_hints(base) or name in _names_in(vars(base).get("__init__")) for base in cls.__mro__)


def _names_in(fn: object) -> Tuple[str, ...]:
    return getattr(getattr(fn, "__code__", None), "co_names", ())


def _is_opaque(cls: type) -> bool:
    """Tell whether objects may count as instances without deriving: protocols, a metaclass with a check of its own."""
    check = type(cls).__instancecheck__
    if cls in _FILES or _is_protocol(cls):
        return True
    return check not in _CHECKS and str(getattr(check, "__module__", "")).partition(".")[0] not in _NARROWING


def _is_abstract(cls: type) -> bool:
    """Tell whether other classes may count as its subclasses: an ABC that is abstract, or the root of its family."""
    if not isinstance(cls, abc.ABCMeta):
        return False
    if cls.__abstractmethods__ or cls.__module__ == "io":  # files are written without deriving from these
        return True
    return all(base is object or base is abc.ABC or not isinstance(base, abc.ABCMeta) for base in cls.__bases__)


def _is_sealed(cls: type) -> bool:
    """Tell whether a class has no subclasses: bool, None, an enum with members, `typing.final` from 3.11 on."""
    if not cls.__flags__ & _SUBCLASSABLE or vars(cls).get("__final__", False):
        return True
    return issubclass(cls, enum.Enum) and bool(cls.__members__)


def _derives_again(a: type, b: type) -> bool:
    """Tell whether `a` derives from a class of the name of `b`: one defined again, or by a script and its module."""
    modules = (b.__module__, "__main__")
    return any(
        base.__qualname__ == b.__qualname__ and (base.__module__ in modules or b.__module__ == "__main__")
        for base in a.__mro__
    )
