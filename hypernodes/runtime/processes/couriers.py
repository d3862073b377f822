"""Parcels in, answers out: over the pipes of our own worker pool, or through a process executor of the user's."""

from __future__ import annotations

import contextlib
import math
import os
import queue
import time
from collections import deque
from concurrent.futures import Executor, Future
from operator import itemgetter
from typing import AbstractSet, Any, Deque, Dict, List, Optional, Set, Tuple

from hypernodes.errors import ChangedModuleError
from hypernodes.runtime.processes import channel
from hypernodes.runtime.processes import worker as worker_module
from hypernodes.runtime.processes.hearing import show
from hypernodes.runtime.processes.memory import take
from hypernodes.runtime.processes.pool import Worker, WorkerGone, WorkerPool
from hypernodes.runtime.processes.wire import (
    AnswerHeader,
    Died,
    Late,
    Notice,
    Outcome,
    Parcel,
    ParcelHeader,
    decode_answer,
    decode_notice,
    encode,
)

_LOOK = 1.0  # seconds between two looks at whether processes that start have begun in time


def _large(parcel: Parcel) -> Set[str]:
    return {part.digest for part in parcel.shared if part.memory is not None}


def _message(parcel: Parcel, held: AbstractSet[str]) -> Tuple[List[bytes], List[int]]:
    """Return the parts of the message, and the descriptors that go with it."""
    rows = parcel.rows
    carried = [part for part in parcel.parts if part.digest and part.digest not in held]
    header = ParcelHeader(
        parcel.program.digest,
        parcel.surroundings.digest,
        [part.digest for part in parcel.shared],
        [part.digest for part in carried],
        [part.owner for part in parcel.parts],
        parcel.observed,
        parcel.collects,
        parcel.delay,
        parcel.budget,
        parcel.tried,
    )
    memories = [part.memory if part.digest not in held else None for part in (parcel.program, *parcel.shared)]
    header.program_sizes, *header.shared_sizes = [[*memory.sizes] if memory is not None else [] for memory in memories]
    fds = [memory.fd for memory in memories if memory is not None]
    if rows.memory is not None:
        header.row_sizes = [*rows.memory.sizes]
        fds.append(rows.memory.fd)
    return [encode(header), *[part.data for part in carried], rows.data], fds


