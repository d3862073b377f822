"""An exception in a worker process in, bytes out; in the parent the same exception again, or the nearest that can be.

How an exception pickles is up to its class, and whether it reads back is known where it is read: the parent may lack
the class's module. So it travels in several forms, as bytes within bytes, and the parent takes the first that reads::

    itself  as its class pickles it
    parts   class, arguments and attributes, those that read back: made again without the class's own `__init__`
    said    type and message, as text: a `RemoteError`, or for a group a group of what could travel

What stands behind it, its causes and contexts and the members of a group, travels likewise, all in one table where each
knows the others by number. A traceback cannot travel; its text does, as the cause at the end of the chain.
"""

from __future__ import annotations

import builtins
import linecache
import pickle
import re
import traceback
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from hypernodes.errors import HyperNodesError
from hypernodes.errors.location import Note
from hypernodes.errors.notes import add_note, short
from hypernodes.pickling import dumps, loads

_LINKS = 64  # causes and contexts that travel: who retries for ever may have thousands behind the last one
_FRAME = re.compile(r'(?P<indent>[ |+-]*  )File "(?P<file>.+)", line (?P<line>\d+)(, in .*)?$')
_MISSING: Any = object()
# As the interpreter keeps them, whatever a class makes of the names.
CAUSE: Any = BaseException.__dict__["__cause__"].__get__
CONTEXT: Any = BaseException.__dict__["__context__"].__get__
_SUPPRESSES: Any = BaseException.__dict__["__suppress_context__"].__get__
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
    """One exception in its forms, all of them plain text and bytes, which read back anywhere.

    `inner`, `cause` and `context` are places in the table of all that travel together.
    """

    kind: str
    said: str
    notes: Tuple[str, ...] = ()
    itself: Optional[bytes] = None
    parts: Optional[bytes] = None
    inner: Optional[List[int]] = None
    cause: Optional[int] = None
    context: Optional[int] = None
    suppresses: bool = False


def portable(error: BaseException) -> bytes:
    """Return `error` as bytes for `received`; never raises, whatever the exception does when it is looked at."""
    chain = _chain(error)
    places = {id(each): place for place, each in enumerate(chain)}
    table = []
    for each in chain:
        kind = f"{type(each).__module__}.{type(each).__qualname__}"
        said = _tried(lambda each=each: _text(each), "(its text cannot be made)")  # type: ignore[misc]
        plain = _Carried(kind, said)
        table.append(tuple(_tried(lambda: _carried(each, kind, said, places), plain)))  # noqa: B023
    return pickle.dumps((table, _tried(lambda: _traceback(error), f"{table[0][0]}: {table[0][1]}\n")), 5)


def received(data: bytes) -> BaseException:
    """Return the exception in `data`, with its notes and what stands behind it, and at the end the remote traceback."""
    table, text = pickle.loads(data)
    carried = [_Carried(*fields) for fields in table]
    made: Dict[int, BaseException] = {}
    for place in range(len(carried)):
        _made(carried, place, made)
    for place, each in enumerate(carried):
        _tried(lambda each=each, place=place: _link(made[place], each, made), None)  # type: ignore[misc]
    _tried(lambda: _end_with(made[0], RemoteTraceback(completed(text))), None)
    return made[0]


# -- in the worker process --------------------------------------------------------------------------------------------


def _chain(error: BaseException) -> List[BaseException]:
    """Return an exception, and then what stands behind it: the nearest causes and contexts, all members of groups."""
    found, seen = [error], {id(error)}
    links = 0
    for each in found:
        behind = [link for link in (CAUSE(each), CONTEXT(each)) if link is not None]
        for other in (*_members(each), *behind[: max(0, _LINKS - links)]):
            if id(other) not in seen and not isinstance(other, RemoteTraceback):  # that is in the text of this one
                seen.add(id(other))
                found.append(other)
        links += len(behind)
    return found


def _members(error: BaseException) -> Sequence[BaseException]:
    if _Group is None or not isinstance(error, _Group):
        return ()
    return BaseException.__dict__["args"].__get__(error)[1]  # type: ignore[no-any-return]


def _traceback(error: BaseException) -> str:
    """Return the text of a traceback; of one that has come from elsewhere before, and was not raised here, that one."""
    end = _end_of(error)
    if isinstance(end, RemoteTraceback) and error.__traceback__ is None:
        return end.text
    return "".join(traceback.format_exception(type(error), error, error.__traceback__))


