"""A plan in, its one printed form out: stable, without addresses, the words of the plan itself.

What is printed is what runs: the waves to start with, each bundle with its placement and why, its steps, whom it comes
after and releases, and after which step or bundle each slot is empty again. Lines stay short: a list that does not fit
has one member to a line, so that a diff shows the member that changed.
"""

from __future__ import annotations

from typing import Dict, List, Optional, Sequence

from hypernodes.ir.graph import Policy
from hypernodes.lowering.plan import Bundle, Hosted, Plan, PlanStep, Step

COLUMNS = 100
"""A longer line is broken; it may always use `ROOM` columns, however deep it is indented."""
ROOM = 60
NUMBERS = 12
"""A list of bundles names so many and counts the others; thousands of readers must not fill thousands of lines."""


def plan_text(plan: Plan, items: Optional[int] = None) -> str:
    """Return the text of a plan; with `items`, the number of items of its outermost map, widths are numbers."""
    options = plan.options
    sizes = [_count(step_count(plan), "step"), _count(len(plan.bundles), "bundle"), _count(len(plan.waves), "wave")]
    head = [
        f"plan {plan.name}: nodes {options.nodes}, items {options.items}, max_workers {options.max_workers}",
        f"{', '.join(sizes)}, critical path {plan.critical_path}",
    ]
    return "\n".join([*head, *_Frame(plan, items, "").lines()])


def step_count(plan: Plan) -> int:
    """Return how many steps one frame has, maps counted as one."""
    return sum([len(bundle.steps) for bundle in plan.bundles])


def scoped_name(step: PlanStep) -> str:
    """Return a step's name behind those of the nested pipelines it was inlined from, joined by dots."""
    scope = None if isinstance(step, Hosted) else step.scope
    return ".".join([*(scope.path if scope else ()), step.name])


def policy_text(policy: Policy) -> str:
    """Return ``retries 3 on TimeoutError, backoff 0.5 s, timeout 2 s``."""
    parts = []
    if policy.retries:
        parts.append(f"retries {policy.retries} on {' or '.join([cls.__name__ for cls in policy.retry_on])}")
    for option in ("backoff", "jitter", "timeout"):
        seconds = getattr(policy, option)
        if seconds:
            parts.append(f"{option} {seconds:g} s")
    return ", ".join(parts)


