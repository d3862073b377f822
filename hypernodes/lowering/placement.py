"""A node mode, an item mode and where a frame stands in; which worker runs its plain and its coroutine functions out.

This is the design's table of sixteen pairs, as data: everything else in `lowering` asks here and holds no mode of its
own.
"""

from __future__ import annotations

from typing import Set, Tuple

import attrs

from hypernodes.errors import PlacementError
from hypernodes.ir.graph import Call, Graph
from hypernodes.lowering.plan import INLINE, LOOP, PROCESS, THREAD, Options
from hypernodes.records import evolve


@attrs.frozen
class Placing:
    """Where the functions of one frame run, why, and in which order.

    `grouping` names the lowering module whose rule makes the bundles. A `hosted` frame goes to a worker process whole,
    which then runs it by a schedule of its own.
    """

    plain: str
    plain_reason: str
    coroutine: str
    coroutine_reason: str
    grouping: str
    hosted: bool = False


_ON_LOOP = "a coroutine function"
_PINNED_ITEMS = "parallel items, some nodes of which are pinned elsewhere"

_BY_NODES = {
    "sequential": Placing(INLINE, "sequential nodes", INLINE, "sequential nodes", "sequential"),
    "async": Placing(THREAD, "a plain function must not block the event loop", LOOP, _ON_LOOP, "concurrent"),
    "threaded": Placing(THREAD, "threaded nodes", LOOP, _ON_LOOP, "concurrent"),
    "parallel": Placing(PROCESS, "parallel nodes", PROCESS, "parallel nodes", "parallel"),
}

# Frames of a concurrent map whose nodes run one after another: the item is the unit, so its placement is the item
# mode's.
_SEQUENTIAL_NODES_BY_ITEMS = {
    "async": Placing(THREAD, "a plain function must not block the event loop", LOOP, _ON_LOOP, "sequential"),
    "threaded": Placing(THREAD, "threaded items", LOOP, _ON_LOOP, "sequential"),
    "parallel": Placing(PROCESS, "parallel items", PROCESS, "parallel items", "sequential"),
}


def place_frame(options: Options, depth: int, pinned: bool = False) -> Placing:
    """Return where the functions of a frame run that is enclosed by `depth` maps.

    A frame with `pinned` nodes, in it or in its maps, is not hosted: only the parent can send them where they belong.
    """
    if depth == 0 or options.items == "sequential":
        return _BY_NODES[options.nodes]
    if options.nodes == "sequential":
        return _SEQUENTIAL_NODES_BY_ITEMS[options.items]
    if options.items == "parallel" and options.nodes != "parallel":
        reason = f"parallel items, each with {options.nodes} nodes of its own"
        if pinned:
            return evolve(_BY_NODES["parallel"], plain_reason=_PINNED_ITEMS, coroutine_reason=_PINNED_ITEMS)
        return Placing(PROCESS, reason, PROCESS, reason, "sequential", hosted=True)
    return _BY_NODES[options.nodes]


def place_call(call: Call, placing: Placing, pipeline: str) -> Tuple[str, str]:
    """Return where one call of a frame runs, and why.

    Raises
    ------
    PlacementError
        For a plain function with a timeout where nothing can stop it.
    """
    pinned = call.policy.placement
    if pinned is not None:
        placement, reason = pinned, f"placement={pinned!r}"
    elif call.is_coroutine:
        placement, reason = placing.coroutine, placing.coroutine_reason
    else:
        placement, reason = placing.plain, placing.plain_reason
    if call.policy.timeout is not None and not call.is_coroutine and placement != PROCESS:
        where = "a thread" if placement == THREAD else "the caller's thread"
        raise PlacementError(
            pipeline,
            call.name,
            f"has timeout={call.policy.timeout:g} and would run in {where} ({reason}), where nothing can stop a "
            "function that is late",
            'add placement="process" to its @node, make it a coroutine function, or leave out the timeout',
        )
    return placement, reason


def pins(graph: Graph) -> Set[str]:
    """Return the placements that nodes of a graph, and of the maps in it, are pinned to."""
    found: Set[str] = set()
    for operation in graph.operations:
        if not isinstance(operation, Call):
            found |= pins(operation.graph)
        elif operation.policy.placement is not None:
            found.add(operation.policy.placement)
    return found
