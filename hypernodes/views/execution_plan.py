"""An executable in, what a person can do with a plan out: print, dump, draw, simulate and run it."""

from __future__ import annotations

from typing import Any, Dict, Mapping, Optional

from hypernodes.asking import given_inputs, named
from hypernodes.backends.base import Executable
from hypernodes.lowering.plan import FRAMES, MapStep, Plan
from hypernodes.views.dump import dump_plan, encode_plan
from hypernodes.views.mermaid import plan_mermaid
from hypernodes.views.simulate import Durations, Items, simulate
from hypernodes.views.text import plan_text
from hypernodes.views.timeline import Timeline


class ExecutionPlan:
    """The plan of one kind of run; ``print`` it to read it, and `run` it as often as you like.

    Attributes
    ----------
    plan : Plan
        The frozen data: bundles over slots, in waves.
    items : int or None
        The number of items that widths are printed for.
    """

    def __init__(self, executable: Executable, items: Optional[int] = None) -> None:
        self._executable = executable
        self.plan: Plan = executable.plan
        self.items = items

    def __str__(self) -> str:
        return plan_text(self.plan, self.items)

    def __repr__(self) -> str:
        plan = self.plan
        return f"<ExecutionPlan of {plan.name}: {len(plan.bundles)} bundles in {len(plan.waves)} waves>"

    def to_json(self, indent: int = 2) -> str:
        """Return the plan as JSON, the same text for the same plan.

        `hypernodes.views.dump.decode_plan` reads it back, as a `PlanDump`; functions are in it by name only.

        Parameters
        ----------
        indent : int
            Spaces per level; 0 for everything on one line.
        """
        return encode_plan(dump_plan(self.plan, self.items), indent)

    def to_mermaid(self) -> str:
        """Return the plan as a Mermaid flowchart, which GitHub, Jupyter and many editors draw.

        Waves stand below each other, bundles are coloured by placement, maps are boxes around their bodies. Mermaid
        draws up to 500 arrows unless its ``maxEdges`` is raised where it is drawn.
        """
        return plan_mermaid(self.plan, self.items)

    def simulate(
        self,
        durations: Optional[Durations] = None,
        items: Optional[Items] = None,
        workers: Optional[int] = None,
    ) -> Timeline:
        """Return the run that this plan would be, on a virtual clock; no node is called.

        Parameters
        ----------
        durations : mapping of str to float, or callable, optional
            Node name to seconds, 1.0 for those not named; or ``durations(name, path)``, where `path` are the indices
            of the items around the call, outermost first.
        items : int, or mapping of str to int, optional
            How many items every map has, or each by its name. By default those the plan was made for, and 10 where it
            does not say.
        workers : int, optional
            The most bundles at once; the plan's `max_workers` by default. Widths of maps stay the plan's.

        Returns
        -------
        Timeline
            Seconds in all and on the critical path, and who does what when; ``print`` it for a chart.

        Raises
        ------
        UnknownNameError
            For a node or a map that the plan does not have.
        OptionError
            For a negative number of seconds or items, or less than one worker.

        Examples
        --------
        >>> print(pipeline.plan().simulate({"fetch": 0.2, "parse": 0.01}))  # doctest: +SKIP
        """
        if items is None and self.items is not None:
            # Two outermost maps of one name have one number of items, which is what the plan prints for them too.
            steps = [bundle.steps[0] for bundle in self.plan.bundles if bundle.placement == FRAMES]
            items = {step.name: self.items for step in steps if isinstance(step, MapStep)}
        return simulate(self.plan, durations, items, workers)

    def run(self, inputs: Optional[Mapping[str, Any]] = None) -> Dict[str, Any]:
        """Run exactly this plan.

        Parameters
        ----------
        inputs : mapping of str to object
            The names the plan was made for, iterables for those it maps over.

        Returns
        -------
        dict of str to object
            The outputs the plan was made for; for a map a list for each, in item order.

        Raises
        ------
        PlanInputsError
            For other names than those.
        MapInputError, MapLengthError
            For values that cannot be mapped over.
        Exception
            Whatever a node raises, as itself, with a note that says where.
        """
        given = named(given_inputs(inputs))
        self._executable.check_inputs(tuple(given))
        return self._executable.run(given)
