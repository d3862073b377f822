"""Ready process bundles and chunks of items in, parcels to worker processes out, and their answers back in.

The seat of a run feeds the workers: one parcel is at each worker at a time, so the parent always knows which worker
runs what, and neither side can wait for the other to read. Chunks start small, to learn what an item costs, and then
aim at a fixed amount of work; towards the end of a map they shrink, so that the last workers finish together. What a
dead worker had is sent again, a chunk in pieces, until the item that kills its worker is alone. ::

    Schedule ─take─▶ Shipment ─dumps─▶ Parcel ─Courier═▶ worker ═Courier─▶ Shipment ─loads─▶ finish
                        ▲                                                     │
                        └──────── pieces of it, when the worker died ─────────┘
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any, Callable, Deque, Dict, List, Optional, Protocol, Sequence, Tuple

from hypernodes.errors import NodeTimeoutError, NotPicklableError, WorkerDiedError
from hypernodes.lowering.plan import PROCESS, Bundle, calls_in
from hypernodes.pickling import dumps, loads
from hypernodes.runtime.failures import received
from hypernodes.runtime.faults import add_note, makers
from hypernodes.runtime.frames import Chunk, MapRun, Task
from hypernodes.runtime.interpreter import Slots
from hypernodes.runtime.policies import delay
from hypernodes.runtime.shipments import Shipment
from hypernodes.runtime.surroundings import pack
from hypernodes.runtime.wire import NOTHING, Died, Late, Outcome, Parcel, Part, decode_answer, part

if TYPE_CHECKING:
    from hypernodes.runtime.run import Resources, Run

TARGET_SECONDS = 0.05
"""Work in one chunk: large beside a round trip (a fifth of a millisecond), small beside a person's patience."""

GROWTH = 8
"""How much larger than the last chunk the next may be: slow items must not be found in the middle of a huge one."""

_READABLE = "return something whose class this process can import and read back, or use mode 'threaded'"
WINDOW = 4096
"""The most items of a stream on their way, however fast they are: their rows and results are all in memory."""


