"""Requests in, answers out, through a process executor of the user's."""

from __future__ import annotations

import queue
from concurrent.futures import Executor, Future
from typing import Any, Dict, List, Optional

from hypernodes.errors import ChangedModuleError
from hypernodes.errors.running import refused
from hypernodes.runtime.processes import worker as worker_module
from hypernodes.runtime.processes.wire import Died, Outcome, WorkRequest, decode_response, message_of


class ExecutorTransport:
    """Requests as calls on a process executor that belongs to the user: never shut down, never resized.

    No descriptor can go with a call, so large buffers stay in the pickles.
    """

    renews = False
    memory = False
    native_threads: Optional[int] = None

    def __init__(self, executor: Executor, workers: int, pipeline: str) -> None:
        self._executor = executor
        self._pipeline = pipeline
        self._workers = workers
        self._answers: Any = queue.SimpleQueue()
        self._out: Dict[Future[Any], object] = {}

    def free(self) -> bool:
        return len(self._out) < self._workers

    def room(self) -> bool:
        return False  # an executor has a queue of its own, and bounds on what may be in it

    def send(self, request: WorkRequest) -> None:
        # Whichever process of the executor takes it, it may be one that has seen nothing of this run.
        parts, _ = message_of(request, frozenset())
        try:
            future = self._executor.submit(worker_module.answer_for, self._workers, parts)
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
        error = future.exception()
        if error is None:
            parts = future.result()
            changed = decode_response(parts[0]).changed
            return Outcome(key, parts, ChangedModuleError(tuple(changed)) if changed else None)
        # A broken pool says no more than that; concurrent.futures and loky word it alike.
        died = "Broken" in type(error).__name__ or "Terminated" in type(error).__name__
        return Outcome(key, [], Died(None) if died else _as_exception(error))

    def entered(self) -> bool:
        return False

    def wake(self) -> None:
        self._answers.put(None)

    def abandon(self) -> None:
        for future in list(self._out):
            future.cancel()
        self._out.clear()

    def close(self) -> None:
        self.abandon()


def _as_exception(error: BaseException) -> Exception:
    return error if isinstance(error, Exception) else RuntimeError(repr(error))
