"""What has no pickle of its own in, how to make it anew in another process out.

Caches start empty over there. Weak references are made anew to what travels with them, and hold on to it: here somebody
else keeps it alive, who stays behind.
"""

from __future__ import annotations

import functools
import types
import weakref
from typing import Any, Callable, Dict, List, Optional, Tuple

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
