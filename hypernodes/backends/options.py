"""Options of a backend as people give them in, checked and with their defaults out, or an error that says what fits."""

from __future__ import annotations

import contextlib
import os
from concurrent.futures import Executor
from typing import FrozenSet, Optional, Tuple

from hypernodes.errors import OptionError, did_you_mean
from hypernodes.runtime.drivers.cores import usable_cores
from hypernodes.runtime.drivers.executors import is_of_dask, runs_in_processes, runs_in_threads
from hypernodes.runtime.drivers.initializer import Initializer

MODES = ("sequential", "async", "threaded", "parallel")

THREADS, PROCESSES = "threads", "processes"


def served(executor: object) -> FrozenSet[str]:
    """Return what an executor can run: work for `THREADS`, for `PROCESSES`, or both where nobody knows its class."""
    if runs_in_processes(executor):
        return frozenset({PROCESSES})
    return frozenset({THREADS} if runs_in_threads(executor) else {THREADS, PROCESSES})


def asked(modes: Tuple[str, str]) -> FrozenSet[str]:
    """Return what work there is in these modes, beside the caller's own thread."""
    threads = {THREADS} if "threaded" in modes or "async" in modes else set()
    return frozenset(threads | ({PROCESSES} if "parallel" in modes else set()))


def mode_of(option: str, given: object) -> str:
    """Return a mode, if it is one."""
    if given in MODES:
        return str(given)
    hint = did_you_mean(given, MODES) if isinstance(given, str) else ""
    raise OptionError(option, repr(given), f"use one of {', '.join(map(repr, MODES))}{hint}")


def workers_of(given: Optional[int], executor: Optional[Executor], modes: Tuple[str, str]) -> int:
    """Return the number of workers: as given, else of the executor where it says it, else what suits the modes."""
    if given is None:
        return width_of(executor) or default_workers(modes)
    if isinstance(given, bool) or not isinstance(given, int):
        raise OptionError("max_workers", repr(given), "pass a whole number of workers, 1 or more")
    if given < 1:
        raise OptionError("max_workers", repr(given), "pass 1 or more, or leave it out for a default")
    return given


def retries_of(given: int) -> int:
    """Return how often what a worker died with is tried again."""
    if isinstance(given, bool) or not isinstance(given, int) or given < 0:
        raise OptionError("worker_retries", repr(given), "pass a whole number, 0 for none")
    return given


def initializer_of(function: object, args: object, executor: Optional[Executor]) -> Optional[Initializer]:
    """Return what workers call first, or raise OptionError for what cannot be called there."""
    if function is None:
        if args != ():
            raise OptionError("initargs", repr(args), "pass the function that takes them as initializer=, too")
        return None
    if not callable(function):
        raise OptionError("initializer", repr(function), "pass a function, and its arguments as initargs=(...)")
    if not isinstance(args, tuple):
        raise OptionError("initargs", repr(args), "pass a tuple, such as (model,)")
    if executor is not None:
        fix = f"pass it to the {type(executor).__name__}, whose threads or processes are its own"
        raise OptionError("initializer", repr(function), fix)
    return Initializer(function, args)


def default_workers(modes: Tuple[str, str]) -> int:
    """Return how many workers there are where nobody says it."""
    work = asked(modes)
    return waiting_threads() if THREADS in work else usable_cores() if PROCESSES in work else 1


def width_of(executor: object) -> Optional[int]:
    """Return how many workers an executor has, where it says so: those of the standard library, loky and Dask do."""
    if executor is None or isinstance(executor, type):
        return None
    found = getattr(executor, "_max_workers", None)
    client = getattr(executor, "_client", None)
    if client is not None and is_of_dask(executor):
        with contextlib.suppress(Exception):  # a cluster that does not answer now may do so later
            found = sum(client.nthreads().values())
    return found if type(found) is int and found > 0 else None


def waiting_threads() -> int:
    """Return how many threads there are for what mostly waits."""
    # The same number as concurrent.futures.ThreadPoolExecutor, for the same reason: threads mostly wait.
    return min(32, (os.cpu_count() or 1) + 4)


def check_executor(executor: object, modes: Tuple[str, str]) -> None:
    """Refuse an executor that does not serve the modes, or is none."""
    shown = type(executor).__name__
    if isinstance(executor, type):
        name = executor.__name__
        raise OptionError("executor", name, f"it is the class: pass an object, executor={name}(max_workers=...)")
    if not callable(getattr(executor, "submit", None)):
        raise OptionError("executor", shown, "pass a concurrent.futures.Executor: something with submit(fn, *args)")
    work, can = asked(modes), served(executor)
    if not work:
        raise OptionError("executor", shown, 'sequential work needs none: set one of the modes to "threaded"')
    if work & can:
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
