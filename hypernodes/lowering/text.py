"""A plan in, its one printed form out: stable, without addresses, the words of the plan itself.

What is printed is what runs: the waves to start with, each bundle with its placement and why, its steps, whom it waits
for and releases, and after which bundle or step each slot is empty again.
"""

from __future__ import annotations

from typing import List, Optional

from hypernodes.lowering.plan import Bundle, Hosted, MapStep, Plan, PlanStep, Slot, Step


def plan_text(plan: Plan, items: Optional[int] = None) -> str:
    """Return the text of a plan; with `items`, the number of items of its outermost map, widths are numbers."""
    options = plan.options
    head = (
        f"plan {plan.name}: nodes {options.nodes}, items {options.items}, max_workers {options.max_workers}; "
        f"{_count(step_count(plan), 'step')}, {_count(len(plan.bundles), 'bundle')}, {_count(len(plan.waves), 'wave')}, "
        f"critical path {plan.critical_path}"
    )
    return "\n".join([head, *_frame(plan, items, "")])


def step_count(plan: Plan) -> int:
    """Return how many steps one frame has, maps counted as one."""
    return sum([len(bundle.steps) for bundle in plan.bundles])


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _frame(plan: Plan, items: Optional[int], indent: str) -> List[str]:
    lines = [f"{indent}inputs {_slots(plan, plan.inputs)}"]
    for number, wave in enumerate(plan.waves):
        lines.append(f"{indent}wave {number}")
        for index in wave:
            lines.extend(_bundle(plan, plan.bundles[index], items, indent + "  "))
    lines.append(f"{indent}return {_slots(plan, plan.outputs)}")
    return lines


def _bundle(plan: Plan, bundle: Bundle, items: Optional[int], indent: str) -> List[str]:
    flow = f"rank {bundle.rank}"
    if bundle.waits:
        flow += f", waits for {bundle.waits}"
    if bundle.releases:
        flow += f", releases {', '.join(map(str, bundle.releases))}"
    size = f", payload {len(bundle.payload)} bytes" if bundle.payload is not None else ""
    lines = [f"{indent}bundle {bundle.index} [{bundle.placement}: {bundle.reason}] {flow}{size}"]
    for step in bundle.steps:
        lines.extend(_step(plan, step, items, indent + "  "))
    if bundle.frees:
        lines.append(f"{indent}  free {_slots(plan, bundle.frees)}")
    if bundle.shared_frees:
        lines.append(f"{indent}  free {_slots(plan, bundle.shared_frees)} with the last reader")
    return lines


def _step(plan: Plan, step: PlanStep, items: Optional[int], indent: str) -> List[str]:
    free = f"  free {_slots(plan, step.frees)}" if step.frees else ""
    if isinstance(step, Hosted):
        head = f"{indent}a schedule of its own: nodes {step.plan.options.nodes}"
        return [head, *_frame(step.plan, None, indent + "  ")]
    left = ", ".join(_slot(plan.slots[slot], slot) for slot in step.results)
    scope = f"{'.'.join(step.scope.path)}." if step.scope else ""
    if isinstance(step, Step):
        arguments = ", ".join(
            f"{argument.parameter}={_slot(plan.slots[argument.slot], argument.slot)}" for argument in step.arguments
        )
        return [f"{indent}{left} = {'await ' if step.is_coroutine else ''}{scope}{step.name}({arguments}){free}"]
    assert isinstance(step, MapStep)
    axes = ", ".join(f"{axis.parameter} in {_slot(plan.slots[axis.slot], axis.slot)}" for axis in step.axes)
    head = f"{indent}{left} = map {step.mode} {scope}{step.name}({axes})"
    head += f" width {step.width.text(items)} ({step.width.rule}){free}"
    return [head, *_frame(step.body, None, indent + "  ")]


def _slots(plan: Plan, slots: tuple[int, ...]) -> str:
    return ", ".join(_slot(plan.slots[slot], slot) for slot in slots) or "nothing"


def _slot(slot: Slot, number: int) -> str:
    return f"{slot.name}%{number}"
