"""What crosses between a run and its worker processes: headers in and out of bytes, and parts sent once per worker.

A message to a worker is ``header, carried parts..., rows``; its answer is ``header, results``, and before that, for
each call with a timeout, a notice alone when it begins and when it has ended. A *part* (a program, the values all items
share, the environment) travels with the first request that needs it and is known by its digest after. A message without
any part asks a worker to let go of large memory; nothing is answered.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import os
from typing import AbstractSet, Dict, List, NamedTuple, Optional, Tuple

import attrs
import msgspec

from hypernodes.runtime.processes.memory import Packed, Segment


class RequestHeader(msgspec.Struct, array_like=True, gc=False):
    """Digests of the parts a request needs, and of those it carries; work on it begins after `delay` seconds.

    `owners` are those of the environment, of the program and of each shared part.

    After `budget` seconds no further row is begun, and the answer is for those that were. `tried` are attempts that
    calls, by output, have had in workers that were killed.

    What of it is `heard`, bits of `events.hooks`, comes back as events. One that `collects` wants failures in place of
    what fails. `program_sizes`, `shared_sizes`, one for each of `shared`, and `row_sizes` are bytes of the large
    buffers of the program and of the shared values, when carried, and of the rows; a descriptor comes with the message
    for each that is not empty.
    """

    program: str
    environment: str
    shared: List[str]
    carried: List[str]
    owners: List[int]
    heard: int = 0
    collects: bool = False
    delay: float = 0.0
    budget: float = math.inf
    tried: Dict[str, int] = {}
    program_sizes: List[int] = []
    shared_sizes: List[List[int]] = []
    row_sizes: List[int] = []


class ResponseHeader(msgspec.Struct, array_like=True, gc=False):
    """How a request ended: items completed, whether all that were begun, and the seconds they took where they ran.

    Nothing was run unless it has `begun`: then what the request holds could not be read. `missing` are digests of parts
    that the worker no longer holds; the request has to be sent again with them. `sizes` are bytes of the results' large
    buffers; where there are any, a descriptor comes with the message. One that is `partial` has, behind the exception
    and the events, the results of the items before the one that failed. `changed` are modules that the worker has from
    another source than the parent: another worker has to take the request. With `told` nodes have printed or logged
    something before it, which is to be heard first.
    """

    completed: int
    ok: bool
    seconds: float = 0.0
    has_events: bool = False
    missing: List[str] = []
    sizes: List[int] = []
    begun: bool = True
    partial: bool = False
    changed: List[str] = []
    told: bool = False


class Notice(msgspec.Struct, array_like=True, gc=False):
    """A worker begins the call that makes output `call` and may take so many seconds; or, with none, has ended it."""

    call: str
    seconds: float = 0.0
    failed: bool = False


@attrs.frozen
class Part:
    """Bytes that a worker keeps, under their digest, and large buffers apart from them.

    What is read from them is for one `owner`: a node may change what it is given, and the next run, or another map,
    has to find it as it was. A program is read once for all; it is of a bundle, of which a worker keeps the latest.
    """

    digest: str
    data: bytes
    memory: Optional[Segment] = None
    owner: int = 0


_owners = itertools.count(1)


def new_owner() -> int:
    """Return who may own a part, another one each time."""
    return next(_owners)


def part(data: bytes) -> Part:
    """Return a program as a part; equal bytes are one part, whichever run sends them."""
    return Part(digest_of(data), data)


def own_part(data: bytes) -> Part:
    """Return values as a part: equal bytes are sent once, and read anew for each part that is made here."""
    return Part(digest_of(data), data, None, new_owner())


def shared_part(packed: Packed) -> Part:
    """Return what items share as a part; with large buffers it has a digest of its own, as nobody should hash those."""
    if packed.memory is None:
        return own_part(packed.data)
    return Part(os.urandom(16).hex(), packed.data, packed.memory, new_owner())


def digest_of(data: bytes) -> str:
    """Return what tells bytes from any others."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


_request_encoder = msgspec.msgpack.Encoder()
_request_decoder = msgspec.msgpack.Decoder(RequestHeader)
_answer_decoder = msgspec.msgpack.Decoder(ResponseHeader)
_notice_decoder = msgspec.msgpack.Decoder(Notice)


def encode(header: object) -> bytes:
    """Return a header as bytes."""
    return _request_encoder.encode(header)


def decode_request(data: bytes) -> RequestHeader:
    """Read the header of a message to a worker."""
    return _request_decoder.decode(data)


def decode_response(data: bytes) -> ResponseHeader:
    """Read the header of a worker's answer."""
    return _answer_decoder.decode(data)


def decode_notice(data: bytes) -> Notice:
    """Read a notice of a worker."""
    return _notice_decoder.decode(data)


@attrs.frozen(eq=False)
class WorkRequest:
    """What one worker does next, kept until it has answered: program, environment, shared values, and the rows.

    It may be sent more than once. The descriptors of its memory are closed when nothing refers to it any more.
    """

    key: object
    program: Part
    environment: Part
    shared: List[Part]
    rows: Packed
    heard: int = 0
    collects: bool = False
    delay: float = 0.0
    budget: float = math.inf
    tried: Dict[str, int] = attrs.Factory(dict)

    @property
    def parts(self) -> List[Part]:
        """What the worker may hold already."""
        return [self.environment, self.program, *self.shared]


class Died(Exception):
    """A worker ended while it held a request."""

    def __init__(self, exitcode: Optional[int]) -> None:
        super().__init__(exitcode)
        self.exitcode = exitcode


class Late(Exception):
    """A worker was killed because the call that makes output `call` took too long, at its attempt number `attempts`."""

    def __init__(self, call: str, attempts: int) -> None:
        super().__init__(call, attempts)
        self.call = call
        self.attempts = attempts


class Outcome(NamedTuple):
    """A request's key, the parts of its answer, and, when there is none, why; `memory` has large buffers of results."""

    key: object
    parts: List[bytes]
    fault: Optional[Exception]
    memory: Optional[Segment] = None


def message_of(request: WorkRequest, held: AbstractSet[str]) -> Tuple[List[bytes], List[int]]:
    """Return the parts of the message, and the descriptors that go with it."""
    rows = request.rows
    carried = [part for part in request.parts if part.digest and part.digest not in held]
    header = RequestHeader(
        request.program.digest,
        request.environment.digest,
        [part.digest for part in request.shared],
        [part.digest for part in carried],
        [part.owner for part in request.parts],
        request.heard,
        request.collects,
        request.delay,
        request.budget,
        request.tried,
    )
    memories = [part.memory if part.digest not in held else None for part in (request.program, *request.shared)]
    header.program_sizes, *header.shared_sizes = [[*memory.sizes] if memory is not None else [] for memory in memories]
    fds = [memory.fd for memory in memories if memory is not None]
    if rows.memory is not None:
        header.row_sizes = [*rows.memory.sizes]
        fds.append(rows.memory.fd)
    return [encode(header), *[part.data for part in carried], rows.data], fds
