"""The pipe between a pool and one worker process: byte buffers in at one end, the same buffers out at the other.

Both sides use `send` and `receive`; the child's own half is `Connection`. Nothing here imports another module of the
package: a worker waits for every import.

    parent                                          worker process
    ──────                                          ──────────────
    pipe ══ count, bytes, sizes…, part, part… ═════ Connection.receive ─▶ target's loop ─▶ Connection.send
    lifeline ── held open, never written ─────────▶ its end of file kills the worker: the parent is gone
    output ◀── what nodes print and log ─────────── Connection.output  (telling.py, hearing.py)

The sockets are those of the interpreter, below the module `socket`: gevent and eventlet put others there, which never
block and which wait where they should not. `ready` waits as they want it, so that the rest of such a program goes on.

A message is a head of two numbers, a size for each part, then the parts; all numbers have 8 bytes. One `sendmsg` hands
it to the kernel uncopied. Two `recv` take a small message; a large one needs one more per part, each straight into the
`bytes` that the reader gets. Descriptors that go with a message follow it, on one more byte; the head says how many.
"""

from __future__ import annotations

import _socket as socket
import array
import math
import os
import select
import struct
import threading
from typing import Callable, List, Optional, Sequence, Tuple, Union

Buffer = Union[bytes, bytearray, memoryview]

_HEAD = struct.Struct("<QQ")  # number of parts (and of descriptors, in its upper half), bytes that follow the head
_UPPER = 32  # bits below the number of descriptors
_LOWER = (1 << _UPPER) - 1
_SIZE = 8
_SMALL = 64 * 1024  # bytes of a message that is read whole and cut up: up to here a copy is cheaper than a system call
_AT_ONCE = (1 << 31) - 4096  # bytes in one system call: where Linux stops, and a little less than macOS takes
_PARTS_AT_ONCE = 1000  # buffers in one sendmsg: IOV_MAX is 1024 on Linux and macOS
_CLOSE_ON_EXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)  # Linux; elsewhere there is a moment in between
_LONGEST = 86_400.0  # seconds in one poll(), which takes no more than 24 days
_STREAMS = 3  # descriptors that are standard streams, or free for what a program puts there
NO_SIGPIPE = getattr(socket, "MSG_NOSIGNAL", 0)  # a program that restored SIGPIPE must not die with its worker


class Pipe(socket.socket):
    """One end of a pair of sockets: it waits as long as it takes, and says nothing when it is forgotten."""

    def __init__(self, fileno: int) -> None:
        super().__init__(fileno=fileno)
        self.settimeout(None)  # whatever socket.setdefaulttimeout was told

    def __del__(self) -> None:
        self.close()  # no ResourceWarning: a lease may outlive its pool, a worker's end lives as long as its process


def pair() -> Tuple[Pipe, Pipe]:
    """Return both ends of a new pipe for messages."""
    one, other = [Pipe(fileno=off_streams(end.detach())) for end in socket.socketpair()]
    return one, other


def one_way() -> Tuple[int, int]:
    """Return descriptors of the read end and the write end of a new pipe."""
    read, write = [off_streams(end) for end in os.pipe()]
    return read, write


def off_streams(number: int) -> int:
    """Return a descriptor in place of `number`, which is closed, that is none of the standard streams.

    Where these are closed, as in daemons, new descriptors get their numbers, and whatever is printed goes there.
    """
    if number >= _STREAMS:
        return number
    import fcntl

    try:
        return fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, _STREAMS)
    finally:
        os.close(number)


def ready(numbers: Sequence[int], seconds: Optional[float] = None) -> List[int]:
    """Wait until some of the descriptors are readable, or at their end, or the time is up; return those."""
    if not hasattr(select, "poll"):  # eventlet leaves only what it can do itself
        return list(select.select(numbers, [], [], seconds)[0])
    waiting = select.poll()  # select.select stops at descriptor 1023
    for number in numbers:
        waiting.register(number, select.POLLIN)
    # Rounded up: a little too early, one would ask again and again until the time has come.
    events = waiting.poll(None if seconds is None else math.ceil(max(0.0, min(seconds, _LONGEST)) * 1000))
    return [number for number, _ in events]


