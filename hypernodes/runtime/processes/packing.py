"""Shipments in, the parts and rows of their requests out.

What the items of a map share is packed once for all of them. Large buffers go into memory that workers map (`memory`),
and everything that does not pickle is named as the user knows it.
"""

from __future__ import annotations

import weakref
from itertools import chain
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from hypernodes.errors import NotPicklableError
from hypernodes.errors.location import Location, Note
from hypernodes.lowering.plan import Bundle, MapStep, reader_of
from hypernodes.pickling import dumps
from hypernodes.runtime.bundle.interpreter import Slots
from hypernodes.runtime.processes.memory import LARGE, Packed, Segment, lifted, pack
from hypernodes.runtime.processes.wire import Part, own_part, shared_part
from hypernodes.runtime.processes.work_items import WorkItem
from hypernodes.runtime.schedule.frames import Chunk, MapRun
from hypernodes.runtime.schedule.ready import Task

Pick = Callable[[Tuple[Any, ...], int], Tuple[Any, ...]]


class Packer:
    """Packs the work items of one run; `apart` says whether large buffers may go apart from their pickles."""

    def __init__(self, apart: bool, observed: bool) -> None:
        self._apart = apart
        self._observed = observed
        self._memory: weakref.WeakSet[Segment] = weakref.WeakSet()

    def shared(self, work: WorkItem) -> List[Part]:
        """Return what a work item shares with others: packed by the first that asks.

        Raises
        ------
        NotPicklableError
            Naming the value and the node that reads it.
        """
        task, bundle = work.task, work.bundle
        try:
            return self._sent(task, bundle).parts
        except NotPicklableError:
            slots = task.map_run.template if isinstance(task, Chunk) else task.frame.slots
            _blame(work, [slots[slot] for slot in bundle.imports])
            raise

    def rows(self, work: WorkItem) -> Packed:
        """Return the rows of a work item, once `shared` was called for it.

        Raises
        ------
        NotPicklableError
            Naming the value, its item and the node that reads it.
        """
        if isinstance(work.task, Chunk):
            return self._chunk_rows(work, work.task)
        task, bundle = work.task, work.bundle
        slots, sent = task.frame.slots, self._sent(task, bundle)
        values = [slots[bundle.imports[position]] for position in sent.varying]
        try:
            return self._pack((work.place, self._scope(task), sent.fixed, sent.varying, 1, lifted(values)))
        except NotPicklableError:
            _blame(work, [slots[slot] for slot in bundle.imports])
            raise

    def close(self) -> None:
        """Give back large memory, though what failed may still refer to it."""
        for segment in list(self._memory):
            segment.close()

    def _chunk_rows(self, work: WorkItem, task: Chunk) -> Packed:
        map_run, bundle = task.map_run, work.bundle
        sent = self._sent(task, bundle)
        first = task.start + work.start
        # End to end: without a tuple for each row the pickle takes half the time, here and there.
        flat = work.flat
        if sent.pick is not None:
            rows = enumerate(zip(*[iter(flat)] * task.width), first)
            flat = list(chain.from_iterable([sent.pick(row, number) for number, row in rows]))
        flat = lifted(flat)
        try:
            packed = self._pack((work.place, self._scope(task), sent.fixed, sent.varying, work.count, flat))
        except NotPicklableError:
            slots = [bundle.imports[position] for position in sent.varying]
            for number, value in enumerate(flat):
                row, column = divmod(number, len(slots))
                name = work.linked.plan.slots[slots[column]].name
                _check(value, _of_item(name, work.place.location(row)), bundle, slots[column])
            raise
        map_run.weight = (packed.nbytes // work.count, map_run.weight[1])
        return packed

    def _pack(self, value: object) -> Packed:
        return pack(value, "", self._apart)

    def _sent(self, task: Task, bundle: Bundle) -> _Sent:
        """Return how the imports of a bundle travel, decided once for all items of its map."""
        straight = isinstance(task, Chunk)
        map_run = task.map_run if isinstance(task, Chunk) else task.frame.map_run
        if map_run is None:
            return _Sent([], (), tuple(range(len(bundle.imports))))
        sent: Optional[_Sent] = map_run.sent.get(bundle.index)
        if sent is None:
            sent = map_run.sent[bundle.index] = self._split(map_run, bundle, straight)
        return sent

    def _split(self, map_run: MapRun, bundle: Bundle, straight: bool) -> _Sent:
        """Give each large value that all items share a part of its own; chunks have one more, of the small ones."""
        shared, imports = _shared_slots(map_run.step), bundle.imports
        fixed = [position for position, slot in enumerate(imports) if slot in shared]
        own = {position: self._large(map_run, imports[position]) for position in fixed}
        parts = [large for large in own.values() if large is not None]
        places: List[Tuple[int, ...]] = [(position,) for position, large in own.items() if large is not None]
        small = tuple([position for position, large in own.items() if large is None])
        if small and straight:
            values = tuple([map_run.template[imports[position]] for position in small])
            parts.append(own_part(dumps(values, "")))
            places.append(small)
        varying = [
            position for position in range(len(imports)) if position not in own or (not straight and position in small)
        ]
        sent = _Sent(parts, tuple(places), tuple(varying))
        if straight:
            sent.pick = _pick(map_run, [imports[position] for position in varying])
        return sent

    def _large(self, map_run: MapRun, slot: int) -> Optional[Part]:
        """Return a value that all items share as a part, or None when it is a small one.

        What items of an outer map share as well is the outer map's, so that there is one copy for all of them.
        """
        outer = map_run.frame.map_run
        source = _shared_slots(map_run.step)[slot]
        if outer is not None and source in _shared_slots(outer.step):
            return self._large(outer, source)
        if slot not in map_run.large:
            packed = self._pack(lifted([map_run.template[slot]]))
            map_run.large[slot] = shared_part(packed) if packed.nbytes >= LARGE else None
            if packed.memory is not None:
                self._memory.add(packed.memory)
        found: Optional[Part] = map_run.large[slot]
        return found

    def _scope(self, task: Task) -> Optional[Tuple[object, object]]:
        """Return what makes the scope of a request's frames in the worker; None where nobody listens."""
        if not self._observed:
            return None
        scope = task.map_run.template[-1] if isinstance(task, Chunk) else task.frame.slots[-1]
        return scope.path, scope.frame


class _Sent:
    """How the imports of a bundle travel: positions `varying` with each row, the others in `parts`, once.

    `fixed` has, for each part, the positions of its values; `pick`, where the rows of the map are not sent as they are,
    makes one to send of one of these and its index.
    """

    __slots__ = ("fixed", "parts", "pick", "varying")

    def __init__(self, parts: List[Part], fixed: Tuple[Tuple[int, ...], ...], varying: Tuple[int, ...]) -> None:
        self.parts = parts
        self.fixed = fixed
        self.varying = varying
        self.pick: Optional[Pick] = None


def _pick(map_run: MapRun, wanted: Sequence[int]) -> Optional[Pick]:
    """Return what makes the values of slots `wanted` from a row; None when they are the row."""
    slots = _varying_slots(map_run.step)
    if map_run.step.spreads:
        fill = map_run.linked.fill
        scratch: Slots = list(map_run.template)

        def pick(row: Tuple[Any, ...], index: int) -> Any:
            fill(scratch, row, index)
            return tuple([scratch[slot] for slot in wanted])

        return pick
    if list(wanted) == slots:
        return None
    order = [slots.index(slot) for slot in wanted]
    return lambda row, index: tuple([row[number] for number in order])


def _varying_slots(step: MapStep) -> List[int]:
    return [e.slot for e in step.spread] if step.spreads else [axis.body_slot for axis in step.axes]


def _shared_slots(step: MapStep) -> Dict[int, int]:
    """Return the slots of a body whose values all items share, with the slots they come from."""
    shared = dict(step.shared)
    for slot in _varying_slots(step):
        shared.pop(slot, None)
    return shared


def _blame(work: WorkItem, values: Sequence[Any]) -> None:
    """Raise the error of the first value that does not pickle, named as the user knows it."""
    slots, bundle = work.linked.plan.slots, work.bundle
    for slot, value in zip(bundle.imports, values):
        _check(value, _read_by(slots[slot].name), bundle, slot)


def _read_by(name: str) -> Callable[[str], str]:
    return lambda node: f"{name!r}, which node {node!r} reads"


def _of_item(name: str, location: Location) -> Callable[[str], str]:
    return lambda node: Note(f"{name!r}{{ of item}} for node {node!r}", location)


def _check(value: object, subject: Callable[[str], str], bundle: Bundle, slot: int) -> None:
    """Raise the error of a value that does not pickle, named by `subject` for the node that reads it."""
    reader = reader_of(bundle.steps, slot)
    name = bundle.steps[0].name if reader is None else reader.name
    try:
        dumps(value, subject(name))
    except NotPicklableError as error:
        if reader is not None and reader.is_coroutine:
            error.advise_loop(name)
        raise
