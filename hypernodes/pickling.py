"""Objects in, bytes that another process can read out, and back.

What the other process can import goes by reference, as a name; everything else (lambdas, closures, whatever
`__main__` or a notebook defines) goes by value. That rests on cloudpickle, with additions for what decorators leave
behind: the function under a node goes by the name of its node, and `lru_cache` and `cached_property` go by value around
a function that does.
"""

from __future__ import annotations

import contextvars
import functools
import importlib
import io
import pickle
import sys
import types
from typing import Any, Callable, Iterable, Optional, Tuple

import cloudpickle

from hypernodes.culprit import find, is_recursion
from hypernodes.errors import NotPicklableError
from hypernodes.variables import reduced

_LruCached = type(functools.lru_cache()(len))
_SCALARS = frozenset((type(None), bool, int, float, complex, str, bytes, bytearray))
_FLAT = frozenset((tuple, list, set, frozenset))
_FEW = 64  # items worth a look; beyond, making the careful pickler costs little beside the pickling


def dumps(value: object, subject: str, stays: Optional[Callable[[pickle.PickleBuffer], bool]] = None) -> bytes:
    """Pickle `value` so that another process can read it.

    Parameters
    ----------
    value : object
        Anything: a function with what it refers to, a bundle, an input, a result.
    subject : str
        What `value` is to the user, for the error: ``"node 'fetch'"``, ``"input 'client'"``.
    stays : callable, optional
        Asked for each buffer (the data of an array) whether it stays in the pickle. One that does not is up to the
        callable to keep, and `loads` needs it again. All stay by default.

    Returns
    -------
    bytes
        A protocol 5 pickle for `loads`.

    Raises
    ------
    NotPicklableError
        When anything is raised while pickling, from that; its `path` leads to the culprit and its `cause` is the
        culprit's own fault. That the bytes can be read again is not checked.
    """
    try:
        if is_plain(value):
            return pickle.dumps(value, 5)
        file = io.BytesIO()
        _Pickler(file, 5, buffer_callback=stays).dump(value)
        return file.getvalue()
    except MemoryError as fault:  # to search would pickle it all again
        raise NotPicklableError(subject, (), _worded(fault)) from fault
    except Exception as fault:
        found = find(value, _Pickler)
        raise _refusal(subject, found.path, found.fault or fault) from fault


def loads(data: bytes, buffers: Iterable[object] = ()) -> object:
    """Read what `dumps` made, in any process that can import the same modules.

    Parameters
    ----------
    data : bytes
        The pickle.
    buffers : iterable, optional
        Buffers that did not stay in it, in their order; the objects read are made of them and not of copies.
    """
    return pickle.loads(data, buffers=buffers)


def culprit(value: object) -> Tuple[str, ...]:
    """Return the path from `value` to what in it does not pickle, each step worded for a person.

    Parameters
    ----------
    value : object
        Anything; it is pickled, in parts, and not changed.

    Returns
    -------
    tuple of str
        Such as ``("closure variable 'client'", "attribute '_lock' (_thread.lock)")``, the shortest there is. Only the
        kind, ``("_thread.lock",)``, when it is `value` itself. Empty when `value` pickles.
    """
    return find(value, _Pickler).path


def is_plain(value: Any) -> bool:
    """Say whether plain pickle gives the same bytes: it takes half the time, but has no say over functions.

    Whatever is plain reads back everywhere.
    """
    kind = type(value)
    if kind in _SCALARS:
        return True
    if kind in _FLAT:
        return len(value) <= _FEW and _SCALARS.issuperset(map(type, value))
    if kind is dict:
        return len(value) <= _FEW and _SCALARS.issuperset(map(type, (*value, *value.values())))
    return False


def _refusal(subject: str, path: Tuple[str, ...], fault: BaseException) -> NotPicklableError:
    if not is_recursion(fault):
        return NotPicklableError(subject, path, _worded(fault))
    deep = fault if isinstance(fault, RecursionError) else fault.__cause__ or fault  # cloudpickle wraps it
    fix = (
        "nest it less deeply (a list in place of links from one to the next), "
        "or run this work with node_execution / map_execution = 'threaded'"
    )
    return NotPicklableError(subject, path, _worded(deep), fix)


