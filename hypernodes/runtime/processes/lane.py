"""Ready process bundles and chunks of items in, requests to worker processes out, and their answers back in.

The coordinator feeds the workers: one request is at each worker at a time, and of quick items a small one behind it,
so the parent always knows which worker runs what, and neither side can wait for the other to read. How many items go
together, `chunks` says. What a dead worker had is sent again, a chunk in pieces, until the item that kills its
worker is alone. ::

    Schedule ─take─▶ WorkItem ─dumps─▶ request ─Transport═▶ worker ═Transport─▶ response ─loads─▶ finish
                        ▲                                                     │
                        └──────── pieces of it, when the worker died ─────────┘
"""

from __future__ import annotations

import math
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Deque, Dict, List, Optional, Protocol, Sequence, Tuple

from hypernodes.errors import ExecutorError, InitializerError, NodeTimeoutError, WorkerDiedError, WorkerStartError
from hypernodes.errors.notes import add_note, said, short
from hypernodes.events.event import Event
from hypernodes.lowering.plan import PROCESS, calls_in, output_path
from hypernodes.pickling.exceptions import received
from hypernodes.pickling.modules import look
from hypernodes.runtime.bundle.linked import LinkedPlan
from hypernodes.runtime.bundle.locate import scope_of
from hypernodes.runtime.bundle.policies import delay
from hypernodes.runtime.processes import chunks
from hypernodes.runtime.processes.environment import pack
from hypernodes.runtime.processes.lost import lost
from hypernodes.runtime.processes.memory import Packed
from hypernodes.runtime.processes.packing import Packer
from hypernodes.runtime.processes.programs import programs_of
from hypernodes.runtime.processes.responses import events_of, results_of
from hypernodes.runtime.processes.wire import Died, Late, Outcome, WorkRequest, decode_response, own_part
from hypernodes.runtime.processes.work_items import WorkItem
from hypernodes.runtime.schedule.frames import Chunk, MapRun

if TYPE_CHECKING:
    from hypernodes.runtime.drivers.run import Resources, Run


class Transport(Protocol):
    """Carries requests to workers and answers back, for one run; `memory` says whether descriptors can go along."""

    memory: bool

    renews: bool
    """Whether another worker takes the place of one that died."""

    follows: bool
    """Whether workers take on the directory, the environment and the module path of this process."""

    native_threads: Optional[int]
    """How many threads numerical libraries may start in one worker; None for workers that are not ours to tell."""

    def free(self) -> bool:
        """Return whether a request could be sent now."""

    def room(self) -> bool:
        """Return whether a request could be sent ahead, to be there when a worker has answered."""

    def send(self, request: WorkRequest) -> None:
        """Send a request, with those of its parts that the worker does not hold; ahead of its time if none is free."""

    def wait(self, timeout: Optional[float] = None) -> List[Outcome]:
        """Block until an answer is here, it was woken, or `timeout` seconds have passed."""

    def entered(self) -> bool:
        """Return whether this thread is in the middle of something here that the run may have to wait for."""

    def wake(self) -> None:
        """Let `wait` return; safe in a signal handler."""

    def abandon(self) -> None:
        """End work in flight with its workers."""

    def close(self) -> None:
        """Do that, and give back what was lent; nothing else may be called after."""


