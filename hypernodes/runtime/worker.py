"""Parcels in, answers out: what runs in a worker process, and nowhere else.

A worker keeps the parts it was sent (linked programs, shared values, surroundings) under their digests, the most
recently used ones, so that a second parcel of a run carries nothing but its rows. The same code answers for a worker
of our own, which hears from its pipe, and for a process executor of the user's, which calls `answer` for each parcel.
"""

from __future__ import annotations

import contextlib
import contextvars
import time
from collections import OrderedDict
from typing import Any, Callable, Dict, Iterator, List, Tuple

from hypernodes.errors import NotPicklableError
from hypernodes.lowering.parallel import Program
from hypernodes.lowering.plan import PlanStep
from hypernodes.pickling import dumps, loads
from hypernodes.runtime import surroundings
from hypernodes.runtime.cells import failed
from hypernodes.runtime.channel import Connection
from hypernodes.runtime.collect import Collector
from hypernodes.runtime.failures import portable
from hypernodes.runtime.faults import located
from hypernodes.runtime.interpreter import Code, Slots, execute
from hypernodes.runtime.link import link
from hypernodes.runtime.observe import HOSTED, Scene, silent
from hypernodes.runtime.run import Services
from hypernodes.runtime.wire import AnswerHeader, Notice, ParcelHeader, decode_parcel, encode

KEPT = 64
"""Parts a worker keeps; beyond, the one used longest ago goes, and would be sent again."""

_received: OrderedDict[str, bytes] = OrderedDict()
_kept: Dict[str, Any] = {}

_surroundings: List[Any] = []
_own_environment: Dict[str, str] = {}


class _WorkerServices(Services):
    """Services in a worker process, whose parent can kill it."""

    __slots__ = ("connection",)

    connection: Connection

    @contextlib.contextmanager
    def watch(self, name: str, seconds: float) -> Iterator[None]:
        self.connection.send(encode(Notice(name, seconds)))
        try:
            yield
        finally:
            self.connection.send(encode(Notice()))


_services = _WorkerServices()

_LISTENERS: Tuple[Any, ...] = (None, HOSTED, Collector(HOSTED))


def _listener(header: ParcelHeader) -> Any:
    """Return what a parcel's steps are linked with."""
    return _LISTENERS[2 if header.collects else 1 if header.observed else 0]


def serve(connection: Connection) -> None:
    """Answer parcels until the pipe closes."""
    _services.connection = connection
    while True:
        parts = connection.receive()
        if parts is None:
            return
        connection.send(*answer(parts))


def answer(parts: List[bytes]) -> List[bytes]:
    """Run one parcel.

    Parameters
    ----------
    parts : list of bytes
        The header, the parts it says it carries, and the rows.

    Returns
    -------
    list of bytes
        A header and the results of all rows laid end to end; or the header and the exception of the first that failed.
    """
    header = decode_parcel(parts[0])
    started = time.perf_counter()
    completed = 0
    results: List[Any] = []
    events: List[Any] = []
    for digest, data in zip(header.carried, parts[1:-1]):
        _received[digest] = data
    needed = [digest for digest in (header.surroundings, header.shared, header.program) if digest]
    missing = [digest for digest in needed if digest not in _received]
    if missing:
        return [encode(AnswerHeader(0, False, 0.0, False, missing)), b""]
    try:
        program, code, shared, context = _unpacked(header)
        received: Any = loads(parts[-1])
        (pipeline, items, first), scene, varying, rows = received
        listener = _listener(header)
        sink = events.append if header.observed else silent
        if header.delay:
            time.sleep(header.delay)
        started = time.perf_counter()
        for number, row in enumerate(rows):
            own = (*items, first + number) if first >= 0 else items
            slots: Slots = [None] * program.size
            slots[0] = _services if scene is None else Scene(_services, sink, scene[0], scene[1], listener)
            for position, value in shared:
                slots[program.imports[position]] = value
            for position, value in zip(varying, row):
                slots[program.imports[position]] = value
            try:
                if listener is not None and first >= 0:
                    listener.item_started(slots, own[-1])
                context.copy().run(execute, code, slots)
                if listener is not None and first >= 0:
                    listener.item_ended(slots)
            except BaseException as error:
                raise located(error, program.steps, slots, pipeline, own) from None
            results.extend([slots[slot] for slot in program.exports])
            completed += 1
        payload = _pickled_or_failed(results, program, items, first) if header.collects else _pickled(results, program)
        ok = True
    except BaseException as error:
        payload, ok = portable(error), False
    seconds = time.perf_counter() - started
    answered = [encode(AnswerHeader(completed, ok, seconds, bool(events))), payload]
    return [*answered, dumps(events, "what a callback is told")] if events else answered


def _pickled_or_failed(results: List[Any], program: Program, items: Tuple[int, ...], first: int) -> bytes:
    """Pickle results with a failure in place of each that cannot be."""
    try:
        return dumps(results, "")
    except NotPicklableError:
        for number, value in enumerate(results):
            row, column = divmod(number, len(program.exports))
            step, name = _origin(program, column)
            try:
                dumps(value, f"output {name!r} of node {step.name!r}")
            except NotPicklableError as error:
                results[number] = failed(step.name, (*items, first + row) if first >= 0 else items, error)
        return dumps(results, "")


def _origin(program: Program, column: int) -> Tuple[PlanStep, str]:
    """Return the step that defines an export, and the name it gives it."""
    slot = program.exports[column]
    return next((step, name) for step in program.steps for out, name in zip(step.results, step.outputs) if out == slot)


def _pickled(results: List[Any], program: Program) -> bytes:
    try:
        return dumps(results, "a result")
    except NotPicklableError:
        for number, value in enumerate(results):
            step, name = _origin(program, number % len(program.exports))
            dumps(value, f"output {name!r} of node {step.name!r}")
        raise


def _unpacked(header: ParcelHeader) -> Tuple[Program, Code, Any, contextvars.Context]:
    """Return what a parcel needs, unpickled and linked at its first use."""
    _received.move_to_end(header.surroundings)
    if _surroundings[:1] != [header.surroundings]:
        # Runs of other threads, or before a change of directory, may have left this process looking otherwise.
        context = surroundings.adopt(_received[header.surroundings], _own_environment)
        _surroundings[:] = [header.surroundings, context]
    context = _surroundings[1]
    shared = _kept_or(header.shared, loads) if header.shared else ()
    program = _kept_or(header.program, loads)
    listener = _listener(header)
    key = f"{header.program}+{_LISTENERS.index(listener)}"
    code = _kept.get(key)
    if code is None:
        code = _kept[key] = link(program.steps, listener)
    while len(_received) > KEPT:
        gone, _ = _received.popitem(last=False)
        for kept in (gone, *[f"{gone}+{number}" for number in range(len(_LISTENERS))]):
            _kept.pop(kept, None)
    return program, code, shared, context


def _kept_or(digest: str, make: Callable[[bytes], Any]) -> Any:
    _received.move_to_end(digest)
    if digest not in _kept:
        _kept[digest] = make(_received[digest])
    return _kept[digest]
