"""Results and events of a request in, bytes out; in the parent the same results and events, or what stands for them.

Results travel together. Where errors are collected and results are more than plain data, each is pickled by itself, so
that one that does not travel is a failure of its own item. What a callback is told may stay behind as well: it is for
looking at, and no reason to fail.
"""

from __future__ import annotations

from itertools import chain
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

import msgspec

from hypernodes.errors import NotPicklableError
from hypernodes.errors.location import Location, Note
from hypernodes.events.event import NODE_END, NODE_ERROR, NODE_START, Event, Unsent
from hypernodes.lowering.plan import PlanStep, Program
from hypernodes.pickling import dumps, is_plain, loads
from hypernodes.pickling.exceptions import portable, received
from hypernodes.records import evolve
from hypernodes.runtime.bundle.evaluate import Place
from hypernodes.runtime.bundle.failure import Failure, failed
from hypernodes.runtime.bundle.locate import makers
from hypernodes.runtime.processes.memory import Packed, Segment, lifted, pack, pack_each, unpack_each
from hypernodes.runtime.processes.work_items import WorkItem

_PICKLABLE = "return a list in place of a generator, data in place of a handle to it, or use mode 'threaded'"
_READABLE = "return something whose class this process can import and read back, or use mode 'threaded'"


# -- in the worker process --------------------------------------------------------------------------------------------


def packed_results(results: List[Any], program: Program, place: Place, apart: bool, collects: bool) -> Packed:
    """Return results laid end to end as bytes, with large buffers apart when `apart`.

    Raises
    ------
    NotPicklableError
        Naming node, output and item; unless errors are collected: then a failure travels in its place.
    """
    made = makers(program.steps)

    def where(number: int) -> Tuple[int, Location]:
        row, column = divmod(number, len(program.exports))
        return program.exports[column], place.location(row)

    def subject(number: int) -> str:
        slot, location = where(number)
        return Note(made[slot] + "{, item}", location)

    def failure(number: int, error: NotPicklableError) -> Failure:
        slot, location = where(number)
        error.fix = _PICKLABLE
        return failed(_node(program.steps, slot), location.items, error)

    if collects and not all(map(is_plain, results)):
        return pack_each(results, subject, failure, apart)
    try:
        return pack(lifted(results), "a result", apart)
    except NotPicklableError:
        for number, value in enumerate(results):
            try:
                dumps(value, subject(number))
            except NotPicklableError as error:
                error.fix = _PICKLABLE
                raise
        raise


def packed_events(events: Sequence[Event]) -> bytes:
    """Return events as bytes, whatever they tell of."""
    told = []
    for event in chain.from_iterable([event.each for event in events]):
        if event.kind == NODE_ERROR:
            event = evolve(event, payload=portable(event.payload))
        elif event.kind in (NODE_START, NODE_END):
            event = evolve(event, payload={name: _sent(value) for name, value in event.payload.items()})
        told.append(msgspec.structs.astuple(event))
    return dumps(told, "what a callback is told")


def _sent(value: object) -> Union[bytes, Unsent]:
    try:
        return dumps(value, "")
    except NotPicklableError:
        return Unsent(f"{type(value).__module__}.{type(value).__qualname__}")


# -- in the parent ----------------------------------------------------------------------------------------------------


def results_of(work: WorkItem, data: bytes, memory: Optional[Segment]) -> Sequence[Any]:
    """Return the results in an answer, laid end to end.

    Raises
    ------
    NotPicklableError
        For results that this process cannot read; where each travelled by itself, a failure stands in its place.
    """
    bundle = work.bundle
    buffers = memory.private() if memory is not None else ()

    def refusal(subject: str, fault: Exception) -> NotPicklableError:
        cause = f"it was pickled in the worker, and cannot be read here: {type(fault).__name__}: {fault}"
        return NotPicklableError(subject, (), cause, _READABLE)

    def failure(number: int, fault: Exception) -> Failure:
        row, column = divmod(number, len(bundle.exports))
        slot = bundle.exports[column]
        error = refusal(makers(bundle.steps)[slot], fault)
        error.__cause__ = fault
        return failed(_node(bundle.steps, slot), work.place.location(row).items, error)

    try:
        found: Any = loads(data, buffers)
    except Exception as fault:
        items, made = work.items(), makers(bundle.steps)
        subject = " or ".join([made[slot] for slot in bundle.exports]) + (f" ({items})" if items else "")
        raise refusal(subject, fault) from fault
    return unpack_each(found, buffers, failure) if type(found) is tuple else found


def _node(steps: Sequence[PlanStep], slot: int) -> str:
    """Return the name of the step that defines a slot; of the first where that is a step of a hosted frame."""
    return next((step.name for step in steps if slot in step.results), steps[0].name)


def events_of(data: bytes) -> List[Event]:
    """Return the events in an answer."""
    told: Any = loads(data)
    return [_told(Event(*fields)) for fields in told]


def _told(event: Event) -> Event:
    if event.kind == NODE_ERROR:
        return evolve(event, payload=received(event.payload))
    if event.kind in (NODE_START, NODE_END):
        return evolve(event, payload=_read(event.payload))
    return event


def _read(payload: Dict[str, Union[bytes, Unsent]]) -> Dict[str, Any]:
    found: Dict[str, Any] = {}
    for name, data in payload.items():
        if isinstance(data, Unsent):
            found[name] = data
            continue
        try:
            found[name] = loads(data)
        except Exception as fault:
            found[name] = Unsent(f"something that cannot be read here ({type(fault).__name__}: {fault})")
    return found
