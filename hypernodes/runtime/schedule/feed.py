"""A stream, as the schedule sees it: a map whose rows come while it runs, and whose items leave as they end.

::

push ─▶ FedSource ─▶ MapRun ─▶ lanes ─▶ Deliveries ─▶ deliver((index, outputs))
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable, Optional, Sequence

from hypernodes.lowering.plan import MapStep
from hypernodes.runtime.schedule.sink import Deliveries, Delivery
from hypernodes.runtime.schedule.source import FedSource

if TYPE_CHECKING:
    from hypernodes.runtime.schedule.frames import MapRun


class Feed:
    """The rows of one stream on their way in, and its items on their way out.

    Parameters
    ----------
    step : MapStep
        The map; it has at least one output.
    names : sequence of str
        Its outputs, in the order in which the consumer wants them.
    deliver : callable
        Takes each finished item.
    ordered : bool
        Hold an item back until those before it have been delivered.
    total : int, optional
        How many rows there will be, where that is known.
    """

    def __init__(
        self,
        step: MapStep,
        names: Sequence[str],
        deliver: Callable[[Delivery], None],
        ordered: bool,
        total: Optional[int],
    ) -> None:
        self.total = total
        self.source = FedSource(len(step.axes))
        self.sink = Deliveries(step.outputs, names, deliver, ordered)

    def attach(self, map_run: MapRun) -> None:
        """Take over a map that has just begun, without any rows."""
        self.map_run = map_run
        map_run.width = map_run.step.width.limit
        map_run.source, map_run.sink = self.source, self.sink
