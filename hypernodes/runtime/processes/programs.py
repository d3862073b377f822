"""A linked plan in, its programs as parts out: what functions refer to is sent as it is when the run starts.

The functions of a program are pickled for each run, since what they read (globals, closures, the object of a bound
method) may have changed in place; the outline of its steps was pickled once. Equal bytes are one part, which a worker
that holds it is not sent again, so that what its copy keeps, such as a model loaded once, stays. Large buffers are
compared with those sent before, and not copied.
"""

from __future__ import annotations

import contextlib
import os
import weakref
from typing import Any, Dict, List, Sequence, Tuple

from hypernodes.lowering.parallel import pickled
from hypernodes.lowering.plan import Bundle, Program
from hypernodes.pickling import loads
from hypernodes.pickling.outlines import filled
from hypernodes.runtime.bundle.linked import LinkedPlan
from hypernodes.runtime.processes.memory import Segment, keeper
from hypernodes.runtime.processes.wire import Part, digest_of, new_owner, part

_with_memory: weakref.WeakValueDictionary[Tuple[str, Tuple[int, ...]], Part] = weakref.WeakValueDictionary()
"""Programs with large buffers that some plan has sent, by the digest of the rest and the bytes of the buffers."""

Programs = Dict[Tuple[int, int], Part]
Pickled = Tuple[bytes, List[memoryview]]

_SIZE = 8  # bytes of the number that says how many follow of the outline


def programs_of(linked: LinkedPlan, apart: bool) -> Programs:
    """Return the programs of a plan and of the bodies of its maps, by the `id` of the linked plan and the bundle.

    Parameters
    ----------
    linked : LinkedPlan
        It keeps what is returned, so that the next run finds large buffers again.
    apart : bool
        Whether large buffers may go apart from their pickles.

    Raises
    ------
    NotPicklableError
        When what a function refers to has become something that cannot be sent.
    """
    found: Programs = {}
    _add(linked, apart, found, {})
    return found


def _add(linked: LinkedPlan, apart: bool, found: Programs, done: Dict[Tuple[int, ...], Pickled]) -> None:
    for bundle in linked.plan.bundles:
        if bundle.sealed is not None:
            # Many nodes may have one function.
            key = tuple(map(id, bundle.sealed.apart))
            if key not in done:
                buffers: List[memoryview] = []
                done[key] = pickled(bundle, linked.plan.name, keeper(buffers) if apart else None), buffers
            owner, _ = linked.sent.get(bundle.index) or (new_owner(), None)
            sent = _part(bundle, linked.plan.name, *done[key])
            linked.sent[bundle.index] = owner, sent
            found[id(linked), bundle.index] = Part(sent.digest, sent.data, sent.memory, owner)
    for body in linked.bodies.values():
        _add(body, apart, found, done)


def _part(bundle: Bundle, pipeline: str, functions: bytes, buffers: List[memoryview]) -> Part:
    assert bundle.sealed is not None
    outline = bundle.sealed.outline
    data = b"".join((len(outline).to_bytes(_SIZE, "little"), outline, functions))
    if not buffers:
        return part(data)
    key = digest_of(data), tuple([buffer.nbytes for buffer in buffers])
    known = _with_memory.get(key)
    if known is not None and known.memory is not None and known.memory.holds(buffers):
        return known
    with contextlib.suppress(OSError):  # no memory of this kind is left: everything takes the long way round
        made = _with_memory[key] = Part(os.urandom(16).hex(), data, Segment.filled(buffers))
        return made
    return _part(bundle, pipeline, pickled(bundle, pipeline), [])


def read_program(data: bytes, buffers: Sequence[object]) -> Program:
    """Return the program in a part; its functions may change their large `buffers`."""
    end = _SIZE + int.from_bytes(data[:_SIZE], "little")
    functions: Any = loads(data[end:], buffers)
    program: Program = filled(data[_SIZE:end], functions)
    return program
