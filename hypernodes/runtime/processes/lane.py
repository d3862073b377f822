"""Ready process bundles and chunks of items in, parcels to worker processes out, and their answers back in.

The seat of a run feeds the workers: one parcel is at each worker at a time, and of quick items a small one behind it,
so the parent always knows which worker runs what, and neither side can wait for the other to read. How many items go
together, `chunks` says. What a dead worker had is sent again, a chunk in pieces, until the item that kills its
worker is alone. ::

    Schedule ─take─▶ Shipment ─dumps─▶ Parcel ─Courier═▶ worker ═Courier─▶ Shipment ─loads─▶ finish
                        ▲                                                     │
                        └──────── pieces of it, when the worker died ─────────┘
"""

from __future__ import annotations

import math
import queue
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Deque, Dict, List, Optional, Protocol, Sequence, Tuple

from hypernodes.errors import NodeTimeoutError, WorkerDiedError, WorkerStartError
from hypernodes.lowering.plan import PROCESS, calls_in, output_path
from hypernodes.pickling.modules import look
from hypernodes.runtime.collect import lost
from hypernodes.runtime.faults import add_note, said, short, tidy
from hypernodes.runtime.frames import Chunk, MapRun
from hypernodes.runtime.linked import LinkedPlan
from hypernodes.runtime.policies import delay
from hypernodes.runtime.processes import chunks
from hypernodes.runtime.processes.answers import events_of, results_of
from hypernodes.runtime.processes.failures import received
from hypernodes.runtime.processes.memory import Packed
from hypernodes.runtime.processes.packing import Packer
from hypernodes.runtime.processes.programs import programs_of
from hypernodes.runtime.processes.shipments import Shipment
from hypernodes.runtime.processes.surroundings import pack
from hypernodes.runtime.processes.wire import Died, Late, Outcome, Parcel, decode_answer, own_part

if TYPE_CHECKING:
    from hypernodes.runtime.run import Resources, Run


class Courier(Protocol):
    """Carries parcels to workers and answers back, for one run; `memory` says whether descriptors can go along."""

    memory: bool

    renews: bool
    """Whether another worker takes the place of one that died."""

    native_threads: Optional[int]
    """How many threads numerical libraries may start in one worker; None for workers that are not ours to tell."""

    def free(self) -> bool:
        """Return whether a parcel could be sent now."""

    def room(self) -> bool:
        """Return whether a parcel could be sent ahead, to be there when a worker has answered."""

    def send(self, parcel: Parcel) -> None:
        """Send a parcel, with those of its parts that the worker does not hold; ahead of its time if none is free."""

    def wait(self, timeout: Optional[float] = None) -> List[Outcome]:
        """Block until an answer is here, the bell was rung, or `timeout` seconds have passed."""

    def entered(self) -> bool:
        """Return whether this thread is in the middle of something here that the run may have to wait for."""

    def ring(self) -> None:
        """Let `wait` return; safe in a signal handler."""

    def abandon(self) -> None:
        """End work in flight with its workers."""

    def close(self) -> None:
        """Do that, and give back what was lent; nothing else may be called after."""


