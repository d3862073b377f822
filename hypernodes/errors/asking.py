"""What is wrong with what a run, a map or a plan is asked for, said before any node runs."""

from __future__ import annotations

from typing import Dict, List, Mapping, Tuple

import attrs

from hypernodes.errors.base import HyperNodesError, did_you_mean, listed


@attrs.define(eq=False)
class MissingInputError(HyperNodesError, TypeError):
    """Parameters that no input, default or node provides.

    Attributes
    ----------
    pipeline, node, parameter : str
        The first of them, and who needs it.
    provided : tuple of str
        The names that were provided.
    item : str
        Which item of a map it was, in words; empty outside of maps that spread their items.
    missing : tuple of (str, str, str)
        Pipeline, node and parameter of each.
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
    """A name that the pipeline does not have: an input, an output or a `map_over`.

    Attributes
    ----------
    pipeline : str
        The name of the pipeline.
    role : str
        What the name was given for, such as ``'output'``.
    given : str
        The name.
    known : tuple of str
        The names that it could have been.
    item : str
        Which item of a map it was, in words; empty outside of maps that spread their items.
    """

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
    """A value that cannot be mapped over.

    Attributes
    ----------
    pipeline : str
        The name of the pipeline.
    parameter : str
        The input whose value it is.
    given : str
        What the value is, in words.
    fix : str
        What to do about it.
    """

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
    """Mapped values of different lengths under ``map_mode="zip"``.

    Attributes
    ----------
    pipeline : str
        The name of the pipeline.
    lengths : mapping of str to int
        Input → how many items it has.
    """

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
class ReadOnceError(HyperNodesError, TypeError):
    """A value that can be read once, has several readers or is mapped over, and cannot be listed for them.

    Attributes
    ----------
    subject : str
        What it is the value of, worded for a person.
    given : str
        What the value is, in words.
    fix : str
        What to do about it.
    """

    subject: str
    given: str
    fix: str

    def __str__(self) -> str:
        needed = "which can be read once, and several readers, or a map, need a list of it"
        return f"{self.subject} is {self.given}, {needed}\n  fix: {self.fix}"


@attrs.define(eq=False)
class PlanInputsError(HyperNodesError, TypeError):
    """Inputs other than those a plan was made for.

    Attributes
    ----------
    plan : str
        The name of the pipeline that the plan is of.
    made_for : tuple of str
        The names it was made for.
    given : tuple of str
        The names it was given.
    """

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
    """A plan dumped in a version of the schema that this package does not know.

    Attributes
    ----------
    given : str
        That version, as it stands in the text.
    known : int
        The version that this package reads.
    """

    given: str
    known: int

    def __str__(self) -> str:
        return (
            f"this plan was dumped in version {self.given} of the schema, and this hypernodes reads {self.known}\n"
            f"  fix: read it with the release that wrote it, or dump it again with plan.to_json()"
        )
