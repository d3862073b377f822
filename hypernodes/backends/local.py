"""What runs pipelines on this machine: modes, workers and maybe an executor in, executables that borrow them out."""

from __future__ import annotations

import contextlib
import os
import threading
from concurrent.futures import Executor
from typing import Any, Callable, FrozenSet, Optional, Tuple

from hypernodes import collection
from hypernodes.backends.base import Backend
from hypernodes.backends.demand import demanded
from hypernodes.backends.executable import LocalExecutable
from hypernodes.errors import ClosedError, OptionError, PlacementError, did_you_mean
from hypernodes.events.hooks import Listeners
from hypernodes.events.subscriber import AtOnce
from hypernodes.ir.graph import Graph
from hypernodes.lowering import lower, seal
from hypernodes.lowering.plan import Options, Plan, calls_in, timed_bundles
from hypernodes.request import Request
from hypernodes.runtime.bundle.layers import Layers
from hypernodes.runtime.drivers.cores import usable_cores
from hypernodes.runtime.drivers.run import Resources
from hypernodes.runtime.drivers.thread_pool import ThreadPool

MODES = ("sequential", "async", "threaded", "parallel")

# Modules whose executors run work in other processes, or on other machines, without deriving from ProcessPoolExecutor.
_REMOTE_MODULES = ("loky", "distributed", "ray", "mpi4py", "ipyparallel", "joblib")
_PROCESS_POOL = "concurrent.futures.process"
_THREAD_POOL = "concurrent.futures.thread"

