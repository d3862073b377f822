"""A graph and options in, the Plan that one kind of run executes out.

Start here: `TARGETS` is the table from a mode's name to the module that groups operations into bundles for it, and
`lower` is the order of the passes. No user function is called, no clock read and no pool touched on this road.
"""

from __future__ import annotations

from typing import AbstractSet, Callable, Dict, List, Sequence, Tuple

from hypernodes.ir.graph import Call, Graph, MapOver, Operation
from hypernodes.lowering import concurrent, parallel, sequential
from hypernodes.lowering.assemble import assemble
from hypernodes.lowering.fuse import Group, Placed
from hypernodes.lowering.inline import inline
from hypernodes.lowering.parallel import seal
from hypernodes.lowering.placement import Placing, pins, place_call, place_frame
from hypernodes.lowering.plan import FRAMES, INLINE, PROCESS, Bundle, Hosted, Options, Plan
from hypernodes.lowering.prune import prune
from hypernodes.lowering.readers import NOBODY
from hypernodes.lowering.widths import Width, map_width
from hypernodes.records import evolve

TARGETS: Dict[str, Callable[[Sequence[Placed]], List[Group]]] = {
    "sequential": sequential.group,
    "concurrent": concurrent.group,
    "parallel": parallel.group,
}


def specialise(graph: Graph, provided: AbstractSet[str], asked: Sequence[str]) -> Graph:
    """Return the flat graph that one kind of run needs: nested graphs inlined, what is not asked for pruned."""
    return prune(inline(graph), provided, asked)


def lower(
    graph: Graph,
    options: Options,
    depth: int = 0,
    outside: AbstractSet[str] = NOBODY,
    cuts: AbstractSet[str] = NOBODY,
) -> Plan:
    """Return the plan of one frame of `graph`, and of the frames of its maps; what goes to processes is to be sealed.

    Parameters
    ----------
    graph : Graph
        As `specialise` returns it.
    options : Options
        Modes and number of workers.
    depth : int
        How many maps enclose the frame.
    outside : set of str
        Outputs of the graph that have several readers.
    cuts : set of str
        Names of values, of this frame or of those of its maps, behind whose operation a bundle ends: there somebody may
        look whether the next one has to run.

    Raises
    ------
    PlacementError
        When a node's timeout could not be kept where it would run.
    """
    placing = place_frame(options, depth, bool(pins(graph)))
    if placing.hosted:
        return _hosted(graph, options, depth, placing, outside)
    return _frame(graph, options, depth, placing, outside, cuts)


def _frame(
    graph: Graph, options: Options, depth: int, placing: Placing, outside: AbstractSet[str], cuts: AbstractSet[str]
) -> Plan:
    width = map_width(options.items, options.max_workers, depth)
    # A map whose items run one at a time, node by node, where this frame runs, needs no frames of its own: it is a loop
    # within a bundle. An outermost map in another mode leaves the caller's thread, be it for a single worker; and no
    # loop waits for items that have yet to come.
    one_by_one = width.limit == 1 and options.nodes == "sequential" and (depth > 0 or options.items == "sequential")

    def is_loop(operation: MapOver) -> bool:
        return one_by_one and not operation.fed and pins(operation.graph) <= {placing.plain}

    def place(operation: Operation) -> Tuple[str, str]:
        if isinstance(operation, Call):
            return place_call(operation, placing, graph.name)
        assert isinstance(operation, MapOver)
        return (placing.plain, placing.plain_reason) if is_loop(operation) else (FRAMES, "a frame for each item")

    def body(operation: MapOver, again: AbstractSet[str]) -> Tuple[Plan, Width]:
        if is_loop(operation):
            inner = evolve(options, items="sequential")
            return _frame(operation.graph, inner, depth + 1, place_frame(inner, depth + 1), again, NOBODY), width
        return lower(operation.graph, options, depth + 1, again, cuts), width

    def is_cut(operation: Operation) -> bool:
        return bool(cuts) and not cuts.isdisjoint([value.name for value in operation.results])

    placed = [Placed(operation, *place(operation), is_cut(operation)) for operation in graph.operations]
    groups = TARGETS[placing.grouping](placed)
    return assemble(graph, options, depth, groups, placing.grouping == "sequential", body, outside)


def _hosted(graph: Graph, options: Options, depth: int, placing: Placing, outside: AbstractSet[str]) -> Plan:
    """Return the plan of a frame that a worker process runs whole, by the node mode and a schedule of its own."""
    inner = lower(graph, evolve(options, items=options.nodes), depth, outside)
    step = Hosted(graph.name, inner, inner.outputs)
    exports = tuple([slot for slot in inner.outputs if slot not in inner.inputs])
    bundle = Bundle(0, (step,), PROCESS, placing.plain_reason, inner.inputs, exports, rank=max(1, inner.critical_path))
    slots = tuple([evolve(slot, freed_by=None) for slot in inner.slots])
    return Plan(graph.name, options, depth, slots, inner.inputs, (bundle,), ((0,),), inner.outputs, inner.read_again)


__all__ = ["INLINE", "TARGETS", "lower", "seal", "specialise"]