def _carried(error: BaseException, kind: str, said: str, places: Dict[int, int]) -> _Carried:
    args: Tuple[Any, ...] = BaseException.__dict__["args"].__get__(error)
    inner = None
    if _Group is not None and isinstance(error, _Group):
        message, members = args
        said, args, inner = _text(message), (), [places[id(each)] for each in members]
    return _Carried(
        kind,
        said,
        _tried(lambda: tuple([_note(note) for note in getattr(error, "__notes__", ())]), ()),
        _tried(lambda: dumps(error, "an exception"), None),
        _tried(lambda: _parts(error, args), None),
        inner,
        places.get(id(CAUSE(error))),
        places.get(id(CONTEXT(error))),
        _SUPPRESSES(error),
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


def _note(note: object) -> str:
    return note if type(note) is Note else _text(note)


def _text(value: object) -> str:
    # Of a subclass of str, which may be one that the parent does not know, only what it says.
    return str.__str__(str(value))


# -- in the parent ----------------------------------------------------------------------------------------------------


def _made(carried: List[_Carried], place: int, made: Dict[int, BaseException]) -> BaseException:
    """Make the exception at a place of the table, and the members of a group before it."""
    if place not in made:
        each = carried[place]
        error: BaseException = _tried(lambda: loads(each.itself or b""), _MISSING)
        if isinstance(error, BaseException):
            _place_members(carried, each, error, made)
            made[place] = _with_notes(error, each)
        else:
            inner = None if each.inner is None else [_made(carried, number, made) for number in each.inner]
            made[place] = _nearest(each, inner)
    return made[place]


def _place_members(
    carried: List[_Carried], group: _Carried, error: BaseException, made: Dict[int, BaseException]
) -> None:
    """Let the members that a group brought along be those in the table."""
    members = _members(error)
    if group.inner is not None and len(members) == len(group.inner):
        for number, member in zip(group.inner, members):
            if number not in made:
                made[number] = _with_notes(member, carried[number])
                _place_members(carried, carried[number], member, made)


def _link(error: BaseException, carried: _Carried, made: Dict[int, BaseException]) -> None:
    if carried.context is not None:
        error.__context__ = made[carried.context]
    if carried.cause is not None:
        error.__cause__ = made[carried.cause]
    error.__suppress_context__ = carried.suppresses


def _end_of(error: BaseException) -> Optional[BaseException]:
    """Return the last exception that a traceback shows of a chain; None for one that goes round in a ring."""
    seen = set()
    while id(error) not in seen:
        seen.add(id(error))
        behind = CAUSE(error)
        if behind is None and not _SUPPRESSES(error):
            behind = CONTEXT(error)
        if behind is None:
            return error
        error = behind
    return None


def _end_with(error: BaseException, remote: RemoteTraceback) -> None:
    end = _end_of(error)
    if end is None:
        add_note(error, f"the traceback in the worker process:{remote}")
        return
    suppresses = _SUPPRESSES(end)
    end.__cause__ = remote
    end.__suppress_context__ = suppresses


def completed(text: str) -> str:
    """Return the text of a traceback with the lines that only this process can show: those of a notebook's cells."""
    lines = text.splitlines(keepends=True)
    completed = []
    for line, following in zip(lines, [*lines[1:], ""]):
        completed.append(line)
        frame = _FRAME.match(line)
        if frame and not following.startswith(frame["indent"] + "  "):
            source = linecache.getline(frame["file"], int(frame["line"])).strip()
            if source:
                completed.append(f"{frame['indent']}  {source}\n")
    return "".join(completed)


def _nearest(carried: _Carried, inner: Optional[List[BaseException]]) -> BaseException:
    """Return what comes nearest to an exception that does not read back as itself."""
    error, left = _tried(lambda: _remade(carried, inner), (_MISSING, []))
    if error is _MISSING:
        stands_for_group = _Group is not None and inner is not None
        error = _Group(carried.said, inner) if stands_for_group else RemoteError(carried.kind, carried.said)
    _with_notes(error, carried)
    if left:
        add_note(error, f"what could not leave the worker process: {', '.join(left)}")
    return error  # type: ignore[no-any-return]


def _with_notes(error: BaseException, carried: _Carried) -> BaseException:
    if not getattr(error, "__notes__", None):
        for note in carried.notes:
            add_note(error, note)
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
