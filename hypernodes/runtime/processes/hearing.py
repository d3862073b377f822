"""What a worker process tells of its nodes in (`telling`), lines in this process's streams and log out.

Whoever waits for the answers of a run reads what its workers tell, in the thread that works the run and under no lock.
So whatever captures output here (a notebook, pytest, `redirect_stdout`) captures that of nodes in workers too, and what
raises while it is shown is a failure of the node that told it.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import pickle
import sys
import warnings
from typing import Any, Dict, Iterator, List, Optional, Tuple, cast

from hypernodes.pickling import loads
from hypernodes.pickling.exceptions import received
from hypernodes.runtime.processes.telling import (
    ERR,
    ERR_BYTES,
    FIRST,
    FLUSH,
    HEAD,
    LAST,
    OUT,
    OUT_BYTES,
    RECORD,
    WARNING,
    Audience,
    Told,
)

_AT_ONCE = 64 * 1024  # bytes in one read: what a pipe holds, unless somebody has set it otherwise
_READS = 16  # in a row, so that one worker that goes on and on does not keep the others from being heard

Message = Tuple[int, bytes, bool]
"""Kind, what was told, and whether to flush after it."""


class Ear:
    """The parent's end of the pipe that a worker tells through."""

    def __init__(self, descriptor: int) -> None:
        os.set_blocking(descriptor, False)
        self._descriptor = descriptor
        self._data = b""  # the beginning of a piece
        self._pieces: Dict[Tuple[int, int], Tuple[int, List[bytes]]] = {}  # of messages that have not ended

    def fileno(self) -> int:
        """Return the descriptor that is readable when something was told; -1 when nothing more will be."""
        return self._descriptor

    def hear(self) -> List[Message]:
        """Return all that was told up to now."""
        messages: List[Message] = []
        for _ in range(_READS):
            if self._descriptor < 0:
                break
            try:
                data = os.read(self._descriptor, _AT_ONCE)
            except BlockingIOError:
                break
            if not data:
                self.close()
            self._take(data, messages)
            if len(data) < _AT_ONCE:
                break
        return messages

    def close(self) -> None:
        """Hear no more."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _take(self, data: bytes, messages: List[Message]) -> None:
        data = self._data + data
        start = 0
        while len(data) - start >= HEAD.size:
            kind, flags, size, process, thread = HEAD.unpack_from(data, start)
            end = start + HEAD.size + size
            if len(data) < end:
                break
            piece = data[start + HEAD.size : end]
            start = end
            teller = process, thread
            if flags & FIRST:
                if teller in self._pieces:  # an exception ended that one in the middle
                    _add(messages, *self._pieces.pop(teller))
                pieces = [piece]
            else:
                pieces = self._pieces.pop(teller, (kind, []))[1]
                pieces.append(piece)
            if flags & LAST:
                messages.append((kind, b"".join(pieces), bool(flags & FLUSH)))
            else:
                self._pieces[teller] = (kind, pieces)
        self._data = data[start:]


def _add(messages: List[Message], kind: int, pieces: List[bytes]) -> None:
    if kind < RECORD:
        messages.append((kind, b"".join(pieces), False))


def audience() -> Audience:
    """Return what nodes may notice of what is done here with what they print and log."""
    manager = logging.root.manager
    loggers = {"": _setting(logging.root)}
    for name, logger in list(manager.loggerDict.items()):
        if isinstance(logger, logging.Logger) and (
            logger.level or logger.handlers or logger.disabled or not logger.propagate
        ):
            loggers[name] = _setting(logger)
    return Audience((_stream(sys.stdout), _stream(sys.stderr)), manager.disable, loggers)


def _setting(logger: logging.Logger) -> Tuple[int, bool, bool, bool]:
    return int(logger.level), bool(logger.propagate), bool(logger.disabled), bool(logger.handlers)


def _stream(stream: Any) -> Told:
    if stream is None:
        return None
    try:
        terminal = bool(stream.isatty())
    except Exception:  # closed, or an object that can do no more than write
        terminal = False
    encoding, errors = getattr(stream, "encoding", None), getattr(stream, "errors", None)
    return (
        encoding if isinstance(encoding, str) else None,
        errors if isinstance(errors, str) else None,
        terminal,
    )


def show(messages: List[Message]) -> None:
    """Write, log and warn here what was told."""
    text: List[str] = []
    shown: Optional[int] = None
    for kind, data, flush in messages:
        if text and kind != shown:
            _write(shown, "".join(text))
            text = []
        if kind in (OUT, ERR):
            # Lines of one stream go together: there may be very many.
            shown = kind
            text.append(data.decode("utf-8", "surrogatepass"))
            if flush:
                _write(kind, "".join(text), True)
                text = []
        elif kind in (OUT_BYTES, ERR_BYTES):
            _write_bytes(kind - OUT_BYTES, data, flush)
        elif kind == RECORD:
            _log(data)
        elif kind == WARNING:
            _warn(data)
    if text:
        _write(shown, "".join(text))


def _write(kind: Optional[int], text: str, flush: bool = False) -> None:
    stream: Any = sys.stderr if kind == ERR else sys.stdout
    if stream is None:
        return
    with _unless_closed(stream):
        if text:
            stream.write(text)
        if flush or (not text.endswith("\n") and hasattr(stream, "flush")):
            stream.flush()  # of one that can only write, too, where the node has asked for it


def _write_bytes(kind: int, data: bytes, flush: bool) -> None:
    stream: Any = sys.stderr if kind == ERR else sys.stdout
    below = getattr(stream, "buffer", None)
    if below is None:
        _write(kind, data.decode("utf-8", "replace"), flush)
        return
    with _unless_closed(stream):
        stream.flush()
        below.write(data)
        if flush:
            below.flush()


@contextlib.contextmanager
def _unless_closed(stream: Any) -> Iterator[None]:
    """Let what is told go nowhere where the program has closed its stream; other faults of it are the node's."""
    try:
        yield
    except ValueError:
        if not getattr(stream, "closed", False):
            raise
    except OSError as fault:
        if fault.errno != errno.EBADF:
            raise


def _log(data: bytes) -> None:
    plain, others, raised, handled = pickle.loads(data)
    for name, value in others:
        with contextlib.suppress(Exception):  # of a class that only the worker knows
            plain[name] = loads(value)
    record = logging.makeLogRecord(plain)
    record.levelname = logging.getLevelName(record.levelno)
    if raised is not None:
        error = received(raised)
        record.exc_info = (type(error), error, None)
    logger = logging.getLogger(None if record.name == "root" else record.name)
    if logger.hasHandlers() or not handled:  # else it would be shown as one that nobody takes
        logger.handle(record)


def _warn(data: bytes) -> None:
    sent, text = pickle.loads(data)
    try:
        message, category, filename, lineno, line = cast("Tuple[Any, Any, str, int, Optional[str]]", loads(sent))
    except Exception:
        _write(ERR, text)
        return
    warnings.showwarning(message, category, filename, lineno, None, line)
