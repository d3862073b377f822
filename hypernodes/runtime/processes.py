"""Ready process bundles and chunks of items in, parcels to worker processes out, and their answers back in.

The seat of a run feeds the workers: one parcel is at each worker at a time, so the parent always knows which worker
runs what, and neither side can wait for the other to read. Chunks start small, to learn what an item costs, and then
aim at a fixed amount of work; towards the end of a map they shrink, so that the last workers finish together. ::

    Schedule ─take─▶ Parcel ─dumps─▶ Courier ═══▶ worker ═══▶ Courier ─loads─▶ finish
"""

from __future__ import annotations

import time
import weakref
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Optional, Protocol, Tuple

from hypernodes.errors import NotPicklableError, WorkerDiedError
from hypernodes.lowering.plan import PROCESS, Bundle, MapStep
from hypernodes.pickling import dumps, loads
from hypernodes.runtime.frames import Chunk, MapRun, Task
from hypernodes.runtime.interpreter import Slots
from hypernodes.runtime.linked import LinkedPlan
from hypernodes.runtime.memory import Packed, Segment, lifted, pack
from hypernodes.runtime.places import place_of
from hypernodes.runtime.surroundings import pack as pack_surroundings
from hypernodes.runtime.wire import NOTHING, Died, Outcome, Parcel, Part, decode_answer, part, shared_part

if TYPE_CHECKING:
    from hypernodes.runtime.run import Resources, Run

TARGET_SECONDS = 0.05
"""Work in one chunk: large beside a round trip (a fifth of a millisecond), small beside a person's patience."""

GROWTH = 8
"""How much larger than the last chunk the next may be: slow items must not be found in the middle of a huge one."""


CHUNK_BYTES = 32 << 20
"""Bytes that the rows and results of one chunk should not exceed: what is in flight stays within this per worker, and
the memory of one result waits for no more than this to be collected."""


class Courier(Protocol):
    """Carries parcels to workers and answers back, for one run; `memory` says whether descriptors can go along."""

    memory: bool

    def free(self) -> bool:
        """Return whether a parcel could be sent now."""

    def send(self, parcel: Parcel) -> None:
        """Send a parcel, with those of its parts that the worker does not hold."""

    def wait(self, timeout: Optional[float] = None) -> List[Outcome]:
        """Block until an answer is here, the bell was rung, or `timeout` seconds have passed."""

    def ring(self) -> None:
        """Let `wait` return; safe in a signal handler."""

    def close(self, abandon: bool) -> None:
        """Give back what was lent; with `abandon` work in flight is ended with its worker."""


