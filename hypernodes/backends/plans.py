"""A prepared run in, what a person can do with a plan before and instead of running it out: print, dump, draw, run."""

from __future__ import annotations

from typing import Any, Dict, Mapping, Optional

from hypernodes.backends.prepared import Prepared
from hypernodes.lowering.plan import Plan
from hypernodes.lowering.text import plan_text


class ExecutionPlan:
    """The plan of one kind of run; ``print`` it to read it, and `run` it as often as you like.

    Attributes
    ----------
    plan : Plan
        The frozen data: bundles over slots, in waves.
    items : int or None
        The number of items that widths are printed for.
    """

    def __init__(self, prepared: Prepared, items: Optional[int] = None) -> None:
        self._prepared = prepared
        self.plan: Plan = prepared.plan
        self.items = items

    def __str__(self) -> str:
        return plan_text(self.plan, self.items)

    def __repr__(self) -> str:
        plan = self.plan
        return f"<ExecutionPlan of {plan.name}: {len(plan.bundles)} bundles in {len(plan.waves)} waves>"

    def run(self, inputs: Optional[Mapping[str, Any]] = None) -> Dict[str, Any]:
        """Run exactly this plan.

        Parameters
        ----------
        inputs : mapping of str to object
            The names the plan was made for, iterables for those it maps over.

        Raises
        ------
        PlanInputsError
            For other names than those.
        """
        given = {} if inputs is None else inputs
        self._prepared.check_inputs(tuple(given))
        return self._prepared.run(given)
