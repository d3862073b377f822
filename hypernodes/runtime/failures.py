"""An exception in a worker process in, bytes out that the parent reads: the same one, or the nearest that can travel.

The traceback itself cannot travel; its text does, as the cause of the exception, as concurrent.futures does it.
"""

from __future__ import annotations

import traceback
from typing import Tuple

from hypernodes.errors import HyperNodesError
from hypernodes.pickling import dumps, loads
from hypernodes.runtime.faults import add_note


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


def portable(error: BaseException) -> bytes:
    """Return `error` as bytes that are known to read back as an exception."""
    text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    notes = tuple(str(note) for note in getattr(error, "__notes__", ()))
    try:
        data = dumps(_Carried(error, notes, text), "an exception")
        loads(data)
        return data
    except Exception:
        kind = f"{type(error).__module__}.{type(error).__qualname__}"
        return dumps(_Carried(RemoteError(kind, _said(error)), notes, text), "an exception")


def _said(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return "(its text cannot be made)"


class _Carried:
    """Pickles an exception with what pickling an exception leaves out: notes and the text of its traceback."""

    def __init__(self, error: BaseException, notes: Tuple[str, ...], text: str) -> None:
        self.error = error
        self.notes = notes
        self.text = text

    def __reduce__(self) -> Tuple[object, ...]:
        return _received, (self.error, self.notes, self.text)


def _received(error: BaseException, notes: Tuple[str, ...], text: str) -> BaseException:
    if not isinstance(error, BaseException):
        raise TypeError("an exception that unpickles to something else")
    if not getattr(error, "__notes__", None):
        for note in notes:
            add_note(error, note)
    error.__cause__ = RemoteTraceback(text)
    return error
