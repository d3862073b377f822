"""A linked plan in, its programs as parts out: what functions refer to is sent as it is when the run starts.

Each program is pickled for each run, since what its functions read (globals, closures, the object of a bound method)
may have changed in place. Equal bytes are one part, which a worker that holds it is not sent again, so that what its
copy keeps, such as a model loaded once, stays. Large buffers are compared with those sent before, and not copied.
"""

from __future__ import annotations

import contextlib
import os
import weakref
from typing import Dict, List, Tuple

from hypernodes.lowering.parallel import pickled
from hypernodes.lowering.plan import Program
from hypernodes.runtime.linked import LinkedPlan
from hypernodes.runtime.processes.memory import Segment, keeper
from hypernodes.runtime.processes.wire import Part, digest_of, new_owner, part

_with_memory: weakref.WeakValueDictionary[Tuple[str, Tuple[int, ...]], Part] = weakref.WeakValueDictionary()
"""Programs with large buffers that some plan has sent, by the digest of the rest and the bytes of the buffers."""

Programs = Dict[Tuple[int, int], Part]


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
    for bundle in linked.plan.bundles:
        if bundle.program is not None:
            owner, _ = linked.sent.get(bundle.index) or (new_owner(), None)
            sent = _part(bundle.program, linked.plan.name, apart)
            linked.sent[bundle.index] = owner, sent
            found[id(linked), bundle.index] = Part(sent.digest, sent.data, sent.memory, owner)
    for body in linked.bodies.values():
        found.update(programs_of(body, apart))
    return found


def _part(program: Program, pipeline: str, apart: bool) -> Part:
    buffers: List[memoryview] = []
    data = pickled(program, pipeline, keeper(buffers) if apart else None)
    if not buffers:
        return part(data)
    key = digest_of(data), tuple([buffer.nbytes for buffer in buffers])
    known = _with_memory.get(key)
    if known is not None and known.memory is not None and known.memory.holds(buffers):
        return known
    with contextlib.suppress(OSError):  # no memory of this kind is left: everything takes the long way round
        made = _with_memory[key] = Part(os.urandom(16).hex(), data, Segment.filled(buffers))
        return made
    return part(pickled(program, pipeline))
