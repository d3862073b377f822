"""Two types in, one verdict out: can a value be of both, is every value of one also of the other.

Types are checked once, when a pipeline is built. `clash` is the default check: it judges as static type checkers do,
and lets pass what they would let pass in either direction. `fits` is the strict one. Types come from `annotations`, are
brought into one form by `forms`, and classes are compared by `classes`. Whatever is unknown, not understood or fails on
the way passes both::

    annotation ──form_of──▶ Anything | OneOf | … | Instance ──▶ clash, fits, unmappable, tuple_elements
"""

from __future__ import annotations

import collections
import functools
import itertools
import sys
import types
from collections import abc
from typing import Any, Callable, Iterable, List, Optional, Tuple

from hypernodes.ir.annotations import UNKNOWN, hints
from hypernodes.ir.classes import disjoint, never_iterates, within
from hypernodes.ir.forms import (
    ANYTHING,
    AllOf,
    Anything,
    Form,
    Instance,
    OneOf,
    Renamed,
    Values,
    awaited,
    form_of,
    or_none,
    seen_as,
    show,
    unnamed,
)

__all__ = [
    "UNKNOWN",
    "awaited",
    "clash",
    "fits",
    "hints",
    "holds_items",
    "iterable_of",
    "list_of",
    "or_none",
    "show",
    "tuple_elements",
    "unmappable",
]

_DEPTH = 8
"""Recursive aliases are compared down to this depth, and pass below it."""

_ITERATED = {
    *(list, set, frozenset, collections.deque, abc.Set, abc.MutableSet, abc.KeysView, abc.ValuesView),
    *(abc.Iterable, abc.Iterator, abc.Generator, abc.Reversible, abc.Collection, abc.Sequence, abc.MutableSequence),
}
"""Classes whose first argument is the type of their items."""

_MAPPED = {
    *(dict, collections.defaultdict, collections.OrderedDict, collections.ChainMap, collections.Counter),
    *(abc.Mapping, abc.MutableMapping),
}
"""Classes whose arguments are the types of keys and values."""

_CALLABLE: Any = abc.Callable
_CONTAINERS = {tuple, abc.ItemsView, *_ITERATED, *_MAPPED}

_ITEM = {str: str, bytes: int, bytearray: int, memoryview: int, range: int}


def clash(produced: object, wanted: object) -> bool:
    """Tell whether no value is expected to be of both types.

    Two ordinary classes clash when neither derives from the other, although a class that derives from both could be
    written; so do containers of element types that clash, although an empty one would be of both. ABCs and protocols
    clash with nothing that can have subclasses, and numbers with no other numbers, numpy's scalars included.

    Parameters
    ----------
    produced, wanted : object
        Annotations as `hints` returns them. The order does not matter.

    Returns
    -------
    bool
        False whenever there is doubt, or anything goes wrong inside a type. Results are cached.
    """
    if produced is wanted or produced is UNKNOWN or wanted is UNKNOWN:
        return False
    return _verdict(_clash_cached, _clash, produced, wanted, False)


def fits(produced: object, wanted: object) -> bool:
    """Tell whether every value of one type is also of the other: the check of ``type_check="strict"``.

    Containers are taken to hold still, so ``list[bool]`` fits ``list[int]``. True whenever there is doubt.
    """
    if produced is wanted or produced is UNKNOWN or wanted is UNKNOWN:
        return True
    return not clash(produced, wanted) and _verdict(_fits_cached, _fits, produced, wanted, True)


def unmappable(produced: object, item: object) -> bool:
    """Tell whether a value certainly cannot be mapped over with items of a type.

    The engine refuses strings, bytes and mappings as map values, and so does this; otherwise it takes any iterable
    whose items do not clash with `item`.
    """
    try:
        return _all_unmappable(form_of(produced), item)
    except Exception:
        return False


def holds_items(produced: object, item: object) -> bool:
    """Tell whether a value is a container whose items could be of a type: a map over it may be what was meant."""
    try:
        return any(_holds_items(unnamed(form_of(member)), item) for member in _members(form_of(produced)))
    except Exception:
        return False


def list_of(tp: object) -> object:
    """Return the type of a list of `tp`: what a map makes of an output."""
    if tp is UNKNOWN:
        return list
    if sys.version_info < (3, 9):
        return _subscripted(List, tp, list)
    return types.GenericAlias(list, (tp,))  # not List[tp]: typing caches, and may answer with another order of a union


def iterable_of(tp: object) -> object:
    """Return the type of an iterable of `tp`: what a map wants for an input that it maps over."""
    if tp is UNKNOWN:
        return abc.Iterable
    if sys.version_info < (3, 9):
        return _subscripted(Iterable, tp, abc.Iterable)
    return types.GenericAlias(abc.Iterable, (tp,))


def tuple_elements(tp: object, count: int) -> Optional[Tuple[object, ...]]:
    """Return the types of the outputs of a node with several output names.

    Parameters
    ----------
    tp : object
        What its function is annotated to return.
    count : int
        How many output names it has.

    Returns
    -------
    tuple of object, or None
        `count` types, UNKNOWN where nothing is known; None for what certainly is no tuple of that length.
    """
    try:
        return _elements(form_of(tp), count)
    except Exception:
        return (UNKNOWN,) * count