class ProcessLane:
    """The requests of one run."""

    def __init__(self, run: Run, linked: LinkedPlan, resources: Resources, transport: Transport) -> None:
        self._run = run
        self._workers = resources.max_workers
        self._events = resources.events
        self._heard = resources.layers.heard if resources.layers is not None else 0
        self._transport = transport
        try:
            # First the modules: what of them goes by value, the programs have to know.
            sources = look()
            self._environment = own_part(pack(run.context, transport.native_threads, sources, transport.follows))
            self._programs = programs_of(linked, self._transport.memory)
        except BaseException:
            self._transport.close()
            raise
        self._collects = resources.layers is not None and resources.layers.collects
        self._packer = Packer(self._transport.memory, resources.layers is not None)
        self._retries = resources.worker_retries if self._transport.renews else 0
        self._out: Dict[int, WorkItem] = {}
        self._again: Deque[WorkItem] = deque()
        self._held: List[Tuple[WorkItem, BaseException, int]] = []  # failed pieces that wait for others
        self._steady: Optional[MapRun] = None  # the map of which a chunk was answered last

    def chunk(self, map_run: MapRun) -> int:
        """Return how many items the next chunk of a map holds."""
        workers = min(self._workers, map_run.width)
        left = map_run.source.left
        if map_run.source.open:
            return chunks.of_open(workers, left, self._worth(map_run))
        seconds, _ = map_run.pace
        return chunks.of_closed(workers, left, self._unfinished(map_run, seconds), self._worth(map_run), seconds)

    def _unfinished(self, map_run: MapRun, seconds: float) -> float:
        """Return about how many items of a map are at the workers and not done."""
        now = time.monotonic()
        return sum(
            [
                chunks.unfinished(work.count, now - work.sent, seconds)
                for work in self._out.values()
                if isinstance(work.task, Chunk) and work.task.map_run is map_run
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
        return self._transport.entered()

    @property
    def busy(self) -> bool:
        """Whether work of this run is with workers, or waits to be sent again."""
        return bool(self._out or self._again or self._held)

    def set(self) -> None:
        """Let `wait` return; safe in a signal handler."""
        self._transport.wake()

    def wait(self, timeout: Optional[float]) -> None:
        """Block until there is something to take in, a wake-up, or `timeout` seconds have passed, and take it in."""
        for outcome in self._transport.wait(timeout):
            self._receive(outcome)

    def take(self) -> Optional[WorkItem]:
        """Take one work item if a worker is free; one at a time, since sending may change what is free."""
        schedule = self._run.schedule
        if self._held:
            self._look_at_held()
        if schedule.stopped:
            return None
        if not (self._again or schedule.ready.has(PROCESS)):
            return self._take_ahead()
        if not self._transport.free():
            return None
        if self._again:
            return self._again.popleft()
        task = schedule.take(PROCESS)
        return None if task is None else WorkItem.of(task)

    def _take_ahead(self) -> Optional[WorkItem]:
        """Take a chunk for the next worker that answers, so that it does not wait while one is made.

        Not of slow items, which should go to whoever is free, nor towards the end, which chunks even out.
        """
        map_run = self._steady
        if map_run is not None and not map_run.source.more:
            map_run = self._steady = None
        if map_run is None or map_run.source.open or map_run.linked.timed or not self._transport.room():
            return None
        seconds, _ = map_run.pace
        if not chunks.may_go_ahead(self._workers, map_run.source.left, seconds):
            return None
        chunk = self._run.schedule.ready.take_ahead(map_run)
        return None if chunk is None else WorkItem.of(chunk)

    def send(self, work: WorkItem) -> None:
        try:
            shared = self._packer.shared(work)
        except BaseException as error:
            # What all items share is no item's fault.
            with self._run.lock:
                self._given_up(work, error)
            return
        try:
            rows = self._packer.rows(work)
            work.sent = time.monotonic()
            self._out[id(work)] = work
            program = self._programs[id(work.linked), work.bundle.index]
            options = (self._heard, self._collects, work.delay, self._budget(work), work.tried)
            self._transport.send(WorkRequest(id(work), program, self._environment, shared, rows, *options))
        except BaseException as error:
            self._out.pop(id(work), None)
            if isinstance(error, ExecutorError):
                add_note(error, work.submitted())
            with self._run.lock:
                self._failed(work, error, in_items=True)
            return

    def _budget(self, work: WorkItem) -> float:
        """Return the seconds after which the rest of a chunk comes back; pieces of a lost one are small as they are."""
        task = work.task
        if not isinstance(task, Chunk) or not work.is_whole:
            return math.inf
        return chunks.budget(task.count, task.map_run.pace[0])

    def _receive(self, outcome: Outcome) -> None:
        key, parts, fault, memory = outcome
        work = self._out.pop(key)  # type: ignore[call-overload]
        task, run = work.task, self._run
        error: Optional[BaseException] = None
        unread = False
        values: Any = None
        completed = 0
        if isinstance(fault, (Died, Late)):
            error = self._lost(work, fault) if isinstance(fault, Died) else self._timed_out(work, fault)
            if error is None:
                return
        elif fault is not None:
            error = fault
            if isinstance(fault, ExecutorError):
                add_note(error, work.submitted())
        else:
            header = decode_response(parts[0])
            unread = not header.begun
            try:
                completed = header.completed
                if header.ok:
                    values = results_of(work, parts[1], memory)
                else:
                    error = received(parts[1])
                    if header.partial:
                        values = results_of(work, parts[-1], memory)
                    if unread and not isinstance(error, InitializerError):
                        add_note(error, work.reading())
                if header.has_events and self._events is not None:
                    self._events(Event.of_several(events_of(parts[2])))
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
                    run.schedule.put(task, work.start, values, completed)
                self._failed(work, error, in_items=unread, row=work.start + completed)
            else:
                self._arrived(work, values, completed)

    def _arrived(self, work: WorkItem, values: Sequence[Any], completed: int) -> None:
        """Hand the results of `completed` items, laid end to end, to the schedule. Under the lock."""
        task, schedule = work.task, self._run.schedule
        if isinstance(task, Chunk):
            schedule.put(task, work.start, values, completed)
            if work.is_last():
                schedule.finish_chunk(task, completed if work.is_whole else task.count)
        else:
            for slot, value in zip(work.bundle.exports, values):
                task.frame.slots[slot] = value
            schedule.finish(task)

    def _failed(self, work: WorkItem, error: BaseException, in_items: bool = False, row: int = 0) -> None:
        """Take in a failure, of item `row`, or with `in_items` perhaps of any other. Under the lock."""
        # No item is to blame for workers that cannot start or take no work.
        fault = isinstance(error, (WorkerStartError, InitializerError, ExecutorError))
        if not self._collects or fault or not isinstance(error, Exception) or self._run.schedule.stopped:
            self._given_up(work, error, row)
        elif in_items and work.count > 1:
            self._again.extend(work.pieces())
        else:
            self._arrived(work, lost(work, error), work.count)

    def _given_up(self, work: WorkItem, error: BaseException, row: int = 0) -> None:
        """Let a task fail; a piece of one in a stream waits for those before it, whose results are good."""
        before = [other for other in (*self._out.values(), *self._again) if work.follows(other)]
        if before and self._run.fed and isinstance(error, Exception):
            self._again = deque([other for other in self._again if not other.follows(work)])
            self._held.append((work, error, row))
        elif work.gives_up():
            self._run.schedule.fail(work.task, error, row)

    def _look_at_held(self) -> None:
        held, self._held = self._held, []
        for work, error, row in held:
            self._given_up(work, error, row)

    def _lost(self, work: WorkItem, died: Died) -> Optional[WorkerDiedError]:
        """Send again what a worker died with, in pieces where that tells more; return the error when that is over."""
        work.losses += 1
        if self._retries and (work.count > 1 or work.losses <= self._retries):
            self._again.extend(work.pieces())
            return None
        nodes = tuple([step.name for step in work.bundle.steps])
        return WorkerDiedError(work.place.frame.pipeline, nodes, work.items(), died.exitcode, work.losses)

    def _timed_out(self, work: WorkItem, late: Late) -> Optional[NodeTimeoutError]:
        """Send again, after the backoff, what was late and may be tried again; return the error when it may not."""
        step = next(step for step in calls_in(work.bundle.steps) if output_path(step) == late.call)
        policy = step.policy
        assert policy.timeout is not None
        error = NodeTimeoutError(step.name, policy.timeout)
        tried = work.tried[late.call] = work.tried.get(late.call, 0) + late.attempts
        if tried <= policy.retries and isinstance(error, policy.retry_on):
            work.delay = delay(policy, tried - 1)
            self._again.append(work)
            return None
        add_note(error, work.note(f"node {step.name!r} of pipeline {{pipeline}}", step.name, scope_of(step)))
        if policy.retries and isinstance(error, policy.retry_on):
            add_note(error, f"tried {policy.retries + 1} times")
        return error

    def abandon(self) -> None:
        """End work in flight with its workers: the run has failed, and nobody will read the answers."""
        self._transport.abandon()
        run = self._run
        with run.lock:
            for work in (*self._out.values(), *self._again, *[held[0] for held in self._held]):
                if work.gives_up():
                    run.schedule.drop(work.task)
            self._out.clear()
            self._again.clear()
            self._held.clear()

    def close(self) -> None:
        """End what is in flight, and give back the workers."""
        self._transport.close()
        self._packer.close()
        # A run and its lane would keep each other, and with them all results, until a garbage collection.
        del self._run
