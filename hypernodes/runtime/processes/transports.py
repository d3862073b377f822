"""Requests in, answers out, over the pipes of our own worker pool (through an executor of the user's: `executors`)."""

from __future__ import annotations

import contextlib
import math
import os
from collections import deque
from operator import itemgetter
from typing import Deque, Dict, List, Optional, Set, Tuple

from hypernodes.errors import ChangedModuleError
from hypernodes.runtime.processes import channel
from hypernodes.runtime.processes.hearing import show
from hypernodes.runtime.processes.memory import take
from hypernodes.runtime.processes.pool import Worker, WorkerGone, WorkerPool
from hypernodes.runtime.processes.watches import Watches
from hypernodes.runtime.processes.wire import (
    Died,
    Outcome,
    ResponseHeader,
    WorkRequest,
    decode_notice,
    decode_response,
    message_of,
)

_LOOK = 1.0  # seconds between two looks at whether processes that start have begun in time


def _large(request: WorkRequest) -> Set[str]:
    return {part.digest for part in request.shared if part.memory is not None}


class PoolTransport:
    """Requests over the pipes of a `WorkerPool`: one at a worker, and behind it one more of the same kind.

    A worker is leased for one request. One that has answered is kept for the next request of this run unless another
    run waits for a worker, which saves the pool's lock on every request. One that goes back holds no large memory.
    """

    renews = True
    memory = True
    follows = True

    def __init__(self, pool: WorkerPool, native_threads: int) -> None:
        self.native_threads: Optional[int] = native_threads
        self._pool = pool
        self._idle: List[Worker] = []
        # What each was sent and has not answered: the first is at work, the other waits in the pipe.
        self._busy: Dict[Worker, List[WorkRequest]] = {}
        self._waiting: Deque[WorkRequest] = deque()
        self._watches = Watches()
        self._refused: Set[object] = set()  # requests that a worker died before it had taken
        self._ended: List[Outcome] = []  # of requests that were lost like that
        # Who maps the large buffers of which shared parts. A worker keeps the latest: to send one again is cheap.
        self._mapped: Dict[Worker, Set[str]] = {}
        self._wakeup, self._waker = channel.one_way()
        os.set_blocking(self._waker, False)
        self._woken = False
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
        return any(len(requests) == 1 for requests in self._busy.values())

    def send(self, request: WorkRequest) -> None:
        if not self._idle:
            if not self._sent_ahead(request):
                self._waiting.append(request)
            return
        worker = self._idle.pop()
        mapped = self._mapped.get(worker, set())
        large = _large(request)
        if not large <= mapped:
            # It lets go of what it maps besides, as new memory arrives.
            worker.known -= mapped - large
            self._mapped[worker] = large
        parts, fds = message_of(request, worker.known)
        try:
            worker.send(*parts, fds=fds)
        except WorkerGone as gone:
            self._discard(worker)
            self._not_taken(request, gone)
            return
        except BaseException:
            self._discard(worker)
            raise
        worker.learn([part.digest for part in request.parts])
        self._busy[worker] = [request]

    def _not_taken(self, request: WorkRequest, gone: WorkerGone) -> None:
        """See what becomes of a request whose worker ended before it had taken it."""
        if request.key in self._refused:
            # Twice is no accident: they die of what they are sent, or cannot live at all.
            self._ended.append(Outcome(request.key, [], gone.unstarted or Died(gone.exitcode)))
        else:
            # It may have died between two requests, so nothing of ours was lost: any other will do.
            self._refused.add(request.key)
            self._waiting.append(request)

    def _sent_ahead(self, request: WorkRequest) -> bool:
        """Send a request to a worker that is at work on one like it, if there is such a one.

        What is sent behind another must be small: a worker that writes its answer does not read, and neither may wait
        for the other.
        """
        for worker, requests in self._busy.items():
            if len(requests) > 1 or requests[0].program is not request.program:
                continue
            if not _large(request) <= self._mapped.get(worker, set()):
                continue
            parts, fds = message_of(request, worker.known)
            if fds or sum(map(len, parts)) > worker.spare:
                continue
            try:
                worker.send(*parts)
            except WorkerGone:
                # What it was at work on is lost with it; `wait` finds that out, and whose fault it was.
                return False
            worker.learn([part.digest for part in request.parts])
            requests.append(request)
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
        # With no worker at work, all are with other runs, or there is nothing to send: a wake-up tells of both.
        timeout = self._watches.within(timeout) if self._busy or self._woken else 0.05
        outcomes: List[Outcome] = []
        for worker, answers in self._ready(timeout):
            outcome = self._heard(worker) if answers else self._overheard(worker)
            if outcome is not None:
                outcomes.append(outcome)
        # Those whose time is up are killed.
        outcomes += [Outcome(self._lose(worker).key, [], late) for worker, late in self._watches.late()]
        if self._refused:
            self._refused.difference_update([outcome.key for outcome in outcomes])
        return outcomes

    def _ready(self, timeout: Optional[float]) -> List[Tuple[Worker, bool]]:
        """Block until a worker has said something, or it was woken, or the time is up.

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
        for descriptor in channel.ready([self._wakeup, *by_descriptor, *listening], timeout):
            if descriptor == self._wakeup:
                os.read(self._wakeup, 4096)
                self._woken = False
            elif descriptor in listening:
                found.append((listening[descriptor], False))
            else:
                found.append((by_descriptor[descriptor], True))
        return sorted(found, key=itemgetter(1))  # what was printed before an answer comes before it

    def _overheard(self, worker: Worker) -> Optional[Outcome]:
        """Show what nodes print and log; when that fails, so does the request that the worker is at work on."""
        try:
            show(worker.ear.hear())
        except Exception as error:
            return Outcome(self._lose(worker).key, [], error)
        return None

    def _heard(self, worker: Worker) -> Optional[Outcome]:
        """Read what a worker says, and give it more; return how the request it was at work on ended, if it has."""
        if worker not in self._busy:
            return None  # it was lost by what it printed
        request = self._busy[worker][0]
        try:
            if not worker.up:
                worker.attend()
                return None
            self._watches.pause(worker)
            outcome, answer = self._received(worker, request)
        except WorkerGone as gone:
            self._lose(worker)
            if gone.unstarted is not None:
                self._not_taken(request, gone)
                return None
            return Outcome(request.key, [], Died(gone.exitcode))
        except Exception as error:
            self._lose(worker)
            return Outcome(request.key, [], error)
        if answer is None:
            self._watches.note(worker, decode_notice(outcome.parts[0]))
            return None
        if answer.changed:
            self._lose(worker)
            if worker.fresh:
                return Outcome(request.key, [], ChangedModuleError(tuple(answer.changed)))
            self._waiting.appendleft(request)
            return None
        worker.fresh = False
        self._watches.forget(worker)
        behind = self._busy.pop(worker)[1:]
        if behind:
            self._busy[worker] = behind
        else:
            self._idle.append(worker)
            self._pool.leave(self)
        if answer.missing:
            # The worker keeps a bounded number of parts, and has let go of some that it once had.
            worker.known.difference_update(answer.missing)
            self.send(request)
            return None
        if self._pool.wanted(self):
            self._release_idle()
        elif self._waiting and self._idle:
            # At once: the worker is at work again while its results are being read.
            self.send(self._waiting.popleft())
        return outcome

    @staticmethod
    def _received(worker: Worker, request: WorkRequest) -> Tuple[Outcome, Optional[ResponseHeader]]:
        """Read what a worker says, and the header when it is an answer and no notice."""
        fds: List[int] = []
        answer = worker.receive(fds)
        if len(answer) == 1:  # a notice
            return Outcome(request.key, answer, None), None
        header = decode_response(answer[0])
        if header.told:
            show(worker.ear.hear())
        try:
            (memory,) = take(fds, header.sizes)
        except OSError as error:
            return Outcome(request.key, [], error), header
        return Outcome(request.key, answer, None, memory), header

    def _release_idle(self) -> None:
        # Whoever waits for answers has nothing to send: workers without a request are of more use to other runs.
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

    def _lose(self, worker: Worker) -> WorkRequest:
        """Forget a worker that was at work; return that request. What waited behind it is sent to another."""
        request, *behind = self._busy.pop(worker)
        self._waiting.extendleft(behind)
        self._discard(worker)
        return request

    def _discard(self, worker: Worker) -> None:
        self._mapped.pop(worker, None)
        self._watches.forget(worker)
        worker.kill()
        try:
            with contextlib.suppress(Exception):  # there is something worse to tell
                show(worker.ear.hear())
        finally:
            self._pool.discard(worker)

    def entered(self) -> bool:
        return self._pool.entered()

    def wake(self) -> None:
        if self._closed:
            return
        self._woken = True
        try:
            os.write(self._waker, b"!")
        except BlockingIOError:
            # The pipe is full of them already.
            return

    def close(self) -> None:
        if self._closed:
            return
        self.abandon()
        self._closed = True
        os.close(self._wakeup)
        os.close(self._waker)

    def abandon(self) -> None:
        self._pool.leave(self)
        for worker in self._busy:
            self._discard(worker)
        self._busy.clear()
        self._waiting.clear()
        self._ended.clear()
        self._watches.clear()
        self._release_idle()
