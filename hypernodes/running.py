"""How a pipeline is run: `Running`, the part of `Pipeline` that is called again and again.

A call is looked up in the plan cache by what it asks for; what is found there does the rest.
"""

from __future__ import annotations

from typing import Any, AsyncGenerator, Dict, Generator, Literal, Mapping, Optional, Sequence, Tuple, Union, overload

from hypernodes.asking import Names, check_names, given_inputs, named, names_of
from hypernodes.backends.base import Backend, Executable
from hypernodes.collecting import MapItems, map_result, run_result
from hypernodes.ir.graph import Graph
from hypernodes.plan_cache import PlanCache
from hypernodes.request import Request
from hypernodes.results import MapResult, RunResult
from hypernodes.settings import Adjustable, checked_backend
from hypernodes.views.execution_plan import ExecutionPlan

Inputs = Mapping[str, Any]


class Running(Adjustable):
    """What has a graph and can be run, once or per item."""

    name: str
    _graph: Graph
    _plans: PlanCache

    @overload
    def run(
        self, inputs: Optional[Inputs] = None, output_name: Optional[Names] = None, *, error_policy: Literal["collect"]
    ) -> RunResult: ...

    @overload
    def run(
        self, inputs: Optional[Inputs] = None, output_name: Optional[Names] = None, error_policy: str = "raise"
    ) -> Dict[str, Any]: ...

    def run(
        self,
        inputs: Optional[Inputs] = None,
        output_name: Optional[Names] = None,
        error_policy: str = "raise",
    ) -> Dict[str, Any]:
        """Run once.

        Parameters
        ----------
        inputs : mapping of str to object
            A value for each input without a default. A name that a node defines overrides it: that node, and what
            only it needed, does not run.
        output_name : str or sequence of str, optional
            Only these outputs, and only what they need; all by default.
        error_policy : {"raise", "collect"}
            With ``"collect"`` everything runs that does not depend on a failure, and a `Failure` stands in the place of
            each output that does.

        Returns
        -------
        dict of str to object
            The outputs of all nodes, or those asked for; inputs are not included. With ``"collect"`` a `RunResult`.

        Raises
        ------
        MissingInputError, UnknownNameError, NotPicklableError
            Before any node runs.
        Exception
            Whatever a node raises, as itself, with a note that says where.
        """
        given: Inputs = inputs if type(inputs) is dict else given_inputs(inputs)
        executable = self._plans.of_run(given, output_name, error_policy)
        if error_policy == "raise":
            return executable.run(given)
        given = executable.repeatable(given)
        return run_result(self, executable.run(given), named(given))

    def __call__(self, /, **inputs: Any) -> Dict[str, Any]:
        """Run once, with the inputs as keywords."""
        return self.run(inputs)

    def map(
        self,
        inputs: Inputs,
        map_over: Names,
        map_mode: str = "zip",
        output_name: Optional[Names] = None,
        error_policy: str = "raise",
    ) -> MapResult:
        """Run once per item.

        Parameters
        ----------
        inputs : mapping of str to object
            For the names in `map_over` an iterable of items each, for the others one value that all items share.
        map_over : str or sequence of str
            The inputs that vary.
        map_mode : {"zip", "product"}
            Items together, which need equal lengths, or every combination, the last name of `map_over` fastest.
        output_name : str or sequence of str, optional
            As in `run`.
        error_policy : {"raise", "collect"}
            As in `run`: with ``"collect"`` the other items go on, and `MapResult.retry` runs the failed ones again.

        Returns
        -------
        MapResult
            A dict of output name → list, one value per item, in item order; empty lists for no items.

        Raises
        ------
        MissingInputError, UnknownNameError, MapInputError, MapLengthError, NotPicklableError
            Before any node runs.
        Exception
            Whatever a node raises, as itself, with a note that says where.
        """
        axes, inputs, executable = self._mapping(inputs, map_over, map_mode, output_name, error_policy)
        items = MapItems.of(self.name, executable.repeatable(inputs), axes, map_mode)
        return map_result(self, executable.run(items.given), items, output_name, error_policy == "collect")

    @overload
    async def arun(
        self, inputs: Optional[Inputs] = None, output_name: Optional[Names] = None, *, error_policy: Literal["collect"]
    ) -> RunResult: ...

    @overload
    async def arun(
        self, inputs: Optional[Inputs] = None, output_name: Optional[Names] = None, error_policy: str = "raise"
    ) -> Dict[str, Any]: ...

    async def arun(
        self,
        inputs: Optional[Inputs] = None,
        output_name: Optional[Names] = None,
        error_policy: str = "raise",
    ) -> Dict[str, Any]:
        """Run once, like `run`, with coroutine nodes on the running event loop and nothing that blocks it.

        Plain functions, worker processes and hooks are beside the loop, and so is what is read of the user's values.

        Parameters
        ----------
        inputs, output_name, error_policy
            As in `run`.

        Returns
        -------
        dict of str to object
            As in `run`.

        Raises
        ------
        MissingInputError, UnknownNameError, NotPicklableError
            Before any node runs.
        asyncio.CancelledError
            When this task is cancelled: nothing new starts, coroutines are cancelled, and functions that run in threads
            are awaited before it is raised.
        Exception
            Whatever a node raises, as itself, with a note that says where.
        """
        given: Inputs = inputs if type(inputs) is dict else given_inputs(inputs)
        executable = self._plans.of_run(given, output_name, error_policy)
        if error_policy == "raise":
            return await executable.arun(given)
        given = executable.repeatable(given)
        return run_result(self, await executable.arun(given), named(given))

    async def amap(
        self,
        inputs: Inputs,
        map_over: Names,
        map_mode: str = "zip",
        output_name: Optional[Names] = None,
        error_policy: str = "raise",
    ) -> MapResult:
        """Run once per item, like `map`, with coroutine nodes on the running event loop and nothing that blocks it.

        Parameters
        ----------
        inputs, map_over, map_mode, output_name, error_policy
            As in `map`.

        Returns
        -------
        MapResult
            As in `map`: output name → list, one value per item, in item order.

        Raises
        ------
        MissingInputError, UnknownNameError, MapInputError, MapLengthError, NotPicklableError
            Before any node runs.
        asyncio.CancelledError
            As in `arun`.
        Exception
            Whatever a node raises, as itself, with a note that says where.
        """
        axes, inputs, executable = self._mapping(inputs, map_over, map_mode, output_name, error_policy)
        items = MapItems.of(self.name, executable.repeatable(inputs), axes, map_mode)
        outputs = await executable.arun(items.given)
        return map_result(self, outputs, items, output_name, error_policy == "collect")

    def stream(
        self,
        inputs: Inputs,
        map_over: Names,
        map_mode: str = "zip",
        output_name: Optional[Names] = None,
        ordered: bool = False,
        error_policy: str = "raise",
    ) -> Generator[Tuple[int, Dict[str, Any]], None, None]:
        """Run once per item, and yield each as it finishes: any number of items, in bounded memory.

        Iterators are read in the caller's thread, inside ``next()``, and only a bounded number of items ahead of what
        has been yielded. While the caller is busy with a result, the items read so far go on.

        Parameters
        ----------
        inputs : mapping of str to object
            As in `map`; an iterable of items may be without end. Under ``"product"`` each is read into a list first.
        map_over, map_mode, output_name
            As in `map`.
        ordered : bool
            Yield items in their order, and hold those back that finish early.
        error_policy : {"raise", "collect"}
            As in `map`: with ``"collect"`` the stream goes on, and a `Failure` stands in the place of what failed.

        Yields
        ------
        int, dict of str to object
            The index of an item and its outputs.

        Raises
        ------
        MissingInputError, UnknownNameError, MapInputError, MapLengthError, NotPicklableError
            At the call.
        StreamLengthError
            When one iterator ends before another, after the items until then.
        Exception
            Whatever a node or an iterator raises, as itself, with a note that says where.

        Notes
        -----
        Leaving the loop, by ``break`` or an exception, or closing the generator stops the run: nothing new starts,
        what runs is awaited, and nothing that was started is left.
        """
        axes, inputs, executable = self._mapping(inputs, map_over, map_mode, output_name, error_policy, fed=True)
        return executable.stream(inputs, axes, map_mode, ordered)

    def astream(
        self,
        inputs: Inputs,
        map_over: Names,
        map_mode: str = "zip",
        output_name: Optional[Names] = None,
        ordered: bool = False,
        error_policy: str = "raise",
    ) -> AsyncGenerator[Tuple[int, Dict[str, Any]], None]:
        """Run once per item, like `stream`, with coroutine nodes on the running event loop and nothing that blocks it.

        Mapped values may be async iterables, which are read on that loop. While the consumer is busy with a result, the
        items read so far go on.

        Parameters
        ----------
        inputs, map_over, map_mode, output_name, ordered, error_policy
            As in `stream`; a mapped value may be an async iterable as well.

        Yields
        ------
        int, dict of str to object
            The index of an item and its outputs.

        Raises
        ------
        MissingInputError, UnknownNameError, MapInputError, MapLengthError, NotPicklableError
            At the call.
        StreamLengthError
            When one iterator ends before another, after the items until then.
        Exception
            Whatever a node or an iterator raises, as itself, with a note that says where.
        """
        axes, inputs, executable = self._mapping(inputs, map_over, map_mode, output_name, error_policy, fed=True)
        return executable.astream(inputs, axes, map_mode, ordered)

    def _mapping(
        self,
        inputs: Inputs,
        map_over: Names,
        map_mode: str,
        output_name: Optional[Names],
        error_policy: str,
        fed: bool = False,
    ) -> Tuple[Tuple[str, ...], Inputs, Executable]:
        """Return the axes of a map, its inputs by their normal names, and what runs it."""
        axes = names_of(map_over)
        inputs = named(inputs if type(inputs) is dict else given_inputs(inputs))
        return axes, inputs, self._plans.of_map(inputs, output_name, error_policy, axes, map_mode, fed)

    def plan(
        self,
        inputs: Optional[Union[Mapping[str, Any], Sequence[str]]] = None,
        output_name: Optional[Names] = None,
        map_over: Optional[Names] = None,
        map_mode: str = "zip",
        backend: Optional[Backend] = None,
        n: Optional[int] = None,
    ) -> ExecutionPlan:
        """Return the plan that a run or a map with the same arguments executes.

        Parameters
        ----------
        inputs : mapping, or sequence of str, optional
            The inputs, or only their names; by default those without a default value, and `map_over`.
        output_name, map_over, map_mode
            As in `run` and `map`; with `map_over` it is the plan of a map.
        backend : Backend, optional
            Instead of the pipeline's own.
        n : int, optional
            The number of items, for printing widths as numbers; by default the length of the first mapped value, where
            it has one.

        Returns
        -------
        ExecutionPlan
            ``print`` it to read it.

        Raises
        ------
        MissingInputError, UnknownNameError, MapInputError, NotPicklableError, PlacementError
            As a run with the same arguments would, before any node runs.

        Notes
        -----
        No function is called. What parallel nodes refer to is pickled once, to see that it can be.
        """
        axes = () if map_over is None else names_of(map_over)
        if isinstance(inputs, Mapping):
            inputs = named(inputs)
        elif inputs is None:
            required = [entry.value.name for entry in self._graph.inputs if not entry.optional]
            inputs = [*required, *[axis for axis in axes if axis not in required]]
        else:
            inputs = names_of(inputs, "inputs")
            check_names(inputs, "inputs")
        request = Request.of(inputs, output_name, axes=None if map_over is None else axes, map_mode=map_mode)
        executable = self._plans.compiled(request, checked_backend(backend))
        if n is None and axes and isinstance(inputs, Mapping) and hasattr(inputs[axes[0]], "__len__"):
            n = len(inputs[axes[0]])
        return ExecutionPlan(executable, n)