class ProcessLane:
    """The parcels of one run."""

    def __init__(self, run: Run, resources: Resources) -> None:
        assert resources.courier is not None
        self._run = run
        self._workers = resources.max_workers
        self._events = resources.events
        self._observed = resources.events is not None
        self._courier = resources.courier()
        self._surroundings = part(pack_surroundings(run.context))
        self._out: Dict[int, Task] = {}
        self._memory: weakref.WeakSet[Segment] = weakref.WeakSet()
        self._stalled_since: Optional[float] = None
        run.bell = _CourierBell(self._courier)

    def chunk(self, map_run: MapRun) -> int:
        """Return how many items the next chunk of a map holds: guided self-scheduling around a target of seconds."""
        left = map_run.total - map_run.next
        seconds, last = map_run.pace
        if not last:
            return 1
        by_time = TARGET_SECONDS / seconds if seconds > 0 else left
        # Polychronopoulos and Kuck, "Guided self-scheduling" (1987): a share of what is left, halved to even the tail.
        by_share = left / (2 * min(self._workers, map_run.width))
        by_bytes = CHUNK_BYTES / max(1, sum(map_run.weight))
        return max(1, int(min(by_time, by_share, last * GROWTH, by_bytes)))

    def serve(self) -> None:
        """Work the seat: send what is ready, run what is inline, take in answers, until the schedule is done."""
        run = self._run
        while True:
            with run.lock:
                run.note_interrupt()
                inline = run.take_seat()
                task = None if inline is not None else self._take()
                done, stopped = run.schedule.done, run.schedule.stopped
                more = run.wake("seat")
                run.seat_waits = inline is None and not done
            if more and run.threads is not None:
                run.threads.add()
            if task is not None:
                self._send(task)
            if inline is not None:
                error = run.run_here(inline)
                with run.lock:
                    run.settle(inline, error)
            elif done:
                return
            elif stopped and self._out:
                self.abandon()
            elif task is None or self._out:
                self._wait()

    def _wait(self) -> None:
        run = self._run
        patience = run.patience()
        for outcome in self._courier.wait(patience):
            self._receive(outcome)
        if patience is None or run.threads is None:
            return
        with run.lock:
            stalled = run.threads.stalled
        now = time.monotonic()
        if not stalled:
            self._stalled_since = None
        elif self._stalled_since is None:
            self._stalled_since = now
        elif now - self._stalled_since >= patience:
            run.help_out()

    def _take(self) -> Optional[Task]:
        """Take one task if a worker is free; one at a time, since sending may change what is free."""
        schedule = self._run.schedule
        if schedule.stopped or not schedule.has_ready(PROCESS) or not self._courier.free():
            return None
        return schedule.take(PROCESS)

    def _send(self, task: Task) -> None:
        run = self._run
        try:
            shared, rows = self._rows(task)
            program = _linked(task).parts[_bundle(task).index]
            self._out[id(task)] = task
            self._courier.send(Parcel(id(task), [program, shared, self._surroundings], rows, self._observed))
        except BaseException as error:
            self._out.pop(id(task), None)
            with run.lock:
                run.failed(task, error)
            return
        # Another worker may be free as well: look again before waiting.
        self._courier.ring()

    def _pack(self, value: object) -> Packed:
        return pack(value, "", self._courier.memory)

    def _rows(self, task: Task) -> Tuple[Part, Packed]:
        bundle = _bundle(task)
        place = place_of(task)
        if not isinstance(task, Chunk):
            slots = task.frame.slots
            try:
                shared, varying = self._shared_of_frames(task.frame.map_run, bundle)
                values = [slots[bundle.imports[position]] for position in varying]
                return shared, self._pack((place, self._scene(task), varying, lifted([values])))
            except NotPicklableError:
                _blame(task, bundle, [slots[slot] for slot in bundle.imports])
                raise
        map_run = task.map_run
        layout = map_run.layout = map_run.layout or _Layout(map_run)
        try:
            shared = map_run.shared = map_run.shared or self._share(map_run, layout.shared)
        except NotPicklableError:
            _blame(task, bundle, [map_run.template[slot] for slot in bundle.imports])
            raise
        rows = [layout.pick(row, task.start + number) for number, row in enumerate(task.rows)]
        try:
            packed = self._pack((place, self._scene(task), layout.varying, lifted(rows)))
        except NotPicklableError:
            for number, row in enumerate(rows):
                names = [map_run.linked.plan.slots[bundle.imports[position]].name for position in layout.varying]
                for name, value in zip(names, row):
                    dumps(value, f"{name!r} of item {task.start + number} for {_readers(bundle)}")
            raise
        map_run.weight = (packed.nbytes // len(rows), map_run.weight[1])
        return shared, packed

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
        if map_run is None or not self._courier.memory:
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

    def _receive(self, outcome: Outcome) -> None:
        key, parts, fault, memory = outcome
        task = self._out.pop(key)  # type: ignore[call-overload]
        run = self._run
        error: Optional[BaseException] = None
        values: Any = None
        if fault is not None:
            error = self._death(task, fault) if isinstance(fault, Died) else fault
        else:
            header = decode_answer(parts[0])
            try:
                if header.has_events and self._events is not None:
                    for event in loads(parts[2]):  # type: ignore[attr-defined]
                        self._events(event)
                values = loads(parts[1], memory.private() if memory is not None else ())
            except BaseException as raised:
                # By a hook, or by a result that cannot be read back.
                error = raised
            if error is None and not header.ok:
                error = values
            if isinstance(task, Chunk) and header.completed:
                map_run = task.map_run
                map_run.pace = (header.seconds / header.completed, header.completed)
                map_run.weight = (map_run.weight[0], Packed(parts[1], memory).nbytes // header.completed)
        with run.lock:
            if error is not None:
                run.failed(task, error)
            elif isinstance(task, Chunk):
                run.schedule.finish_chunk(task, values)
            else:
                for slot, value in zip(_bundle(task).exports, values):
                    task.frame.slots[slot] = value
                run.schedule.finish(task)

    def _death(self, task: Task, died: Died) -> WorkerDiedError:
        bundle = _bundle(task)
        pipeline, items, start = place_of(task)
        if start >= 0:
            count = len(task.rows) if isinstance(task, Chunk) else 1
            shown = f"item {start}" if count == 1 else f"one of items {start} to {start + count - 1}"
        else:
            shown = f"item {'.'.join(map(str, items))}" if items else ""
        return WorkerDiedError(pipeline, tuple(step.name for step in bundle.steps), shown, died.exitcode)

    def abandon(self) -> None:
        """End work in flight with its workers: the run has failed, and nobody will read the answers."""
        self._courier.close(abandon=True)
        run = self._run
        with run.lock:
            for task in self._out.values():
                run.schedule.drop(task)
            self._out.clear()

    def close(self) -> None:
        self._courier.close(abandon=bool(self._out))
        # What failed may still refer to this run; its memory does not wait for that.
        for segment in list(self._memory):
            segment.close()
        # A run and its lane would keep each other, and with them all results, until a garbage collection.
        del self._run


class _CourierBell:
    """The bell of a seat that waits at its courier."""

    def __init__(self, courier: Courier) -> None:
        self._courier = courier

    def put(self, token: object) -> None:
        self._courier.ring()


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


def _linked(task: Task) -> LinkedPlan:
    return task.map_run.linked if isinstance(task, Chunk) else task.frame.linked


def _bundle(task: Task) -> Bundle:
    """Return the bundle a task runs; the body of a chunk's map has only one."""
    return _linked(task).plan.bundles[0 if isinstance(task, Chunk) else task.bundle]


def _blame(task: Task, bundle: Bundle, values: List[Any]) -> None:
    """Raise the error of the first value that does not pickle, named as the user knows it."""
    slots = _linked(task).plan.slots
    for slot, value in zip(bundle.imports, values):
        dumps(value, f"{slots[slot].name!r}, which {_readers(bundle)} reads")


def _readers(bundle: Bundle) -> str:
    return "node " + " and ".join(repr(step.name) for step in bundle.steps[:1])