def _worded(fault: BaseException) -> str:
    try:
        return f"{type(fault).__name__}: {fault}"
    except Exception:  # a user's exception may fail to print
        return type(fault).__name__


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """cloudpickle's pickler, which also knows what decorators leave behind."""

    def reducer_override(self, obj: Any) -> Any:
        kind = type(obj)
        if kind is types.FunctionType or kind is _LruCached:
            module, found = _named(obj)
            if module is not None and _is_under(found, obj) and _would_be_found(module):
                return _function_of_node, (module, obj.__qualname__)
            if kind is _LruCached and found is not obj:
                return _lru_cached, (obj.__wrapped__, *_lru_options(obj))
        elif kind is io.TextIOWrapper and obj not in (sys.stdout, sys.stderr):
            # cloudpickle would send what is in the file, as another class.
            raise TypeError("cannot pickle an open file")
        elif kind is contextvars.ContextVar:
            return reduced(obj, _would_be_found)
        elif kind is functools.cached_property:
            # Up to Python 3.11 it holds a lock, and a class that goes by value takes it along.
            state = {name: value for name, value in vars(obj).items() if name != "lock"}
            return functools.cached_property, (obj.func,), state
        return super().reducer_override(obj)


def _named(fn: Any) -> Tuple[Optional[str], object]:
    """Return the name of `fn`'s module and what is there under the name of `fn`; None twice when it goes by value."""
    name, qualname = getattr(fn, "__module__", None), getattr(fn, "__qualname__", "<locals>")
    if not isinstance(name, str) or name in ("__main__", "__mp_main__") or "<" in qualname:  # <locals>, <lambda>
        return None, None
    by_value = cloudpickle.list_registry_pickle_by_value()
    if by_value and any(name == chosen or name.startswith(chosen + ".") for chosen in by_value):
        return None, None
    try:
        return name, _resolve(sys.modules[name], qualname)
    except RecursionError:  # Python 3.8 aborts when one is swallowed this deep and the pickling goes on
        raise
    except Exception:  # not there, or a lazy module that failed to provide it
        return None, None


def _is_under(found: object, fn: object) -> bool:
    """Say whether `found` is the node of `fn`.

    ``@node(...) def f`` leaves a node at the name `f`, where cloudpickle looks for the function. It would then send the
    function by value, and each global it reads with it.
    """
    return found is not fn and getattr(found, "fn", None) is fn


def _function_of_node(module: str, qualname: str) -> object:
    """Import the function under a node; pickles name this function, so it keeps its name."""
    found: Any = _resolve(importlib.import_module(module), qualname)
    return found.fn


def _resolve(module: types.ModuleType, qualname: str) -> object:
    return functools.reduce(getattr, qualname.split("."), module)


def _would_be_found(name: str) -> bool:
    """Say whether importing module `name` afresh, as a child process does, would load it from where it is from.

    A module may be in `sys.modules` and have a file and yet be nowhere on the path: `spec_from_file_location` makes
    such, as plugin loaders and pytest's importlib mode do. One made by hand has no spec.
    """
    spec = getattr(sys.modules.get(name), "__spec__", None)
    return spec is not None and _is_on_the_path(name, getattr(spec, "origin", None))


@functools.lru_cache(maxsize=1024)  # reads directories
def _is_on_the_path(name: str, origin: Optional[str]) -> bool:
    parent = name.rpartition(".")[0]
    path = getattr(sys.modules.get(parent), "__path__", None)
    if parent and (path is None or not _would_be_found(parent)):
        return False
    for finder in sys.meta_path:
        try:
            spec = finder.find_spec(name, path, None)
        except RecursionError:
            raise
        except Exception:  # some other library's import hook
            continue
        if spec is not None:
            return bool(spec.origin == origin)
    return False


def _lru_options(fn: Any) -> Tuple[Optional[int], bool]:
    if not hasattr(fn, "cache_parameters"):  # Python 3.8 does not tell whether it is typed
        return fn.cache_info().maxsize, False
    options = fn.cache_parameters()
    return options["maxsize"], options["typed"]


def _lru_cached(fn: Callable[..., object], maxsize: Optional[int], typed: bool) -> object:
    """Make the cached function again, with an empty cache; pickles name this function, so it keeps its name."""
    return functools.lru_cache(maxsize=maxsize, typed=typed)(fn)
