"""Which frame of a run this is, and who listens: the last slot of a frame that is listened to or collects errors.

Where nobody does either it is None, and costs nothing.
"""

from __future__ import annotations

from typing import Any, Callable, Optional, Tuple

from hypernodes.errors.location import Location
from hypernodes.events.event import Event, FrameKey
from hypernodes.lowering.plan import MapStep, PlanStep
from hypernodes.runtime.bundle.locate import pipelines_of, scope_of

Sink = Callable[[Event], None]


class Scope:
    """Where a frame stands.

    Attributes
    ----------
    path : tuple of str
        Names of the pipelines down to the frame's.
    frame : FrameKey
        The maps around it, with the index of the item in each.
    layers : Layers
        What its steps are linked with, for runs within it.
    sink : callable, optional
        Takes its events; None where nobody listens.
    started : float
        When its item began, where somebody hears when it ends.
    """

    __slots__ = ("frame", "layers", "path", "sink", "started")

    def __init__(self, path: Tuple[str, ...], frame: FrameKey, layers: Any, sink: Optional[Sink]) -> None:
        self.path = path
        self.frame = frame
        self.layers = layers
        self.sink = sink
        self.started = 0.0

    @property
    def items(self) -> Tuple[int, ...]:
        """The indices of the items around the frame, outermost first."""
        return tuple([index for _, index in self.frame if index >= 0])

    @property
    def location(self) -> Location:
        """Where it is, as failures say it."""
        return Location(self.path, "", self.items)

    def of_map(self, step: MapStep) -> Scope:
        """Return the scope of a map of this frame, which is that of its first item once it is `placed`."""
        return Scope((*self.path, *pipelines_of(step)), (*self.frame, (map_key(step), -1)), self.layers, self.sink)

    def placed(self, index: int) -> None:
        """Make it that of another item of its map."""
        frame = self.frame
        self.frame = (*frame[:-1], (frame[-1][0], index))

    def of_item(self, index: int) -> Scope:
        """Return that of an item of its map."""
        frame = self.frame
        return Scope(self.path, (*frame[:-1], (frame[-1][0], index)), self.layers, self.sink)

    def of_nested(self, path: Tuple[str, ...], key: str) -> Scope:
        """Return the scope of a run within a step, whose first result is `key`."""
        return Scope((*self.path, *path), (*self.frame, (key, -1)), self.layers, self.sink)

    def tell(self, kind: str, step: PlanStep, payload: Any) -> None:
        """Tell of something that happened to a step of the frame, if somebody listens."""
        if self.sink is not None:
            output = step.outputs[0] if step.outputs else ""
            self.sink(Event(kind, self.frame, self.path, scope_of(step), step.name, payload, output=output))


def map_key(step: MapStep) -> str:
    """Return what tells one map of a frame from the others: names of results are unique there."""
    return step.outputs[0] if step.outputs else step.name
