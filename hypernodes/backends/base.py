"""What a backend is to those who only use one: a graph and a request in, an `Executable` that runs them out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, AsyncGenerator, Dict, Generator, Mapping, Optional, Protocol, Sequence, Tuple

from hypernodes.events.hooks import Listeners
from hypernodes.ir.graph import Graph
from hypernodes.lowering.plan import Options, Plan
from hypernodes.request import Request

Inputs = Mapping[str, Any]


class Executable(Protocol):
    """What runs one kind of run of one graph, as often as it is asked to, from any number of threads.

    `inputs` have the names that its request gives. A run raises what a node raises, with a note that says where.
    """

    @property
    def plan(self) -> Plan:
        """What it runs."""

    def check_inputs(self, given: Sequence[str]) -> None:
        """Refuse inputs other than those it was made for."""

    def repeatable(self, inputs: Inputs) -> Inputs:
        """Return inputs that a second run can read too: with a list for each stream that several read."""

    def run(self, inputs: Inputs) -> Dict[str, Any]:
        """Run once, and return the outputs."""

    def run_nested(self, inputs: Inputs) -> Dict[str, Any]:
        """Do that within a step of another run, to whose listeners, if any, the events go."""

    async def arun(self, inputs: Inputs) -> Dict[str, Any]:
        """Run once, with coroutines on the running event loop and everything else beside it."""

    def stream(
        self, inputs: Inputs, axes: Sequence[str], mode: str, ordered: bool
    ) -> Generator[Tuple[int, Dict[str, Any]], None, None]:
        """Run once per item of `axes` as they are read, and yield the index and the outputs of each."""

    def astream(
        self, inputs: Inputs, axes: Sequence[str], mode: str, ordered: bool
    ) -> AsyncGenerator[Tuple[int, Dict[str, Any]], None]:
        """Do what `stream` does with coroutines on the running event loop, and everything else beside it."""


class Backend(ABC):
    """How pipelines run."""

    @property
    @abstractmethod
    def options(self) -> Options:
        """What a plan is lowered for."""

    @abstractmethod
    def compile(self, graph: Graph, request: Request, listeners: Optional[Listeners] = None) -> Executable:
        """Return what runs one kind of run of a graph.

        Parameters
        ----------
        graph : Graph
            Verified, and nested as the user nested it.
        request : Request
            What is given and asked for, and whether it is mapped.
        listeners : Listeners, optional
            None when nobody listens.

        Raises
        ------
        UnknownNameError, MissingInputError, MapInputError, OptionError
            For a request that does not fit the graph.
        NotPicklableError, PlacementError
            For a graph that this backend cannot run.
        """
