"""A function and a number of workers in, warm processes out, with a pipe to each: any one can be asked, or killed.

    acquire ─▶ Worker.send(parts) ═══ one pipe ═══▶ target(connection), in a process of its own
    release ◀─ Worker.receive()   ◀════════════════ connection.send(parts)

    not started ── acquire ──▶ leased ── release ──▶ idle ── acquire ──▶ leased …
                                  └── discard, or found dead ──▶ killed; its place is free

The pool moves bytes and knows nothing of nodes, plans or pickles. It starts a process only for a lease that no idle
worker can serve (that costs 0.15 s and what the target imports), hands out the most recently used one, whose caches
are warm, and gives each to one caller at a time. A worker ends with its pool or with this process, whichever goes
first, however it goes.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
import time
import weakref
from typing import List, Optional, Set

from hypernodes.errors import ClosedError
from hypernodes.runtime.processes import process
from hypernodes.runtime.processes.channel import Connection, Target
from hypernodes.runtime.processes.fair_share import Asker, FairShare
from hypernodes.runtime.processes.process import Worker, WorkerGone

__all__ = ["Connection", "Target", "Worker", "WorkerGone", "WorkerPool"]

_GRACE = 0.2  # seconds for idle workers to run their exit handlers when the pool closes; then they are killed
_WHAT = "LocalBackend's worker pool"


class _Guard:
    """A lock that says who holds it; reentrant, as a garbage collection within may end a run."""

    _ident = staticmethod(threading.get_ident)  # in reach when the interpreter ends, and the module is not

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._depth = 0
        self.owner = 0

    def __enter__(self) -> None:
        self._lock.acquire()
        self._depth += 1
        self.owner = self._ident()

    def __exit__(self, *exc: object) -> None:
        self._depth -= 1
        if not self._depth:
            self.owner = 0
        self._lock.release()


class WorkerPool:
    """Worker processes that stay warm between leases; safe to use from several threads.

    A forked child has an empty pool of its own. A pool that is forgotten, or open when the program ends, is closed.

    Parameters
    ----------
    max_workers : int
        Processes that may exist at once. None is started before it is asked for.
    target : callable
        A module-level function of one `Connection`, run in each worker; it answers messages until `receive` is None.
    name : str
        Of each worker, for `multiprocessing.current_process`.
    """

    _closed = True  # for __del__ after an __init__ that failed
    # Of the interpreter, whose modules are no longer in reach then: workers end with it, or have ended before.
    _is_ending = staticmethod(sys.is_finalizing)

    def __init__(self, max_workers: int, target: Target, name: str = "hypernodes") -> None:
        self.max_workers = max_workers
        self._target = target
        self._name = name
        self._lock = _Guard()  # of the rest
        self._idle: List[Worker] = []  # most recently used last
        self._leased: Set[Worker] = set()
        self._starting = 0
        self._turns = FairShare()
        self._closed = False
        _pools.add(self)

    @property
    def size(self) -> int:
        """How many processes there are, those being started included."""
        return len(self._idle) + len(self._leased) + self._starting

    @property
    def idle(self) -> int:
        """How many of them wait for a lease."""
        return len(self._idle)

    @property
    def _free(self) -> int:
        return self.max_workers - len(self._leased) - self._starting

    def acquire(self, asker: Optional[Asker] = None) -> Optional[Worker]:
        """Lease a worker: the idle one used last, or a new one while there are fewer than `max_workers`, or None.

        An `asker` that gets None is woken when it is its turn, before those who ask later.

        Raises
        ------
        ClosedError
            After `close`.
        """
        with self._lock:
            if self._closed:
                raise ClosedError(_WHAT)
            if self._free <= 0 or (asker is not None and not self._turns.may_take(asker, self._free)):
                if asker is not None:
                    self._turns.ask(asker)
                return None
            if asker is not None:
                self._turns.leave(asker)
            while self._idle:
                worker = self._idle.pop()
                if worker.is_quiet():
                    self._leased.add(worker)
                    return worker
                worker.kill()
                worker.drop()
            self._starting += 1
        return self._start()

    def entered(self) -> bool:
        """Return whether this thread holds the lock of this pool, as under a garbage collection within."""
        return self._lock.owner == threading.get_ident()

    def leave(self, asker: Asker) -> None:
        """Note that an asker waits no longer."""
        with self._lock:
            self._turns.leave(asker)

    def wanted(self, asker: Asker) -> bool:
        """Return whether anybody but `asker` waits for a worker."""
        return self._turns.others(asker)

    def release(self, worker: Worker) -> None:
        """End a lease. The worker must have answered all it was sent (else `discard` it); a dead one is dropped."""
        with self._lock:
            if worker in self._leased and worker.is_quiet():
                self._leased.remove(worker)
                self._idle.append(worker)
                self._turns.call(self._free)
                return
        self.discard(worker)

    def discard(self, worker: Worker) -> None:
        """Kill a leased worker and forget it."""
        worker.kill()
        worker.drop()
        with self._lock:
            self._leased.discard(worker)
            self._turns.call(self._free)

    def close(self) -> None:
        """End all workers: the idle ones by asking, leased ones by killing, which their users see as ClosedError."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self.end_workers()

    def end_workers(self) -> None:
        """Do that, and stay open."""
        with self._lock:
            idle, self._idle = self._idle, []
            leased, self._leased = self._leased, set()
        for worker in idle:
            worker.ask_to_end()
        for worker in leased:
            worker.revoke(_WHAT)
        deadline = time.monotonic() + _GRACE
        try:
            while time.monotonic() < deadline and not all(worker.has_ended() for worker in idle):
                time.sleep(process.POLL)
        finally:
            for worker in idle:
                worker.send_signal(signal.SIGKILL)
            for worker in idle:
                worker.kill()
                worker.drop()

    def __del__(self) -> None:
        if not self._is_ending():
            self.close()

    def _start(self) -> Worker:
        """Turn a place counted in `_starting` into a leased worker."""
        worker = None
        started = False

        def begun() -> None:
            nonlocal started
            started = True
            with self._lock:
                self._starting -= 1
                if worker is not None:
                    self._leased.add(worker)
                self._turns.call(self._free)

        try:
            try:
                with process.sigint_held():
                    try:
                        worker = process.start(self._target, self._name)
                    finally:
                        begun()
            finally:
                if not started:  # there was not even a descriptor for what holds it
                    begun()
            if self._closed:
                raise ClosedError(_WHAT)
        except BaseException:
            # Ctrl-C while the process started arrives when sigint_held ends, and then nobody would release this lease.
            if worker is not None:
                self.discard(worker)
            raise
        return worker

    def _after_fork(self) -> None:
        """Start anew in a forked child, where none of the parent's threads and leases exist."""
        self._lock = _Guard()  # another thread of the parent may have held it
        for worker in (*self._idle, *self._leased):
            worker.disown()
        self._idle.clear()
        self._leased.clear()
        self._starting = 0
        self._turns = FairShare()


_pools: weakref.WeakSet[WorkerPool] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    # Handlers that were registered before this one come after it, and may run pipelines. What they start is ended by
    # the end of this process.
    for pool in list(_pools):
        pool.end_workers()


def _after_fork() -> None:
    for pool in list(_pools):
        pool._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
