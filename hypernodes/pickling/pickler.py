"""Objects in, a pickle out, or an error that leads to what has none.

What another process can import goes as its name; everything else (lambdas, closures, whatever `__main__` or a notebook
defines, modules that nobody else would find) goes by value. That rests on cloudpickle, with additions for what
decorators leave behind: the function under a node goes by the name of its node, and `lru_cache`, `singledispatch` and
`cached_property` go by value around a function that does.
"""

from __future__ import annotations

import contextvars
import functools
import importlib
import io
import pickle
import sys
import types
import weakref
from typing import Any, Callable, Dict, Iterable, Optional, Tuple

import cloudpickle
from cloudpickle.cloudpickle import _dynamic_class_reduce

from hypernodes.errors import NotPicklableError
from hypernodes.pickling import classes, modules, standins
from hypernodes.pickling.culprit import find, is_recursion
from hypernodes.pickling.namespaces import set_function
from hypernodes.pickling.variables import reduced

_SCALARS = frozenset((type(None), bool, int, float, complex, str, bytes, bytearray))
_FLAT = frozenset((tuple, list, set, frozenset))
_FEW = 64  # items worth a look; beyond, making the careful pickler costs little beside the pickling

_TRIES = 20  # to catch a dictionary between two changes of another thread


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
        return _dumped(value, stays)
    except MemoryError as fault:  # to search would pickle it all again
        raise NotPicklableError(subject, (), _worded(fault)) from fault
    except KeyboardInterrupt:  # by all we can know, Ctrl-C
        raise
    except BaseException as fault:  # also SystemExit, which would end the caller's run where a value is at fault
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

    Raises
    ------
    Exception
        Whatever the objects raise that are read, but a `pickle.UnpicklingError` for a SystemExit and the like.
    """
    try:
        return pickle.loads(data, buffers=buffers)
    except (Exception, KeyboardInterrupt):
        raise
    except BaseException as fault:
        raise pickle.UnpicklingError(f"an object raised {_worded(fault)} while it was unpickled") from fault


def reduced_alone(obj: object) -> Any:
    """Return, as `reducer_override` of somebody else's pickler, how a function or a class goes by value.

    Returns
    -------
    tuple
        For one that another process would not find by its name.
    NotImplemented
        For all else, which is that pickler's business.
    """
    if not isinstance(obj, (types.FunctionType, type)):
        return NotImplemented
    name, found = _named(obj)
    if found is obj and not modules.goes_by_value(name):
        return NotImplemented
    return loads, (dumps(obj, obj.__name__),)


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


def _dumped(value: object, stays: Optional[Callable[[pickle.PickleBuffer], bool]]) -> bytes:
    """Pickle `value`; again when some thread has changed it meanwhile, unless `stays` has been asked."""
    asked = False

    def ask(buffer: pickle.PickleBuffer) -> bool:
        nonlocal asked
        asked = True
        assert stays is not None
        return stays(buffer)

    for left in reversed(range(_TRIES)):
        file = io.BytesIO()
        try:
            _Pickler(file, 5, buffer_callback=ask if stays is not None else None).dump(value)
            return file.getvalue()
        except RuntimeError as fault:
            if asked or not left or "during iteration" not in str(fault):
                raise
    raise AssertionError("the last try returns or raises")


def _refusal(subject: str, path: Tuple[str, ...], fault: BaseException) -> NotPicklableError:
    if not is_recursion(fault):
        if modules.edited():
            return NotPicklableError(subject, path, _worded(fault), _edited_fix())
        return NotPicklableError(subject, path, _worded(fault))
    deep = fault if isinstance(fault, RecursionError) else fault.__cause__ or fault  # cloudpickle wraps it
    fix = (
        "nest it less deeply (a list in place of links from one to the next), "
        "or run this work with node_execution / map_execution = 'threaded'"
    )
    return NotPicklableError(subject, path, _worded(deep), fix)


def _edited_fix() -> str:
    names = ", ".join(map(repr, sorted(modules.edited())))
    return f"reload what was edited since it was imported, or restart the program; until then {names} go by value"


def _worded(fault: BaseException) -> str:
    try:
        return f"{type(fault).__name__}: {fault}"
    except (Exception, SystemExit):  # a user's exception may fail to print
        return type(fault).__name__


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """cloudpickle's pickler, which also knows what decorators leave behind and which modules nobody else would find."""

    def __init__(
        self, file: Any, protocol: int, buffer_callback: Optional[Callable[[pickle.PickleBuffer], bool]] = None
    ) -> None:
        super().__init__(file, protocol, buffer_callback)
        self._by_value: Dict[object, bool] = {}

    def reducer_override(self, obj: Any) -> Any:
        kind = type(obj)
        rule = _RULES.get(kind)
        if rule is not None:
            return rule(self, obj)
        return self.of_class(obj) if issubclass(kind, type) else NotImplemented

    def goes_by_value(self, module: object) -> bool:
        """Return whether what a module holds goes by value, asked once for each pickle."""
        found = self._by_value.get(module)
        if found is None:
            found = self._by_value[module] = modules.goes_by_value(module)
        return found

    def of_class(self, cls: Any) -> Any:
        if self.goes_by_value(getattr(cls, "__module__", None)):
            by_value = _dynamic_class_reduce(cls)
        elif _named(cls)[1] is cls:
            return _by_name(cls)
        else:
            by_value = super().reducer_override(cls)
            if by_value is NotImplemented or len(by_value) < 6:
                return by_value
        return classes.reduced_class(cls, by_value)

    def of_function(self, fn: Any) -> Any:
        if self.goes_by_value(fn.__module__):
            return self._dynamic_function_reduce(fn)
        name, found = _named(fn)
        if found is fn:
            return _by_name(fn)
        if name is not None and _is_under(found, fn):
            return _function_of_node, (name, fn.__qualname__)
        return super().reducer_override(fn)

    def _dynamic_function_reduce(self, fn: Any) -> Any:
        return (*super()._dynamic_function_reduce(fn)[:5], set_function)

    def of_cached(self, fn: Any) -> Any:
        name, found = _named(fn)
        if name is not None and not self.goes_by_value(name):
            if found is fn:
                return NotImplemented
            if _is_under(found, fn):
                return _function_of_node, (name, fn.__qualname__)
        return standins.reduced_lru_cached(fn)

    def of_module(self, module: types.ModuleType) -> Any:
        if self.goes_by_value(module.__name__):
            return standins.reduced_module(module, _fault_alone)
        return NotImplemented


