"""Shipments in, the parts and rows of their parcels out; and results out of an answer.

What the items of a map share is packed once for all of them. Large buffers go into memory that workers map (`memory`),
and everything that does not pickle is named as the user knows it.
"""

from __future__ import annotations

import weakref
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from hypernodes.errors import NotPicklableError
from hypernodes.lowering.plan import Bundle, MapStep
from hypernodes.pickling import dumps, loads
from hypernodes.runtime.faults import makers
from hypernodes.runtime.frames import Chunk, MapRun, Task
from hypernodes.runtime.interpreter import Slots
from hypernodes.runtime.memory import Packed, Segment, lifted, pack
from hypernodes.runtime.shipments import Shipment
from hypernodes.runtime.wire import NOTHING, Part, shared_part

_READABLE = "return something whose class this process can import and read back, or use mode 'threaded'"


class Packer:
    """Packs the shipments of one run; `apart` says whether large buffers may go apart from their pickles."""

    def __init__(self, apart: bool, observed: bool) -> None:
        self._apart = apart
        self._observed = observed
        self._memory: weakref.WeakSet[Segment] = weakref.WeakSet()

    def shared(self, shipment: Shipment) -> Part:
        """Return what a shipment shares with others: packed by the first that asks.

        Raises
        ------
        NotPicklableError
            Naming the value and the node that reads it.
        """
        task, bundle = shipment.task, shipment.bundle
        try:
            if not isinstance(task, Chunk):
                return self._shared_of_frames(task.frame.map_run, bundle)[0]
            map_run = task.map_run
            layout = map_run.layout = map_run.layout or _Layout(map_run)
            shared: Part = map_run.shared or self._share(map_run, layout.shared)
            map_run.shared = shared
            return shared
        except NotPicklableError:
            slots = task.map_run.template if isinstance(task, Chunk) else task.frame.slots
            _blame(shipment, [slots[slot] for slot in bundle.imports])
            raise

    def rows(self, shipment: Shipment) -> Packed:
        """Return the rows of a shipment, once `shared` was called for it.

        Raises
        ------
        NotPicklableError
            Naming the value, its item and the node that reads it.
        """
        if isinstance(shipment.task, Chunk):
            return self._chunk_rows(shipment, shipment.task)
        task, bundle = shipment.task, shipment.bundle
        slots = task.frame.slots
        _, varying = self._shared_of_frames(task.frame.map_run, bundle)
        values = [slots[bundle.imports[position]] for position in varying]
        try:
            return self._pack((shipment.place, self._scene(task), varying, lifted([values])))
        except NotPicklableError:
            _blame(shipment, [slots[slot] for slot in bundle.imports])
            raise

    def close(self) -> None:
        """Give back large memory, though what failed may still refer to it."""
        for segment in list(self._memory):
            segment.close()

    def _chunk_rows(self, shipment: Shipment, task: Chunk) -> Packed:
        map_run, bundle = task.map_run, shipment.bundle
        layout = map_run.layout
        first = task.start + shipment.start
        rows = [layout.pick(row, number) for number, row in enumerate(shipment.rows, first)]
        try:
            packed = self._pack((shipment.place, self._scene(task), layout.varying, lifted(rows)))
        except NotPicklableError:
            for number, row in enumerate(rows, first):
                names = [shipment.linked.plan.slots[bundle.imports[position]].name for position in layout.varying]
                for name, value in zip(names, row):
                    dumps(value, f"{name!r} of item {number} for {_readers(bundle)}")
            raise
        map_run.weight = (packed.nbytes // len(rows), map_run.weight[1])
        return packed

    def _pack(self, value: object) -> Packed:
        return pack(value, "", self._apart)

    def _share(self, map_run: MapRun, fixed: List[Tuple[int, int]]) -> Part:
        """Return what all items of a map share, pairs of a position among the imports and a slot, as a part."""
        if not fixed:
            return NOTHING
        shared = shared_part(self._pack(lifted([(position, map_run.template[slot]) for position, slot in fixed])))
        if shared.memory is not None:
            self._memory.add(shared.memory)
        return shared

    def _shared_of_frames(self, map_run: Optional[MapRun], bundle: Bundle) -> Tuple[Part, Tuple[int, ...]]:
        """Return what a bundle shares with that of other items, if it is large; and which of its imports are sent."""
        everything = tuple(range(len(bundle.imports)))
        if map_run is None or not self._apart:
            return NOTHING, everything
        if map_run.shared is None:
            map_run.shared = {}
        known: Dict[int, Tuple[Part, Tuple[int, ...]]] = map_run.shared
        if bundle.index not in known:
            slots = {slot for slot, _ in map_run.step.shared}.difference(_varying_slots(map_run.step))
            fixed = [(position, slot) for position, slot in enumerate(bundle.imports) if slot in slots]
            shared = self._share(map_run, fixed)
            varying = tuple([position for position, slot in enumerate(bundle.imports) if slot not in slots])
            known[bundle.index] = (shared, varying) if shared.memory is not None else (NOTHING, everything)
        return known[bundle.index]

    def _scene(self, task: Task) -> Optional[Tuple[object, object]]:
        """Return what makes the scene of a parcel's frames in the worker; None where nobody listens."""
        if not self._observed:
            return None
        scene = task.map_run.template[0] if isinstance(task, Chunk) else task.frame.slots[0]
        return scene.path, scene.frame


def results_of(shipment: Shipment, data: bytes, memory: Optional[Segment]) -> Any:
    """Return the results in an answer.

    Raises
    ------
    NotPicklableError
        For results that this process cannot read.
    """
    try:
        return loads(data, memory.private() if memory is not None else ())
    except Exception as fault:
        bundle = shipment.bundle
        made = makers(bundle.steps)
        _, _, first = shipment.place
        at = f" (items {first} to {first + shipment.count - 1})" if first >= 0 else ""
        subject = " or ".join([made[slot] for slot in bundle.exports]) + at
        cause = f"it was pickled in the worker, and cannot be read here: {type(fault).__name__}: {fault}"
        raise NotPicklableError(subject, (), cause, _READABLE) from fault


class _Layout:
    """Which imports of a straight body come from an item's row, and which are shared by all items."""

    def __init__(self, map_run: MapRun) -> None:
        imports = map_run.linked.plan.bundles[0].imports
        step = map_run.step
        varying_slots = _varying_slots(step)
        sources = {slot: number for number, slot in enumerate(varying_slots)}
        self.varying = tuple(position for position, slot in enumerate(imports) if slot in sources)
        self.shared = [(position, slot) for position, slot in enumerate(imports) if slot not in sources]
        order = [sources[imports[position]] for position in self.varying]
        if step.spreads:
            self.pick: Callable[[Tuple[Any, ...], int], Any] = self._spread(map_run, order, varying_slots)
        elif order == list(range(len(varying_slots))):
            self.pick = lambda row, index: row
        else:
            self.pick = lambda row, index: tuple([row[number] for number in order])

    @staticmethod
    def _spread(map_run: MapRun, order: List[int], slots: List[int]) -> Callable[[Tuple[Any, ...], int], Any]:
        fill = map_run.linked.fill
        scratch: Slots = list(map_run.template)

        def pick(row: Tuple[Any, ...], index: int) -> Any:
            fill(scratch, row, index)
            return tuple([scratch[slots[number]] for number in order])

        return pick


def _varying_slots(step: MapStep) -> List[int]:
    return [e.slot for e in step.spread] if step.spreads else [axis.body_slot for axis in step.axes]


def _blame(shipment: Shipment, values: Sequence[Any]) -> None:
    """Raise the error of the first value that does not pickle, named as the user knows it."""
    slots, bundle = shipment.linked.plan.slots, shipment.bundle
    for slot, value in zip(bundle.imports, values):
        dumps(value, f"{slots[slot].name!r}, which {_readers(bundle)} reads")


def _readers(bundle: Bundle) -> str:
    return "node " + " and ".join(repr(step.name) for step in bundle.steps[:1])
