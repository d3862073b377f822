"""What nodes print, log and warn of in a worker process in, pieces on a pipe of their own out; `hearing` reads them.

    print ─▶ sys.stdout (a Stream) ─┐
    logger.info ─▶ call_handlers    ├─ tell ─▶ pieces ══ pipe ══▶ hearing (the parent's streams, handlers, filters)
    warnings.warn ─▶ show_warning  ─┘

A piece is written by one system call that no other can come between: a thread, a signal handler, a forked child may
tell something at any moment, no lock is needed, and nothing is half written when the process is killed. A worker whose
pipe is full waits until the parent reads on. File descriptors 1 and 2 stay what they are: the parent's.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import select
import struct
import sys
import threading
import warnings
import weakref
from typing import Any, Dict, List, NamedTuple, Optional, TextIO, Tuple

from hypernodes.errors import NotPicklableError
from hypernodes.pickling import dumps, is_plain
from hypernodes.pickling.exceptions import portable

OUT, ERR, OUT_BYTES, ERR_BYTES, RECORD, WARNING = range(6)
FIRST, LAST, FLUSH = 1, 2, 4
HEAD = struct.Struct("<BBHIQ")
"""Kind, flags, bytes that follow, and who tells it: process and thread."""

_PIECE = getattr(select, "PIPE_BUF", 512) - HEAD.size  # what a pipe takes whole or not at all
_LONG = 8192  # characters of a line that are not kept until it ends
_MANY = 512  # writes without the end of a line

Told = Optional[Tuple[Optional[str], Optional[str], bool]]


class Audience(NamedTuple):
    """What the parent does with it, as far as a node may notice.

    `streams` are encoding, errors and whether it is a terminal, of stdout and stderr; None for one that it lacks.
    `loggers` are those that somebody has set up: level, whether it propagates, is disabled, and has handlers.
    """

    streams: Tuple[Told, Told]
    disabled: int
    loggers: Dict[str, Tuple[int, bool, bool, bool]]


_pipe: Optional[int] = None
_streams: Tuple[Stream, ...] = ()
_before: Tuple[Optional[TextIO], ...] = ()
_told = False
_followed: Dict[str, Tuple[int, bool, bool, bool]] = {}
# Handlers that modules made as they were imported: the parent has imported them as well.
_of_modules: weakref.WeakSet[logging.Handler] = weakref.WeakSet()


def install(pipe: int) -> None:
    """Tell everything through the pipe from now on."""
    global _pipe, _streams, _before
    _pipe = pipe
    _before = (sys.stdout, sys.stderr)
    _streams = (Stream(OUT, "<stdout>", 1), Stream(ERR, "<stderr>", 2))
    sys.stdout, sys.stderr = _streams
    logging.Logger.callHandlers = _call_handlers  # type: ignore[method-assign,assignment]
    logging.Logger.addHandler = _add_handler  # type: ignore[method-assign,assignment]
    warnings.showwarning = _show_warning


def uninstall() -> None:
    """Let the process end as any other: what its exit handlers print goes where it always did."""
    global _pipe
    _pipe = None
    sys.stdout, sys.stderr = _before
    logging.Logger.callHandlers = _call_handlers_here  # type: ignore[method-assign]
    warnings.showwarning = _show_warning_here


def follow(audience: Audience) -> None:
    """Let streams and loggers be as the parent has them."""
    if _pipe is None:
        return  # a process of somebody's executor, whose output is his
    for stream, told in zip(_streams, audience.streams):
        stream.follow(told)
    out, err = [stream if told is not None else None for stream, told in zip(_streams, audience.streams)]
    sys.stdout, sys.stderr = out, err
    if logging.root.manager.disable != audience.disabled:
        logging.disable(audience.disabled)
    for name in set(_followed) - set(audience.loggers):
        _set_up(name, (logging.NOTSET, True, False, False))
    for name, setting in audience.loggers.items():
        _set_up(name, setting)
    _followed.clear()
    _followed.update(audience.loggers)


def _set_up(name: str, setting: Tuple[int, bool, bool, bool]) -> None:
    logger = logging.getLogger(name or None)
    if logger.level != setting[0]:
        logger.setLevel(setting[0])
    _, logger.propagate, logger.disabled, _ = setting


def settle() -> bool:
    """Tell the lines that have not ended yet; return whether anything was told since this was asked last."""
    global _told
    for stream in _streams:
        stream.settle()
    told, _told = _told, False
    return told


def tell(kind: int, data: bytes, flush: bool = False) -> None:
    """Write one message in pieces."""
    global _told
    pipe = _pipe
    if pipe is None:
        return
    _told = True
    process, thread = os.getpid(), threading.get_ident()
    size, start, flags = len(data), 0, FIRST
    with contextlib.suppress(BrokenPipeError):  # the parent hears no more of this worker
        while True:
            piece = data[start : start + _PIECE]
            start += _PIECE
            if start >= size:
                flags |= LAST | (FLUSH if flush else 0)
            os.write(pipe, HEAD.pack(kind, flags, len(piece), process, thread) + piece)
            if start >= size:
                return
            flags = 0


# -- streams ----------------------------------------------------------------------------------------------------------


class Stream(io.TextIOBase):
    """What `sys.stdout` and `sys.stderr` are in a worker: each thread's lines are told whole, as soon as they end."""

    def __init__(self, kind: int, name: str, number: int) -> None:
        super().__init__()
        self._kind = kind
        self._number = number
        self._lines: Dict[int, List[str]] = {}  # what each thread has written of a line
        self._encoding: Optional[str] = "utf-8"
        self._errors: Optional[str] = "strict"
        self._is_terminal = False
        self.name = name
        self.mode = "w"
        self.line_buffering = True
        self.buffer = _Bytes(self, kind + OUT_BYTES)

    def follow(self, told: Told) -> None:
        if told is not None:
            self._encoding, self._errors, self._is_terminal = told

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._encoding or "utf-8"

    @property
    def errors(self) -> Optional[str]:  # type: ignore[override]
        return self._errors

    def reconfigure(self, *, encoding: Optional[str] = None, errors: Optional[str] = None, **others: object) -> None:
        self._encoding = encoding or self._encoding
        self._errors = errors or ("strict" if encoding else self._errors)

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return self._is_terminal

    def fileno(self) -> int:
        return self._number

    def close(self) -> None:
        self.flush()

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        if self._encoding is not None and not text.isascii():
            text.encode(self._encoding, self._errors or "strict")  # raised here, by the node, as it would be there
        thread = threading.get_ident()
        line = self._lines.setdefault(thread, [])
        line.append(text)
        if "\n" in text:
            self._end(thread, "\n")
        elif len(text) > _LONG or len(line) > _MANY:
            self._end(thread, "")
        return len(text)

    def flush(self) -> None:
        self._end(threading.get_ident(), "", flush=True)

    def settle(self) -> None:
        for thread in list(self._lines):
            self._end(thread, "")

    def _end(self, thread: int, end: str, flush: bool = False) -> None:
        """Tell what a thread has written, up to the last `end` in it."""
        text = "".join(self._lines.pop(thread, ()))
        if end:
            text, _, rest = text.rpartition(end)
            text += end
            if rest:
                self._lines.setdefault(thread, []).insert(0, rest)
        if text or flush:
            tell(self._kind, text.encode("utf-8", "surrogatepass"), flush)


