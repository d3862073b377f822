"""What is wrong with options, nodes and pipelines as they are written, said before anything is built of them."""

from __future__ import annotations

from typing import Tuple

import attrs

from hypernodes.errors.base import HyperNodesError


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
class PlacementError(HyperNodesError, ValueError):
    """A node that cannot do, where it would run, what was asked of it."""

    pipeline: str
    node: str
    problem: str
    fix: str

    def __str__(self) -> str:
        return f"pipeline {self.pipeline!r}: node {self.node!r} {self.problem}\n  fix: {self.fix}"
