"""One thing that happened, as data: made where a node ran, read where callbacks are called, picklable in between."""

from __future__ import annotations

import time
from typing import Any, Sequence, Tuple

import attrs
import msgspec

NODE_START = "node_start"
NODE_END = "node_end"
NODE_ERROR = "node_error"
NODE_OVER = "node_over"  # it failed, or depends on one that did, and the run goes on
MAP_START = "map_start"
MAP_END = "map_end"
NESTED_START = "nested_start"
NESTED_END = "nested_end"
ITEM_START = "item_start"
ITEM_END = "item_end"
SEVERAL = "several"  # those in its payload, in order

FrameKey = Tuple[Tuple[str, int], ...]
"""Which frame of a run: for each enclosing map its first result's name and the item's index, outermost first; -1 stands
for the one frame of a nested pipeline that runs by a backend of its own."""


@attrs.frozen(repr=False)
class Unsent:
    """Stands in what a callback is told for a value of a worker process that stayed there; `kind` says what it is."""

    kind: str

    def __repr__(self) -> str:
        return f"<{self.kind}, which stayed in its process>"


class Event(msgspec.Struct, frozen=True):
    """What happened to a step or an item of one frame.

    `path` are the names of the pipelines down to the frame's, `scope` those of the inlined ones from there to the step,
    whose first `output` tells it from others of its name.
    `time` is in seconds of a clock that all processes of the machine share, and so is when a node or an item that has
    ended `began`; `payload` is what the hook is given.
    """

    kind: str
    frame: FrameKey
    path: Tuple[str, ...]
    scope: Tuple[str, ...]
    name: str
    payload: Any = None
    time: float = msgspec.field(default_factory=time.perf_counter)
    output: str = ""
    began: float = 0.0

    @classmethod
    def of_several(cls, events: Sequence[Event]) -> Event:
        """Return events that came together as one, since to hand one over costs more than to make it."""
        return cls(SEVERAL, (), (), (), "", events, 0.0)

    @property
    def each(self) -> Sequence[Event]:
        """The events that came together; itself alone for any other."""
        return self.payload if self.kind == SEVERAL else (self,)

    @property
    def key(self) -> Tuple[FrameKey, Tuple[str, ...], str]:
        """What the start and the end of one map, or nested pipeline, have in common, and nothing else has."""
        return self.frame, self.scope, self.output

    @property
    def items(self) -> Tuple[int, ...]:
        """The indices of the items around it, outermost first."""
        if not self.frame:
            return ()
        return tuple([index for _, index in self.frame if index >= 0])
