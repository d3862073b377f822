"""What runs pipelines on this machine: modes, workers and maybe an executor in, executables that borrow them out."""

from __future__ import annotations

import os
import threading
from concurrent.futures import Executor
from typing import Any, Callable, Optional, Tuple

from hypernodes import collection
from hypernodes.backends.base import Backend
from hypernodes.backends.demand import demanded
from hypernodes.backends.executable import LocalExecutable
from hypernodes.backends.options import (
    PROCESSES,
    THREADS,
    asked,
    check_executor,
    initializer_of,
    mode_of,
    retries_of,
    served,
    waiting_threads,
    workers_of,
)
from hypernodes.errors import ClosedError, PlacementError
from hypernodes.events.hooks import Listeners
from hypernodes.events.subscriber import AtOnce
from hypernodes.ir.graph import Graph
from hypernodes.lowering import lower, seal
from hypernodes.lowering.plan import Options, Plan, calls_in, timed_bundles
from hypernodes.pickling import dumps
from hypernodes.request import Request
from hypernodes.runtime.bundle.layers import Layers
from hypernodes.runtime.drivers import cores
from hypernodes.runtime.drivers.run import Resources
from hypernodes.runtime.drivers.thread_pool import ThreadPool

# Guards the pool of every backend. One lock for all, which a fork waits for: in the child the thread that held it would
# not be there to release it. Re-entrant, for a finaliser or a signal handler.
_guard = threading.RLock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_guard.acquire, after_in_child=_guard.release, after_in_parent=_guard.release)