def _of_file(_: _Pickler, file: io.TextIOWrapper) -> Any:
    if file in (sys.stdout, sys.stderr):
        return NotImplemented
    # cloudpickle would send what is in the file, as another class.
    raise TypeError("cannot pickle an open file")


class _Shallow(_Pickler):
    """A pickler that takes every module for granted: two may refer to each other."""

    def of_module(self, module: types.ModuleType) -> Any:
        return types.ModuleType, (module.__name__,)


def _fault_alone(value: object) -> Optional[str]:
    """Return what is wrong with a value, pickled alone; None when nothing is."""
    try:
        _Shallow(io.BytesIO(), 5).dump(value)
    except Exception as fault:
        return _worded(fault)
    return None


_RULES: Dict[type, Callable[[_Pickler, Any], Any]] = {
    types.FunctionType: _Pickler.of_function,
    types.ModuleType: lambda pickler, module: pickler.of_module(module),
    types.CodeType: lambda pickler, code: _with_file(pickler.dispatch_table[types.CodeType](code), code),
    standins.LruCached: _Pickler.of_cached,
    io.TextIOWrapper: _of_file,
    contextvars.ContextVar: lambda _, variable: reduced(variable, modules.would_be_found),
    functools.cached_property: lambda _, value: standins.reduced_cached_property(value),
    weakref.WeakMethod: lambda _, value: standins.reduced_reference(value),
    weakref.ReferenceType: lambda _, value: standins.reduced_reference(value),
    standins.HeldReference: lambda _, value: standins.reduced_reference(value),
    weakref.WeakSet: lambda _, value: standins.reduced_container(value),
    weakref.WeakKeyDictionary: lambda _, value: standins.reduced_container(value),
    weakref.WeakValueDictionary: lambda _, value: standins.reduced_container(value),
}
"""How to reduce objects of exactly these types; classes of any metaclass are looked at besides."""


def _with_file(reduced: Any, code: types.CodeType) -> Any:
    """Return the reduction of code with its file in it, which cloudpickle leaves out, so that a traceback has lines."""
    maker, arguments = reduced
    file = "".join(code.co_filename)  # a copy: whether a text is one object must not show in the pickle
    return maker, tuple([file if type(each) is str and each == "<dynamic-code>" else each for each in arguments])


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


def _by_name(obj: Any) -> Any:
    """Leave a function or class that is found by its name to pickle, unless that would wait.

    It imports the module once more, and one that is being imported may wait, in another thread, for us.
    """
    spec = getattr(sys.modules[obj.__module__], "__spec__", None)
    return (_found, (obj.__module__, obj.__qualname__)) if getattr(spec, "_initializing", False) else NotImplemented


def _found(module: str, qualname: str) -> object:
    """Import what a module holds; pickles name this function, so it keeps its name."""
    return _resolve(importlib.import_module(module), qualname)


def _function_of_node(module: str, qualname: str) -> object:
    """Import the function under a node; pickles name this function, so it keeps its name."""
    found: Any = _resolve(importlib.import_module(module), qualname)
    return found.fn


def _resolve(module: types.ModuleType, qualname: str) -> object:
    return functools.reduce(getattr, qualname.split("."), module)
