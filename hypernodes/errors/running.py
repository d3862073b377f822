"""What goes wrong while nodes run, and after."""

from __future__ import annotations

from typing import Tuple

import attrs

from hypernodes.errors.base import HyperNodesError


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
