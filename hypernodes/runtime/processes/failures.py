"""An exception in a worker process in, bytes out; in the parent the same exception again, or the nearest that can be.

How an exception pickles is up to its class, and whether it reads back is known where it is read: the parent may lack
the class's module. So it travels in several forms, as bytes within bytes, and the parent takes the first that reads::

    itself  as its class pickles it
    parts   class, arguments and attributes, those that read back: made again without the class's own `__init__`
    said    type and message, as text: a `RemoteError`, or for a group a group of what could travel

A traceback cannot travel; its text does, as the cause of the exception, as concurrent.futures does it.
"""

from __future__ import annotations

import builtins
import pickle
import traceback
from typing import Any, Callable, Iterator, List, NamedTuple, Optional, Tuple

from hypernodes.errors import HyperNodesError
from hypernodes.pickling import dumps, loads
from hypernodes.runtime.faults import add_note, short

_MISSING: Any = object()
_Group: Any = getattr(builtins, "BaseExceptionGroup", None)


class RemoteTraceback(Exception):
    """The traceback of an exception in a worker process, as text."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text}"""'


class RemoteError(HyperNodesError, RuntimeError):
    """Stands for an exception of a node that could not travel: `kind` is its type, `text` what it said."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(kind, text)
        self.kind = kind
        self.text = text

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}"


class _Carried(NamedTuple):
    """One exception in its forms, all of them plain text and bytes, which read back anywhere."""

    kind: str
    said: str
    notes: Tuple[str, ...] = ()
    itself: Optional[bytes] = None
    parts: Optional[bytes] = None
    inner: Optional[List[Any]] = None


def portable(error: BaseException) -> bytes:
    """Return `error` as bytes for `received`; never raises, whatever the exception does when it is looked at."""
    kind = f"{type(error).__module__}.{type(error).__qualname__}"
    said = _tried(lambda: _text(error), "(its text cannot be made)")
    carried = _tried(lambda: _carried(error, kind, said), _Carried(kind, said))
    text = _tried(
        lambda: "".join(traceback.format_exception(type(error), error, error.__traceback__)),
        f"{kind}: {said}\n",
    )
    return pickle.dumps((tuple(carried), text), 5)


def received(data: bytes) -> BaseException:
    """Return the exception in `data`, with its notes, and the text of its traceback as its cause."""
    fields, text = pickle.loads(data)
    error = _unpacked(_Carried(*fields))
    _tried(lambda: setattr(error, "__cause__", RemoteTraceback(text)), None)
    return error


# -- in the worker process --------------------------------------------------------------------------------------------


def _carried(error: BaseException, kind: str, said: str) -> _Carried:
    args: Tuple[Any, ...] = BaseException.__dict__["args"].__get__(error)
    inner = None
    if _Group is not None and isinstance(error, _Group):
        message, members = args
        said, args, inner = _text(message), (), [pickle.loads(portable(each))[0] for each in members]
    return _Carried(
        kind,
        said,
        _tried(lambda: tuple([_text(note) for note in getattr(error, "__notes__", ())]), ()),
        _tried(lambda: dumps(error, "an exception"), None),
        _tried(lambda: _parts(error, args), None),
        inner,
    )


def _parts(error: BaseException, args: Tuple[Any, ...]) -> bytes:
    arguments = [(_packed(value), short(value)) for value in args]
    attributes = {name: _packed(value) for name, value in _attributes(error)}
    return dumps((type(error), arguments, attributes), "an exception")


def _attributes(error: BaseException) -> Iterator[Tuple[str, Any]]:
    yield from vars(error).items()
    for kind in type(error).__mro__:
        for name in kind.__dict__.get("__slots__", ()):
            if hasattr(error, name):
                yield name, getattr(error, name)


def _packed(value: Any) -> Optional[bytes]:
    return _tried(lambda: dumps(value, ""), None)  # type: ignore[no-any-return]


def _text(value: object) -> str:
    # Of a subclass of str, which may be one that the parent does not know, only what it says.
    return str.__str__(str(value))


# -- in the parent ----------------------------------------------------------------------------------------------------


def _unpacked(carried: _Carried) -> BaseException:
    inner = None if carried.inner is None else [_unpacked(_Carried(*each)) for each in carried.inner]
    error: BaseException = _tried(lambda: loads(carried.itself or b""), _MISSING)
    left: List[str] = []
    if not isinstance(error, BaseException):
        error, left = _tried(lambda: _remade(carried, inner), (_MISSING, []))
    if error is _MISSING:
        stands_for_group = _Group is not None and inner is not None
        error = _Group(carried.said, inner) if stands_for_group else RemoteError(carried.kind, carried.said)
    if not getattr(error, "__notes__", None):
        for note in carried.notes:
            add_note(error, note)
    if left:
        add_note(error, f"what could not leave the worker process: {', '.join(left)}")
    return error


def _remade(carried: _Carried, inner: Optional[List[BaseException]]) -> Tuple[BaseException, List[str]]:
    """Make an exception from its parts, as the built-in exception it derives from is made; also name those left out."""
    parts: Any = loads(carried.parts or b"")
    kind, arguments, attributes = parts
    args = [_tried(lambda data=data: loads(data), shown) for data, shown in arguments]  # type: ignore[misc]
    if inner is not None:
        args = [carried.said, inner]
    base = next(each for each in kind.__mro__ if each.__module__ == "builtins")
    error: BaseException = base.__new__(kind, *args)
    base.__init__(error, *args)
    left = []
    for name, data in attributes.items():
        value = _tried(lambda data=data: loads(data), _MISSING)  # type: ignore[misc]
        if value is _MISSING:
            left.append(f"attribute {name!r}")
        elif name != "__notes__":
            object.__setattr__(error, name, value)
    str(error)  # one that cannot say what it was is further away than a RemoteError that can
    return error, left


def _tried(make: Callable[[], Any], otherwise: Any) -> Any:
    """Return what `make` does, or `otherwise` where it raises: code of an exception's own class may do anything."""
    try:
        return make()
    except BaseException:  # Ctrl-C is held back from where a run receives, and workers do not hear it
        return otherwise
