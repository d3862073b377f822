"""Nodes and a backend in, results out: `Pipeline`.

The graph is built once, at construction; what one kind of run needs, at the first run of that kind.
"""

from __future__ import annotations

from types import MethodType
from typing import (
    Any,
    AsyncGenerator,
    Dict,
    Generator,
    List,
    Literal,
    Mapping,
    Optional,
    Sequence,
    Tuple,
    Union,
    overload,
)

from hypernodes import collection
from hypernodes.asking import Names, check_names, given_inputs, named, names_of
from hypernodes.backends.local import LocalBackend
from hypernodes.collecting import MapItems, map_result, run_result
from hypernodes.errors import OptionError, PipelineDefinitionError
from hypernodes.events.callbacks import PipelineCallback
from hypernodes.ir.build import link
from hypernodes.ir.graph import Graph, Operation
from hypernodes.nesting import PipelineNode
from hypernodes.node import Node
from hypernodes.plan_cache import PlanCache
from hypernodes.request import Request
from hypernodes.results import MapResult, RunResult
from hypernodes.settings import Adjustable, Settings, checked_backend, checked_callbacks
from hypernodes.views.execution_plan import ExecutionPlan

Inputs = Mapping[str, Any]
# In quotes: before Python 3.10 a Generic without a real ParamSpec takes no `...`.
Member = Union["Node[..., Any]", "Pipeline", "PipelineNode"]


class Pipeline(Adjustable):
    """Nodes wired by name: a parameter reads the output of that name, or an input.

    Parameters
    ----------
    nodes : sequence of Node, Pipeline or PipelineNode
        In any order; at least one. A Pipeline stands for its `as_node()`.
    name : str, optional
        What plans, errors and callbacks call it; ``"pipeline"`` by default.
    backend : LocalBackend, optional
        How it runs. A nested pipeline without one takes its parent's; the outermost is sequential by default.
    cache : object, optional
        Where results of nodes will be kept between runs; inherited like the backend. This version keeps nothing yet.
    callbacks : sequence of PipelineCallback, optional
        Told what happens. A nested pipeline without any takes its parent's.
    type_check : bool or "strict"
        True refuses types of which neither fits the other, ``"strict"`` also wider-to-narrower ones, False none.

    Raises
    ------
    PipelineDefinitionError
        Without nodes, or with something that is no node.
    DuplicateOutputError, CycleError, TypeMismatchError
        When the nodes do not fit together.

    Examples
    --------
    >>> @node(output_name="double")
    ... def double(x):
    ...     return 2 * x
    >>> Pipeline(nodes=[double]).run(inputs={"x": 4})
    {'double': 8}
    """

    def __init__(
        self,
        nodes: Sequence[Member],
        name: Optional[str] = None,
        backend: Optional[LocalBackend] = None,
        cache: object = None,
        callbacks: Optional[Sequence[PipelineCallback]] = None,
        type_check: object = True,
    ) -> None:
        self.name = name or "pipeline"
        self.nodes: Tuple[Member, ...] = _members(self.name, nodes)
        if type_check not in (True, False, "strict"):
            raise OptionError("type_check", repr(type_check), 'use True, False or "strict"')
        self._type_check = type_check
        self._settings = Settings(checked_backend(backend), cache, checked_callbacks(callbacks))
        with collection.paused():
            self._graph = link(self.name, [_declare(member) for member in self.nodes], type_check)
        self._plans = PlanCache(self._graph, self._settings)

    @property
    def graph(self) -> Graph:
        """The typed, immutable graph of this pipeline."""
        return self._graph

    @property
    def inputs(self) -> Tuple[str, ...]:
        """Names of its inputs, those with defaults included."""
        return self._graph.input_names

    @property
    def outputs(self) -> Tuple[str, ...]:
        """Names of what it returns."""
        return self._graph.output_names

    # -- running ------------------------------------------------------------------------------------------------------

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
        prepared = self._plans.of_run(given, output_name, error_policy)
        if error_policy == "raise":
            return prepared.run(given)
        given = prepared.repeatable(given)
        return run_result(self, prepared.run(given), named(given))

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
        axes = names_of(map_over)
        inputs = named(inputs if type(inputs) is dict else given_inputs(inputs))
        prepared = self._plans.of_map(inputs, output_name, error_policy, axes, map_mode)
        items = MapItems.of(self.name, prepared.repeatable(inputs), axes, map_mode)
        return map_result(self, prepared.run(items.given), items, output_name, error_policy == "collect")

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
        """Run once, like `run`, with coroutine nodes on the running event loop and nothing that blocks it."""
        given: Inputs = inputs if type(inputs) is dict else given_inputs(inputs)
        prepared = self._plans.of_run(given, output_name, error_policy)
        if error_policy == "raise":
            return await prepared.arun(given)
        given = prepared.repeatable(given)
        return run_result(self, await prepared.arun(given), named(given))

    async def amap(
        self,
        inputs: Inputs,
        map_over: Names,
        map_mode: str = "zip",
        output_name: Optional[Names] = None,
        error_policy: str = "raise",
    ) -> MapResult:
        """Run once per item, like `map`, with coroutine nodes on the running event loop and nothing that blocks it."""
        axes = names_of(map_over)
        inputs = named(inputs if type(inputs) is dict else given_inputs(inputs))
        prepared = self._plans.of_map(inputs, output_name, error_policy, axes, map_mode)
        items = MapItems.of(self.name, prepared.repeatable(inputs), axes, map_mode)
        outputs = await prepared.arun(items.given)
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
        axes = names_of(map_over)
        inputs = named(inputs if type(inputs) is dict else given_inputs(inputs))
        prepared = self._plans.of_map(inputs, output_name, error_policy, axes, map_mode, fed=True)
        return prepared.stream(inputs, axes, map_mode, ordered)

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

        Mapped values may be async iterables, which are read on that loop.
        """
        axes = names_of(map_over)
        inputs = named(inputs if type(inputs) is dict else given_inputs(inputs))
        prepared = self._plans.of_map(inputs, output_name, error_policy, axes, map_mode, fed=True)
        return prepared.astream(inputs, axes, map_mode, ordered)

    def plan(
        self,
        inputs: Optional[Union[Mapping[str, Any], Sequence[str]]] = None,
        output_name: Optional[Names] = None,
        map_over: Optional[Names] = None,
        map_mode: str = "zip",
        backend: Optional[LocalBackend] = None,
        n: Optional[int] = None,
    ) -> ExecutionPlan:
        """Return the plan that a run or a map with the same arguments executes.

        Parameters
        ----------
        inputs : mapping, or sequence of str, optional
            The inputs, or only their names; by default those without a default value, and `map_over`.
        output_name, map_over, map_mode
            As in `run` and `map`; with `map_over` it is the plan of a map.
        backend : LocalBackend, optional
            Instead of the pipeline's own.
        n : int, optional
            The number of items, for printing widths as numbers.
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
        prepared = self._plans.prepared(request, checked_backend(backend))
        if n is None and axes and isinstance(inputs, Mapping) and hasattr(inputs[axes[0]], "__len__"):
            n = len(inputs[axes[0]])
        return ExecutionPlan(prepared, n)

    # -- nesting ------------------------------------------------------------------------------------------------------

    def as_node(
        self,
        input_mapping: Optional[Mapping[str, Names]] = None,
        output_mapping: Optional[Mapping[str, str]] = None,
        map_over: Optional[Names] = None,
        map_mode: str = "zip",
        name: Optional[str] = None,
    ) -> PipelineNode:
        """Return this pipeline as a node of another.

        Parameters
        ----------
        input_mapping : mapping of str to str, optional
            Outer name → input of this pipeline, or several of them. Names not in it are the same on both sides.
        output_mapping : mapping of str to str, optional
            Output of this pipeline → outer name.
        map_over : str or sequence of str, optional
            Outer names whose values are iterables: the pipeline runs once per item and its outputs are lists. Without
            `input_mapping`, a single name that is no input of this pipeline holds mappings, each of which is spread
            over the inputs.
        map_mode : {"zip", "product"}
            How several names in `map_over` combine.
        name : str, optional
            What the node is called; the pipeline's name by default.

        Raises
        ------
        UnknownNameError
            For a mapping from or to a name that this pipeline does not have.
        OptionError
            For two outer names that lead to one input, or two outputs that would have one name.
        """
        return PipelineNode(self, input_mapping, output_mapping, map_over, map_mode, name or self.name)

    def __reduce__(self) -> Tuple[object, ...]:
        # Of its nodes, which pickle by the names they are found under; their functions alone would not be found there.
        return _rebuilt, (self.nodes, self.name, self._type_check, self._settings)

    def __repr__(self) -> str:
        return f"<Pipeline {self.name}({', '.join(self.inputs)}) as {', '.join(self.outputs)}>"


