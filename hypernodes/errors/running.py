"""What goes wrong while nodes run, and after."""

from __future__ import annotations

from typing import Tuple

import attrs

from hypernodes.errors.base import HyperNodesError
from hypernodes.errors.notes import said


@attrs.define(eq=False)
class OutputCountError(HyperNodesError, ValueError):
    """A node with several output names whose function did not return a tuple of that length.

    Attributes
    ----------
    node : str
        The name of the node.
    outputs : tuple of str
        The names of its outputs.
    given : str
        What it returned instead, in words.
    """

    node: str
    outputs: Tuple[str, ...]
    given: str

    def __str__(self) -> str:
        return (
            f"node {self.node!r} defines {len(self.outputs)} outputs ({', '.join(self.outputs)}), "
            f"so its function has to return a tuple of {len(self.outputs)}; it returned {self.given}"
        )


@attrs.define(eq=False)
class NodeTimeoutError(HyperNodesError, TimeoutError):
    """A call of a node that took longer than its `timeout`; it was cancelled, or its process killed.

    Attributes
    ----------
    node : str
        The name of the node.
    seconds : float
        Its timeout.
    """

    node: str
    seconds: float

    def __str__(self) -> str:
        return f"node {self.node!r} did not end within its timeout of {self.seconds:g} s"


@attrs.define(eq=False)
class RetryError(HyperNodesError, RuntimeError):
    """A result with failures in it that nothing can run again.

    Attributes
    ----------
    problem : str
        Why not, in words.
    fix : str
        What to do about it.
    """

    problem: str
    fix: str

    def __str__(self) -> str:
        return f"what failed cannot be run again: {self.problem}\n  fix: {self.fix}"


@attrs.define(eq=False)
class ExecutorError(HyperNodesError, RuntimeError):
    """An executor of the user's that takes no work: it was shut down, or broke.

    Attributes
    ----------
    pipeline : str
        The name of the pipeline that was to run on it.
    executor : str
        The name of its class.
    problem : str
        What it said.
    """

    pipeline: str
    executor: str
    problem: str

    def __str__(self) -> str:
        return (
            f"pipeline {self.pipeline!r}: the executor of its backend, a {self.executor}, takes no work: "
            f"{self.problem}\n"
            f"  fix: give the backend one that is open, or leave out executor= for threads or processes of its own"
        )


def refused(pipeline: str, executor: object, error: BaseException) -> ExecutorError:
    """Return the error of an executor that raised `error` when work was submitted to it, or where it kept it."""
    fault = ExecutorError(pipeline, type(executor).__name__, said(error) or type(error).__name__)
    fault.__cause__ = error
    return fault


@attrs.define(eq=False)
class ClosedError(HyperNodesError, RuntimeError):
    """Work for a backend that has been closed.

    Attributes
    ----------
    what : str
        What is closed, worded for a person.
    """

    what: str

    def __str__(self) -> str:
        return f"{self.what} is closed\n  fix: make a new LocalBackend, or run inside its `with` block"