class _Bytes(io.RawIOBase):
    """The bytes under a stream."""

    def __init__(self, stream: Stream, kind: int) -> None:
        super().__init__()
        self._stream = stream
        self._kind = kind

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()

    def write(self, data: Any) -> int:
        self._stream.settle()
        data = bytes(data)
        tell(self._kind, data)
        return len(data)

    def flush(self) -> None:
        tell(self._kind, b"", flush=True)


# -- logging ----------------------------------------------------------------------------------------------------------

_call_handlers_here = logging.Logger.callHandlers
_add_handler_here = logging.Logger.addHandler


def _add_handler(logger: logging.Logger, handler: logging.Handler) -> None:
    if _is_importing():
        _of_modules.add(handler)
    _add_handler_here(logger, handler)


def _is_importing() -> bool:
    frame: Any = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name == "<module>":
            # Everything in this process runs within one of its own, its main module.
            return bool(frame.f_globals.get("__name__") != "__main__")
        frame = frame.f_back
    return False


def _call_handlers(logger: logging.Logger, record: logging.LogRecord) -> None:
    """Give a record to the handlers that nodes added here, and tell the parent, which has all the others."""
    found = False
    each: Optional[logging.Logger] = logger
    while each is not None:
        there = _followed.get("" if each is logging.root else each.name, (0, True, False, False))[3]
        for handler in each.handlers:
            if not (there and _is_elsewhere(handler)):
                found = True
                if record.levelno >= handler.level:
                    handler.handle(record)
        each = each.parent if each.propagate else None
    tell(RECORD, _packed_record(record, found))


def _is_elsewhere(handler: logging.Handler) -> bool:
    """Return whether the parent has a handler like that: one of a module, or one that prints."""
    return handler in _of_modules or getattr(handler, "stream", None) in _streams


def _packed_record(record: logging.LogRecord, handled: bool) -> bytes:
    fields = dict(record.__dict__)
    fault = fields.pop("exc_info", None)
    if fault and fault[1] is not None:
        fields["exc_text"] = record.exc_text or logging.Formatter().formatException(fault)
    if not (is_plain(record.msg) and is_plain(record.args)):
        fields["msg"], fields["args"] = record.getMessage(), None
    plain = {name: value for name, value in fields.items() if is_plain(value)}
    others = {name: _packed(value) for name, value in fields.items() if name not in plain}
    raised = portable(fault[1]) if fault and fault[1] is not None else None
    return dumps((plain, list(others.items()), raised, handled), "a log record")


def _packed(value: object) -> Any:
    try:
        return dumps(value, "")
    except NotPicklableError:
        return dumps(repr(value), "")


# -- warnings ---------------------------------------------------------------------------------------------------------

_show_warning_here = warnings.showwarning


def _show_warning(
    message: Any,
    category: Any,
    filename: str,
    lineno: int,
    file: Optional[TextIO] = None,
    line: Optional[str] = None,
) -> None:
    if file is not None:
        _show_warning_here(message, category, filename, lineno, file, line)
        return
    text = warnings.formatwarning(message, category, filename, lineno, line)
    try:
        sent = dumps((message, category, filename, lineno, line), "a warning")
    except NotPicklableError:
        sent = b""
    tell(WARNING, dumps((sent, text), "a warning"))
