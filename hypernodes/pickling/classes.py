"""A class that goes by value in, how to make it anew in another process out, once; and how to keep it what it is here.

cloudpickle takes a class apart and knows it again when it comes back. The rest is here: a process makes a class once,
however often one is read, and what it is made is what the process says whose class it is. In a worker that is whatever
was read last, so functions that were read before say it again.
"""

from __future__ import annotations

import abc
import contextlib
import os
import sys
import types
import weakref
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

import msgspec
from cloudpickle.cloudpickle import (
    _DYNAMIC_CLASS_TRACKER_BY_ID,
    _class_setstate,
    _lookup_class_or_track,
    _make_skeleton_class,
)

Reduced = Tuple[Any, ...]
Updates = List[Tuple[type, Any, Tuple[str, ...]]]  # classes, what each was made, and the names of that

_own: weakref.WeakKeyDictionary[type, Tuple[int, Tuple[str, ...]]] = weakref.WeakKeyDictionary()
"""Classes that were sent: by which process (a forked child receives what its parent owns), and which attributes."""

_received: weakref.WeakKeyDictionary[type, Tuple[str, ...]] = weakref.WeakKeyDictionary()
"""Classes of other processes: the names of the attributes that they were given last, of each time another tuple."""

_noted: List[Updates] = []


def reduced_class(cls: type, reduced: Reduced) -> Reduced:
    """Return what cloudpickle made of a class that goes by value, with a say in what becomes of it over there.

    Whenever one is read, cloudpickle makes it anew, of which metaclasses and `__init_subclass__` may take note, and
    sets its attributes: a result that comes back would replace methods and class attributes here by copies of what they
    were when they left.
    """
    make, arguments, state = reduced[:3]
    if make is _make_skeleton_class:
        metaclass, name, bases, content, tracked, extra = arguments
        if isinstance(cls, _StructMeta):
            make, metaclass, extra = _struct, None, _fields(cls)  # which has no name in some versions
        arguments = (metaclass, name, bases, {**content, **_of_the_body(cls)}, tracked, extra)
        attributes = {key: value for key, value in state[0].items() if type(value) is not types.MemberDescriptorType}
        state = (attributes, *state[1:])
    if cls not in _received:
        _own[cls] = os.getpid(), tuple(state[0])
    return _class, (make, *arguments), state, None, None, _update_class


def _of_the_body(cls: Any) -> Dict[str, object]:
    """Return what a class has to be made with, as it cannot be set later, and what cloudpickle leaves out."""
    found: Dict[str, object] = {"__qualname__": cls.__qualname__}  # which dataclasses print
    plain = type(cls).__new__ in (
        type.__new__,
        abc.ABCMeta.__new__,
    )  # other metaclasses, and NamedTuple, make their own
    if "__slots__" in vars(cls) and plain and not (issubclass(cls, tuple) and "_fields" in vars(cls)):
        # Without them, instances that come back would have attributes that the class here has no place for.
        found["__slots__"] = cls.__slots__
    return found


def _class(make: Callable[..., type], *arguments: Any) -> type:
    """Return the class that is known here, or make it; pickles name this function, so it keeps its name."""
    *_, tracked, _ = arguments
    known: Optional[type] = _DYNAMIC_CLASS_TRACKER_BY_ID.get(tracked)
    if known is not None:
        return known
    if make is _make_skeleton_class:
        metaclass, name, bases, content, *_ = arguments
        if metaclass in (type, abc.ABCMeta) and any(map(_greets, bases)):
            # What it made of the class where it was defined is among the attributes that it gets.
            with contextlib.suppress(TypeError):  # bases with slots cannot be exchanged
                quiet: type = types.new_class(
                    name, (_Quiet, *bases), {"metaclass": metaclass}, lambda ns: ns.update(content)
                )
                quiet.__bases__ = bases
                return _lookup_class_or_track(tracked, quiet)  # type: ignore[no-any-return]
    return make(*arguments)


class _Quiet:
    """The first base of a class of which the others shall not hear."""

    def __init_subclass__(cls, **keywords: object) -> None: ...


def _greets(base: type) -> bool:
    """Say whether a class is told of its subclasses, other than by those of `typing`."""
    fn = getattr(base.__init_subclass__, "__func__", None)
    return fn is not None and getattr(fn, "__module__", None) not in ("typing", "typing_extensions")


def _update_class(cls: type, state: Any) -> None:
    """Make a class what it is where it came from; pickles name this function, so it keeps its name."""
    process, _ = _own.get(cls, (0, ()))
    if process != os.getpid():
        names = tuple(state[0])
        _set_class(cls, state, names)
        for updates in _noted:
            updates.append((cls, state, names))


def _set_class(cls: type, state: Any, names: Tuple[str, ...]) -> None:
    _, before = _own.get(cls, (0, ()))
    for name in set(_received.get(cls, before)).difference(names):
        if name in vars(cls):
            delattr(cls, name)
    _received[cls] = names
    _class_setstate(cls, state)


@contextlib.contextmanager
def noted() -> Iterator[Updates]:
    """Note what classes are made while something is read here."""
    updates: Updates = []
    _noted.append(updates)
    try:
        yield updates
    finally:
        _noted.pop()


def renew(updates: Updates) -> None:
    """Make classes again what they were made once, where they have become something else since.

    Each process has a class once, and functions that were read at different times share it.
    """
    for cls, state, names in updates:
        if _received.get(cls) is not names:
            _set_class(cls, state, names)


# -- structs, whose metaclass makes them of the fields in their bodies -------------------------------------------------

_StructMeta: Any = type(msgspec.Struct)


def _fields(cls: Any) -> Dict[str, Any]:
    """Return what tells the fields of a msgspec Struct, other than those of its bases, and its options."""
    annotations = cls.__annotations__ if sys.version_info >= (3, 10) else vars(cls).get("__annotations__", {})
    own = [name for name in annotations if name in cls.__struct_fields__]
    defaults = dict(zip(reversed(cls.__struct_fields__), reversed(cls.__struct_defaults__)))
    given = {name: defaults[name] for name in own if defaults.get(name, msgspec.NODEFAULT) is not msgspec.NODEFAULT}
    factories = {name: value.factory for name, value in given.items() if type(value).__name__ == "Factory"}
    renamed = dict(zip(cls.__struct_fields__, cls.__struct_encode_fields__))
    config, base = cls.__struct_config__, cls.__base__.__struct_config__
    options = {name: getattr(config, name) for name in dir(config) if not name.startswith("_")}
    return {
        "annotations": {name: annotations[name] for name in own},
        "defaults": {name: value for name, value in given.items() if name not in factories},
        "factories": factories,
        "options": {
            "kw_only": bool(own) and own[0] not in cls.__match_args__,
            "rename": {name: renamed[name] for name in own},
            **{name: value for name, value in options.items() if value != getattr(base, name)},
        },
    }


def _struct(
    _: None, name: str, bases: Tuple[type, ...], content: Dict[str, Any], tracked: str, told: Dict[str, Any]
) -> type:
    """Make a Struct with its fields; pickles name this function, so it keeps its name."""
    made_by = {name: msgspec.field(default_factory=factory) for name, factory in told["factories"].items()}
    body = {**content, "__annotations__": told["annotations"], **told["defaults"], **made_by}
    made = types.new_class(name, bases, told["options"], lambda ns: ns.update(body))
    return _lookup_class_or_track(tracked, made)  # type: ignore[no-any-return]
