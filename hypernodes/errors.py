"""Every exception of the package: facts of a fault in, one readable message out.

Each error holds its facts as fields (tests match those) and words them once, in `__str__` (people read that). They
are attrs classes because an attrs exception survives pickling, so it can leave a worker process. Each also derives from
the built-in exception that a caller who has never heard of hypernodes would catch: `ValueError`, `TypeError`, ...
"""

from __future__ import annotations

import difflib
import sys
from typing import Dict, Iterable, List, Mapping, Optional, Tuple

import attrs


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'tokens'?"`` for the nearest known name, or an empty string when none is near."""
    close = difflib.get_close_matches(given, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def listed(names: Iterable[str]) -> str:
    """Return the names quoted and joined by commas, or the word nothing."""
    return ", ".join(repr(name) for name in names) or "nothing"


class HyperNodesError(Exception):
    """Base of everything this package raises on purpose."""


@attrs.define(eq=False)
class OptionError(HyperNodesError, ValueError):
    """An option that cannot mean anything: a mode, a number of workers, an executor."""

    option: str
    given: str
    fix: str

    def __str__(self) -> str:
        return f"{self.option}={self.given} is not possible\n  fix: {self.fix}"


@attrs.define(eq=False)
class NodeDefinitionError(HyperNodesError, TypeError):
    """A function, or the way it was decorated, that cannot become a node."""

    node: str
    problem: str
    fix: str

    def __str__(self) -> str:
        return f"node {self.node!r}: {self.problem}\n  fix: {self.fix}"


@attrs.define(eq=False)
class PipelineDefinitionError(HyperNodesError, ValueError):
    """Nodes that do not make a pipeline: none at all, or something among them that is no node."""

    pipeline: str
    problem: str
    fix: str

    def __str__(self) -> str:
        return f"pipeline {self.pipeline!r}: {self.problem}\n  fix: {self.fix}"


@attrs.define(eq=False)
class DuplicateOutputError(HyperNodesError, ValueError):
    """Two nodes of one pipeline that define the same output; `collisions` has each output, and both of its nodes."""

    pipeline: str
    output: str
    first: str
    second: str
    collisions: Tuple[Tuple[str, str, str], ...] = ()

    def __str__(self) -> str:
        collisions = self.collisions or ((self.output, self.first, self.second),)
        twice = "; ".join(f"nodes {first!r} and {second!r} both define {name!r}" for name, first, second in collisions)
        mapping = ", ".join(f"{name!r}: ..." for name in dict.fromkeys(name for name, _, _ in collisions))
        return (
            f"pipeline {self.pipeline!r}: {twice}\n"
            f"  fix: give one of them another output_name, or rename with as_node(output_mapping={{{mapping}}})"
        )


@attrs.define(eq=False)
class CycleError(HyperNodesError, ValueError):
    """Nodes that wait for each other; `path` starts and ends with the same node."""

    pipeline: str
    path: Tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"pipeline {self.pipeline!r}: nodes wait for each other: {' → '.join(self.path)}\n"
            f"  fix: rename a parameter or an output so that one of these nodes can run first"
        )


@attrs.define(eq=False)
class TypeMismatchError(HyperNodesError, TypeError):
    """A value whose declared type is not what a reader of it declares; `hint` is a fix that fits this very pair."""

    pipeline: str
    value: str
    producer: str
    produced: str
    consumer: str
    parameter: str
    wanted: str
    hint: str = ""

    def __str__(self) -> str:
        return f"pipeline {self.pipeline!r}: {self._what()}\n  fix: {self._fix()}"

    def _what(self) -> str:
        return (
            f"value {self.value!r} is made by {self.producer!r} as {self.produced}, "
            f"and {self.consumer!r} reads it by parameter {self.parameter!r} as {self.wanted}"
        )

    def _fix(self) -> str:
        return (
            f"{self.hint + '; or ' if self.hint else ''}change one of the two annotations (to a Union, a Protocol or "
            f"Any for a value that is both), put a converting node between them, "
            f"or switch the check off with Pipeline(..., type_check=False)"
        )


