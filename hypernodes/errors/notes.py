"""Short words for a value or an exception, which never raise; and notes on exceptions, on every Python version."""

from __future__ import annotations

import reprlib
from typing import Any, List, Type

from hypernodes.errors.location import Location, located

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 60
_SHORT.maxlist = _SHORT.maxtuple = _SHORT.maxdict = _SHORT.maxset = 3


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


def notes_of(error: BaseException) -> List[str]:
    """Return the notes of an exception."""
    found = getattr(error, "__notes__", [])
    return found if isinstance(found, list) else []


def add_note(error: BaseException, note: str) -> None:
    """Add a note to an exception, on every Python version; once, and in the place of one about the same node."""
    try:
        # One exception may be raised by many items: with a note from each, they would be words without end.
        notes = [each for each in notes_of(error) if each != note and not _same_node(each, note)]
        error.__notes__ = [*notes, note]  # type: ignore[attr-defined,unused-ignore]
    except BaseException:
        # An exception that takes no attributes is passed on without its note.
        return


def _same_node(note: object, other: object) -> bool:
    here, there = located(note), located(other)
    if here is None or there is None or note.template != other.template:  # type: ignore[attr-defined]
        return False
    return (here.pipelines, here.node) == (there.pipelines, there.node)


def move_notes(error: BaseException, node: Location) -> bool:
    """Tell the notes of a run within `node` where that is; return whether there were any."""
    notes = notes_of(error)
    found = False
    for number, note in enumerate(notes):
        location = located(note)
        if location is not None and location.within:
            notes[number] = note.at(location.inside(node))  # type: ignore[attr-defined]
            found = True
    return found


def passable(error: BaseException, *ends: Type[BaseException]) -> BaseException:
    """Return an exception that may leave a generator or a coroutine, whose ordinary end is an exception of `ends`.

    Python makes a RuntimeError of one that a node raised, which would not say where that was.
    """
    if not issubclass(type(error), ends):
        return error
    found = RuntimeError(f"a node raised {type(error).__name__}")
    found.__cause__ = error
    for note in notes_of(error):
        add_note(found, note)
    return found