class PoolCourier:
    """Parcels over the pipes of a `WorkerPool`: one at a worker, and behind it one more of the same kind.

    A worker is leased for one parcel. One that has answered is kept for the next parcel of this run unless another run
    waits for a worker, which saves the pool's lock on every parcel. One that goes back holds no large memory.
    """

    renews = True
    memory = True

    def __init__(self, pool: WorkerPool, native_threads: int) -> None:
        self.native_threads: Optional[int] = native_threads
        self._pool = pool
        self._idle: List[Worker] = []
        # What each was sent and has not answered: the first is at work, the other waits in the pipe.
        self._busy: Dict[Worker, List[Parcel]] = {}
        self._waiting: Deque[Parcel] = deque()
        self._deadlines: Dict[Worker, Tuple[float, Notice]] = {}
        # How often each call was begun, and failed, for the parcel that a worker is at work on.
        self._attempts: Dict[Worker, Dict[str, int]] = {}
        self._refused: Set[object] = set()  # parcels that a worker died before it had taken
        self._ended: List[Outcome] = []  # of parcels that were lost like that
        # Who maps the large buffers of which shared parts. A worker keeps the latest: to send one again is cheap.
        self._mapped: Dict[Worker, Set[str]] = {}
        self._bell, self._ringer = channel.one_way()
        os.set_blocking(self._ringer, False)
        self._rung = False
        self._closed = False

    def free(self) -> bool:
        if not self._idle:
            leased = self._pool.acquire(self)
            if leased is not None:
                self._idle.append(leased)
        return bool(self._idle)

    def room(self) -> bool:
        if self._waiting or self._pool.wanted(self):
            return False
        return any(len(parcels) == 1 for parcels in self._busy.values())

    def send(self, parcel: Parcel) -> None:
        if not self._idle:
            if not self._sent_ahead(parcel):
                self._waiting.append(parcel)
            return
        worker = self._idle.pop()
        mapped = self._mapped.get(worker, set())
        large = _large(parcel)
        if not large <= mapped:
            # It lets go of what it maps besides, as new memory arrives.
            worker.known -= mapped - large
            self._mapped[worker] = large
        parts, fds = _message(parcel, worker.known)
        try:
            worker.send(*parts, fds=fds)
        except WorkerGone as gone:
            self._discard(worker)
            self._not_taken(parcel, gone)
            return
        except BaseException:
            self._discard(worker)
            raise
        worker.learn([part.digest for part in parcel.parts])
        self._busy[worker] = [parcel]

    def _not_taken(self, parcel: Parcel, gone: WorkerGone) -> None:
        """See what becomes of a parcel whose worker ended before it had taken it."""
        if parcel.key in self._refused:
            # Twice is no accident: they die of what they are sent, or cannot live at all.
            self._ended.append(Outcome(parcel.key, [], gone.unstarted or Died(gone.exitcode)))
        else:
            # It may have died between two parcels, so nothing of ours was lost: any other will do.
            self._refused.add(parcel.key)
            self._waiting.append(parcel)

    def _sent_ahead(self, parcel: Parcel) -> bool:
        """Send a parcel to a worker that is at work on one like it, if there is such a one.

        What is sent behind another must be small: a worker that writes its answer does not read, and neither may wait
        for the other.
        """
        for worker, parcels in self._busy.items():
            if len(parcels) > 1 or parcels[0].program is not parcel.program:
                continue
            if not _large(parcel) <= self._mapped.get(worker, set()):
                continue
            parts, fds = _message(parcel, worker.known)
            if fds or sum(map(len, parts)) > worker.spare:
                continue
            try:
                worker.send(*parts)
            except WorkerGone:
                # What it was at work on is lost with it; `wait` finds that out, and whose fault it was.
                return False
            worker.learn([part.digest for part in parcel.parts])
            parcels.append(parcel)
            return True
        return False

    def wait(self, timeout: Optional[float] = None) -> List[Outcome]:
        while self._waiting and self.free():
            self.send(self._waiting.popleft())
        self._release_idle()
        if self._ended:
            ended, self._ended = self._ended, []
            self._refused.difference_update([outcome.key for outcome in ended])
            return ended
        if not self._busy and not self._rung:
            # Every worker is with other runs, or there is nothing to send: the bell tells of both.
            timeout = 0.05
        elif self._deadlines:
            timeout = self._until_deadline(timeout)
        outcomes: List[Outcome] = []
        for worker, answers in self._ready(timeout):
            outcome = self._heard(worker) if answers else self._overheard(worker)
            if outcome is not None:
                outcomes.append(outcome)
        if self._deadlines:
            outcomes += self._late()
        if self._refused:
            self._refused.difference_update([outcome.key for outcome in outcomes])
        return outcomes

    def _ready(self, timeout: Optional[float]) -> List[Tuple[Worker, bool]]:
        """Block until a worker has said something, or the bell was rung, or the time is up.

        Return who has, and whether it is an answer or a notice, or else what a node prints.
        """
        by_descriptor = {worker.fileno(): worker for worker in self._busy}
        listening = {worker.ear.fileno(): worker for worker in self._busy if worker.ear.fileno() >= 0}
        starting = [worker for worker in self._busy if not worker.up]
        if starting:
            timeout = min(_LOOK, math.inf if timeout is None else timeout)
        found = [(worker, True) for worker in starting if worker.is_overdue()]
        if found:
            return found
        for descriptor in channel.ready([self._bell, *by_descriptor, *listening], timeout):
            if descriptor == self._bell:
                os.read(self._bell, 4096)
                self._rung = False
            elif descriptor in listening:
                found.append((listening[descriptor], False))
            else:
                found.append((by_descriptor[descriptor], True))
        return sorted(found, key=itemgetter(1))  # what was printed before an answer comes before it

    def _overheard(self, worker: Worker) -> Optional[Outcome]:
        """Show what nodes print and log; when that fails, so does the parcel that the worker is at work on."""
        try:
            show(worker.ear.hear())
        except Exception as error:
            return Outcome(self._lose(worker).key, [], error)
        return None

    def _heard(self, worker: Worker) -> Optional[Outcome]:
        """Read what a worker says, and give it more; return how the parcel it was at work on ended, if it has."""
        if worker not in self._busy:
            return None  # it was lost by what it printed
        parcel = self._busy[worker][0]
        try:
            if not worker.up:
                worker.attend()
                return None
            self._deadlines.pop(worker, None)
            outcome, answer = self._received(worker, parcel)
        except WorkerGone as gone:
            self._lose(worker)
            if gone.unstarted is not None:
                self._not_taken(parcel, gone)
                return None
            return Outcome(parcel.key, [], Died(gone.exitcode))
        except Exception as error:
            self._lose(worker)
            return Outcome(parcel.key, [], error)
        if answer is None:
            self._note(worker, decode_notice(outcome.parts[0]))
            return None
        if answer.changed:
            self._lose(worker)
            if worker.fresh:
                return Outcome(parcel.key, [], ChangedModuleError(tuple(answer.changed)))
            self._waiting.appendleft(parcel)
            return None
        worker.fresh = False
        self._attempts.pop(worker, None)
        behind = self._busy.pop(worker)[1:]
        if behind:
            self._busy[worker] = behind
        else:
            self._idle.append(worker)
            self._pool.leave(self)
        if answer.missing:
            # The worker keeps a bounded number of parts, and has let go of some that it once had.
            worker.known.difference_update(answer.missing)
            self.send(parcel)
            return None
        if self._pool.wanted(self):
            self._release_idle()
        elif self._waiting and self._idle:
            # At once: the worker is at work again while its results are being read.
            self.send(self._waiting.popleft())
        return outcome

    def _note(self, worker: Worker, notice: Notice) -> None:
        attempts = self._attempts.setdefault(worker, {})
        if notice.seconds:
            self._deadlines[worker] = (time.monotonic() + notice.seconds, notice)
            attempts[notice.call] = attempts.get(notice.call, 0) + 1
        elif not notice.failed:
            attempts.pop(notice.call, None)  # the next one of this call is another item's

    def _until_deadline(self, timeout: Optional[float]) -> Optional[float]:
        left = max(0.0, min(self._deadlines.values(), key=itemgetter(0))[0] - time.monotonic())
        return left if timeout is None else min(left, timeout)

    def _late(self) -> List[Outcome]:
        """Kill the workers whose time is up."""
        now = time.monotonic()
        outcomes: List[Outcome] = []
        for worker, (deadline, notice) in list(self._deadlines.items()):
            if deadline <= now:
                del self._deadlines[worker]
                attempts = self._attempts[worker][notice.call]
                parcel = self._lose(worker)
                outcomes.append(Outcome(parcel.key, [], Late(notice.call, attempts)))
        return outcomes

    @staticmethod
    def _received(worker: Worker, parcel: Parcel) -> Tuple[Outcome, Optional[AnswerHeader]]:
        """Read what a worker says, and the header when it is an answer and no notice."""
        fds: List[int] = []
        answer = worker.receive(fds)
        if len(answer) == 1:  # a notice
            return Outcome(parcel.key, answer, None), None
        header = decode_answer(answer[0])
        if header.told:
            show(worker.ear.hear())
        try:
            (memory,) = take(fds, header.sizes)
        except OSError as error:
            return Outcome(parcel.key, [], error), header
        return Outcome(parcel.key, answer, None, memory), header

    def _release_idle(self) -> None:
        # Whoever waits for answers has nothing to send: workers without a parcel are of more use to other runs.
        while self._idle:
            worker = self._idle.pop()
            try:
                if worker in self._mapped:
                    worker.known -= self._mapped.pop(worker)
                    worker.send()
            except WorkerGone:
                self._discard(worker)
            else:
                self._pool.release(worker)

    def _lose(self, worker: Worker) -> Parcel:
        """Forget a worker that was at work; return that parcel. What waited behind it is sent to another."""
        parcel, *behind = self._busy.pop(worker)
        self._waiting.extendleft(behind)
        self._discard(worker)
        return parcel

    def _discard(self, worker: Worker) -> None:
        self._mapped.pop(worker, None)
        self._attempts.pop(worker, None)
        worker.kill()
        try:
            with contextlib.suppress(Exception):  # there is something worse to tell
                show(worker.ear.hear())
        finally:
            self._pool.discard(worker)

    def entered(self) -> bool:
        return self._pool.entered()

    def ring(self) -> None:
        if self._closed:
            return
        self._rung = True
        try:
            os.write(self._ringer, b"!")
        except BlockingIOError:
            # The pipe is full of rings already.
            return

    def close(self) -> None:
        if self._closed:
            return
        self.abandon()
        self._closed = True
        os.close(self._bell)
        os.close(self._ringer)

    def abandon(self) -> None:
        self._pool.leave(self)
        for worker in self._busy:
            self._discard(worker)
        self._busy.clear()
        self._waiting.clear()
        self._ended.clear()
        self._deadlines.clear()
        self._release_idle()