class Courier(Protocol):
    """Carries parcels to workers and answers back, for one run."""

    renews: bool
    """Whether another worker takes the place of one that died."""

    native_threads: Optional[int]
    """How many threads numerical libraries may start in one worker; None for workers that are not ours to tell."""

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
        self._surroundings = part(pack(run.context, self._courier.native_threads))
        self._retries = resources.worker_retries if self._courier.renews else 0
        self._out: Dict[int, Shipment] = {}
        self._again: Deque[Shipment] = deque()
        self._stalled_since: Optional[float] = None
        run.bell = _CourierBell(self._courier)

    def chunk(self, map_run: MapRun) -> int:
        """Return how many items the next chunk of a map holds: guided self-scheduling around a target of seconds."""
        # Polychronopoulos and Kuck, "Guided self-scheduling" (1987): a share of what is left, halved to even the tail,
        # which is not in sight while more rows may come.
        shares = min(self._workers, map_run.width) * (1 if map_run.open else 2)
        return max(1, int(min(self._worth(map_run), (map_run.total - map_run.next) / shares)))

    def window(self, map_run: MapRun) -> int:
        """Return how many items of a fed map may be on their way: chunks at the workers, in wait, and handed over."""
        width = min(self._workers, map_run.width)
        return max(2 * width, min(WINDOW, int(3 * width * self._worth(map_run))))

    def _worth(self, map_run: MapRun) -> float:
        """Return how many items make a chunk worth its trip, as far as the last one tells."""
        seconds, last = map_run.pace
        if not last or map_run.linked.timed:
            # An item that is late takes its worker with it; others must not go with them.
            return 1
        return min(TARGET_SECONDS / seconds, last * GROWTH) if seconds > 0 else last * GROWTH

    def serve(self) -> None:
        """Work the seat: send what is ready, run what is inline, take in answers, until the schedule is done."""
        run = self._run
        while True:
            with run.lock:
                run.note_interrupt()
                inline = run.take_seat()
                shipment = None if inline is not None else self._take()
                done, stopped = run.schedule.done, run.schedule.stopped
                more = run.wake("seat")
                run.seat_waits = inline is None and not done
            if more and run.threads is not None:
                run.threads.add()
            if shipment is not None:
                self._send(shipment)
            if inline is not None:
                error = run.run_here(inline)
                with run.lock:
                    run.settle(inline, error)
            elif done:
                return
            elif stopped and (self._out or self._again):
                self.abandon()
            elif shipment is None or self._out:
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

    def _take(self) -> Optional[Shipment]:
        """Take one shipment if a worker is free; one at a time, since sending may change what is free."""
        schedule = self._run.schedule
        if schedule.stopped or not (self._again or schedule.has_ready(PROCESS)) or not self._courier.free():
            return None
        if self._again:
            return self._again.popleft()
        task = schedule.take(PROCESS)
        return None if task is None else Shipment.of(task)

    def _send(self, shipment: Shipment) -> None:
        try:
            shared, rows = self._packed(shipment)
            program = shipment.linked.parts[shipment.bundle.index]
            self._out[id(shipment)] = shipment
            parts = [program, shared, self._surroundings]
            self._courier.send(Parcel(id(shipment), parts, rows, self._observed, shipment.delay))
        except BaseException as error:
            self._out.pop(id(shipment), None)
            with self._run.lock:
                self._failed(shipment, error)
            return
        # Another worker may be free as well: look again before waiting.
        self._courier.ring()

    def _packed(self, shipment: Shipment) -> Tuple[Part, bytes]:
        task, bundle, place = shipment.task, shipment.bundle, shipment.place
        if not isinstance(task, Chunk):
            values = [task.frame.slots[slot] for slot in bundle.imports]
            try:
                return NOTHING, dumps((place, self._scene(task), tuple(range(len(values))), [values]), "")
            except NotPicklableError:
                _blame(shipment, values)
                raise
        map_run = task.map_run
        layout = map_run.layout = map_run.layout or _Layout(map_run)
        shared: Optional[Part] = map_run.shared
        if shared is None:
            fixed = [(position, map_run.template[slot]) for position, slot in layout.shared]
            try:
                shared = part(dumps(fixed, "")) if fixed else NOTHING
            except NotPicklableError:
                _blame(shipment, [map_run.template[slot] for slot in bundle.imports])
                raise
            map_run.shared = shared
        first = task.start + shipment.start
        rows = [layout.pick(row, number) for number, row in enumerate(shipment.rows, first)]
        try:
            return shared, dumps((place, self._scene(task), layout.varying, rows), "")
        except NotPicklableError:
            for number, row in enumerate(rows, first):
                names = [shipment.linked.plan.slots[bundle.imports[position]].name for position in layout.varying]
                for name, value in zip(names, row):
                    dumps(value, f"{name!r} of item {number} for {_readers(bundle)}")
            raise

    def _scene(self, task: Task) -> Optional[Tuple[object, object]]:
        """Return what makes the scene of a parcel's frames in the worker; None where nobody listens."""
        if not self._observed:
            return None
        scene = task.map_run.template[0] if isinstance(task, Chunk) else task.frame.slots[0]
        return scene.path, scene.frame

    def _receive(self, outcome: Outcome) -> None:
        key, parts, fault = outcome
        shipment = self._out.pop(key)  # type: ignore[call-overload]
        task, run = shipment.task, self._run
        error: Optional[BaseException] = None
        values: Any = None
        if isinstance(fault, (Died, Late)):
            error = self._lost(shipment, fault) if isinstance(fault, Died) else self._timed_out(shipment, fault)
            if error is None:
                return
        elif fault is not None:
            error = fault
        else:
            header = decode_answer(parts[0])
            try:
                if header.has_events and self._events is not None:
                    for event in loads(parts[2]):  # type: ignore[attr-defined]
                        self._events(event)
                if header.ok:
                    values = _results(shipment, parts[1])
                else:
                    error = received(parts[1])
            except BaseException as raised:
                # By a hook, or by a result that cannot be read back.
                error = raised
            if isinstance(task, Chunk) and header.completed:
                task.map_run.pace = (header.seconds / header.completed, header.completed)
        with run.lock:
            if error is not None:
                self._failed(shipment, error)
            elif isinstance(task, Chunk):
                whole = shipment.put_in(values)
                if whole is not None:
                    run.schedule.finish_chunk(task, whole)
            else:
                for slot, value in zip(shipment.bundle.exports, values):
                    task.frame.slots[slot] = value
                run.schedule.finish(task)

    def _failed(self, shipment: Shipment, error: BaseException) -> None:
        if shipment.gives_up():
            self._run.failed(shipment.task, error)

    def _lost(self, shipment: Shipment, died: Died) -> Optional[WorkerDiedError]:
        """Send again what a worker died with, in pieces where that tells more; return the error when that is over."""
        shipment.losses += 1
        if self._retries and (shipment.count > 1 or shipment.losses <= self._retries):
            self._again.extend(shipment.pieces())
            return None
        nodes = tuple([step.name for step in shipment.bundle.steps])
        return WorkerDiedError(shipment.place[0], nodes, shipment.shown_items(), died.exitcode, shipment.losses)

    def _timed_out(self, shipment: Shipment, late: Late) -> Optional[NodeTimeoutError]:
        """Send again, after the backoff, what was late and may be tried again; return the error when it may not."""
        error = NodeTimeoutError(late.name, late.seconds)
        policy = next(step.policy for step in calls_in(shipment.bundle.steps) if step.name == late.name)
        if shipment.lates < policy.retries and isinstance(error, policy.retry_on):
            shipment.delay = delay(policy, shipment.lates)
            shipment.lates += 1
            self._again.append(shipment)
            return None
        items = shipment.shown_items()
        add_note(error, f"node {late.name!r} of pipeline {shipment.place[0]!r}{items and ', '}{items}")
        if policy.retries and isinstance(error, policy.retry_on):
            add_note(error, f"tried {policy.retries + 1} times")
        return error

    def abandon(self) -> None:
        """End work in flight with its workers: the run has failed, and nobody will read the answers."""
        self._courier.close(abandon=True)
        run = self._run
        with run.lock:
            for shipment in (*self._out.values(), *self._again):
                if shipment.gives_up():
                    run.schedule.drop(shipment.task)
            self._out.clear()
            self._again.clear()

    def close(self) -> None:
        self._courier.close(abandon=bool(self._out))


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
        varying_slots = [e.slot for e in step.spread] if step.spreads else [axis.body_slot for axis in step.axes]
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


def _blame(shipment: Shipment, values: Sequence[Any]) -> None:
    """Raise the error of the first value that does not pickle, named as the user knows it."""
    slots, bundle = shipment.linked.plan.slots, shipment.bundle
    for slot, value in zip(bundle.imports, values):
        dumps(value, f"{slots[slot].name!r}, which {_readers(bundle)} reads")


def _results(shipment: Shipment, data: bytes) -> Any:
    try:
        return loads(data)
    except Exception as fault:
        bundle = shipment.bundle
        made = makers(bundle.steps)
        _, _, first = shipment.place
        at = f" (items {first} to {first + shipment.count - 1})" if first >= 0 else ""
        subject = " or ".join([made[slot] for slot in bundle.exports]) + at
        cause = f"it was pickled in the worker, and cannot be read here: {type(fault).__name__}: {fault}"
        raise NotPicklableError(subject, (), cause, _READABLE) from fault


def _readers(bundle: Bundle) -> str:
    return "node " + " and ".join(repr(step.name) for step in bundle.steps[:1])
