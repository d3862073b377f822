"""The pipe between a pool and one worker process: byte buffers in at one end, the same buffers out at the other.

Both sides use `send` and `receive`. The child's own half is `Connection` and `run_child`, the first function of ours
that a new process runs. Nothing here imports another module of the package: a worker waits for every import.

    parent                                          worker process
    ──────                                          ──────────────
    pipe ══ count, bytes, sizes…, part, part… ═════ Connection.receive ─▶ target's loop ─▶ Connection.send
    lifeline ── held open, never written ─────────▶ its end of file kills the worker: the parent is gone
    output ◀── what nodes print and log ─────────── Connection.output  (telling.py, hearing.py)

A message is a head of two numbers, a size for each part, then the parts; all numbers have 8 bytes. One `sendmsg` hands
it to the kernel uncopied. Two `recv` take a small message; a large one needs one more per part, each straight into the
`bytes` that the reader gets. Descriptors that go with a message follow it, on one more byte; the head says how many.
"""

from __future__ import annotations

import array
import contextlib
import os
import signal
import socket
import struct
import threading
from multiprocessing.context import get_spawning_popen
from typing import Any, Callable, List, Optional, Sequence, Tuple, Union

Buffer = Union[bytes, bytearray, memoryview]

_HEAD = struct.Struct("<QQ")  # number of parts (and of descriptors, in its upper half), bytes that follow the head
_UPPER = 32  # bits below the number of descriptors
_LOWER = (1 << _UPPER) - 1
_SIZE = 8
_SMALL = 64 * 1024  # bytes of a message that is read whole and cut up: up to here a copy is cheaper than a system call
_AT_ONCE = (1 << 31) - 4096  # bytes in one system call: where Linux stops, and a little less than macOS takes
_PARTS_AT_ONCE = 1000  # buffers in one sendmsg: IOV_MAX is 1024 on Linux and macOS
_CLOSE_ON_EXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)  # Linux; elsewhere there is a moment in between
_NO_SIGPIPE = getattr(socket, "MSG_NOSIGNAL", 0)  # a program that restored SIGPIPE must not die with its worker


class Pipe(socket.socket):
    """One end of a pair of sockets: it waits as long as it takes, and says nothing when it is forgotten."""

    def __init__(self, fileno: int) -> None:
        super().__init__(fileno=fileno)
        self.settimeout(None)  # whatever socket.setdefaulttimeout was told

    def __del__(self) -> None:
        self.close()  # no ResourceWarning: a lease may outlive its pool, a worker's end lives as long as its process


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
        sent = pipe.sendmsg([head, *parts], (), _NO_SIGPIPE)
    if sent < len(head) + total:
        _send_rest(pipe, (head, *parts), sent)
    if fds:
        rights = array.array("i", fds).tobytes()
        pipe.sendmsg([b"+"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)], _NO_SIGPIPE)


def _send_rest(pipe: socket.socket, parts: Sequence[Buffer], sent: int) -> None:
    for part in parts:  # what a signal, or the limits of one call, left unsent
        view = memoryview(part).cast("B")
        rest = view[min(sent, len(view)) :]
        sent -= len(view) - len(rest)
        for start in range(0, len(rest), _AT_ONCE):
            pipe.sendall(rest[start : start + _AT_ONCE], _NO_SIGPIPE)


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

    def close(self) -> None:
        """Close this process's copy of the pipe."""
        self._pipe.close()


Target = Callable[[Connection], None]


class Inherited:
    """A file descriptor among the arguments of a process being started; it arrives as a number, the same one."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> Tuple[Callable[[int], int], Tuple[int]]:
        spawning: Any = get_spawning_popen()
        return int, (spawning.duplicate_for_child(self.number),)


def run_child(target: Target, pipe: int, lifeline: int, output: int) -> None:
    """Run `target` in a new process, deaf to Ctrl-C and no longer than the parent lives."""
    # A terminal sends SIGINT to the workers too, and what it means is the parent's business. The parent started us with
    # it blocked, so that none could arrive before this line. A handler rather than SIG_IGN: programs that a node starts
    # would inherit SIG_IGN, and Ctrl-C would not reach them.
    signal.signal(signal.SIGINT, _do_nothing)
    signal.siginterrupt(signal.SIGINT, False)  # nor may native code see its system calls interrupted
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    for number in (pipe, lifeline, output):
        os.set_inheritable(number, False)  # programs that a node starts must not keep the pipe open when we die
    connection = Connection(Pipe(fileno=pipe), output)
    os.register_at_fork(after_in_child=connection.close)  # neither must processes that a node forks
    die_with_parent(lifeline)
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the parent went while we answered: tell nobody
        target(connection)


def die_with_parent(lifeline: int) -> None:
    """End this process at once when the write end of `lifeline` closes, which happens however the parent dies."""
    try:
        die_by_kernel(lifeline)
    except (ImportError, AttributeError, OSError):  # not Linux, or a sandbox that does not know F_SETSIG
        threading.Thread(target=_wait_for_parent, args=(lifeline,), name="lifeline", daemon=True).start()


def die_by_kernel(lifeline: int) -> None:
    """Have the kernel send SIGKILL at the end of file.

    It needs no GIL, which a node in native code may hold for minutes, and no thread, which would make every fork in a
    node the fork of a multi-threaded process (a warning since Python 3.12).
    """
    import fcntl
    import select

    fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)  # type: ignore[attr-defined,unused-ignore]  # Linux only
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)
    hung_up = select.poll()  # select.select stops at descriptor 1023
    hung_up.register(lifeline, select.POLLIN)
    if hung_up.poll(0):  # the parent died before we asked
        os._exit(1)


def _wait_for_parent(lifeline: int) -> None:
    os.read(lifeline, 1)
    os._exit(1)


def _do_nothing(number: int, frame: object) -> None:
    pass