def send(pipe: socket.socket, parts: Sequence[Buffer], fds: Sequence[int] = ()) -> None:
    """Write one message; the reader gets duplicates of the descriptors `fds`.

    Raises
    ------
    OSError
        When the other end is gone; how much of the message it has read is unknown.
    """
    sizes = [len(part) if type(part) is bytes else memoryview(part).nbytes for part in parts]
    total = sum(sizes)
    head = struct.pack(f"<{2 + len(sizes)}Q", len(sizes) | len(fds) << _UPPER, _SIZE * len(sizes) + total, *sizes)
    sent = 0
    if total <= _AT_ONCE and len(sizes) < _PARTS_AT_ONCE:
        sent = pipe.sendmsg([head, *parts], (), NO_SIGPIPE)
    if sent < len(head) + total:
        _send_rest(pipe, (head, *parts), sent)
    if fds:
        rights = array.array("i", fds).tobytes()
        pipe.sendmsg([b"+"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)], NO_SIGPIPE)


def _send_rest(pipe: socket.socket, parts: Sequence[Buffer], sent: int) -> None:
    for part in parts:  # what a signal, or the limits of one call, left unsent
        view = memoryview(part).cast("B")
        rest = view[min(sent, len(view)) :]
        sent -= len(view) - len(rest)
        for start in range(0, len(rest), _AT_ONCE):
            pipe.sendall(rest[start : start + _AT_ONCE], NO_SIGPIPE)


def receive(pipe: socket.socket, fds: Optional[List[int]] = None) -> Optional[List[bytes]]:
    """Read one message, waiting for it; None when the other end is gone, before or within a message.

    Descriptors that came with it are appended to `fds`, fewer than were sent when this process may have no more. They
    are the caller's to close. Without `fds` they are lost.
    """
    try:
        count, following = _HEAD.unpack(_read(pipe, _HEAD.size))
        parts = _read_parts(pipe, count & _LOWER, following)
        if count > _LOWER:
            arrived = _read_descriptors(pipe, count >> _UPPER if fds is not None else 0)
            if fds is not None:
                fds.extend(arrived)
        return parts
    except (EOFError, ConnectionError):
        return None


def _read_parts(pipe: socket.socket, count: int, following: int) -> List[bytes]:
    if following > _SMALL:
        sizes = struct.unpack(f"<{count}Q", _read(pipe, _SIZE * count))
        return [_read(pipe, size) for size in sizes]
    body = _read(pipe, following)
    parts = []
    start = _SIZE * count
    for size in struct.unpack_from(f"<{count}Q", body):
        parts.append(body[start : start + size])
        start += size
    return parts


def _read_descriptors(pipe: socket.socket, count: int) -> List[int]:
    numbers = array.array("i")
    data, rights, _, _ = pipe.recvmsg(1, socket.CMSG_SPACE(count * numbers.itemsize) if count else 0, _CLOSE_ON_EXEC)
    for level, kind, content in rights:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            numbers.frombytes(content[: len(content) - len(content) % numbers.itemsize])
    numbers = array.array("i", map(off_streams, numbers))
    if not _CLOSE_ON_EXEC:
        for number in numbers:
            os.set_inheritable(number, False)
    if not data:
        raise EOFError
    return list(numbers)


def _read(pipe: socket.socket, size: int) -> bytes:
    # MSG_WAITALL has the kernel fill one bytes object while Python waits outside the GIL. Several reads, and then a
    # copy, are left for a part above the limit and for a signal in the middle.
    data = pipe.recv(min(size, _AT_ONCE), socket.MSG_WAITALL) if size else b""
    if len(data) == size:
        return data
    pieces = [data]
    missing = size - len(data)
    while missing:
        if not data:
            raise EOFError
        data = pipe.recv(min(missing, _AT_ONCE), socket.MSG_WAITALL)
        pieces.append(data)
        missing -= len(data)
    return b"".join(pieces)


class Connection:
    """The worker's end of the pipe, given to the pool's `target`; `output` is the descriptor for what nodes print."""

    def __init__(self, pipe: Pipe, output: int) -> None:
        self.output = output
        self._pipe = pipe
        self._sending = threading.Lock()  # a target may report from several threads

    def receive(self, fds: Optional[List[int]] = None) -> Optional[List[bytes]]:
        """Return the parts of the next message, or None when the parent wants no more of this worker.

        Its descriptors are appended to `fds`; the caller closes them.
        """
        return receive(self._pipe, fds)

    def send(self, *parts: Buffer, fds: Sequence[int] = ()) -> None:
        """Send one message, with duplicates of the descriptors `fds`.

        Raises
        ------
        BrokenPipeError
            When the parent has closed the pool. A target may let it through: its process then ends in silence.
        """
        with self._sending:
            send(self._pipe, parts, fds)

    def say(self, byte: bytes) -> None:
        """Send one byte, before any message."""
        self._pipe.sendall(byte, NO_SIGPIPE)

    def close(self) -> None:
        """Close this process's copy of the pipe."""
        self._pipe.close()


Target = Callable[[Connection], None]
