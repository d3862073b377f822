"""A plan in, a Mermaid flowchart of it out: what `print(plan)` says, for eyes that follow arrows.

Waves stand one below the other, with their bundles in them, coloured by placement, and the steps of each bundle. A map
is a box around its body with the width in its title: items go in by its inputs and come out, as lists, by its return.
Why bundles are where they are, and maps as wide as they are, stands in one box below it all. ::

    wave ⊃ bundle [placement] ⊃ step ──value──▶ step
                              ⊃ map, width ⊃ input ──▶ wave ⊃ ... ──▶ return
"""

from __future__ import annotations

import json
from typing import Dict, List, Optional, Sequence, Tuple

from hypernodes.lowering.plan import (
    FRAMES,
    INLINE,
    LOOP,
    PROCESS,
    THREAD,
    Bundle,
    Hosted,
    MapStep,
    Plan,
    PlanStep,
    Step,
)
from hypernodes.views.text import ranges, scoped_name

STYLES = {
    INLINE: "fill:#eef1f5,stroke:#8491a3,color:#1f2933",
    LOOP: "fill:#f1eafb,stroke:#8a5cd1,color:#2a1747",
    THREAD: "fill:#e6f5ec,stroke:#2f9e5f,color:#0e3520",
    PROCESS: "fill:#fff0e0,stroke:#e0872b,color:#4a2606",
    FRAMES: "fill:#edf4fd,stroke:#3f7fd0,color:#12305a,stroke-dasharray:4 3",
    "map": "fill:#edf4fd,stroke:#3f7fd0,color:#12305a",
    "wave": "fill:#fafafa,stroke:#d5d9de,color:#66707c,stroke-dasharray:2 3",
    "step": "fill:#ffffff,stroke:#55606e,color:#1f2933",
    "port": "fill:#fffbe6,stroke:#c9a400,color:#4d3f00",
}

CONFIG = ("config:", "  flowchart:", "    subGraphTitleMargin:", "      top: 2", "      bottom: 24")
"""Room for the second line of a title, which Mermaid does not make by itself."""

PLAIN = frozenset(" _,:=()+%")
"""Characters besides letters and digits that mean nothing to Mermaid within quotes; any other is sent as its code."""


def plan_mermaid(plan: Plan, items: Optional[int] = None) -> str:
    """Return the flowchart of a plan; with `items`, the number of items of its outermost map, widths are numbers."""
    options = plan.options
    title = f"plan {plan.name}: nodes {options.nodes}, items {options.items}, max_workers {options.max_workers}"
    chart = _Chart()
    end = chart.frame(plan, items, {}, 1)
    chart.key(end)
    chart.connect()
    # json.dumps, because a name may hold what would end a YAML string.
    head = ["---", f"title: {json.dumps(title, ensure_ascii=False)}", *CONFIG, "---", "flowchart TD"]
    styles = [f"  classDef {name} {style}" for name, style in STYLES.items() if chart.members[name]]
    classes = [f"  class {','.join(members)} {name}" for name, members in chart.members.items() if members]
    return "\n".join([*head, *chart.lines, *styles, *classes])


def escape(name: str) -> str:
    """Return text that Mermaid shows as it is, whatever it holds."""
    return "".join([char if char.isalnum() or char in PLAIN else f"#{ord(char)};" for char in name])


