"""What is around the calls of a plan's steps, and around its items, besides its nodes' own policies.

What somebody hears of, and whether failures are collected: a plan is linked for that, and where it is neither there is
nothing. From a function outwards the order of what wraps it is: a list for a stream that several read, the result of a
coroutine that a plain function returned, timeout, retries, unpacking into slots, telling, collecting.
"""

from __future__ import annotations

from functools import lru_cache
from time import perf_counter
from typing import Any, List, Optional

from hypernodes.events.event import ITEM_END, ITEM_START, MAP_END, MAP_START, Event
from hypernodes.events.hooks import ITEM_ENDS, ITEM_STARTS, ITEMS, MAPS, NODES
from hypernodes.lowering.plan import MapStep, Step
from hypernodes.runtime.bundle import collect
from hypernodes.runtime.bundle.failure import column_of
from hypernodes.runtime.bundle.interpreter import Slots
from hypernodes.runtime.bundle.maps import Expansion, Fill, map_columns
from hypernodes.runtime.bundle.observe import Awaited, Instruction, around_run, told, told_coroutine
from hypernodes.runtime.bundle.scope import Scope


class Layers:
    """What the steps of a plan are linked with, and what is told of maps and items.

    `heard` are the bits of `events.hooks`, `slots` a frame's, whose last slot is its `Scope`.
    """

    __slots__ = ("collects", "heard", "item_ends", "item_starts", "items", "maps", "nodes")

    def __init__(self, heard: int, collects: bool) -> None:
        self.heard = heard
        self.collects = collects
        self.nodes, self.maps, self.items = bool(heard & NODES), bool(heard & MAPS), bool(heard & ITEMS)
        self.item_starts, self.item_ends = bool(heard & ITEM_STARTS), bool(heard & ITEM_ENDS)

    # -- around calls -------------------------------------------------------------------------------------------------

    def plain(self, step: Step, run: Instruction) -> Instruction:
        """Return the call of a step in this thread with what is around it; `collect` is around several."""
        if step.runs_plan:
            return around_run(step, run)
        return told(step, run, self.heard) if self.nodes else run

    def coroutine(self, step: Step, run: Awaited) -> Awaited:
        """Return that of a step on the event loop."""
        run = told_coroutine(step, run, self.heard) if self.nodes else run
        return collect.collected_coroutine(step, run) if self.collects else run

    # -- around maps and items ----------------------------------------------------------------------------------------

    def expand(self, step: MapStep, slots: Slots) -> Optional[Expansion]:
        """Return what a map goes over; None where it goes over a failure, which then stands for its results."""
        return collect.expand(step, slots) if self.collects else map_columns(step, slots)

    def filler(self, step: MapStep, fill: Fill) -> Fill:
        """Return what fills the slots of an item."""
        return collect.filler(step, fill) if self.collects and step.spreads else fill

    def map_started(self, step: MapStep, slots: Slots, template: Slots, total: Optional[int]) -> None:
        """Make the scope of a map, in the slots that its items begin with."""
        scope: Scope = slots[-1]
        template[-1] = scope.of_map(step)
        if self.maps:
            scope.tell(MAP_START, step, (total, step.around))

    def item_started(self, slots: Slots, index: int) -> None:
        """Give the slots of an item a scope of their own."""
        scope = slots[-1] = slots[-1].of_item(index)
        if self.items:
            self._tell_start(scope)

    def item_follows(self, slots: Slots, index: int) -> None:
        """Do what `item_started` does, in slots of which nothing but the items before this one had use."""
        scope: Scope = slots[-1]
        scope.placed(index)
        if self.items:
            self._tell_start(scope)

    def item_ended(self, slots: Slots) -> None:
        """Tell of the end of an item."""
        if self.item_ends:
            scope: Scope = slots[-1]
            if scope.sink is not None:
                scope.sink(Event(ITEM_END, scope.frame, scope.path, (), "", None, perf_counter(), "", scope.started))

    def _tell_start(self, scope: Scope) -> None:
        scope.started = perf_counter()
        if self.item_starts and scope.sink is not None:
            scope.sink(Event(ITEM_START, scope.frame, scope.path, (), "", None, scope.started))

    def map_ended(self, step: MapStep, slots: Slots) -> None:
        """Tell of the end of a map."""
        if self.maps:
            slots[-1].tell(MAP_END, step, step.around)

    def column(self, cells: List[Any]) -> List[Any]:
        """Return the results of a map as those who read them take them."""
        return column_of(cells) if self.collects else cells


@lru_cache(maxsize=None)
def layers_of(heard: int, collects: bool) -> Optional[Layers]:
    """Return the layers of a plan of which something is heard, or that collects errors; None for neither."""
    return Layers(heard, collects) if heard or collects else None
