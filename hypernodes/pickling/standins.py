"""What has no pickle of its own in, how to make it anew in another process out.

Caches start empty over there. Weak references are made anew to what travels with them, and hold on to it: here somebody
else keeps it alive, who stays behind.
"""

from __future__ import annotations

import abc
import contextlib
import functools
import os
import types
import weakref
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

from cloudpickle.cloudpickle import (
    _DYNAMIC_CLASS_TRACKER_BY_ID,
    _class_setstate,
    _lookup_class_or_track,
    _make_skeleton_class,
)

Reduced = Tuple[Any, ...]

LruCached = type(functools.lru_cache()(len))


# -- caches -----------------------------------------------------------------------------------------------------------


def reduced_lru_cached(fn: Any) -> Reduced:
    """Return a function with `lru_cache` around it as what makes it, with an empty cache."""
    return _lru_cached, (fn.__wrapped__, *_lru_options(fn))


def _lru_options(fn: Any) -> Tuple[Optional[int], bool]:
    if not hasattr(fn, "cache_parameters"):  # Python 3.8 does not tell whether it is typed
        return fn.cache_info().maxsize, False
    options = fn.cache_parameters()
    return options["maxsize"], options["typed"]


def _lru_cached(fn: Callable[..., object], maxsize: Optional[int], typed: bool) -> object:
    """Make the cached function again, with an empty cache; pickles name this function, so it keeps its name."""
    return functools.lru_cache(maxsize=maxsize, typed=typed)(fn)


def reduced_cached_property(value: Any) -> Reduced:
    """Return a cached property without the lock that it holds up to Python 3.11."""
    state = {name: value for name, value in vars(value).items() if name != "lock"}
    return functools.cached_property, (value.func,), state


# -- weak references --------------------------------------------------------------------------------------------------


class HeldReference(weakref.ref):  # type: ignore[type-arg]
    """A weak reference that keeps what it refers to alive."""

    __slots__ = ("held",)

    def __init__(self, held: object) -> None:
        super().__init__(held)  # type: ignore[call-arg]
        self.held = held


def reduced_reference(reference: Any) -> Reduced:
    """Return a weak reference (to a bound method, too) as what makes it: to what it refers to, or as dead a one."""
    alive = reference()
    return (_dead, ()) if alive is None else (HeldReference, (alive,))


def _dead() -> object:
    """Make a weak reference to nothing; pickles name this function, so it keeps its name."""
    return weakref.ref(_Gone())


class _Gone:
    pass


def reduced_container(container: Any) -> Reduced:
    """Return a weak container as what makes it, with what is alive in it."""
    entries = list(container) if type(container) is weakref.WeakSet else list(container.items())
    return _container, (type(container), entries)


def _container(kind: Any, entries: List[Any]) -> object:
    """Make a weak container that holds on to its entries; pickles name this function, so it keeps its name."""
    made = kind(entries)
    made._held = entries
    return made


# -- modules ----------------------------------------------------------------------------------------------------------


_OF_THE_IMPORT = ("__builtins__", "__loader__", "__spec__", "__cached__", "__file__")


def reduced_module(module: types.ModuleType, fault: Callable[[object], Optional[str]]) -> Reduced:
    """Return a module as what makes one like it; `fault` says what is wrong with a value, None when it is fine.

    What does not pickle stays behind, as most of what uses the module will not ask for it; who does is told.
    """
    state = {name: value for name, value in list(vars(module).items()) if name not in _OF_THE_IMPORT}
    missing: Dict[str, str] = {}
    if fault(state) is not None:
        for name, value in list(state.items()):
            found = fault(value)
            if found is not None:
                missing[name] = found
                del state[name]
    return _module, (module.__name__, module.__doc__), (state, missing), None, None, _fill_module


def _module(name: str, doc: Optional[str]) -> types.ModuleType:
    """Make a module that no import would find; pickles name this function, so it keeps its name."""
    return types.ModuleType(name, doc)


def _fill_module(module: types.ModuleType, content: Tuple[Dict[str, object], Dict[str, str]]) -> None:
    """Fill a module made by `_module`; pickles name this function, so it keeps its name."""
    state, missing = content
    vars(module).update(state)
    if missing and "__getattr__" not in state:

        def absent(name: str) -> object:
            raise AttributeError(_absent(module.__name__, name, missing))

        vars(module)["__getattr__"] = absent


def _absent(module: str, name: str, missing: Dict[str, str]) -> str:
    if name not in missing:
        return f"module {module!r} has no attribute {name!r}"
    return f"module {module!r} went to this process by value, and its {name!r} stayed behind: {missing[name]}"


# -- classes ----------------------------------------------------------------------------------------------------------

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
        metaclass, name, bases, content, *more = arguments
        arguments = (metaclass, name, bases, {**content, **_of_the_body(cls)}, *more)
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
