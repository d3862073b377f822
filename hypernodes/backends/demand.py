"""A pipeline's graph and a request in; the graph that does what was asked for, and the names at its edges, out."""

from __future__ import annotations

from typing import Mapping, NamedTuple, Tuple

from hypernodes.asking import asked_outputs, check_inputs, check_map, check_names, spellings
from hypernodes.backends.base import Backend
from hypernodes.backends.isolate import isolate
from hypernodes.ir.build import mapped
from hypernodes.ir.graph import GIVEN, Graph
from hypernodes.lowering import specialise
from hypernodes.request import Request


class Demand(NamedTuple):
    """What a request comes to.

    Attributes
    ----------
    graph : Graph
        What has to be lowered, without anything that nobody asked for.
    provided : mapping of str to str
        Names of the inputs it will get, each with how the caller spells it.
    asked : tuple of str
        Names of the outputs to hand back.
    """

    graph: Graph
    provided: Mapping[str, str]
    asked: Tuple[str, ...]


def demanded(graph: Graph, request: Request, backend: Backend) -> Demand:
    """Return what `backend` has to run for a request.

    Raises
    ------
    UnknownNameError, MissingInputError, MapInputError, OptionError
        For a request that does not fit the graph.
    """
    axes = request.axes
    check_names(axes or (), "map_over")
    spelled = spellings(request.names)
    names = tuple(spelled)
    asked = asked_outputs(graph, request.asked, names)
    check_inputs(graph, names)
    if axes is not None:
        check_map(graph, names, axes, request.map_mode)
    graph = isolate(graph, backend)
    if axes is not None:
        overrides = [name for name in names if name not in graph.input_names and name not in axes]
        returned = [name for name in asked if name in axes or name in overrides]
        graph = mapped(graph, axes, request.map_mode, overrides=overrides, fed=request.fed, returned=returned)
        spelled = {GIVEN + name if name in returned else name: given for name, given in spelled.items()}
    return Demand(specialise(graph, frozenset(spelled), asked), spelled, asked)
