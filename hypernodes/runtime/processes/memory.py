"""Objects in, small pickles and large buffers apart from them out; on the other side of a pipe the objects again.

The buffers of arrays (pickle protocol 5) and large `bytes` are written once, end to end, into memory that has no name.
Its descriptor travels over the pipe, and the receiver maps the memory instead of reading it::

    pack ─▶ data, Segment ═══ pipe: bytes, one descriptor ═══ take ─▶ Segment ─▶ loads(data, segment.shared())
                                                                                 loads(data, segment.private())

What all items share is mapped read-only by every worker: one copy, however many read it. Rows and results belong to
their receiver, who may change them in place. There is nothing to unlink, so nothing stays behind whatever dies: memory
is gone with its last descriptor and mapping.
"""

from __future__ import annotations

import contextlib
import errno
import io
import mmap
import os
import pickle
import tempfile
import weakref
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

from hypernodes.errors import NotPicklableError
from hypernodes.pickling import dumps, loads
from hypernodes.runtime.processes.channel import off_streams

LARGE = 128 * 1024
"""Bytes from which a buffer goes apart. An array in and out takes three quarters of the time it takes through the pipe
at this size, two thirds at 1 MiB, and no less at 64 KiB, where a lone one pays for a descriptor and a mapping."""

MAPPED_FROM = 1024 * 1024
"""Bytes from which a row or a result is mapped: below, reading it costs the same and leaves an ordinary object."""

MAPPINGS = 128
"""Mappings of rows and results that a process holds at most, since Python keeps a descriptor for each and a program
often may have no more than 1024. Results collected in larger numbers are read: a copy more, and no descriptor."""

_FEW = 512  # values: as many large ones would be twice what a chunk may hold
_ALIGNED = 64  # bytes: a cache line, and what the widest vector instructions ask of an array
_COMPARED = 1 << 18  # bytes compared at once: they fit the cache of a core
_AT_ONCE = 1 << 30  # bytes in one system call: Linux stops a little below 2 GiB

Buffer = Union[bytearray, memoryview]


