"""Nodes and a backend in, results out: `Pipeline`.

The graph is built once, at construction; what one kind of run needs, at the first run of that kind.
"""

from __future__ import annotations

from types import MethodType
from typing import (
    Any,
    List,
    Mapping,
    Optional,
    Sequence,
    Tuple,
    Union,
)

from hypernodes import collection
from hypernodes.asking import Names
from hypernodes.backends.base import Backend
from hypernodes.errors import OptionError, PipelineDefinitionError
from hypernodes.events.callbacks import PipelineCallback
from hypernodes.ir.build import link
from hypernodes.ir.graph import Graph, Operation
from hypernodes.nesting import PipelineNode
from hypernodes.node import Node
from hypernodes.plan_cache import PlanCache
from hypernodes.running import Running
from hypernodes.settings import Settings, checked_backend, checked_callbacks

# In quotes: before Python 3.10 a Generic without a real ParamSpec takes no `...`.
Member = Union["Node[..., Any]", "Pipeline", "PipelineNode"]


class Pipeline(Running):
    """Nodes wired by name: a parameter reads the output of that name, or an input.

    Parameters
    ----------
    nodes : sequence of Node, Pipeline or PipelineNode
        In any order; at least one. A Pipeline stands for its `as_node()`.
    name : str, optional
        What plans, errors and callbacks call it; ``"pipeline"`` by default.
    backend : Backend, optional
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
        backend: Optional[Backend] = None,
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

        Returns
        -------
        PipelineNode
            To be put among the nodes of other pipelines, any number of them. Its outputs are those of this pipeline,
            with `map_over` a list for each, as long as there are items. Backend, cache and callbacks stay this
            pipeline's own where it has any, and are the outer one's where it has none.

        Raises
        ------
        UnknownNameError
            For a mapping from or to a name that this pipeline does not have.
        OptionError
            For two outer names that lead to one input, two outputs that would have one name, or a `map_mode` there is
            not.

        Examples
        --------
        >>> inner = Pipeline(nodes=[node(output_name="size")(len_of)], name="inner")  # doctest: +SKIP
        >>> Pipeline(nodes=[inner.as_node(input_mapping={"texts": "text"}, map_over="texts")])  # doctest: +SKIP
        <Pipeline pipeline(texts) as size>
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