class LocalBackend(Backend):
    """How a pipeline runs on this machine.

    Parameters
    ----------
    node_execution : {"sequential", "async", "threaded", "parallel"}
        How independent nodes run within one run or one item.
    map_execution : {"sequential", "async", "threaded", "parallel"}
        How the items of a map run.
    max_workers : int, optional
        The most nodes or items in flight at once in one run, over all nested maps together; and the most functions that
        compute at once in threads, and in processes, over all runs of this backend. By default the usable cores (those
        the process may run on) for parallel work, and ``min(32, cores + 4)`` for async and threaded work.
    executor : concurrent.futures.Executor, optional
        Used for the threaded or the parallel work instead of threads or processes of the backend's own. It is never
        shut down and never resized, and its work runs nowhere else: a run on one that takes none is an
        `ExecutorError`. Its width is the default of `max_workers`, where it says it.
    worker_retries : int, optional
        How often work is tried again whose worker process died: killed, crashed, out of memory. A lost chunk of items
        is then run again in pieces, which finds the item that kills; so a function may run more than once for an
        item. With 0 nothing ever does.
    initializer : callable, optional
        Called as ``initializer(*initargs)`` once in each thread and in each worker process of the backend's own, before
        it runs its first node: to load a model, to open a connection. What it raises ends the run, as an
        `InitializerError`. It does not run in the thread that a run is called from, which then runs no threaded work.
    initargs : tuple, optional
        Its arguments.

    Raises
    ------
    OptionError
        For a mode that does not exist, fewer than one worker, an executor that serves neither mode, an initializer that
        cannot be called, or one beside an executor, which has its own.

    Notes
    -----
    Large arrays and `bytes` (128 KiB and more) reach worker processes through shared memory. Those that all items of a
    map share are copied once, whatever their number, and are read-only in the workers: numpy raises a ValueError, and a
    node that has to write makes a copy first. An item's own values may be changed in place; the caller does not see
    it. An `executor` that runs work in processes gets copies of everything.

    Examples
    --------
    >>> with LocalBackend(map_execution="threaded", max_workers=8) as backend:
    ...     pipeline.backend = backend  # doctest: +SKIP
    """

    def __init__(
        self,
        node_execution: str = "sequential",
        map_execution: str = "sequential",
        max_workers: Optional[int] = None,
        executor: Optional[Executor] = None,
        worker_retries: int = 1,
        initializer: Optional[Callable[..., object]] = None,
        initargs: Tuple[Any, ...] = (),
    ) -> None:
        modes = (mode_of("node_execution", node_execution), mode_of("map_execution", map_execution))
        self._by_default = max_workers is None
        if executor is not None:
            check_executor(executor, modes)
        self.worker_retries = retries_of(worker_retries)
        self._initializer = initializer_of(initializer, initargs, executor)
        self._options = Options(node_execution, map_execution, workers_of(max_workers, executor, modes))
        self._executor = executor
        self._asked = asked(modes)
        self._serves = frozenset() if executor is None else served(executor) & self._asked
        # Where no mode asks for threads, those beside an event loop are as many as other libraries would use.
        count = self._options.max_workers if THREADS in self._asked else waiting_threads()
        self._threads = ThreadPool(count, self._initializer)
        self._workers: Any = None
        self._closed = False

    @property
    def node_execution(self) -> str:
        """The mode of nodes."""
        return self._options.nodes

    @property
    def map_execution(self) -> str:
        """The mode of map items."""
        return self._options.items

    @property
    def max_workers(self) -> int:
        """The most nodes or items in flight at once."""
        return self._options.max_workers

    @property
    def executor(self) -> Optional[Executor]:
        """The executor it was given."""
        return self._executor

    @property
    def options(self) -> Options:
        """What a plan is lowered for."""
        return self._options

    def compile(self, graph: Graph, request: Request, listeners: Optional[Listeners] = None) -> LocalExecutable:
        """Return what runs one kind of run of a graph; see `Backend.compile`."""
        with collection.paused():
            demand = demanded(graph, request, self)
            plan = seal(lower(demand.graph, self._options))
            self._check(plan)
            return LocalExecutable(plan, self._lend, listeners, demand.provided, request.collects)

    def _lend(self, layers: Optional[Layers], events: Optional[Callable[[Any], None]], subscriber: AtOnce) -> Resources:
        executor = self._executor if THREADS in self._serves else None
        lent = (self.max_workers, self._threads, executor, self._feeder, self.worker_retries)
        return Resources(*lent, layers, events, subscriber)

    def _check(self, plan: Plan) -> None:
        """Refuse a plan that needs what only processes of our own can do.

        Raises
        ------
        PlacementError
            For a plain function with a timeout on a process executor of the user's.
        """
        lent = PROCESSES in self._serves
        if not lent and cores.has_own_pool():
            return
        kind = type(self._executor).__name__ if lent else "executor of loky's"
        for bundle in timed_bundles(plan):
            name = next(step.name for step in calls_in(bundle.steps) if step.policy.timeout is not None)
            raise PlacementError(
                plan.name,
                name,
                f"has a timeout and would run in a process of a {kind}, which cannot be killed alone",
                "leave out executor= (hypernodes then starts processes of its own), make the node a coroutine "
                "function, or leave out the timeout",
            )

    def _feeder(self, run: Any, linked: Any, resources: Any) -> Any:
        """Return what feeds worker processes for one run."""
        # Imported at the first parallel run: what processes need costs more to import than all the rest. This first of
        # all, as it may be the import of the rest that leads here.
        from hypernodes.runtime.processes import role

        role.check()
        from hypernodes.runtime.processes.lane import ProcessLane

        return ProcessLane(run, linked, resources, self.transport(linked.plan.name))

    def transport(self, pipeline: str = "") -> Any:
        """Return what carries the requests of one run to worker processes."""
        # Imported at the first parallel run: what processes need costs more to import than all the rest. This first of
        # all, as it may be the import of the rest that leads here.
        from hypernodes.runtime.processes import role

        role.check()
        if self._executor is not None and PROCESSES in self._serves:
            from hypernodes.runtime.processes.executor_transport import ExecutorTransport

            return ExecutorTransport(self._executor, self.max_workers, pipeline)
        from hypernodes.runtime.processes.own_workers import OwnWorkers

        initializer: Optional[bytes] = None
        if self._workers is None and self._initializer is not None:
            # Before the lock: pickling runs code of the user's.
            initializer = dumps(self._initializer, "the initializer of LocalBackend")
        with _guard:
            if self._closed:
                raise ClosedError("this LocalBackend")
            if self._workers is None:
                # A default made for waiting threads would be too many processes.
                most = min(self.max_workers, cores.usable_cores()) if self._by_default else self.max_workers
                self._workers = OwnWorkers(role.share(most), initializer)
            return self._workers.transport(pipeline)

    def warm(self) -> None:
        """Start the worker processes, call the `initializer` in each, and return when they are ready.

        The first run of a service does not wait for them then. Does nothing for modes without processes, nor with an
        executor, and nothing more when they are there already; threads are started as they are needed.

        Raises
        ------
        WorkerStartError, InitializerError
            Where a process cannot start.
        ClosedError
            After `close`.
        """
        if PROCESSES in self._asked - self._serves:
            transport = self.transport()
            from hypernodes.runtime.processes.warming import warm

            warm(transport)

    def close(self, wait: bool = True) -> None:
        """Take no parallel runs any more, and end the worker processes, if any were started.

        The executor that was passed in stays as it is. May be called twice, and by several threads.

        Parameters
        ----------
        wait : bool, optional
            Whether to return only when the runs in progress have ended, and the processes. Not waited for are runs that
            this thread itself is in, or has called, such as a stream that is left open: these lose their processes.
            Without it the processes end when the last run has.
        """
        with _guard:
            self._closed = True
        if wait:
            self._threads.wait()
            self._end_workers()
        else:
            self._threads.when_left(self._end_workers)

    def _end_workers(self) -> None:
        with _guard:
            workers, self._workers = self._workers, None
        if workers is not None:
            workers.close()

    def __enter__(self) -> LocalBackend:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        executor = f", executor={type(self._executor).__name__}" if self._executor is not None else ""
        initializer = f", initializer={self._initializer.name}" if self._initializer is not None else ""
        return (
            f"LocalBackend(node_execution={self.node_execution!r}, map_execution={self.map_execution!r}, "
            f"max_workers={self.max_workers}{executor}{initializer})"
        )

    def __reduce__(self) -> Tuple[object, ...]:
        # Options travel; processes, and an executor, belong to the process they were made in.
        first = self._initializer
        called = () if first is None else (first.function, first.args)
        options = (self.node_execution, self.map_execution, self.max_workers, None, self.worker_retries)
        return LocalBackend, (*options, *called)


__all__ = ["LocalBackend"]
