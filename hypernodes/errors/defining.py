"""What is wrong with options, nodes and pipelines as they are written, said before anything is built of them."""

from __future__ import annotations

from typing import Tuple

import attrs

from hypernodes.errors.base import HyperNodesError


@attrs.define(eq=False)
class OptionError(HyperNodesError, ValueError):
    """An option that cannot mean anything: a mode, a number of workers, an executor.

    Attributes
    ----------
    option : str
        The name of the option.
    given : str
        Its value, as `repr` shows it.
    fix : str
        What to do about it.
    """

    option: str
    given: str
    fix: str

    def __str__(self) -> str:
        return f"{self.option}={self.given} is not possible\n  fix: {self.fix}"


@attrs.define(eq=False)
class NodeDefinitionError(HyperNodesError, TypeError):
    """A function, or the way it was decorated, that cannot become a node.

    Attributes
    ----------
    node : str
        The name of the node.
    problem : str
        What is wrong, to be read after the name.
    fix : str
        What to do about it.
    """

    node: str
    problem: str
    fix: str

    def __str__(self) -> str:
        return f"node {self.node!r}: {self.problem}\n  fix: {self.fix}"


@attrs.define(eq=False)
class PipelineDefinitionError(HyperNodesError, ValueError):
    """Nodes that do not make a pipeline: none at all, or something among them that is no node.

    Attributes
    ----------
    pipeline : str
        The name of the pipeline.
    problem : str
        What is wrong, to be read after the name.
    fix : str
        What to do about it.
    """

    pipeline: str
    problem: str
    fix: str

    def __str__(self) -> str:
        return f"pipeline {self.pipeline!r}: {self.problem}\n  fix: {self.fix}"


@attrs.define(eq=False)
class DuplicateOutputError(HyperNodesError, ValueError):
    """Two nodes of one pipeline that define the same output.

    Attributes
    ----------
    pipeline : str
        The name of the pipeline.
    output : str
        The first output that is defined twice.
    first : str
        The node that defines it first, in the order of the nodes.
    second : str
        The other.
    collisions : tuple of (str, str, str)
        Each output that is defined twice, and both of its nodes.
    """

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
    """Nodes that wait for each other.

    Attributes
    ----------
    pipeline : str
        The name of the pipeline.
    path : tuple of str
        Names of the nodes, each of which waits for the one before it; the first is the last as well.
    """

    pipeline: str
    path: Tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"pipeline {self.pipeline!r}: nodes wait for each other: {' → '.join(self.path)}\n"
            f"  fix: rename a parameter or an output so that one of these nodes can run first"
        )


@attrs.define(eq=False)
class TypeMismatchError(HyperNodesError, TypeError):
    """A value whose declared type is not what a reader of it declares.

    Attributes
    ----------
    pipeline : str
        The name of the pipeline.
    value : str
        The name of the value.
    producer : str
        The node that makes it.
    produced : str
        The type that this one declares, as Python writes it.
    consumer : str
        The node that reads it.
    parameter : str
        By which parameter it does.
    wanted : str
        The type that this declares.
    hint : str
        A fix that fits this very pair; empty when there is none.
    """

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
    """A node that cannot do, where it would run, what was asked of it.

    Attributes
    ----------
    pipeline : str
        The name of the pipeline.
    node : str
        The name of the node.
    problem : str
        What is wrong, to be read after the name.
    fix : str
        What to do about it.
    """

    pipeline: str
    node: str
    problem: str
    fix: str

    def __str__(self) -> str:
        return f"pipeline {self.pipeline!r}: node {self.node!r} {self.problem}\n  fix: {self.fix}"
