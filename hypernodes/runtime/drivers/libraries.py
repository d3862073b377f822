"""What libraries keep for a thread, or for a context, of the caller in; the same for another thread or process out.

A new thread has a library's defaults, whatever the caller set around the run: numpy before 2.0 keeps its error state
like that, torch whether it records gradients. What a library keeps in a context variable travels with the context, and
only to other processes has to be carried: such a variable holds what cannot be pickled, or is out of reach.
"""

from __future__ import annotations

import contextlib
import importlib
import pickle
import sys
from typing import Any, Callable, Dict, Iterator, NamedTuple, Tuple

from hypernodes.errors import NotPicklableError
from hypernodes.pickling import dumps, loads

Kept = Tuple[Tuple[str, Any], ...]
"""Names of libraries with what they keep."""


VARIABLES = ("decimal_context", "numpy.ufunc.extobj")
"""Context variables whose values are carried to other processes from here."""


class _Library(NamedTuple):
    """A module that keeps something: how it is read, how it is put in place, and what it is unless somebody set it."""

    read: Callable[[Any], Any]
    write: Callable[[Any, Any], None]
    default: Any
    by_context: Callable[[Any], bool]


def _read_numpy(numpy: Any) -> Any:
    return numpy.geterr(), numpy.geterrcall(), numpy.getbufsize()


def _write_numpy(numpy: Any, kept: Any) -> None:
    errors, call, size = kept
    numpy.seterr(**errors)
    numpy.seterrcall(call)
    numpy.setbufsize(size)


_LIBRARIES: Dict[str, _Library] = {
    "numpy": _Library(
        _read_numpy,
        _write_numpy,
        ({"divide": "warn", "over": "warn", "under": "ignore", "invalid": "warn"}, None, 8192),
        lambda numpy: int(numpy.__version__.split(".")[0]) >= 2,
    ),
    "torch": _Library(
        lambda torch: torch.is_grad_enabled(),
        lambda torch, kept: torch.set_grad_enabled(kept),
        True,
        lambda torch: False,
    ),
}


def kept_by_thread(defaults: bool = False) -> Kept:
    """Return what libraries keep for this thread alone; with `defaults` for a thread that may have had other values."""
    return _kept(lambda library, module: not library.by_context(module), defaults)


def _kept(wanted: Callable[[_Library, Any], bool], defaults: bool = False) -> Kept:
    found = []
    for name, library in _LIBRARIES.items():
        module = sys.modules.get(name)
        if module is None:
            continue
        with contextlib.suppress(Exception):  # half imported, or another module of that name
            value = library.read(module) if wanted(library, module) else library.default
            if value != library.default or (defaults and wanted(library, module)):
                found.append((name, value))
    return tuple(found)


def alike(target: Callable[..., None]) -> Callable[..., None]:
    """Return the target of a new thread for which libraries keep what they keep for this one."""
    kept = kept_by_thread()
    if not kept:
        return target

    def run(*arguments: Any) -> None:
        put(kept)
        target(*arguments)

    return run


def put(kept: Kept) -> None:
    """Let libraries keep that for this thread, which is ours."""
    for name, value in kept:
        _LIBRARIES[name].write(sys.modules[name], value)


@contextlib.contextmanager
def lent(kept: Kept) -> Iterator[None]:
    """Let libraries keep that for this thread, which is somebody else's, within the block."""
    before = [(name, _LIBRARIES[name].read(sys.modules[name])) for name, _ in kept]
    put(kept)
    try:
        yield
    finally:
        put(tuple(before))


def packed() -> Tuple[Dict[str, bytes], bytes]:
    """Return what libraries keep in this context and for this thread, and decimal's context, as bytes."""
    found: Dict[str, bytes] = {}
    for name, value in _kept(lambda library, module: True):
        with contextlib.suppress(NotPicklableError):  # a callback of numpy's that holds on to this process
            found[name] = dumps(value, name)
    decimal: Any = sys.modules.get("decimal")
    try:
        return found, pickle.dumps(decimal.getcontext(), 5) if decimal is not None else b""
    except Exception:  # half imported, or with traps of its own
        return found, b""


def adopt(found: Dict[str, bytes], decimal_context: bytes) -> None:
    """Let libraries in this process keep what those of another did, in this context and for this thread."""
    for name, library in _LIBRARIES.items():
        data = found.get(name)
        if data is not None:
            with contextlib.suppress(Exception):  # a library, or a callback, that only the parent can import
                library.write(importlib.import_module(name), loads(data))
        elif name in sys.modules:
            with contextlib.suppress(Exception):
                library.write(sys.modules[name], library.default)  # what the run before had set
    if decimal_context:
        import decimal

        decimal.setcontext(pickle.loads(decimal_context))
