"""Two classes in, what is certain about their instances out.

Nothing is called that a user wrote, except the subclass hooks behind `issubclass`.
"""

from __future__ import annotations

import abc
import enum
import sys
import typing
from collections.abc import Iterable
from typing import Optional, Tuple

_BYTES = (bytes, bytearray, memoryview)
_NUMBERS = (int, float, complex)
_SUBCLASSABLE = 1 << 10  # Py_TPFLAGS_BASETYPE, Include/object.h
_FILES = (typing.IO, typing.TextIO, typing.BinaryIO)  # stand for objects that do not derive from them
_CHECKS = (type.__instancecheck__, abc.ABCMeta.__instancecheck__)
_POINTER = 8 if sys.maxsize > 2**32 else 4


def disjoint(a: type, b: type) -> bool:
    """Tell whether certainly no object is an instance of both classes."""
    if a is b or a is object or b is object or _is_opaque(a) or _is_opaque(b):
        return False
    if issubclass(a, b) or issubclass(b, a) or _converts(a, b) or _converts(b, a):
        return False
    if _is_sealed(a) or _is_sealed(b):
        return True
    layout_a, layout_b = _layout(a), _layout(b)
    return not (issubclass(layout_a, layout_b) or issubclass(layout_b, layout_a))


def within(a: type, b: type) -> bool:
    """Tell whether every instance of `a` counts as one of `b`, or nobody can say."""
    if b in a.__mro__ or (b is float and issubclass(a, int)) or (b is complex and issubclass(a, _NUMBERS)):
        return True
    if b in _FILES or (_is_opaque(b) and not _is_protocol(b)):
        return True
    try:
        return issubclass(a, b)
    except TypeError:  # a protocol that cannot be checked at run time
        return True


def never_iterates(cls: type) -> bool:
    """Tell whether certainly no instance can be iterated over."""
    if issubclass(cls, Iterable) or _is_opaque(cls) or any("__getitem__" in vars(base) for base in cls.__mro__):
        return False
    # A number could be iterable in a subclass, and nobody writes one.
    return _is_sealed(cls) or issubclass(cls, _NUMBERS)


def _converts(a: type, b: type) -> bool:
    """Tell whether an `a` is accepted for a `b` by agreement: PEP 484's numbers and bytes, numpy's scalars."""
    if b in (float, complex):
        return issubclass(a, _NUMBERS) or _is_numpy_scalar(a)
    if _is_numpy_scalar(b):
        return issubclass(a, (*_NUMBERS, str, bytes)) or _is_numpy_scalar(a)
    return a in _BYTES and b in _BYTES


def _is_numpy_scalar(cls: type) -> bool:
    return any(base.__name__ == "generic" and base.__module__ == "numpy" for base in cls.__mro__)


def _is_protocol(cls: type) -> bool:
    return bool(getattr(cls, "_is_protocol", False))


def _is_opaque(cls: type) -> bool:
    """Tell whether objects may count as instances without deriving: protocols, a metaclass with a check of its own."""
    meta = type(cls)
    if cls in _FILES or _is_protocol(cls):
        return True
    return meta.__instancecheck__ not in _CHECKS and meta.__module__ not in ("typing", "typing_extensions")


def _is_sealed(cls: type) -> bool:
    """Tell whether a class has no subclasses: bool, None, an enum with members, `typing.final` from 3.11 on."""
    if not cls.__flags__ & _SUBCLASSABLE or vars(cls).get("__final__", False):
        return True
    return issubclass(cls, enum.Enum) and bool(cls.__members__)


def _layout(cls: type) -> type:
    """Return the class that decides how instances lie in memory: two unrelated ones can have no common subclass.

    References
    ----------
    CPython, Objects/typeobject.c, `best_base` and `solid_base`. What a dict and weak references add does not count.
    """
    for base in cls.__mro__:
        if base is object or _adds_fields(base):
            return base
    return object


def _adds_fields(cls: type) -> bool:
    slots = vars(cls).get("__slots__", ())
    if any(slot not in ("__dict__", "__weakref__") for slot in ((slots,) if isinstance(slots, str) else slots)):
        return True
    base: Optional[type] = cls.__base__
    if base is None:
        return False
    room = _POINTER * sum(bool(here) and not before for here, before in zip(_offsets(cls), _offsets(base)))
    return cls.__basicsize__ - base.__basicsize__ > room or cls.__itemsize__ != base.__itemsize__


def _offsets(cls: type) -> Tuple[int, int]:
    return cls.__dictoffset__, cls.__weakrefoffset__
