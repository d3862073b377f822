"""What an initializer has set in a module that only travels by value in, seen by functions of that module from then on.

A function of a script or a notebook that goes to another process has the globals there that it reads, and no others;
each pickle brings its own. In the program's own process, and in threads, they share them: one function opens a client
or loads a model, another finds it. So a worker keeps what its initializer has set, and what it may have changed in
place, and functions that are read later get that instead of what came with them.
"""

from __future__ import annotations

import contextlib
import types
from typing import Any, Dict, Iterator, List

from cloudpickle.cloudpickle import _function_setstate as _set_state

Space = Dict[str, Any]

_kept: Dict[str, Space] = {}
"""By the name of the module."""

_noted: List[List[Space]] = []

_DATA = (type(None), bool, int, float, complex, str, bytes, tuple, frozenset)
_FIXED = (*_DATA, type, types.ModuleType, types.FunctionType, types.BuiltinFunctionType)


def set_function(fn: types.FunctionType, state: Any) -> None:
    """Give a function that is read what it had; pickles name this, so it keeps its name."""
    _set_state(fn, state)
    space = fn.__globals__
    for noted in _noted:
        noted.append(space)
    kept = _kept.get(space.get("__name__", ""))
    if kept:
        space.update({name: value for name, value in kept.items() if name in _names(fn)})


def _names(fn: types.FunctionType) -> List[str]:
    """Return the names that a function and those within it may read as globals."""
    found, codes = list(fn.__code__.co_names), [fn.__code__]
    while codes:
        inner = [each for each in codes.pop().co_consts if isinstance(each, types.CodeType)]
        codes += inner
        for code in inner:
            found += code.co_names
    return found


@contextlib.contextmanager
def read() -> Iterator[List[Space]]:
    """Note the globals of the functions that are read within the block."""
    spaces: List[Space] = []
    _noted.append(spaces)
    try:
        yield spaces
    finally:
        _noted.pop()


@contextlib.contextmanager
def kept(spaces: List[Space]) -> Iterator[None]:
    """Keep what is set in these within the block, or is there and can be changed in place."""
    before = [(space, dict(space)) for space in {id(space): space for space in spaces}.values()]
    yield
    for space, values in before:
        names = [key for key in space if not key.startswith("__") and _may_differ(space, values, key)]
        _kept.setdefault(space.get("__name__", ""), {}).update({name: space[name] for name in names})


def _may_differ(space: Space, before: Space, name: str) -> bool:
    value = space[name]
    return name not in before or value is not before[name] or not isinstance(value, _FIXED)