def _verdict(
    cached: Callable[[Any, Any], bool], plain: Callable[[Any, Any, int], bool], a: object, b: object, doubt: bool
) -> bool:
    try:
        return cached(a, b)
    except Exception:  # not hashable, as Annotated[int, Field()] can be
        try:
            return plain(a, b, _DEPTH)
        except Exception:  # a metaclass, an alias or a default that raises when it is looked at
            return doubt


def _clash(a: object, b: object, depth: int) -> bool:
    one, other = form_of(a), form_of(b)
    if depth == 0 or isinstance(one, Anything) or isinstance(other, Anything):
        return False
    if isinstance(one, OneOf) or isinstance(other, OneOf):
        return all(_clash(x, y, depth - 1) for x in _members(one) for y in _members(other))
    if isinstance(one, AllOf) or isinstance(other, AllOf):
        return any(_clash(x, y, depth - 1) for x in _parts(one) for y in _parts(other))
    if isinstance(one, Renamed) or isinstance(other, Renamed):
        if isinstance(one, Renamed) and isinstance(other, Renamed) and not (_named(one, other) or _named(other, one)):
            return True
        return _clash(unnamed(one), unnamed(other), depth - 1)
    if isinstance(one, Values) and isinstance(other, Values):
        # Equal is enough, types apart: on Python 3.8 Literal[0] may stand for Literal[False].
        return not any(x == y for x in one.values for y in other.values)
    if isinstance(one, Values) or isinstance(other, Values):
        return _clash(_classes(one), _classes(other), depth - 1)
    if disjoint(one.cls, other.cls):
        return True

    def any_clash(pairs: Iterable[Tuple[object, object]]) -> bool:
        return any(_clash(x, y, depth - 1) for x, y in pairs)

    if one.cls is type and other.cls is type:
        return any_clash(zip(one.args or (), other.args or ()))
    fixed, fixed_other = _fixed(one), _fixed(other)
    if fixed is not None and fixed_other is not None:
        return len(fixed) != len(fixed_other) or any_clash(zip(fixed, fixed_other))
    entry, entry_other = _entry(one), _entry(other)
    if entry is not None and entry_other is not None:
        return any_clash(zip(entry, entry_other))
    return any_clash((x, y) for x in fixed or [_item(one)] for y in fixed_other or [_item(other)])


def _fits(a: object, b: object, depth: int) -> bool:
    one, other = form_of(a), form_of(b)
    if depth == 0 or isinstance(one, Anything) or isinstance(other, Anything):
        return True
    if isinstance(other, AllOf):
        return all(_fits(one, y, depth - 1) for y in other.members)
    if isinstance(one, OneOf):
        return all(_fits(x, other, depth - 1) for x in one.members)
    if isinstance(one, Values) and len(one.values) > 1:
        return all(_fits(Values((value,)), other, depth - 1) for value in one.values)
    if isinstance(one, AllOf):
        return any(_fits(x, other, depth - 1) for x in one.members)
    if isinstance(other, OneOf):
        return any(_fits(one, y, depth - 1) for y in other.members)
    if isinstance(other, Values):
        return isinstance(one, Values) and any(type(x) is type(y) and x == y for x in one.values for y in other.values)
    if isinstance(other, Renamed):
        return isinstance(one, Renamed) and _named(one, other)
    if isinstance(one, (Values, Renamed)):
        return _fits(_classes(unnamed(one)), other, depth - 1)
    if not within(one.cls, other.cls):
        return False
    if other.keys is not None:
        return one.keys is not None and other.keys <= one.keys
    if other.args is None:
        return True

    if one.cls not in _CONTAINERS and other.cls is not tuple:
        one = seen_as(one, other.cls)

    def all_fit(pairs: Iterable[Tuple[object, object]]) -> bool:
        return all(_fits(x, y, depth - 1) for x, y in pairs)

    if one.cls is type and other.cls is type:
        return all_fit(zip(one.args or (object,), other.args))
    if one.cls is other.cls and one.args is not None and one.cls not in _CONTAINERS:
        return _arguments_fit(one.cls, one.args, other.args, depth - 1)
    fixed, fixed_other = _fixed(one), _fixed(other)
    if fixed_other is not None:
        if fixed is not None:
            return len(fixed) == len(fixed_other) and all_fit(zip(fixed, fixed_other))
        return one.cls is not tuple  # of a tuple of any length; a subclass of tuple may have elements that it hides
    entry, entry_other = _entry(one), _entry(other)
    if entry is not None and entry_other is not None:
        return all_fit(zip(entry, entry_other))
    return all_fit((x, _item(other)) for x in ([_item(one)] if fixed is None else fixed))


