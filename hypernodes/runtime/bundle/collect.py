"""Steps in, the same steps that leave a `Failure` where they fail, and pass on those they find, out.

It wraps an `Observer`, or where nobody listens a `Locator`, which says for each frame which item it is. A step that
reads a failure is not called: its results are that failure. So everything runs that does not depend on one, in any
mode, and no driver knows of it. What fails outside of steps (a worker that died, a mapping that lacks a key) is made a
failure by `lost` and `filler`.
"""

from __future__ import annotations

from typing import Any, List, Optional, Sequence, Tuple

from hypernodes.errors.notes import add_note
from hypernodes.events.event import NODE_ERROR, NODE_OVER, FrameKey
from hypernodes.lowering.plan import MapStep, PlanStep, Step
from hypernodes.runtime.bundle.failure import FailedColumn, Failure, broken, column_of, failed
from hypernodes.runtime.bundle.faults import annotate, note_text, tidy
from hypernodes.runtime.bundle.interpreter import Code, Slots
from hypernodes.runtime.bundle.link import Awaited, Fill, Instruction
from hypernodes.runtime.bundle.maps import map_columns
from hypernodes.runtime.bundle.observe import Observer, Scene
from hypernodes.runtime.processes.work_items import WorkItem
from hypernodes.runtime.schedule.frames import Chunk


class Collector:
    """Wraps steps for linking and listens to the schedule, as the observer in it does."""

    collects = True

    def __init__(self, observer: Observer) -> None:
        self._observer = observer

    # -- Wrap ---------------------------------------------------------------------------------------------------------

    def plain(self, step: PlanStep, run: Instruction) -> Instruction:
        run = self._observer.plain(step, run)
        if not isinstance(step, Step):
            return run
        reads = tuple([argument.slot for argument in step.arguments])
        if len(reads) == 1:
            return _collected_unary(step, run, reads[0])

        def collected(slots: Slots) -> None:
            failure = _first(reads, slots)
            if failure is None:
                try:
                    run(slots)
                    return
                except Exception as error:
                    failure = _failure(step, slots, error)
            _put(step, slots, failure)

        return collected

    def coroutine(self, step: Step, run: Awaited) -> Awaited:
        run = self._observer.coroutine(step, run)
        reads = tuple([argument.slot for argument in step.arguments])

        async def collected(slots: Slots) -> None:
            failure = _first(reads, slots)
            if failure is None:
                try:
                    await run(slots)
                    return
                except Exception as error:
                    failure = _failure(step, slots, error)
            _put(step, slots, failure)

        return collected

    def loop(self, step: MapStep, code: Code, fill: Fill) -> Instruction:
        run = self._observer.loop(step, code, fill)

        def collected(slots: Slots) -> None:
            if self.refuses(step, slots):
                return
            run(slots)
            for slot in step.results:
                slots[slot] = column_of(slots[slot])

        return collected

    def filler(self, step: MapStep, fill: Fill) -> Fill:
        """Return what fills an item's slots; an item that is no good is a failure in all of them."""
        targets = [entry.slot for entry in step.spread] if step.spreads else []
        if not targets:
            return fill

        def filled(slots: Slots, row: Tuple[Any, ...], index: int) -> None:
            failure = broken(row[0])
            if failure is None:
                try:
                    fill(slots, row, index)
                    return
                except Exception as error:
                    # The last of the frame is this map; its item is not the current one yet.
                    items = _items(slots[0].frame[:-1])
                    failure = failed(step.name, (*items, index), error)
            for slot in targets:
                slots[slot] = failure

        return filled

    # -- Listener -----------------------------------------------------------------------------------------------------

    def map_started(self, step: MapStep, slots: Slots, template: Slots, total: Optional[int]) -> None:
        self._observer.map_started(step, slots, template, total)

    def item_started(self, slots: Slots, index: int) -> None:
        self._observer.item_started(slots, index)

    def item_ended(self, slots: Slots) -> None:
        self._observer.item_ended(slots)

    def map_ended(self, step: MapStep, slots: Slots, template: Slots) -> None:
        self._observer.map_ended(step, slots, template)

    def refuses(self, step: MapStep, slots: Slots) -> bool:
        def item_failed(index: int, error: Exception) -> Failure:
            items = (*_items(slots[0].frame), index)
            add_note(error, note_text(step, slots, tidy(".".join(slots[0].path)), items))
            return failed(step.name, items, error)

        failure = _first([axis.slot for axis in step.axes if type(slots[axis.slot]) is Failure], slots)
        if failure is None:
            try:
                # What was read here has been read: an iterator gives its values once.
                for axis, column in zip(step.axes, map_columns(step, slots, item_failed)[0]):
                    slots[axis.slot] = column
                return False
            except Exception as error:
                failure = _failure(step, slots, error)
        _put(step, slots, failure)
        return True

    def column(self, cells: List[Any]) -> List[Any]:
        """Return the results of a map as those who read them take them."""
        return column_of(cells)


def lost(work: WorkItem, error: Exception) -> List[Failure]:
    """Return a failure in place of each result of a bundle, none of whose steps could say what happened."""
    task, bundle = work.task, work.bundle
    scene: Scene = task.map_run.template[0] if isinstance(task, Chunk) else task.frame.slots[0]
    named = getattr(error, "node", None)
    step = next((step for step in bundle.steps if step.name == named), bundle.steps[0])
    scene.tell(NODE_ERROR, step, error)
    if not isinstance(task, Chunk):
        # Frames count their steps, to tell when a nested pipeline has ended.
        for each in bundle.steps:
            scene.tell(NODE_OVER, each, None)
    _, items, first = work.place
    cells: List[Failure] = []
    for number in range(work.count):
        own = (*items, first + number) if first >= 0 else items
        cells.extend([failed(named or step.name, own, error)] * len(bundle.exports))
    return cells


def _collected_unary(step: Step, run: Instruction, read: int) -> Instruction:
    """Return what `Collector.plain` does for a step that reads one value, which is most of them."""

    def collected(slots: Slots) -> None:
        failure: Optional[Failure] = None
        if type(slots[read]) in _BROKEN:
            failure = broken(slots[read])
        else:
            try:
                run(slots)
                return
            except Exception as error:
                failure = _failure(step, slots, error)
        assert failure is not None
        _put(step, slots, failure)

    return collected


_BROKEN = frozenset((Failure, FailedColumn))


def _first(reads: Sequence[int], slots: Slots) -> Optional[Failure]:
    for slot in reads:
        failure = broken(slots[slot])
        if failure is not None:
            return failure
    return None


def _put(step: PlanStep, slots: Slots, failure: Failure) -> None:
    slots[0].tell(NODE_OVER, step, None)
    for slot in step.results:
        slots[slot] = failure
    for slot in step.frees:
        slots[slot] = None


def _items(frame: FrameKey) -> Tuple[int, ...]:
    return tuple([index for _, index in frame if index >= 0])


def _failure(step: PlanStep, slots: Slots, error: Exception) -> Failure:
    scene: Scene = slots[0]
    items = _items(scene.frame)
    annotate(error, step, slots, tidy(".".join(scene.path)), items)
    return failed(step.name, items, error)
