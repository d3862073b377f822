"""A module and its source file in, whether the module was loaded from the file as it is now, out; and what it imports.

Python does not keep what a module was loaded from. A file that was last changed before this process began is that; of
a later one the functions, and the constants that are written out, are compared with those in memory. All is read off
compiled code: `ast` may not be used in two threads at once on some Pythons (SystemError).
"""

from __future__ import annotations

import dis
import functools
import importlib.machinery
import os
import time
import types
from typing import Any, Dict, Iterator, List, Optional, Set, Tuple

_MOVES = frozenset((dis.opmap["STORE_GLOBAL"], dis.opmap["DELETE_GLOBAL"]))
_IMPORT = dis.opmap["IMPORT_NAME"]
_FIXED = (type(None), bool, int, float, complex, str, bytes, tuple)
_SLACK = 2.0  # seconds by which some file systems round a file's time


def matches(module: types.ModuleType, path: str) -> bool:
    """Say whether `module` was loaded from the file at `path` as it is now; when that cannot be told, yes."""
    try:
        if os.stat(path).st_mtime + _SLACK < _BEGAN or not path.endswith(".py"):
            return True
    except NotADirectoryError:  # within an archive
        return True
    except OSError:
        return False
    if type(getattr(_content(module).get("__spec__"), "loader", None)) is not importlib.machinery.SourceFileLoader:
        return True  # it may compile something else than it reads, as that of pytest does with every assert
    code = _compiled(path)
    # One that is gone, or broken by the edit, cannot have been loaded like this.
    if code is None:
        return False
    written: Dict[str, Set[Any]] = {}
    for inner in _all(code):
        written.setdefault(inner.co_name, set()).add(_key(inner))
    return all(_key(own) in written.get(own.co_name, ()) for own in codes(module, path)) and _has_constants(
        _content(module), code
    )


def codes(module: types.ModuleType, path: str) -> List[types.CodeType]:
    """Return the code of the functions of a module that were compiled from its file.

    A decorator's functions, and those of a dataclass, were not. That code becomes another in place where `%autoreload`
    puts an edit into a module that it does not load again.
    """
    content = _content(module)
    found = [fn.__code__ for value in content.values() for fn in _functions(value, content.get("__name__", ""))]
    return [code for code in found if code.co_filename == path]


def _content(module: types.ModuleType) -> Dict[str, Any]:
    return dict(object.__getattribute__(module, "__dict__"))  # which asks nothing of a lazy module


def imports(name: str, path: str) -> Set[str]:
    """Return the modules that module `name` imports anywhere in its source, and the packages around it and them."""
    package = name if os.path.basename(path) == "__init__.py" else name.rpartition(".")[0]
    found = {name.rpartition(".")[0]}
    for code in _all(_compiled(path)):
        if _IMPORT not in code.co_code[::2]:  # `dis` takes its time
            continue
        instructions = list(dis.get_instructions(code))
        for level, members, imported in zip(instructions, instructions[1:], instructions[2:]):
            if imported.opname == "IMPORT_NAME":
                outside = package.split(".")[: len(package.split(".")) + 1 - level.argval] if level.argval else []
                module = ".".join([*outside, imported.argval]).rstrip(".")
                found.update([module, *[f"{module}.{member}" for member in members.argval or ()]])
    for inner in list(found):
        while "." in inner:
            inner = inner.rpartition(".")[0]
            found.add(inner)
    return found


def _compiled(path: str) -> Optional[types.CodeType]:
    """Return the code of a source file; None for one that is no source, cannot be read, or is broken."""
    if not path.endswith(".py"):
        return None
    try:
        with open(path, "rb") as file:
            return compile(file.read(), path, "exec", dont_inherit=True)
    except (OSError, SyntaxError, ValueError):
        return None


def _all(code: Optional[types.CodeType]) -> Iterator[types.CodeType]:
    """Yield some code and all code within it."""
    if code is not None:
        yield code
        for inner in code.co_consts:
            if isinstance(inner, types.CodeType):
                yield from _all(inner)


def _functions(value: Any, module: str) -> Iterator[types.FunctionType]:
    """Yield the functions that a module defines and a value in it is, has as methods, or wraps."""
    kind = type(value)
    if kind is types.FunctionType:
        if value.__module__ == module:
            yield value
        yield from _functions(vars(value).get("__wrapped__"), module)
    elif kind in (staticmethod, classmethod):
        yield from _functions(value.__func__, module)
    elif kind is property:
        for accessor in (value.fget, value.fset, value.fdel):
            yield from _functions(accessor, module)
    elif kind in (functools.partial, functools.cached_property):
        yield from _functions(value.func, module)
    elif kind is _LruCached:
        yield from _functions(value.__wrapped__, module)
    elif kind.__module__ == "hypernodes.node":
        yield from _functions(value.fn, module)
    elif issubclass(kind, type) and value.__module__ == module:
        for attribute in list(vars(value).values()):
            yield from _functions(attribute, module)


_LruCached = type(functools.lru_cache()(len))


# -- functions --------------------------------------------------------------------------------------------------------


def _key(code: types.CodeType) -> Tuple[Any, ...]:
    """Return what a function does, without where it stands."""
    names = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
    constants = tuple(map(_constant, code.co_consts))
    return (code.co_code, code.co_flags, code.co_argcount, code.co_kwonlyargcount, names, constants)


def _constant(value: Any) -> Any:
    if isinstance(value, types.CodeType):
        return _key(value)
    return frozenset(map(repr, value)) if isinstance(value, frozenset) else repr(value)


# -- constants --------------------------------------------------------------------------------------------------------


def _has_constants(content: Dict[str, Any], code: types.CodeType) -> bool:
    """Compare what is assigned once, as it stands, with what is there."""
    instructions = list(dis.get_instructions(code))
    stored = [each.argval for each in instructions if each.opname == "STORE_NAME"]
    changed = {
        store.argval
        for load, store in zip(instructions, instructions[1:])
        if store.opname == "STORE_NAME"
        and load.opname in ("LOAD_CONST", "LOAD_SMALL_INT")
        and isinstance(load.argval, _FIXED)
        and store.argval in content  # it may be in a branch that was not taken, or be deleted
        and repr(content[store.argval]) != repr(load.argval)
        and stored.count(store.argval) == 1
    }
    return not changed or changed.issubset(_moved(code))


def _moved(code: types.CodeType) -> Iterator[str]:
    """Yield the globals that some function sets."""
    for inner in _all(code):
        if not _MOVES.isdisjoint(inner.co_code[::2]):
            yield from [each.argval for each in dis.get_instructions(inner) if each.opcode in _MOVES]


# -- this process -----------------------------------------------------------------------------------------------------


def _began() -> float:
    """Return when this process was started, in seconds since the epoch; 0 where that cannot be told."""
    try:
        with open("/proc/self/stat", encoding="utf-8", errors="replace") as file:
            ticks = int(file.read().rpartition(")")[2].split()[19])
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")  # type: ignore[attr-defined,unused-ignore]
        return time.time() - age
    except (OSError, ValueError, AttributeError, IndexError):
        return 0.0


# A forked child was loaded when its ancestor was: this stays what it was there.
_BEGAN = _began()