@attrs.define(eq=False)
class ReaderMismatchError(TypeMismatchError):
    """Two readers of one input whose declared types clash: `producer` is the first of them, `consumer` the other."""

    def _what(self) -> str:
        return (
            f"input {self.value!r} is read by {self.producer!r} as {self.produced}, "
            f"and by {self.consumer!r}, as its parameter {self.parameter!r}, as {self.wanted}"
        )

    def _fix(self) -> str:
        return (
            "change one of the two annotations (to a Union, a Protocol or Any for a value that is both), give one of "
            "the two parameters another name, or switch the check off with Pipeline(..., type_check=False)"
        )


@attrs.define(eq=False)
class MissingInputError(HyperNodesError, TypeError):
    """Parameters that no input, default or node provides.

    The first of them is `parameter` of `node` in `pipeline`; `missing` has pipeline, node and name of each.
    """

    pipeline: str
    node: str
    parameter: str
    provided: Tuple[str, ...]
    item: str = ""
    missing: Tuple[Tuple[str, str, str], ...] = ()

    def __str__(self) -> str:
        where = f", {self.item}" if self.item else ""
        needed: Dict[str, List[str]] = {}
        for pipeline, node, name in self.missing or ((self.pipeline, self.node, self.parameter),):
            needed.setdefault(name, []).append(f"{node!r}{'' if pipeline == self.pipeline else f' of {pipeline!r}'}")
        lines = []
        for name, nodes in needed.items():
            needs = f"node {nodes[0]} needs" if len(nodes) == 1 else f"nodes {', '.join(nodes)} need"
            lines.append(f"{needs} {name!r}, and nothing provides it{did_you_mean(name, self.provided)}")
        some = len(needed) > 1
        return (
            f"pipeline {self.pipeline!r}{where}: " + "\n  ".join(lines) + "\n"
            f"  provided: {listed(self.provided)}\n"
            f"  fix: pass inputs={{{', '.join(f'{name!r}: ...' for name in needed)}}} "
            f"or add {'nodes' if some else 'a node'} with output_name={' and '.join(map(repr, needed))}"
        )


@attrs.define(eq=False)
class UnknownNameError(HyperNodesError, ValueError):
    """A name that the pipeline does not have: an input, an output or a `map_over`; `role` says which."""

    pipeline: str
    role: str
    given: str
    known: Tuple[str, ...]
    item: str = ""

    def __str__(self) -> str:
        where = f", {self.item}" if self.item else ""
        return (
            f"pipeline {self.pipeline!r}{where} has no {self.role} {self.given!r}"
            f"{did_you_mean(self.given, self.known)}\n"
            f"  known: {listed(self.known)}"
        )


@attrs.define(eq=False)
class MapInputError(HyperNodesError, TypeError):
    """A value that cannot be mapped over."""

    pipeline: str
    parameter: str
    given: str
    fix: str

    def __str__(self) -> str:
        return (
            f"pipeline {self.pipeline!r}: cannot map over {self.parameter!r}, which is {self.given}\n  fix: {self.fix}"
        )


@attrs.define(eq=False)
class MapLengthError(HyperNodesError, ValueError):
    """Mapped values of different lengths under ``map_mode="zip"``."""

    pipeline: str
    lengths: Mapping[str, int]

    def __str__(self) -> str:
        each = ", ".join(f"{name!r} has {length}" for name, length in self.lengths.items())
        return (
            f"pipeline {self.pipeline!r}: map_mode='zip' needs values of one length, but {each}\n"
            f"  fix: pass lists of equal length, or use map_mode='product' for every combination"
        )


@attrs.define(eq=False)
class StreamLengthError(MapLengthError):
    """Iterators of different lengths under ``map_mode="zip"``, found when the first of them ends.

    `lengths` counts what was read of each: one more than the shortest, of those that go on.
    """

    def __str__(self) -> str:
        shortest = min(self.lengths.values())
        ended = [name for name, length in self.lengths.items() if length == shortest]
        others = [name for name in self.lengths if name not in ended]
        return (
            f"pipeline {self.pipeline!r}: map_mode='zip' needs values of one length, but {listed(ended)} ended after "
            f"{shortest} items, and {listed(others)} goes on\n"
            f"  fix: let the iterators end together: itertools.islice cuts one short, itertools.cycle repeats one"
        )


@attrs.define(eq=False)
class OutputCountError(HyperNodesError, ValueError):
    """A node with several output names whose function did not return a tuple of that length."""

    node: str
    outputs: Tuple[str, ...]
    given: str

    def __str__(self) -> str:
        return (
            f"node {self.node!r} defines {len(self.outputs)} outputs ({', '.join(self.outputs)}), "
            f"so its function has to return a tuple of {len(self.outputs)}; it returned {self.given}"
        )


