"""The loop over the items of a map within a bundle: one set of slots serves all of them.

It is the hottest of the package after the interpreter's, so it is specialised as that is: a single axis needs no row,
and a body that is one chain of calls no slots until one fails. Items that are told of, and those of which some may be
failures from the start, are taken one by one.
"""

from __future__ import annotations

from itertools import islice
from operator import itemgetter
from typing import Any, Callable, Iterable, Iterator, List, Optional, Sequence

from hypernodes.lowering.plan import MapStep, Step
from hypernodes.lowering.readers import returns_data
from hypernodes.runtime.bundle.collect import BROKEN, FailedItems, Salvage, failure_of, parts
from hypernodes.runtime.bundle.interpreter import UNARY, Code, Slots, StepFailed, execute
from hypernodes.runtime.bundle.layers import Layers
from hypernodes.runtime.bundle.maps import Expansion, Fill, frame_slots, map_columns, rows_of
from hypernodes.runtime.bundle.unrolled import LONGEST, Add, Link, run_chain

BLOCK = 4096
"""Items whose results are gathered end to end before they are dealt out to their columns: enough to make that cheap,
few enough to take no memory beside the columns themselves."""

Pick = Callable[[Slots], Any]


def loop_over(step: MapStep, code: Code, fill: Fill, layers: Optional[Layers]) -> Callable[[Slots], None]:
    """Return an instruction that runs `code` for each item of a map in turn, its slots filled by `fill`."""
    loop = _Loop(step, code, fill, layers)

    def run(slots: Slots) -> None:
        expansion = map_columns(step, slots) if layers is None else layers.expand(step, slots)
        if expansion is None:
            raise FailedItems
        own = frame_slots(step, slots)
        if layers is not None:
            layers.map_started(step, slots, own, expansion.total)
        columns: List[List[Any]] = [[] for _ in step.body.outputs]
        if loop.alike(expansion, own):
            loop.in_blocks(expansion, own, columns)
        else:
            loop.one_by_one(expansion, own, columns)
        for result, column in zip(step.results, columns):
            slots[result] = column if layers is None else layers.column(column)
        if layers is not None:
            layers.map_ended(step, slots)
        for slot in step.frees:
            slots[slot] = None
        if layers is not None and layers.collects and any(type(slots[slot]) in BROKEN for slot in step.results):
            raise FailedItems

    return run


class _Loop:
    """What is known of the loop over a map before it runs."""

    def __init__(self, step: MapStep, code: Code, fill: Fill, layers: Optional[Layers]) -> None:
        self._step = step
        self._code = code
        self._fill = fill
        self._layers = layers
        outputs = step.body.outputs
        self._width = len(outputs)
        self._pick: Pick = itemgetter(*outputs) if outputs else _nothing
        self._single = step.axes[0].body_slot if len(step.axes) == 1 and not step.spreads else None
        self._plain, self._salvage = parts(code)
        self._links = _chain(self._plain, self._single, outputs)
        steps = [inner for bundle in step.body.bundles for inner in bundle.steps]
        # Runs within an item have to know which it is before anything of it fails.
        runs_within = any(not isinstance(inner, Step) or inner.runs_plan for inner in steps)
        self._apart = layers is not None and (layers.nodes or layers.items or runs_within)

    def alike(self, expansion: Expansion, own: Slots) -> bool:
        """Return whether all items can be run by the plain code, until one fails."""
        if self._apart:
            return False
        salvage = self._salvage
        if salvage is None:
            return True
        return salvage.sound(own) and all(BROKEN.isdisjoint(map(type, column)) for column in expansion.columns)

    def one_by_one(self, expansion: Expansion, own: Slots, columns: List[List[Any]]) -> None:
        """Run items with all that is around them."""
        layers, step, outputs = self._layers, self._step, self._step.body.outputs
        assert layers is not None
        for index, row in enumerate(rows_of(step.mode, expansion.columns)):
            try:
                self._fill(own, row, index)
                layers.item_follows(own, index)
                execute(self._code, own)
                layers.item_ended(own)
            except StepFailed as failed:
                failed.trail.append((step, index, own))
                raise
            for column, slot in zip(columns, outputs):
                column.append(own[slot])

    def in_blocks(self, expansion: Expansion, own: Slots, columns: List[List[Any]]) -> None:
        """Run items by the plain code alone; one that fails is salvaged where failures are collected."""
        single, step = self._single, self._step
        flat: List[Any] = []
        add: Add = flat.append if self._width == 1 else flat.extend
        values: Iterator[Any] = rows_of(step.mode, expansion.columns) if single is None else iter(expansion.columns[0])
        for start in range(0, expansion.total, BLOCK):
            block = islice(values, BLOCK)
            while True:
                try:
                    self._run(block, start + len(flat) // max(1, self._width), own, flat, add)
                    break
                except StepFailed as failed:
                    index = start + len(flat) // max(1, self._width)
                    if self._salvage is None:
                        failed.trail.append((step, index, own))
                        raise
                    own[-1].placed(index)
                    self._go_on(self._salvage, failed, own, flat, add)
            deal(flat, columns)

    def _run(self, block: Iterable[Any], start: int, own: Slots, flat: List[Any], add: Add) -> None:
        single, code, pick, apart = self._single, self._plain, self._pick, own[0].apart
        if single is None:
            for index, row in enumerate(block, start):
                self._fill(own, row, index)
                execute(code, own)
                add(pick(own))
        elif self._links is not None:
            run_chain(self._links, block, own, flat.append)
        elif apart:
            for own[single] in block:
                execute(code, own)
                add(pick(own))
        else:
            for own[single] in block:
                for shape, steps in code:
                    shape(steps, own)
                add(pick(own))

    def _go_on(self, salvage: Salvage, fault: StepFailed, own: Slots, flat: List[Any], add: Add) -> None:
        """Finish an item of which a step has failed."""
        try:
            if self._links is None:
                salvage.after(own, fault)
                add(self._pick(own))
                return
            step = salvage.steps[salvage.failed(fault)]
        except StepFailed as failed:
            failed.trail.append((self._step, own[-1].items[-1], own))
            raise
        # What the links before it have made is there; all others would have read a failure.
        failure = failure_of(step, own, fault.error)  # type: ignore[arg-type]
        flat += [failure] * (self._width - len(flat) % self._width)


def _chain(code: Code, item: Optional[int], outputs: Sequence[int]) -> Optional[List[Link]]:
    """Return calls, each of what the one before it returned; None for another body, or a long one."""
    links: List[Link] = []
    last = item
    for shape, table in code:
        if shape not in UNARY or len(links) + len(table) > LONGEST:
            return None
        for fn, a, out in table:
            if a != last:
                return None
            links.append(Link(fn, out in outputs, returns_data(fn), a, out))
            last = out
    # Results are gathered in the order in which they are made.
    made = tuple([link.out for link in links if link.asked])
    return links if outputs and made == tuple(outputs) else None


def _nothing(slots: Slots) -> Sequence[Any]:
    return ()


def deal(flat: List[Any], columns: Sequence[List[Any]]) -> None:
    """Move rows of results, laid end to end in `flat`, into their columns."""
    width = len(columns)
    for number, column in enumerate(columns):
        column += flat[number::width]
    flat.clear()
