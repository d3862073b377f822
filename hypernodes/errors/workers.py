"""What cannot cross to worker processes, and what becomes of these."""

from __future__ import annotations

import signal
import sys
from typing import Optional, Tuple

import attrs

from hypernodes.errors.base import HyperNodesError, listed


@attrs.define(eq=False)
class NotPicklableError(HyperNodesError, TypeError):
    """Something that has to cross to another process and cannot.

    Attributes
    ----------
    subject : str
        What has to, worded for a person: ``"node 'fetch'"``, ``"input 'client'"``.
    path : tuple of str
        The steps from there to the culprit: ``("closure variable 'client'", "attribute '_lock'")``.
    cause : str
        Type and text of the pickling fault.
    fix : str
        What to do about it.
    """

    subject: str
    path: Tuple[str, ...]
    cause: str
    fix: str = (
        "make it inside the node, pass something it can be made from (a path, an address), give its class a "
        "__reduce__, or run this work with node_execution / map_execution = 'threaded'"
    )

    def advise_loop(self, node: str) -> None:
        """Say in the fix what a coroutine function can do that a plain one cannot: stay here, on the event loop."""
        self.fix = f"@node(placement='loop') keeps the coroutine function {node!r} in this process; or {self.fix}"

    def __str__(self) -> str:
        trail = " → ".join((self.subject, *self.path))
        return f"cannot be sent to another process: {trail}\n  cause: {self.cause}\n  fix: {self.fix}"


@attrs.define(eq=False)
class ChangedModuleError(HyperNodesError, RuntimeError):
    """Worker processes that would run other code than this program.

    Attributes
    ----------
    modules : tuple of str
        Names of modules that were edited while a run started.
    """

    modules: Tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"worker processes have loaded {', '.join(map(repr, self.modules))} from another source than this program\n"
            "  fix: run again; or reload what was edited; a new pool of processes, where they are your own executor's"
        )


@attrs.define(eq=False)
class WorkerDiedError(HyperNodesError, RuntimeError):
    """A worker process that ended while it ran a node.

    Attributes
    ----------
    pipeline : str
        The name of the pipeline, or the path of a nested one.
    nodes : tuple of str
        Names of the nodes of the bundle that ran, one of which it was.
    items : str
        Which item it was, or one of which, in words; empty outside of maps.
    exitcode : int or None
        The exit status, negative for a signal (as in `subprocess`), None when it is unknown.
    losses : int
        How many workers died with this work.
    """

    pipeline: str
    nodes: Tuple[str, ...]
    items: str
    exitcode: object = None
    losses: int = 1

    def __str__(self) -> str:
        code = self.exitcode
        if isinstance(code, int) and code < 0:
            how = f"was killed by signal {_signal_name(-code)}"
        elif code is None:
            how = "is gone without an exit code"
        else:
            how = f"exited with code {code}"
        at = f", {self.items}" if self.items else ""
        again = f" (the last of {self.losses} workers that died with it)" if self.losses > 1 else ""
        return (
            f"pipeline {self.pipeline!r}: the worker process running {listed(self.nodes)}{at} {how}{again}\n"
            f"  fix: look for a crash in native code, os._exit, or more memory than the machine has"
        )


@attrs.define(eq=False)
class WorkerStartError(HyperNodesError, RuntimeError):
    """A worker process that ended before it could take anything; no node is to blame, and none was run in it.

    Attributes
    ----------
    command : tuple of str
        What was started.
    exitcode : int or None
        Its exit status, negative for a signal; None when there was no process, or it is unknown.
    reason : str
        What it said, or what the system did.
    """

    command: Tuple[str, ...]
    exitcode: Optional[int]
    reason: str

    def __str__(self) -> str:
        lines = self.reason.strip().splitlines() or ["it said nothing"]
        code = "" if self.exitcode is None else f" (exit code {self.exitcode})"
        version = ".".join(map(str, sys.version_info[:2]))
        return (
            f"worker processes cannot start{code}: {lines[-1]}\n"
            f"  command: {' '.join(map(_one_line, self.command))}\n"
            f"  fix: call multiprocessing.set_executable() with the path of a Python {version} that has the packages "
            f"of this program (sys.executable is {sys.executable!r}), or use mode 'threaded'"
        ) + ("\n  it said:\n    " + "\n    ".join(lines) if len(lines) > 1 else "")


@attrs.define(eq=False)
class InitializerError(HyperNodesError, RuntimeError):
    """The `initializer` of a backend raised an exception in a worker; its cause is that exception.

    Attributes
    ----------
    initializer : str
        The name of the function.
    reason : str
        What it raised, in words.
    """

    initializer: str
    reason: str

    def __str__(self) -> str:
        return (
            f"the initializer {self.initializer!r} of this LocalBackend failed: {self.reason}\n"
            f"  fix: see the exception below which this one came from; without it no worker may run a node"
        )


@attrs.define(eq=False)
class NestedWorkersError(HyperNodesError, RuntimeError):
    """Workers asked for where each of them would ask for workers again, without end.

    Attributes
    ----------
    module, file : str
        The module, imported by a worker process, whose code asked for them, and where it is; empty when an object did
        while it was read there, or when it is the `depth`.
    depth : int
        How many levels of pools are within each other; 0 when that is not what is wrong.
    """

    module: str
    file: str
    depth: int

    def __str__(self) -> str:
        if self.depth:
            return (
                f"a pipeline runs in worker processes within worker processes, {self.depth} levels deep, and no "
                f"deeper: it looks like runs within runs without end\n"
                f"  fix: give the inner pipeline a backend in another mode, such as 'threaded'"
            )
        if not self.module:
            return (
                "an object runs a pipeline in worker processes while it is unpickled (in __setstate__ or __reduce__), "
                "and a worker process unpickles it: each would start others, without end\n"
                "  fix: run that pipeline in the node that needs its result"
            )
        twin = (
            f"; or rename the file: {self.module!r} is a module of the standard library"
            if self.module.partition(".")[0] in getattr(sys, "stdlib_module_names", ())
            else ""
        )
        return (
            f"module {self.module!r} ({self.file}) runs a pipeline in worker processes while it is imported, and a "
            f"worker process imports it: each would start others, without end\n"
            f'  fix: move the run into a function, or below `if __name__ == "__main__":`{twin}'
        )


def _signal_name(number: int) -> str:

    try:
        return f"{number} ({signal.Signals(number).name})"
    except ValueError:
        return str(number)


def _one_line(argument: str) -> str:
    return f"'{argument.splitlines()[0]} …'" if "\n" in argument else argument