def _arguments_fit(cls: type, given: Tuple[Any, ...], wanted: Tuple[Any, ...], depth: int) -> bool:
    """Tell whether what one class is subscripted with fits what the same class is to be subscripted with."""
    if cls is _CALLABLE:
        return _parameters_fit(given[0], wanted[0], depth) and _fits(given[-1], wanted[-1], depth)
    variables: Iterable[Any] = getattr(cls, "__parameters__", None) or itertools.repeat(None)
    covariant = cls.__module__.partition(".")[0] == "numpy"  # arrays and their kinds, whose variables are not to be had
    for variable, x, y in zip(variables, given, wanted):
        if covariant or getattr(variable, "__covariant__", False):
            good = _fits(x, y, depth)
        elif getattr(variable, "__contravariant__", False):
            good = _fits(y, x, depth)
        else:
            good = not _clash(x, y, depth)
        if not good:
            return False
    return True


def _parameters_fit(given: object, wanted: object, depth: int) -> bool:
    if not (isinstance(given, list) and isinstance(wanted, list)):  # `...`, or a ParamSpec
        return True
    return len(given) == len(wanted) and all(_fits(y, x, depth) for x, y in zip(given, wanted))


@functools.lru_cache(maxsize=4096)
def _clash_cached(a: object, b: object) -> bool:
    return _clash(a, b, _DEPTH)


@functools.lru_cache(maxsize=4096)
def _fits_cached(a: object, b: object) -> bool:
    return _fits(a, b, _DEPTH)


def _members(form: Form) -> Tuple[object, ...]:
    return form.members if isinstance(form, OneOf) else (form,)


def _parts(form: Form) -> Tuple[object, ...]:
    return form.members if isinstance(form, AllOf) else (form,)


def _named(form: Form, wanted: Renamed) -> bool:
    """Tell whether a form is a NewType, or a NewType of it; one defined again, as by a notebook's cell, is the same."""
    while isinstance(form, Renamed):
        if form.name is wanted.name or _full_name(form.name) == _full_name(wanted.name):
            return True
        form = form_of(form.base)
    return False


def _full_name(tp: object) -> Tuple[object, object]:
    return getattr(tp, "__module__", None), getattr(tp, "__name__", None)


def _classes(form: Form) -> Form:
    return OneOf(tuple([type(value) for value in form.values])) if isinstance(form, Values) else form


def _fixed(form: Instance) -> Optional[Tuple[object, ...]]:
    """Return the element types of a tuple of known length."""
    if form.args is None or not issubclass(form.cls, tuple) or Ellipsis in form.args:
        return None
    return form.args


def _entry(form: Instance) -> Optional[Tuple[object, object]]:
    """Return the types of keys and values."""
    if form.cls not in _MAPPED:
        return None
    if form.cls is collections.Counter:
        return (form.args[0] if form.args else object), int
    return (form.args[0], form.args[1]) if form.args and len(form.args) == 2 else (object, object)


def _item(form: Instance) -> object:
    """Return the type of what iterating gives; ANYTHING for a class that is not known to this module."""
    if form.cls in _ITEM:
        return _ITEM[form.cls]
    if form.cls is tuple and form.args and Ellipsis in form.args:
        return form.args[0]
    if form.cls is abc.ItemsView and form.args:
        return Instance(tuple, form.args)
    if form.cls in _ITERATED or form.cls in _MAPPED or form.cls is tuple:
        return form.args[0] if form.args else object
    return ANYTHING


def _all_unmappable(form: Form, item: object) -> bool:
    if isinstance(form, OneOf):
        return all(_all_unmappable(form_of(member), item) for member in form.members)
    if isinstance(form, AllOf):
        return any(_all_unmappable(form_of(member), item) for member in form.members)
    if isinstance(form, (Values, Renamed)):
        return _all_unmappable(_classes(unnamed(form)), item)
    if isinstance(form, Anything):
        return False
    if issubclass(form.cls, (str, bytes, abc.Mapping)) or never_iterates(form.cls):
        return True
    return clash(form, Instance(abc.Iterable, (item,)))


def _holds_items(form: Form, item: object) -> bool:
    if not isinstance(form, Instance) or not (form.cls is tuple or form.cls in _ITERATED):
        return False
    return not any(clash(held, item) for held in _fixed(form) or (_item(form),))


def _elements(form: Form, count: int) -> Optional[Tuple[object, ...]]:
    unknown = (UNKNOWN,) * count
    if isinstance(form, Renamed):
        return _elements(unnamed(form), count)
    if isinstance(form, (Anything, AllOf)):
        return unknown
    if isinstance(form, OneOf):
        possible = [_elements(form_of(member), count) for member in form.members]
        tuples = [elements for elements in possible if elements is not None]
        return tuples[0] if len(tuples) == 1 else unknown if tuples else None
    if isinstance(form, Values) or disjoint(form.cls, tuple):
        return None
    fixed = _fixed(form)
    if fixed is not None:
        return fixed if len(fixed) == count else None
    if form.cls is tuple and form.args:
        return form.args[:1] * count
    return unknown


def _subscripted(generic: Any, tp: object, otherwise: object) -> object:
    try:
        return generic[tp]
    except Exception:  # typing takes only what it knows for a type, and hashes it
        return otherwise
