"""A Plan in, the same plan with code for its bundles and arrays for the schedule out.

Linking happens once per plan, and once more where somebody listens: everything a run needs to ask of a bundle is in a
list here, by the bundle's index.
"""

from __future__ import annotations

from typing import Any, Dict, Iterator, List, Optional, Set, Tuple

from hypernodes.lowering.plan import FRAMES, INLINE, LOOP, PROCESS, MapStep, Plan, Step, is_timed
from hypernodes.runtime.bundle.interpreter import Slots
from hypernodes.runtime.bundle.layers import Layers
from hypernodes.runtime.bundle.link import link, link_coroutine, link_filler
from hypernodes.runtime.bundle.maps import Fill


class LinkedPlan:
    """A plan ready to run.

    Attributes
    ----------
    codes : list
        Per bundle: the interpreter's code; for a loop bundle a list of coroutine functions; None for what runs
        elsewhere.
    bodies : dict of int to LinkedPlan
        Bundle index to the linked body of the map it starts.
    sent : dict of int to object
        Bundle index to what the process driver keeps of its programs from run to run.
    passed_on : dict of int to int
        Of a straight plan: number of an output that no bundle makes, because it was given, to its slot.
    made : list of int
        The slots of the other outputs.
    length : int
        Steps on the critical path, 1 at least.
    timed : bool
        Whether a call in a worker process may be late, which only its end would stop.
    """

    def __init__(self, plan: Plan, layers: Optional[Layers] = None, step: Optional[MapStep] = None) -> None:
        self.plan = plan
        bundles = plan.bundles
        self.count = len(bundles)
        self.waits: List[int] = [bundle.waits for bundle in bundles]
        self.releases = [bundle.releases for bundle in bundles]
        self.ranks = [bundle.rank for bundle in bundles]
        self.placements = [bundle.placement for bundle in bundles]
        self.frees = [bundle.frees for bundle in bundles]
        self.shared_frees = [bundle.shared_frees for bundle in bundles]
        self.shared_readers: Dict[int, int] = {}
        for bundle in bundles:
            for slot in bundle.shared_frees:
                self.shared_readers[slot] = self.shared_readers.get(slot, 0) + 1
        self.first = [bundle.index for bundle in bundles if not bundle.waits]
        self.outputs = plan.outputs
        self.passed_on = dict(_passed_on(plan)) if plan.straight else {}
        self.made = [slot for number, slot in enumerate(plan.outputs) if number not in self.passed_on]
        self.length = max(1, plan.critical_path)
        self.map_steps: Dict[int, MapStep] = {}
        self.bodies: Dict[int, LinkedPlan] = {}
        self.placements_used: Set[str] = {placement for placement in self.placements if placement != FRAMES}
        self.straight = plan.straight
        self.timed = any(map(is_timed, bundles))
        self.fill: Fill = link_filler(step, layers) if step else _no_row
        self.sent: Dict[int, Any] = {}
        self.codes: List[Any] = []
        for bundle in bundles:
            if bundle.placement == FRAMES:
                inner = bundle.steps[0]
                assert isinstance(inner, MapStep)
                body = LinkedPlan(inner.body, layers, inner)
                self.map_steps[bundle.index] = inner
                self.bodies[bundle.index] = body
                self.placements_used |= body.placements_used
                self.codes.append(None)
            elif bundle.placement == LOOP:
                self.codes.append([link_coroutine(s, layers) for s in bundle.steps if isinstance(s, Step)])
            elif bundle.placement == PROCESS:
                self.codes.append(None)
            else:
                self.codes.append(link(bundle.steps, layers, bundle.imports))

    @property
    def inline(self) -> bool:
        """Whether the caller's thread alone runs everything, so that no schedule is needed."""
        return self.count <= 1 and self.placements_used <= {INLINE} and not self.bodies


def _passed_on(plan: Plan) -> Iterator[Tuple[int, int]]:
    exports = plan.bundles[0].exports
    return ((number, slot) for number, slot in enumerate(plan.outputs) if slot not in exports)


def _no_row(slots: Slots, row: Tuple[Any, ...], index: int) -> None:
    raise AssertionError("the root frame has no rows")
