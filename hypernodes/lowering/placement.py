"""A node mode, an item mode and where a frame stands in; which worker runs its plain and its coroutine functions out.

This is the design's table of sixteen pairs, as data: everything else in `lowering` asks here and holds no mode of its
own.
"""

from __future__ import annotations

import attrs

from hypernodes.lowering.plan import INLINE, LOOP, PROCESS, THREAD, Options


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


def place_frame(options: Options, depth: int) -> Placing:
    """Return where the functions of a frame run that is enclosed by `depth` maps."""
    if depth == 0 or options.items == "sequential":
        return _BY_NODES[options.nodes]
    if options.nodes == "sequential":
        return _SEQUENTIAL_NODES_BY_ITEMS[options.items]
    if options.items == "parallel" and options.nodes != "parallel":
        reason = f"parallel items, each with {options.nodes} nodes of its own"
        return Placing(PROCESS, reason, PROCESS, reason, "sequential", hosted=True)
    return _BY_NODES[options.nodes]