@attrs.define(eq=False)
class ReadOnceError(HyperNodesError, TypeError):
    """A value that can be read once, has several readers, and cannot be listed for them."""

    subject: str
    given: str
    fix: str

    def __str__(self) -> str:
        return f"{self.subject} is {self.given}, which can be read once, and several read it\n  fix: {self.fix}"


@attrs.define(eq=False)
class NotPicklableError(HyperNodesError, TypeError):
    """Something that has to cross to another process and cannot: the path leads from `subject` to the culprit.

    `subject` is worded for a person (``"node 'fetch'"``, ``"input 'client'"``); `path` holds the steps from there,
    such as ``("closure variable 'client'", "attribute '_lock'")``; `cause` is the type and text of the pickling fault.
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
    """Worker processes that would run other code than this program: `modules` were edited while a run started."""

    modules: Tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"worker processes have loaded {', '.join(map(repr, self.modules))} from another source than this program\n"
            "  fix: run again; or reload what was edited; a new pool of processes, where they are your own executor's"
        )


@attrs.define(eq=False)
class PlacementError(HyperNodesError, ValueError):
    """A node that cannot do, where it would run, what was asked of it."""

    pipeline: str
    node: str
    problem: str
    fix: str

    def __str__(self) -> str:
        return f"pipeline {self.pipeline!r}: node {self.node!r} {self.problem}\n  fix: {self.fix}"


@attrs.define(eq=False)
class NodeTimeoutError(HyperNodesError, TimeoutError):
    """A call of a node that took longer than its `timeout`, in seconds; it was cancelled, or its process killed."""

    node: str
    seconds: float

    def __str__(self) -> str:
        return f"node {self.node!r} did not end within its timeout of {self.seconds:g} s"


@attrs.define(eq=False)
class WorkerDiedError(HyperNodesError, RuntimeError):
    """A worker process that ended while it ran a node.

    `exitcode` is the process's exit status, negative for a signal (as in `subprocess`), None when it is unknown.
    `losses` counts the workers that died with this work.
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

    `command` is what was started, `exitcode` its exit status, negative for a signal, None when there was no process or
    it is unknown; `reason` is what it said, or what the system did.
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
class NestedWorkersError(HyperNodesError, RuntimeError):
    """Workers asked for where each of them would ask for workers again, without end.

    By the code of a `module` (in `file`) that a worker process imports; with no module, by an object that one reads, or
    when `depth` is not 0, so many levels of pools within pools.
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


@attrs.define(eq=False)
class PlanInputsError(HyperNodesError, TypeError):
    """Inputs other than those a plan was made for."""

    plan: str
    made_for: Tuple[str, ...]
    given: Tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"the plan of {self.plan!r} was made for inputs {listed(self.made_for)}, "
            f"and was given {listed(self.given)}\n"
            f"  fix: pipeline.plan(inputs={{...}}) with the names you will run it with"
        )


@attrs.define(eq=False)
class PlanVersionError(HyperNodesError, ValueError):
    """A plan dumped in a version of the schema that this package does not know; `given` is the text of that version."""

    given: str
    known: int

    def __str__(self) -> str:
        return (
            f"this plan was dumped in version {self.given} of the schema, and this hypernodes reads {self.known}\n"
            f"  fix: read it with the release that wrote it, or dump it again with plan.to_json()"
        )


@attrs.define(eq=False)
class RetryError(HyperNodesError, RuntimeError):
    """A result with failures in it that nothing can run again."""

    problem: str
    fix: str

    def __str__(self) -> str:
        return f"what failed cannot be run again: {self.problem}\n  fix: {self.fix}"


@attrs.define(eq=False)
class ClosedError(HyperNodesError, RuntimeError):
    """Work for a backend that has been closed."""

    what: str

    def __str__(self) -> str:
        return f"{self.what} is closed\n  fix: make a new LocalBackend, or run inside its `with` block"


def _one_line(argument: str) -> str:
    return f"'{argument.splitlines()[0]} …'" if "\n" in argument else argument


def _signal_name(number: int) -> str:
    import signal

    try:
        return f"{number} ({signal.Signals(number).name})"
    except ValueError:
        return str(number)
