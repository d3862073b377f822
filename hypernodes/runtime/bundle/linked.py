"""A Plan in, the same plan with code for its bundles and arrays for the schedule out.

Linking happens once per plan, and once more where somebody listens: everything a run needs to ask of a bundle is in a
list here, by the bundle's index.
"""

from __future__ import annotations

from typing import Any, Dict, Iterator, List, Optional, Set, Tuple

from hypernodes.lowering.plan import FRAMES, INLINE, LOOP, PROCESS, Bundle, MapStep, Plan, Step, is_timed
from hypernodes.runtime.bundle.cancellation import Stoppable
from hypernodes.runtime.bundle.interpreter import Slots
from hypernodes.runtime.bundle.link import Fill, Wrap, link, link_coroutine, link_filler
from hypernodes.runtime.processes.wire import Part


class LinkedPlan:
    """A plan ready to run.

    Attributes
    ----------
    codes : list
        Per bundle: the interpreter's code; for a loop bundle a list of coroutine functions; None for what runs
        elsewhere.
    bodies : dict of int to LinkedPlan
        Bundle index to the linked body of the map it starts.
    sent : dict of int to (int, Part)
        Bundle index to the owner of its programs, and to the one that was last sent to worker processes.
    passed_on : dict of int to int
        Of a straight plan: number of an output that no bundle makes, because it was given, to its slot.
    length : int
        Steps on the critical path, 1 at least.
    timed : bool
        Whether a call in a worker process may be late, which only its end would stop.
    """

    def __init__(self, plan: Plan, wrap: Optional[Wrap] = None, step: Optional[MapStep] = None) -> None:
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
        self.length = max(1, plan.critical_path)
        self.map_steps: Dict[int, MapStep] = {}
        self.bodies: Dict[int, LinkedPlan] = {}
        self.placements_used: Set[str] = {placement for placement in self.placements if placement != FRAMES}
        self.straight = plan.straight
        self.timed = any(map(is_timed, bundles))
        self.fill: Fill = link_filler(step, wrap) if step else _no_row
        self.sent: Dict[int, Tuple[int, Part]] = {}
        self.codes: List[Any] = []
        # A plan that the caller's thread runs alone is stopped by the interrupt of that thread.
        stoppable = wrap if {bundle.placement for bundle in bundles} <= {INLINE} else Stoppable(wrap)
        for bundle in bundles:
            if bundle.placement == FRAMES:
                inner = bundle.steps[0]
                assert isinstance(inner, MapStep)
                body = LinkedPlan(inner.body, wrap, inner)
                self.map_steps[bundle.index] = inner
                self.bodies[bundle.index] = body
                self.placements_used |= body.placements_used
                self.codes.append(None)
            elif bundle.placement == LOOP:
                own = _chosen(bundle, stoppable, wrap)
                self.codes.append([link_coroutine(s, own) for s in bundle.steps if isinstance(s, Step)])
            elif bundle.placement == PROCESS:
                self.codes.append(None)
            else:
                self.codes.append(link(bundle.steps, _chosen(bundle, stoppable, wrap)))

    @property
    def inline(self) -> bool:
        """Whether the caller's thread alone runs everything, so that no schedule is needed."""
        return self.count <= 1 and self.placements_used <= {INLINE} and not self.bodies


def _passed_on(plan: Plan) -> Iterator[Tuple[int, int]]:
    exports = plan.bundles[0].exports
    return ((number, slot) for number, slot in enumerate(plan.outputs) if slot not in exports)


def _chosen(bundle: Bundle, stoppable: Optional[Wrap], wrap: Optional[Wrap]) -> Optional[Wrap]:
    # The first step of a bundle begins as it is taken: one alone has nothing to look at.
    return stoppable if len(bundle.steps) > 1 or isinstance(bundle.steps[0], MapStep) else wrap


def _no_row(slots: Slots, row: Tuple[Any, ...], index: int) -> None:
    raise AssertionError("the root frame has no rows")