THREADS, PROCESSES = "threads", "processes"

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

    Raises
    ------
    OptionError
        For a mode that does not exist, fewer than one worker, or an executor that serves neither mode.

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
    ) -> None:
        modes = (_mode("node_execution", node_execution), _mode("map_execution", map_execution))
        self._by_default = max_workers is None
        if max_workers is None:
            max_workers = _width_of(executor) or _default_workers(modes)
        elif isinstance(max_workers, bool) or not isinstance(max_workers, int):
            raise OptionError("max_workers", repr(max_workers), "pass a whole number of workers, 1 or more")
        elif max_workers < 1:
            raise OptionError("max_workers", repr(max_workers), "pass 1 or more, or leave it out for a default")
        if isinstance(worker_retries, bool) or not isinstance(worker_retries, int) or worker_retries < 0:
            raise OptionError("worker_retries", repr(worker_retries), "pass a whole number, 0 for none")
        if executor is not None:
            _check_executor(executor, modes)
        self.worker_retries = worker_retries
        self._options = Options(node_execution, map_execution, max_workers)
        self._executor = executor
        self._serves = frozenset() if executor is None else served(executor) & _asked(modes)
        # Where no mode asks for threads, those beside an event loop are as many as other libraries would use.
        threaded = "async" in modes or "threaded" in modes
        self._threads = ThreadPool(self._options.max_workers if threaded else _waiting_threads())
        self._pool: Any = None
        self._native_threads = 1
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
        if PROCESSES not in self._serves:
            return
        for bundle in timed_bundles(plan):
            name = next(step.name for step in calls_in(bundle.steps) if step.policy.timeout is not None)
            kind = type(self._executor).__name__
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
        from hypernodes.runtime.processes.executor_transport import ExecutorTransport
        from hypernodes.runtime.processes.pool import WorkerPool
        from hypernodes.runtime.processes.transports import PoolTransport
        from hypernodes.runtime.processes.worker import server

        if self._executor is not None and PROCESSES in self._serves:
            return ExecutorTransport(self._executor, self.max_workers, pipeline)
        with _guard:
            if self._closed:
                raise ClosedError("this LocalBackend")
            if self._pool is None:
                cores = usable_cores()
                # A default made for waiting threads would be too many processes.
                size = role.share(min(self.max_workers, cores) if self._by_default else self.max_workers)
                self._pool = WorkerPool(size, server(size))
                # Together, numerical libraries in the workers start one thread for each core.
                self._native_threads = max(1, cores // size)
            return PoolTransport(self._pool, self._native_threads)

    def close(self) -> None:
        """End the worker processes, if any were started; the executor that was passed in stays as it is."""
        with _guard:
            self._closed = True
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()

    def __enter__(self) -> LocalBackend:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        executor = f", executor={type(self._executor).__name__}" if self._executor is not None else ""
        return (
            f"LocalBackend(node_execution={self.node_execution!r}, map_execution={self.map_execution!r}, "
            f"max_workers={self.max_workers}{executor})"
        )

    def __reduce__(self) -> Tuple[object, ...]:
        # Options travel; processes, and an executor, belong to the process they were made in.
        return LocalBackend, (self.node_execution, self.map_execution, self.max_workers, None, self.worker_retries)


def served(executor: object) -> FrozenSet[str]:
    """Return what an executor can run: work for `THREADS`, for `PROCESSES`, or either where nobody knows where it runs.

    Its class and what that derives from say so, by the names of their modules: to import the process pool for an
    isinstance would cost every user multiprocessing.
    """
    modules = [cls.__module__ for cls in type(executor).__mro__]
    if _PROCESS_POOL in modules or any(module.split(".")[0] in _REMOTE_MODULES for module in modules):
        return frozenset({PROCESSES})
    return frozenset({THREADS} if _THREAD_POOL in modules else {THREADS, PROCESSES})


def _asked(modes: Tuple[str, str]) -> FrozenSet[str]:
    """Return what work there is for an executor in these modes."""
    threads = {THREADS} if "threaded" in modes or "async" in modes else set()
    return frozenset(threads | ({PROCESSES} if "parallel" in modes else set()))


def _mode(option: str, given: object) -> str:
    if given in MODES:
        return str(given)
    hint = did_you_mean(given, MODES) if isinstance(given, str) else ""
    raise OptionError(option, repr(given), f"use one of {', '.join(map(repr, MODES))}{hint}")


def _default_workers(modes: Tuple[str, str]) -> int:
    if "async" in modes or "threaded" in modes:
        return _waiting_threads()
    return usable_cores() if "parallel" in modes else 1


def _width_of(executor: object) -> Optional[int]:
    """Return how many workers an executor has, where it says so: those of the standard library, loky and Dask do."""
    if executor is None or isinstance(executor, type):
        return None
    found = getattr(executor, "_max_workers", None)
    client = getattr(executor, "_client", None)
    if client is not None and type(executor).__module__.split(".")[0] == "distributed":
        with contextlib.suppress(Exception):  # a cluster that does not answer now may do so later
            found = sum(client.nthreads().values())
    return found if type(found) is int and found > 0 else None


def _waiting_threads() -> int:
    # The same number as concurrent.futures.ThreadPoolExecutor, for the same reason: threads mostly wait.
    return min(32, (os.cpu_count() or 1) + 4)


def _check_executor(executor: object, modes: Tuple[str, str]) -> None:
    shown = type(executor).__name__
    if isinstance(executor, type):
        name = executor.__name__
        raise OptionError("executor", name, f"it is the class: pass an object, executor={name}(max_workers=...)")
    if not callable(getattr(executor, "submit", None)):
        raise OptionError("executor", shown, "pass a concurrent.futures.Executor: something with submit(fn, *args)")
    asked, can = _asked(modes), served(executor)
    if not asked:
        raise OptionError("executor", shown, 'sequential work needs none: set one of the modes to "threaded"')
    if asked & can:
        return
    if PROCESSES in can:
        raise OptionError(
            "executor",
            shown,
            'it runs work in other processes, which only mode "parallel" can use: set one of the modes to "parallel", '
            "or pass a ThreadPoolExecutor",
        )
    raise OptionError(
        "executor",
        shown,
        'it runs work in threads, which only modes "threaded" and "async" can use: set one of the modes to '
        '"threaded", or pass a ProcessPoolExecutor',
    )


__all__ = ["LocalBackend"]
