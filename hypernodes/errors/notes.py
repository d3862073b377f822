"""Short words for a value or an exception, which never raise; and notes on exceptions, on every Python version."""

from __future__ import annotations

import re
import reprlib
from typing import Any, Type

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 60
_SHORT.maxlist = _SHORT.maxtuple = _SHORT.maxdict = _SHORT.maxset = 3
_PARTICULARS = re.compile(", (?:item|inputs) ")


def short(value: Any) -> str:
    """Return a repr of at most about 60 characters, and never raise."""
    try:
        return _SHORT.repr(value)
    except BaseException:
        return f"<{type(value).__name__}>"


def said(error: BaseException) -> str:
    """Return the text of an exception, whatever its class does when it is asked."""
    try:
        return str(error)
    except BaseException:
        return "(its text cannot be made)"


def add_note(error: BaseException, note: str) -> None:
    """Add a note to an exception, on every Python version; once, and in the place of one that has the same subject."""
    subject = _PARTICULARS.split(note)[0] + ","
    try:
        given = getattr(error, "__notes__", [])
        # One exception may be raised by many items: with a note from each, they would be words without end.
        notes = [each for each in given if each != note and not str(each).startswith(subject)]
        error.__notes__ = [*notes, note] if isinstance(given, list) else [note]  # type: ignore[attr-defined,unused-ignore]
    except BaseException:
        # An exception that takes no attributes is passed on without its note.
        return


def passable(error: BaseException, *ends: Type[BaseException]) -> BaseException:
    """Return an exception that may leave a generator or a coroutine, whose ordinary end is an exception of `ends`.

    Python makes a RuntimeError of one that a node raised, which would not say where that was.
    """
    if not issubclass(type(error), ends):
        return error
    found = RuntimeError(f"a node raised {type(error).__name__}")
    found.__cause__ = error
    for note in getattr(error, "__notes__", []):
        add_note(found, note)
    return found