class ExecutorCourier:
    """Parcels as calls on a process executor that belongs to the user: never shut down, never resized.

    No descriptor can go with a call, so large buffers stay in the pickles.
    """

    renews = False
    memory = False
    native_threads: Optional[int] = None

    def __init__(self, executor: Executor, workers: int) -> None:
        self._executor = executor
        self._workers = workers
        self._answers: Any = queue.SimpleQueue()
        self._out: Dict[Future[Any], object] = {}

    def free(self) -> bool:
        return len(self._out) < self._workers

    def room(self) -> bool:
        return False  # an executor has a queue of its own, and bounds on what may be in it

    def send(self, parcel: Parcel) -> None:
        # Whichever process of the executor takes it, it may be one that has seen nothing of this run.
        parts, _ = _message(parcel, frozenset())
        future = self._executor.submit(worker_module.answer_for, self._workers, parts)
        self._out[future] = parcel.key
        future.add_done_callback(self._answers.put)

    def wait(self, timeout: Optional[float] = None) -> List[Outcome]:
        try:
            future = self._answers.get(timeout=timeout)
        except queue.Empty:
            return []
        if future is None or future not in self._out:
            return []
        return [self._outcome(future)]

    def _outcome(self, future: Future[Any]) -> Outcome:
        key = self._out.pop(future)
        error = future.exception()
        if error is None:
            parts = future.result()
            changed = decode_answer(parts[0]).changed
            return Outcome(key, parts, ChangedModuleError(tuple(changed)) if changed else None)
        # A broken pool says no more than that; concurrent.futures and loky word it alike.
        died = "Broken" in type(error).__name__ or "Terminated" in type(error).__name__
        return Outcome(key, [], Died(None) if died else _as_exception(error))

    def entered(self) -> bool:
        return False

    def ring(self) -> None:
        self._answers.put(None)

    def abandon(self) -> None:
        for future in list(self._out):
            future.cancel()
        self._out.clear()

    def close(self) -> None:
        self.abandon()


def _as_exception(error: BaseException) -> Exception:
    return error if isinstance(error, Exception) else RuntimeError(repr(error))