class ProcessLane:
    """The parcels of one run."""

    def __init__(self, run: Run, linked: LinkedPlan, resources: Resources) -> None:
        assert resources.courier is not None
        self._run = run
        self._workers = resources.max_workers
        self._events = resources.events
        self._observed = resources.events is not None
        self._courier = resources.courier()
        try:
            # First the modules: what of them goes by value, the programs have to know.
            sources = look()
            self._surroundings = own_part(pack(run.context, self._courier.native_threads, sources))
            self._programs = programs_of(linked, self._courier.memory)
        except BaseException:
            self._courier.close()
            raise
        self._collects = resources.listener is not None and resources.listener.collects
        self._packer = Packer(self._courier.memory, resources.listener is not None)
        self._retries = resources.worker_retries if self._courier.renews else 0
        self._out: Dict[int, Shipment] = {}
        self._again: Deque[Shipment] = deque()
        self._held: List[Tuple[Shipment, BaseException, int]] = []  # failed pieces that wait for others
        self._steady: Optional[MapRun] = None  # the map of which a chunk was answered last
        self._stalled_since: Optional[float] = None
        run.bell = _CourierBell(self._courier)

    def chunk(self, map_run: MapRun) -> int:
        """Return how many items the next chunk of a map holds."""
        workers = min(self._workers, map_run.width)
        left = map_run.left
        if map_run.open:
            return chunks.of_open(workers, left, self._worth(map_run))
        seconds, _ = map_run.pace
        return chunks.of_closed(workers, left, self._unfinished(map_run, seconds), self._worth(map_run), seconds)

    def _unfinished(self, map_run: MapRun, seconds: float) -> float:
        """Return about how many items of a map are at the workers and not done."""
        now = time.monotonic()
        return sum(
            [
                chunks.unfinished(shipment.count, now - shipment.sent, seconds)
                for shipment in self._out.values()
                if isinstance(shipment.task, Chunk) and shipment.task.map_run is map_run
            ]
        )

    def window(self, map_run: MapRun) -> int:
        """Return how many items of a fed map may be on their way: chunks at the workers, in wait, and handed over."""
        return chunks.window(min(self._workers, map_run.width), self._worth(map_run), sum(map_run.weight))

    def _worth(self, map_run: MapRun) -> float:
        """Return how many items make a chunk worth its trip, as far as the last one tells."""
        # An item that is late takes its worker with it; others must not go with them.
        return 1 if map_run.linked.timed else chunks.worth(map_run.pace, sum(map_run.weight))

    def entered(self) -> bool:
        """Return whether this thread is in the middle of lending or returning a worker."""
        return self._courier.entered()

    def serve(self) -> None:
        """Work the seat: send what is ready, run what is inline, take in answers, until the schedule is done."""
        run = self._run
        while True:
            with run.lock:
                run.seat_waits = False
                run.note_interrupt()
                if self._held:
                    self._look_at_held()
                inline = run.take_seat()
                shipment = None if inline is not None else self._take()
                done, stopped = run.schedule.done, run.schedule.stopped
                more = run.wake("seat")
                run.seat_waits = inline is None and not done
            if more and run.threads is not None:
                run.threads.add()
            if shipment is not None:
                self._send(shipment)
                continue  # another worker may be free as well
            if inline is not None:
                error = run.run_here(inline)
                with run.lock:
                    run.settle(inline, error)
            elif done:
                return
            elif stopped and (self._out or self._again or self._held):
                self.abandon()
            else:
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
        if schedule.stopped:
            return None
        if not (self._again or schedule.has_ready(PROCESS)):
            return self._take_ahead()
        if not self._courier.free():
            return None
        if self._again:
            return self._again.popleft()
        task = schedule.take(PROCESS)
        return None if task is None else Shipment.of(task)

    def _take_ahead(self) -> Optional[Shipment]:
        """Take a chunk for the next worker that answers, so that it does not wait while one is made.

        Not of slow items, which should go to whoever is free, nor towards the end, which chunks even out.
        """
        map_run = self._steady
        if map_run is not None and not map_run.more:
            map_run = self._steady = None
        if map_run is None or map_run.open or map_run.linked.timed or not self._courier.room():
            return None
        seconds, _ = map_run.pace
        if not chunks.may_go_ahead(self._workers, map_run.left, seconds):
            return None
        chunk = self._run.schedule.take_ahead(map_run)
        return None if chunk is None else Shipment.of(chunk)

    def _send(self, shipment: Shipment) -> None:
        try:
            shared = self._packer.shared(shipment)
        except BaseException as error:
            # What all items share is no item's fault.
            with self._run.lock:
                self._given_up(shipment, error)
            return
        try:
            rows = self._packer.rows(shipment)
            shipment.sent = time.monotonic()
            self._out[id(shipment)] = shipment
            program = self._programs[id(shipment.linked), shipment.bundle.index]
            options = (self._observed, self._collects, shipment.delay, self._budget(shipment), shipment.tried)
            self._courier.send(Parcel(id(shipment), program, self._surroundings, shared, rows, *options))
        except BaseException as error:
            self._out.pop(id(shipment), None)
            with self._run.lock:
                self._failed(shipment, error, in_items=True)
            return

    def _budget(self, shipment: Shipment) -> float:
        """Return the seconds after which the rest of a chunk comes back; pieces of a lost one are small as they are."""
        task = shipment.task
        if not isinstance(task, Chunk) or not shipment.is_whole:
            return math.inf
        return chunks.budget(task.count, task.map_run.pace[0])

    def _receive(self, outcome: Outcome) -> None:
        key, parts, fault, memory = outcome
        shipment = self._out.pop(key)  # type: ignore[call-overload]
        task, run = shipment.task, self._run
        error: Optional[BaseException] = None
        unread = False
        values: Any = None
        completed = 0
        if isinstance(fault, (Died, Late)):
            error = self._lost(shipment, fault) if isinstance(fault, Died) else self._timed_out(shipment, fault)
            if error is None:
                return
        elif fault is not None:
            error = fault
        else:
            header = decode_answer(parts[0])
            unread = not header.begun
            try:
                completed = header.completed
                if header.ok:
                    values = results_of(shipment, parts[1], memory)
                else:
                    error = received(parts[1])
                    if header.partial:
                        values = results_of(shipment, parts[-1], memory)
                    if unread:
                        add_note(error, shipment.reading())
                if header.has_events and self._events is not None:
                    for event in events_of(parts[2]):
                        self._events(event)
            except BaseException as raised:
                # By a hook, or by results that cannot be read back.
                if error is None:
                    error = raised
                else:
                    add_note(error, f"also failed: {type(raised).__name__}: {short(said(raised))}")
            if isinstance(task, Chunk) and header.completed:
                map_run = self._steady = task.map_run
                map_run.pace = (header.seconds / header.completed, header.completed)
                map_run.weight = (map_run.weight[0], Packed(parts[1], memory).nbytes // header.completed)
        with run.lock:
            if error is not None:
                if values is not None and isinstance(task, Chunk):
                    run.schedule.put(task, shipment.start, values, completed)
                self._failed(shipment, error, in_items=unread, row=shipment.start + completed)
            else:
                self._arrived(shipment, values, completed)

    def _arrived(self, shipment: Shipment, values: Sequence[Any], completed: int) -> None:
        """Hand the results of `completed` items, laid end to end, to the schedule. Under the lock."""
        task, schedule = shipment.task, self._run.schedule
        if isinstance(task, Chunk):
            schedule.put(task, shipment.start, values, completed)
            if shipment.is_last():
                schedule.finish_chunk(task, completed if shipment.is_whole else task.count)
        else:
            for slot, value in zip(shipment.bundle.exports, values):
                task.frame.slots[slot] = value
            schedule.finish(task)

    def _failed(self, shipment: Shipment, error: BaseException, in_items: bool = False, row: int = 0) -> None:
        """Take in a failure, of item `row`, or with `in_items` perhaps of any other. Under the lock."""
        collects = self._collects and not isinstance(error, WorkerStartError)  # which is no item's fault
        if not collects or not isinstance(error, Exception) or self._run.schedule.stopped:
            self._given_up(shipment, error, row)
        elif in_items and shipment.count > 1:
            self._again.extend(shipment.pieces())
        else:
            self._arrived(shipment, lost(shipment, error), shipment.count)

    def _given_up(self, shipment: Shipment, error: BaseException, row: int = 0) -> None:
        """Let a task fail; a piece of one in a stream waits for those before it, whose results are good."""
        before = [other for other in (*self._out.values(), *self._again) if shipment.follows(other)]
        if before and self._run.fed and isinstance(error, Exception):
            self._again = deque([other for other in self._again if not other.follows(shipment)])
            self._held.append((shipment, error, row))
        elif shipment.gives_up():
            self._run.schedule.fail(shipment.task, error, row)

    def _look_at_held(self) -> None:
        held, self._held = self._held, []
        for shipment, error, row in held:
            self._given_up(shipment, error, row)

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
        step = next(step for step in calls_in(shipment.bundle.steps) if output_path(step) == late.call)
        policy = step.policy
        assert policy.timeout is not None
        error = NodeTimeoutError(step.name, policy.timeout)
        tried = shipment.tried[late.call] = shipment.tried.get(late.call, 0) + late.attempts
        if tried <= policy.retries and isinstance(error, policy.retry_on):
            shipment.delay = delay(policy, tried - 1)
            self._again.append(shipment)
            return None
        items = shipment.shown_items()
        where = ".".join((tidy(shipment.place[0]), *(step.scope.path if step.scope else ())))
        add_note(error, f"node {step.name!r} of pipeline {where!r}{items and ', '}{items}")
        if policy.retries and isinstance(error, policy.retry_on):
            add_note(error, f"tried {policy.retries + 1} times")
        return error

    def abandon(self) -> None:
        """End work in flight with its workers: the run has failed, and nobody will read the answers."""
        self._courier.abandon()
        run = self._run
        with run.lock:
            for shipment in (*self._out.values(), *self._again, *[held[0] for held in self._held]):
                if shipment.gives_up():
                    run.schedule.drop(shipment.task)
            self._out.clear()
            self._again.clear()
            self._held.clear()

    def close(self) -> None:
        with self._run.lock:
            # Whoever still pushes rows, or ends, must not ring a bell whose descriptor may be somebody else's by then.
            self._run.bell = queue.SimpleQueue()
        self._courier.close()
        self._packer.close()
        # A run and its lane would keep each other, and with them all results, until a garbage collection.
        del self._run


class _CourierBell:
    """The bell of a seat that waits at its courier."""

    def __init__(self, courier: Courier) -> None:
        self._courier = courier

    def put(self, token: object) -> None:
        self._courier.ring()