class _Chart:
    """Lines of a flowchart in the making; `members` lists, per class, the ids to be drawn in its colours."""

    def __init__(self) -> None:
        self.lines: List[str] = []
        self.members: Dict[str, List[str]] = {name: [] for name in STYLES}
        self.edges: Dict[Tuple[str, str], List[str]] = {}
        self.reasons: Dict[Tuple[str, str], None] = {}
        self.ports: Dict[str, str] = {}
        self.count = 0

    def frame(
        self, plan: Plan, items: Optional[int], fed: Dict[int, Sequence[str]], depth: int, notes: Sequence[str] = ()
    ) -> str:
        """Draw one frame and return the id of its return; `fed` labels inputs that need more than their name."""
        source: Dict[int, str] = {}
        for slot in plan.inputs:
            lines = fed.get(slot) or [f"<b>{escape(plan.slots[slot].name)}</b>"]
            source[slot] = self.node("port", "([", lines, "])", depth)
            self.ports[source[slot]] = plan.slots[slot].name
        readers = {slot for bundle in plan.bundles for step in bundle.steps for slot in _reads(step)}
        sharing: Dict[int, List[int]] = {}
        for bundle in plan.bundles:
            for slot in bundle.shared_frees:
                sharing.setdefault(slot, []).append(bundle.index)
        shared = {slot: ranges(bundles) for slot, bundles in sharing.items()}
        for number, wave in enumerate(plan.waves):
            inner = depth
            if len(plan.waves) > 1:
                self.open("wave", f"wave {number}", depth)
                inner += 1
            for index in wave:
                self.bundle(plan, plan.bundles[index], items, source, shared, inner)
            if len(plan.waves) > 1:
                self.close(depth)
        names = [plan.slots[slot].name for slot in plan.outputs]
        end = self.node("port", "([", ["<b>return</b>", *_rows(names), *_small(notes)], "])", depth)
        for slot in plan.outputs:
            if slot not in readers:
                self.edge(source[slot], end, plan.slots[slot].name)
        return end

    def bundle(
        self,
        plan: Plan,
        bundle: Bundle,
        items: Optional[int],
        source: Dict[int, str],
        shared: Dict[int, str],
        depth: int,
    ) -> None:
        self.reasons[bundle.placement, bundle.reason] = None
        title = f"bundle {bundle.index} #91;{bundle.placement}#93;"
        last = bundle.steps[-1]
        box = len(bundle.steps) == 1 and not isinstance(last, Step)
        if not box:
            self.open(bundle.placement, title, depth)
        for step in bundle.steps:
            notes = _free("free", [plan.slots[slot].name for slot in step.frees])
            if step is last:
                notes += self.ending(plan, bundle, shared)
            results = [plan.slots[slot].name for slot in step.results]
            if isinstance(step, Step):
                own = self.call(plan, step, results, source, notes, depth + 1)
            elif box:
                own = self.body(plan, step, items, source, notes, bundle.placement, f"{title} ", depth)
            else:
                own = self.body(plan, step, items, source, notes, "map", "", depth + 1)
            for slot in step.results:
                source[slot] = own
        if not box:
            self.close(depth)

    def ending(self, plan: Plan, bundle: Bundle, shared: Dict[int, str]) -> List[str]:
        """Return what becomes of a bundle's slots when it has ended, and its size."""
        notes = _free("at the end free", [plan.slots[slot].name for slot in bundle.frees])
        by_readers: Dict[str, List[str]] = {}
        for slot in bundle.shared_frees:
            by_readers.setdefault(shared[slot], []).append(plan.slots[slot].name)
        for readers, names in by_readers.items():
            notes += _free(f"the last of {readers} frees", names)
        return notes if bundle.payload is None else [*notes, f"payload {bundle.payload} bytes"]

    def call(
        self, plan: Plan, step: Step, results: List[str], source: Dict[int, str], notes: List[str], depth: int
    ) -> str:
        name = f"{'await ' if step.is_coroutine else ''}<b>{escape(scoped_name(step))}</b>"
        own = self.node("step", "[", [name, *_rows(results), *_small(notes)], "]", depth)
        for argument in step.arguments:
            self.edge(source[argument.slot], own, plan.slots[argument.slot].name)
        return own

    def body(
        self,
        plan: Plan,
        step: PlanStep,
        items: Optional[int],
        source: Dict[int, str],
        notes: List[str],
        kind: str,
        title: str,
        depth: int,
    ) -> str:
        """Draw the frame within a map or a host, with arrows from what is outside to its inputs."""
        fed: Dict[int, Sequence[str]] = {}
        if isinstance(step, Hosted):
            body, pairs = step.plan, list(zip(step.plan.inputs, step.plan.inputs))
            title += f"host {escape(step.name)}<br/>nodes {step.plan.options.nodes} of its own"
        else:
            assert isinstance(step, MapStep)
            body, pairs = step.body, list(step.shared)
            title += f"map {step.mode} {escape(scoped_name(step))}<br/>width {step.width.text(items)}"
            self.reasons["map", f"width {step.width.text(items)} ({step.width.rule})"] = None
            for axis in step.axes:
                # The items of a spread axis may carry any input, so it feeds each of them.
                for slot in [entry.slot for entry in step.spread] if step.spread else [axis.body_slot]:
                    over = f"in {escape(plan.slots[axis.slot].name)}"
                    fed[slot] = [f"<b>{escape(body.slots[slot].name)}</b>", over]
                    pairs.append((slot, axis.slot))
        self.open(kind, title, depth)
        first = self.count
        end = self.frame(body, None, fed, depth + 1, notes)
        for inner, outer in pairs:
            self.edge(source[outer], f"n{first + body.inputs.index(inner)}", plan.slots[outer].name)
        self.close(depth)
        return end

    def key(self, end: str) -> None:
        """Say why bundles are where they are, and maps as wide as they are."""
        lines = [f"<b>{kind}</b>: {escape(reason)}" for kind, reason in self.reasons]
        key = self.node("wave", "[", lines or ["nothing to run"], "]", 1)
        # An invisible link: below everything else the box is in no arrow's way.
        self.lines.append(f"  {end} ~~~ {key}")

    # -- lines --------------------------------------------------------------------------------------------------------

    def node(self, kind: str, left: str, lines: Sequence[str], right: str, depth: int) -> str:
        name = f"n{self.count}"
        self.count += 1
        self.members[kind].append(name)
        self.lines.append(f'{"  " * depth}{name}{left}"{"<br/>".join(lines)}"{right}')
        return name

    def open(self, kind: str, title: str, depth: int) -> None:
        name = f"g{self.count}"
        self.count += 1
        self.members[kind].append(name)
        self.lines.append(f'{"  " * depth}subgraph {name}["{title}"]')

    def close(self, depth: int) -> None:
        self.lines.append(f"{'  ' * depth}end")

    def edge(self, start: str, end: str, value: str) -> None:
        values = self.edges.setdefault((start, end), [])
        if value not in values:
            values.append(value)

    def connect(self) -> None:
        """Draw the arrows, one between two nodes, however many values go that way."""
        for (start, end), values in self.edges.items():
            # A port says its name already.
            shown = [value for value in values if value != self.ports.get(start)]
            label = f'|"{"<br/>".join(_rows(shown))}"| ' if shown else " "
            self.lines.append(f"  {start} -->{label}{end}")


def _reads(step: PlanStep) -> List[int]:
    if isinstance(step, Step):
        return [argument.slot for argument in step.arguments]
    if isinstance(step, MapStep):
        return [*[axis.slot for axis in step.axes], *[outer for _, outer in step.shared]]
    return list(step.plan.inputs)


def _small(lines: Sequence[str]) -> List[str]:
    return [f"<small>{line}</small>" for line in lines]


def _rows(names: Sequence[str]) -> List[str]:
    """Return names, escaped and joined by commas, about thirty characters to a row, so that boxes stay narrow."""
    rows: List[str] = []
    for name in names:
        if rows and len(rows[-1]) + len(name) < 30:
            rows[-1] += f", {name}"
        else:
            rows.append(name)
    return [escape(row) for row in rows]


def _free(words: str, names: Sequence[str]) -> List[str]:
    rows = _rows(names)
    return [f"{words} {rows[0]}", *rows[1:]] if rows else []
