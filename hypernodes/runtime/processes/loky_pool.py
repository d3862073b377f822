"""Worker processes where the system has not what our own pool is made of: an executor of loky's, made and ended by us.

Pipes that pass descriptors on, and processes that end with their parent whatever becomes of it, are Unix. Elsewhere
work goes to loky's processes. They look like this one, as ours do; but a large array is copied, a process that dies
takes the others with it, and none of them can be killed alone.
"""

from __future__ import annotations

import sys
import threading
from typing import Any, Optional

from hypernodes.errors import ClosedError, WorkerStartError
from hypernodes.runtime.processes import role, worker
from hypernodes.runtime.processes.executor_transport import ExecutorTransport


class LokyPool:
    """The processes of one backend.

    Parameters
    ----------
    size : int
        How many there are at most.
    native_threads : int
        How many threads numerical libraries may start in each.
    initializer : bytes, optional
        A pickled `Initializer`, called in each before its first node.

    Raises
    ------
    WorkerStartError
        Where loky is not installed.
    """

    def __init__(self, size: int, native_threads: int, initializer: Optional[bytes]) -> None:
        try:
            import loky  # type: ignore[import-untyped,unused-ignore]
        except ImportError as error:
            fix = "parallel mode needs the package loky on this system: pip install loky, or use mode 'threaded'"
            raise WorkerStartError((sys.executable or "",), None, fix) from error
        self._loky: Any = loky
        self._size = size
        self._native_threads = native_threads
        self._initializer = initializer
        self._guard = threading.Lock()
        self._executor: Any = None
        self._closed = False

    def transport(self, pipeline: str) -> ExecutorTransport:
        """Return what carries the requests of one run."""
        with self._guard:
            if self._closed:
                raise ClosedError("this LocalBackend")
            if self._executor is None:
                self._executor = self._loky.ProcessPoolExecutor(
                    self._size, initializer=worker.prepare, initargs=(role.together(self._size), self._initializer)
                )
            executor = self._executor
        return ExecutorTransport(executor, self._size, pipeline, ours=self._native_threads, broken=self._renew)

    def _renew(self, executor: Any) -> None:
        """Have the next run start anew, since a process of this executor has died, and it takes no work any more."""
        with self._guard:
            if self._executor is executor:
                self._executor = None
        executor.shutdown(wait=False, kill_workers=True)

    def close(self) -> None:
        """End the processes."""
        with self._guard:
            self._closed = True
            executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown(wait=True, kill_workers=True)

    def __del__(self) -> None:
        executor = getattr(self, "_executor", None)
        if executor is not None and not sys.is_finalizing():
            executor.shutdown(wait=False, kill_workers=True)