def _rebuilt(nodes: Sequence[Member], name: str, type_check: object, settings: Settings) -> Pipeline:
    """Make a pipeline again in another process, where listeners and caches of this one mean nothing."""
    return Pipeline(nodes, name, settings.backend, settings.cache, settings.callbacks, type_check)


def _declare(member: Member) -> Operation:
    return member.as_node().declare() if isinstance(member, Pipeline) else member.declare()


def _members(pipeline: str, nodes: object) -> Tuple[Member, ...]:
    if isinstance(nodes, (Node, Pipeline, PipelineNode)) or not hasattr(nodes, "__iter__"):
        raise PipelineDefinitionError(pipeline, f"nodes is a single {type(nodes).__name__}", "pass a list: nodes=[...]")
    members: List[Member] = []
    for number, member in enumerate(nodes):
        if isinstance(member, MethodType) and isinstance(member.__func__, Node):
            # Of a node under @classmethod, which not every Python lets bind itself.
            member = member.__func__.__get__(member.__self__)
        if not isinstance(member, (Node, Pipeline, PipelineNode)):
            shown = getattr(member, "__name__", None) or repr(member)
            fix = f'decorate it: @node(output_name="...") above {shown}' if callable(member) else "pass nodes only"
            raise PipelineDefinitionError(pipeline, f"nodes[{number}] ({shown}) is no node", fix)
        members.append(member)
    return tuple(members)