def ranges(numbers: Sequence[int]) -> str:
    """Return ascending numbers with their runs shortened: ``0, 2-5, 7``; the end of a long list is counted."""
    runs: List[List[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    parts: List[str] = []
    for first, last in runs:
        if last - first > 1:
            parts.append(f"{first}-{last}")
        else:
            parts.extend(str(number) for number in range(first, last + 1))
        if len(parts) > NUMBERS:
            left = sum([number > last for number in numbers])
            return ", ".join(parts) + (f" and {left} more" if left else "")
    return ", ".join(parts)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


class _Frame:
    """The printer of one frame: its plan, and what of it every bundle needs."""

    def __init__(self, plan: Plan, items: Optional[int], indent: str) -> None:
        self.plan = plan
        self.items = items
        self.indent = indent
        before: Dict[int, List[int]] = {}
        readers: Dict[int, List[int]] = {}
        for bundle in plan.bundles:
            for other in bundle.releases:
                before.setdefault(other, []).append(bundle.index)
            for slot in bundle.shared_frees:
                readers.setdefault(slot, []).append(bundle.index)
        self.before = {index: ranges(others) for index, others in before.items()}
        self.readers = {slot: ranges(bundles) for slot, bundles in readers.items()}

    def lines(self) -> List[str]:
        plan, indent = self.plan, self.indent
        lines = _listed(indent, "inputs ", self.slots(plan.inputs))
        for number, wave in enumerate(plan.waves):
            lines.append(f"{indent}wave {number}")
            for index in wave:
                lines.extend(self.bundle(plan.bundles[index], indent + "  "))
        return lines + _listed(indent, "return ", self.slots(plan.outputs))

    def bundle(self, bundle: Bundle, indent: str) -> List[str]:
        flow = f"rank {bundle.rank}"
        if bundle.waits:
            flow += f", after {self.before[bundle.index]}"
        if bundle.releases:
            flow += f", releases {ranges(bundle.releases)}"
        if bundle.payload is not None:
            flow += f", payload {bundle.payload} bytes"
        lines = [f"{indent}bundle {bundle.index} [{bundle.placement}: {bundle.reason}] {flow}"]
        indent += "  "
        for step in bundle.steps:
            lines.extend(self.step(step, indent))
            if step.frees:
                lines.extend(_listed(indent, "free ", self.slots(step.frees)))
        emptied = [*self.slots(bundle.frees), *[self.shared(slot) for slot in bundle.shared_frees]]
        if emptied:
            lines.extend(_listed(indent, "free at the end ", emptied))
        return lines

    def step(self, step: PlanStep, indent: str) -> List[str]:
        if isinstance(step, Hosted):
            options = step.plan.options
            head = f"{indent}host {step.name}: nodes {options.nodes}, max_workers {options.max_workers} of its own"
            return [head, *_Frame(step.plan, None, indent + "  ").lines()]
        if isinstance(step, Step):
            arguments = [self.passed(argument.parameter, argument.slot) for argument in step.arguments]
            keyword = "await " if step.is_coroutine else ""
            call = _statement(indent, self.slots(step.results), f"{keyword}{scoped_name(step)}", arguments)
            return [*call, f"{indent}  {policy_text(step.policy)}"] if step.policy.governs_calls else call
        head = f"map {step.mode} {scoped_name(step)}"
        # Which inputs a spread item carries is up to the item, so an axis without a name.
        items = [f"{'**' if step.spreads else axis.parameter} in {self.slot(axis.slot)}" for axis in step.axes]
        shared = [self.passed(step.body.slots[inner].name, outer) for inner, outer in step.shared]
        return [
            *_statement(indent, self.slots(step.results), head, [*items, *shared]),
            f"{indent}  width {step.width.text(self.items)} ({step.width.rule})",
            *_Frame(step.body, None, indent + "  ").lines(),
        ]

    def passed(self, parameter: str, slot: int) -> str:
        shown = self.slot(slot)
        return shown if parameter == self.plan.slots[slot].name else f"{parameter}={shown}"

    def shared(self, slot: int) -> str:
        return f"{self.slot(slot)} (by the last of bundles {self.readers[slot]})"

    def slots(self, slots: Sequence[int]) -> List[str]:
        return [self.slot(slot) for slot in slots]

    def slot(self, slot: int) -> str:
        return f"{self.plan.slots[slot].name}%{slot}"


def _fits(line: str, indent: str) -> bool:
    return len(line) <= max(COLUMNS, len(indent) + ROOM)


def _listed(indent: str, head: str, members: Sequence[str]) -> List[str]:
    line = f"{indent}{head}{', '.join(members) or 'nothing'}"
    if _fits(line, indent):
        return [line]
    return [f"{indent}{head.rstrip()}", *[f"{indent}  {member}" for member in members]]


def _statement(indent: str, left: Sequence[str], call: str, arguments: Sequence[str]) -> List[str]:
    defined, passed = ", ".join(left), ", ".join(arguments)
    line = f"{indent}{defined} = {call}({passed})"
    if _fits(line, indent):
        return [line]
    lines: List[str] = []
    if len(defined) > len(passed):
        lines = [f"{indent}(", *[f"{indent}  {member}," for member in left]]
        line = f"{indent}) = {call}({passed})"
        if _fits(line, indent):
            return [*lines, line]
        defined = ")"
    return [
        *lines,
        f"{indent}{defined} = {call}(",
        *[f"{indent}  {argument}," for argument in arguments],
        f"{indent})",
    ]


__all__ = ["plan_text", "policy_text", "ranges", "scoped_name", "step_count"]
