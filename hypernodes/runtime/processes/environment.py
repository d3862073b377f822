"""What a function may see beside its arguments in, bytes out; and in a worker process the same the other way round.

A warm worker was started before the caller changed directory, extended `sys.path`, set an environment variable, a
context variable or the precision of decimals; a node has to see these wherever it runs, so they travel with the run. To
the processes of somebody's executor goes only what is in a context: the rest of them is his.
"""

from __future__ import annotations

import contextvars
import os
import pickle
import sys
from typing import Any, Dict, List, NamedTuple, Optional, Tuple, cast

from hypernodes.errors import NotPicklableError
from hypernodes.pickling import dumps, loads
from hypernodes.pickling.modules import Guard, Sources, stale
from hypernodes.runtime.drivers import libraries
from hypernodes.runtime.processes import hearing, python_state, telling

NATIVE_THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMBA_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)
"""Where numerical libraries look, when they are loaded, for the number of threads to start; the list is loky's."""

OWN = "hypernodes."
"""How the names of our own context variables begin, which say what encloses a step in this process."""


class _Process(NamedTuple):
    """What one process has, whatever runs in it."""

    directory: str
    path: List[str]
    environment: Dict[str, str]
    interpreter: Tuple[Any, ...]
    audience: Tuple[Any, ...]
    start_method: Optional[str]


class _Packed(NamedTuple):
    """What travels; it is sent as plain tuples, which any worker reads before it has the caller's modules."""

    variables: List[bytes]
    sources: Sources
    libraries: Tuple[Dict[str, bytes], bytes]
    process: Optional[Tuple[Any, ...]]


_guard = Guard()


class ChangedModules(Exception):
    """A worker has modules from another source than the program it works for."""

    def __init__(self, names: List[str]) -> None:
        super().__init__(names)
        self.names = names


def pack(context: contextvars.Context, threads: Optional[int], sources: Sources, whole: bool = True) -> bytes:
    """Return context variables and the like as bytes, and with `whole` what this process has besides.

    A numerical library in a worker may start so many `threads` unless the environment has a number for it; None leaves
    it alone. A context variable whose value cannot be pickled stays behind: most belong to libraries that keep a handle
    of this process in them, and no node asked for it to be sent. `sources` are what `look` has found.
    """
    variables: List[bytes] = []
    for variable, value in context.items():
        if variable.name.startswith(OWN) or variable.name in libraries.VARIABLES:
            continue
        try:
            variables.append(dumps((variable, value), variable.name))
        except NotPicklableError:
            continue
    # In a context like that of the run, where libraries may keep what they keep; a look at it may leave a trace.
    kept, own = context.copy().run(lambda: (libraries.packed(), tuple(python_state.kept()) if whole else ()))
    process = tuple(_process(threads, own)) if whole else None
    return pickle.dumps(tuple(_Packed(variables, sources, kept, process)), 5)


def _process(threads: Optional[int], interpreter: Tuple[Any, ...]) -> _Process:
    limits = {} if threads is None else dict.fromkeys(NATIVE_THREADS, str(threads))
    environment = {**limits, **os.environ}
    return _Process(_directory(), module_path(), environment, interpreter, tuple(hearing.audience()), start_method())


def adopt(data: bytes) -> Tuple[contextvars.Context, Sources]:
    """Make this process look like the one that packed `data`; return its context variables as a context, and `sources`.

    What libraries keep for a thread, they keep for this one from now on.

    Raises
    ------
    ChangedModules
        As `check_modules`.
    """
    packed = _Packed(*pickle.loads(data))
    if packed.process is not None:
        _guard.watch(packed.sources[1])
    check_modules(packed.sources)
    if packed.process is not None:
        _follow(_Process(*packed.process))
    context = contextvars.Context()
    for entry in packed.variables:
        try:
            variable, value = cast("Tuple[contextvars.ContextVar[Any], Any]", loads(entry))
        except Exception:
            # A class that only the parent can import; a node that needed it would fail on its own import as well.
            continue
        context.run(variable.set, value)
    context.run(libraries.adopt, *packed.libraries)
    return context, packed.sources


def _follow(process: _Process) -> None:
    directory, environment, method = process.directory, process.environment, process.start_method
    if directory and directory != _directory():
        os.chdir(directory)
    if sys.path != process.path:
        sys.path[:] = process.path
    moved = os.environ.get("TZ") != environment.get("TZ")
    for name in set(os.environ) - set(environment):
        del os.environ[name]
    for name, text in environment.items():
        if os.environ.get(name) != text:
            os.environ[name] = text
    if method is not None and method != start_method():
        import multiprocessing

        multiprocessing.set_start_method(method, force=True)
    if moved:
        python_state.set_time_zone()
    python_state.keep(python_state.Kept(*process.interpreter))
    telling.follow(telling.Audience(*process.audience))


def check_modules(sources: Sources) -> None:
    """Refuse to work when this process has other modules than the one that it works for.

    Raises
    ------
    ChangedModules
        When one of `sources` was loaded here from another source.
    """
    changed = stale(sources[0])
    if changed:
        raise ChangedModules(changed)


def module_path() -> List[str]:
    """Return `sys.path` with the directories that its relative entries mean here, such as the '' of a notebook."""
    # What is nowhere in the working directory, which may be gone, is no path: editable installs put names of their own
    # there.
    return [
        os.path.abspath(entry)
        if isinstance(entry, str) and not os.path.isabs(entry) and os.path.exists(entry or os.curdir) and _directory()
        else entry
        for entry in sys.path
    ]


def start_method() -> Optional[str]:
    """Return how `multiprocessing` starts processes here, where it was told or has decided."""
    multiprocessing = sys.modules.get("multiprocessing")
    return None if multiprocessing is None else multiprocessing.get_start_method(allow_none=True)


def _directory() -> str:
    try:
        return os.getcwd()
    except OSError:
        return ""
