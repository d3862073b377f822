"""Requests in, answers out, through an executor of the user's, for processes or of a class that nobody knows."""

from __future__ import annotations

import contextlib
import queue
import uuid
from concurrent.futures import CancelledError, Executor, Future
from typing import Any, Callable, Dict, List, Optional

from hypernodes.errors import ChangedModuleError
from hypernodes.errors.running import refused
from hypernodes.runtime.drivers.executors import is_of_dask
from hypernodes.runtime.processes import worker as worker_module
from hypernodes.runtime.processes.wire import Died, Outcome, WorkRequest, decode_response, message_of

_DEATHS = ("Broken", "Terminated", "KilledWorker")
"""Parts of the names of what executors raise for a process that is gone: those of the standard library, loky, Dask."""


class ExecutorTransport:
    """Requests as calls on an executor, which belongs to the user unless it is `ours`: never shut down, never resized.

    No descriptor can go with a call, so large buffers stay in the pickles.

    Parameters
    ----------
    executor : Executor
        Whose processes, or threads, run the requests.
    workers : int
        How many it has.
    pipeline : str
        The name of the pipeline, for errors.
    ours : int, optional
        That its processes are ours, and take on what this one has; and the number of threads that numerical libraries
        may start in each.
    broken : callable, optional
        Told, with the executor, that one of its processes is gone.
    """

    renews = False
    memory = False

    def __init__(
        self,
        executor: Executor,
        workers: int,
        pipeline: str,
        ours: Optional[int] = None,
        broken: Optional[Callable[[Executor], None]] = None,
    ) -> None:
        self.follows = ours is not None
        self.native_threads = ours
        self._broken = broken
        self._executor = executor
        self._pipeline = pipeline
        self._workers = workers
        self._answers: Any = queue.SimpleQueue()
        self._out: Dict[Future[Any], object] = {}
        # Dask cancels what runs as well, which goes on all the same, and nobody could wait for it.
        self._cancels = not is_of_dask(executor)
        self._left: List[Future[Any]] = []  # nobody reads what these come to

    def free(self) -> bool:
        return len(self._out) < self._workers

    def room(self) -> bool:
        return False  # an executor has a queue of its own, and bounds on what may be in it

    def send(self, request: WorkRequest) -> None:
        # Whichever process of the executor takes it, it may be one that has seen nothing of this run.
        parts, _ = message_of(request, frozenset())
        try:
            if self.follows:
                future = self._executor.submit(worker_module.answer_alone, parts)
            else:
                # A cluster may take functions for pure, and would not call one again that is called with the same.
                future = self._executor.submit(worker_module.answer_for, self._workers, parts, uuid.uuid4().hex)
        except Exception as error:
            raise refused(self._pipeline, self._executor, error) from error
        self._out[future] = request.key
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
        error = _error_of(future)
        if error is None:
            parts = future.result()
            changed = decode_response(parts[0]).changed
            return Outcome(key, parts, ChangedModuleError(tuple(changed)) if changed else None)
        if any(part in type(error).__name__ for part in _DEATHS):
            if self._broken is not None:
                self._broken(self._executor)
            return Outcome(key, [], Died(None))
        return Outcome(key, [], refused(self._pipeline, self._executor, error))

    def entered(self) -> bool:
        return False

    def wake(self) -> None:
        self._answers.put(None)

    def abandon(self) -> None:
        for future in list(self._out):
            if not (self._cancels and future.cancel()):
                self._left.append(future)
        self._out.clear()

    def close(self) -> None:
        self.abandon()
        # What still runs there is the run's, and ends with it.
        for future in self._left:
            _error_of(future)
        self._left.clear()


def _error_of(future: Future[Any]) -> Optional[BaseException]:
    """Wait for a future, and return what it raises."""
    with contextlib.suppress(CancelledError):
        return future.exception()
    return CancelledError("the executor cancelled it")