class Segment:
    """Large buffers of one payload in memory without a name; owns the descriptor.

    Attributes
    ----------
    fd : int
        The descriptor, -1 once closed. Mappings outlive it.
    sizes : sequence of int
        Bytes of each buffer, in the order in which the pickle asks for them.
    """

    __slots__ = ("__weakref__", "fd", "sizes")

    def __init__(self, fd: int, sizes: Sequence[int]) -> None:
        self.fd = fd
        self.sizes = sizes
        _open.add(self)

    @classmethod
    def filled(cls, buffers: Sequence[memoryview]) -> Segment:
        """Return a segment with a copy of some buffers of bytes.

        Raises
        ------
        OSError
            When there is no memory of this kind, or too little.
        """
        segment = cls(_unnamed(), [buffer.nbytes for buffer in buffers])
        try:
            # Not through a mapping: every page would be zeroed and faulted in before it is written, which takes twice
            # the time.
            for start, buffer in zip(segment._starts(), buffers):
                done = 0
                while done < buffer.nbytes:
                    done += os.pwrite(segment.fd, buffer[done : done + _AT_ONCE], start + done)
        except BaseException:
            segment.close()
            raise
        return segment

    def shared(self) -> List[memoryview]:
        """Return the buffers, read-only, in the very memory that other processes read."""
        mapping = self._map(mmap.ACCESS_READ)
        _read_only.add(mapping)
        return self._cut(mapping)

    def private(self) -> Sequence[Buffer]:
        """Return the buffers as memory of this process: it may write to them and nobody else will see it."""
        if sum(self.sizes) >= MAPPED_FROM and len(_mapped) < MAPPINGS:
            with contextlib.suppress(OSError):  # out of descriptors or mappings
                return self._cut(self._map(mmap.ACCESS_COPY))
        return self._read()

    def holds(self, buffers: Sequence[memoryview]) -> bool:
        """Return whether these are its buffers, byte by byte."""
        return all(map(_equal, self.shared(), buffers))

    def close(self) -> None:
        """Give the descriptor back."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        self.close()

    def _starts(self) -> List[int]:
        starts = []
        end = 0
        for size in self.sizes:
            starts.append(end)
            end += -(-size // _ALIGNED) * _ALIGNED
        return starts

    def _map(self, access: int) -> mmap.mmap:
        mapping = mmap.mmap(self.fd, self._starts()[-1] + self.sizes[-1], access=access)
        _mapped.add(mapping)
        return mapping

    def _cut(self, mapping: mmap.mmap) -> List[memoryview]:
        whole = memoryview(mapping)  # keeps the mapping alive, and is kept by whatever is made of its parts
        return [whole[start : start + size] for start, size in zip(self._starts(), self.sizes)]

    def _read(self) -> List[bytearray]:
        copies = [bytearray(size) for size in self.sizes]
        with io.FileIO(self.fd, closefd=False) as file:
            for start, copy in zip(self._starts(), copies):
                file.seek(start)
                rest = memoryview(copy)
                while rest:
                    count = file.readinto(rest)
                    if not count:
                        raise EOFError("the memory of a large value is shorter than it was said to be")
                    rest = rest[count:]
        return copies


class Packed(NamedTuple):
    """A pickle, and the memory of its large buffers where it has any."""

    data: bytes
    memory: Optional[Segment]

    @property
    def nbytes(self) -> int:
        """Bytes of both."""
        return len(self.data) + (sum(self.memory.sizes) if self.memory is not None else 0)


def pack(value: object, subject: str, apart: bool = True) -> Packed:
    """Pickle `value` as `dumps` does, with large buffers apart from the pickle when `apart`.

    Raises
    ------
    NotPicklableError
        As `dumps`.
    """
    if apart:
        buffers: List[memoryview] = []
        data = dumps(value, subject, keeper(buffers))
        if not buffers:
            return Packed(data, None)
        with contextlib.suppress(OSError):  # no memory of this kind is left: everything takes the long way round
            return Packed(data, Segment.filled(buffers))
    return Packed(dumps(value, subject), None)


def pack_each(
    values: List[Any],
    subject: Callable[[int], str],
    instead: Callable[[int, NotPicklableError], object],
    apart: bool = True,
) -> Packed:
    """Pickle each of `values` by itself, for `unpack_each`.

    Parameters
    ----------
    values : list
        Of any number.
    subject, instead : callable
        Given the number of a value: what it is to the user; and, with the error, what travels in place of one that
        does not pickle.
    apart : bool
        Whether large buffers go apart from the pickles.
    """
    buffers: List[memoryview] = []
    pieces: List[Tuple[bytes, int]] = []
    for number, value in enumerate(lifted(values)):
        own: List[memoryview] = []
        try:
            data = dumps(value, subject(number), keeper(own) if apart else None)
        except NotPicklableError as error:
            data, own = dumps(instead(number, error), "a failure"), []
        buffers += own
        pieces.append((data, len(own)))
    data = dumps(tuple(pieces), "")
    if not buffers:
        return Packed(data, None)
    try:
        return Packed(data, Segment.filled(buffers))
    except OSError:  # no memory of this kind is left: everything takes the long way round
        return pack_each(values, subject, instead, apart=False)


def unpack_each(
    pieces: Sequence[Tuple[bytes, int]], buffers: Sequence[object], instead: Callable[[int, Exception], object]
) -> List[Any]:
    """Read what `pack_each` made; `instead` says what stands in place of one that cannot be read."""
    values: List[Any] = []
    start = 0
    for number, (data, count) in enumerate(pieces):
        try:
            values.append(loads(data, buffers[start : start + count]))
        except Exception as fault:
            values.append(instead(number, fault))
        start += count
    return values


def take(fds: Sequence[int], *sizes: Sequence[int]) -> List[Optional[Segment]]:
    """Make segments of descriptors that arrived: one for each sequence of sizes that is not empty.

    Raises
    ------
    OSError
        When fewer arrived, because this process may have no more; those that did are closed.
    """
    segments = [Segment(fd, own) for fd, own in zip(fds, filter(None, sizes))]
    if len(segments) < sum(map(bool, sizes)):
        raise OSError(errno.EMFILE, "large values arrived and no file descriptor is free to read them with")
    arrived = iter(segments)
    return [next(arrived) if own else None for own in sizes]


def lifted(values: List[Any]) -> List[Any]:
    """Return values of which large `bytes` are made to go apart, as the buffers of arrays do by themselves.

    Not among very many: chunks are bounded in bytes, and quick items should not be looked at one by one.
    """
    if len(values) > _FEW or bytes not in set(map(type, values)):
        return values
    found: Dict[int, _Lifted] = {}  # one object in several places goes once

    def lift(value: Any) -> Any:
        if type(value) is bytes and len(value) >= LARGE:
            return found.setdefault(id(value), _Lifted(value))
        return value

    return list(map(lift, values))


def _equal(one: memoryview, other: memoryview) -> bool:
    # Comparing views goes by elements; a few bytes objects at a time are compared at the speed of memory.
    return one.nbytes == other.nbytes and all(
        bytes(one[start : start + _COMPARED]) == bytes(other[start : start + _COMPARED])
        for start in range(0, other.nbytes, _COMPARED)
    )


def maps_shared() -> bool:
    """Return whether this process maps memory that other processes read as well, and so must not write to it."""
    return bool(_read_only)


def count_mapped() -> int:
    """Return how many mappings are in use in this process."""
    return len(_mapped)


class _Lifted:
    """Pickles `bytes` through a buffer, and arrives as `bytes`."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def __reduce__(self) -> Tuple[object, ...]:
        return bytes, (pickle.PickleBuffer(self.data),)


def keeper(buffers: List[memoryview]) -> Callable[[pickle.PickleBuffer], bool]:
    """Return what a pickler asks whether a buffer stays in the pickle; large ones are gathered in `buffers` instead."""

    def stays(buffer: pickle.PickleBuffer) -> bool:
        try:
            raw = buffer.raw()
        except BufferError:  # not contiguous: pickle has its own words for that
            return True
        if raw.nbytes < LARGE:
            return True
        buffers.append(raw)
        return False

    return stays


def _unnamed() -> int:
    """Return the descriptor of new memory that has no name."""
    if hasattr(os, "memfd_create"):
        with contextlib.suppress(OSError):  # a sandbox that does not allow it
            return off_streams(os.memfd_create("hypernodes", os.MFD_CLOEXEC))
    directory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryFile(dir=directory, buffering=0) as file:
        return off_streams(os.dup(file.fileno()))


_open: weakref.WeakSet[Segment] = weakref.WeakSet()
_mapped: weakref.WeakSet[mmap.mmap] = weakref.WeakSet()
_read_only: weakref.WeakSet[mmap.mmap] = weakref.WeakSet()  # of them, those that other processes read as well


def _after_fork() -> None:
    # A forked child would keep the memory of a run alive for as long as it lives itself.
    for segment in list(_open):
        segment.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
