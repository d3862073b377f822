"""A graph in, its one printed form out: stable on every Python, no addresses, made for reading and for diffs."""

from __future__ import annotations

from typing import List, Tuple

from hypernodes.ir.graph import NESTED, REQUIRED, Call, Graph, Input, Isolated, MapOver, Operation, Use, Value
from hypernodes.ir.types import UNKNOWN, show


def graph_text(graph: Graph) -> str:
    """Return the text of a graph: its signature, a line per operation with the definitions aligned, what it returns.

    A nested graph follows its operation, indented.
    """
    return "\n".join(_lines(graph, "graph"))


def typed(value: Value) -> str:
    """Return ``name: type``, or the name alone when the type is unknown."""
    return value.name if value.type is UNKNOWN else f"{value.name}: {show(value.type)}"


def default_text(default: object) -> str:
    """Return a short, address-free text of a default value."""
    if default is None or isinstance(default, (bool, int, float, str, bytes, tuple, list, dict)):
        text = repr(default)
        return text if len(text) <= 40 and " at 0x" not in text else f"<{type(default).__name__}>"
    return f"<{type(default).__name__}>"


def _lines(graph: Graph, keyword: str) -> List[str]:
    rows: List[Tuple[str, str, List[str]]] = []
    for operation in graph.operations:
        left = ", ".join(typed(value) for value in operation.results)
        nested = _lines(operation.graph, "graph") if isinstance(operation, NESTED) else []
        rows.append((left, _right(operation), nested))
    # Wide definitions (a nested pipeline returns many values) would push every other line to the right.
    width = max([len(left) for left, _, _ in rows if len(left) <= 40], default=0)
    lines = [f"{keyword} {graph.name}({', '.join(_signature(entry) for entry in graph.inputs)}) {{"]
    for left, right, nested in rows:
        lines.append(f"  {left:<{width}} = {right}")
        lines.extend("    " + line for line in nested)
    lines.append(f"  return {', '.join(graph.output_names)}")
    lines.append("}")
    return lines


def _signature(entry: Input) -> str:
    name = typed(entry.value)
    if entry.default is REQUIRED:
        return name
    return f"{name} = {default_text(entry.default)}" if ":" in name else f"{name}={default_text(entry.default)}"


def _right(operation: Operation) -> str:
    if isinstance(operation, Call):
        keyword = "run" if type(operation) is Isolated else "await" if operation.is_coroutine else "call"
        return f"{keyword} {operation.name}({', '.join(_argument(use, '=') for use in operation.uses)})"
    if isinstance(operation, MapOver):
        arguments = ", ".join(
            _argument(use, " in ", always=True) if use.parameter in operation.axes else _argument(use, "=")
            for use in operation.uses
            if not (operation.spread and use.parameter in operation.axes)
        )
        if operation.spread:
            arguments = f"** in {operation.uses[0].value.name}"
        kind = "stream" if operation.fed else "map"
        return f"{kind} {operation.mode} {operation.name}({arguments})"
    return f"invoke {operation.name}({', '.join(_argument(use, '=') for use in operation.uses)})"


def _argument(use: Use, sign: str, always: bool = False) -> str:
    same = use.parameter == use.value.name
    return use.value.name if same and not always else f"{use.parameter}{sign}{use.value.name}"
