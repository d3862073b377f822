"""Outputs with failures among them in, results that can run what failed again out."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Tuple

from hypernodes.asking import Names
from hypernodes.errors import OptionError, did_you_mean
from hypernodes.results import MapResult, RunResult
from hypernodes.runtime.cells import FailedColumn, Failure, renumbered

if TYPE_CHECKING:
    from hypernodes.pipeline import Pipeline

POLICIES = ("raise", "collect")


def collects(error_policy: str) -> bool:
    """Return whether errors are collected, or refuse a policy that there is not."""
    if error_policy not in POLICIES:
        hint = did_you_mean(str(error_policy), POLICIES)
        raise OptionError("error_policy", repr(error_policy), f"use 'raise' or 'collect'{hint}")
    return error_policy == "collect"


def run_result(
    pipeline: Pipeline, outputs: Dict[str, Any], inputs: Mapping[str, Any], output_name: Optional[Names]
) -> RunResult:
    """Return the result of a run; what it runs again gets the other outputs as they are."""

    def again(result: RunResult) -> RunResult:
        fine = result.ok()
        failed = [name for name in result if name not in fine]
        fresh = pipeline.run({**inputs, **fine}, failed, error_policy="collect")
        return run_result(pipeline, {name: fresh.get(name, value) for name, value in result.items()}, inputs, None)

    return RunResult(outputs, again)


def map_result(
    pipeline: Pipeline,
    outputs: Dict[str, List[Any]],
    inputs: Mapping[str, Any],
    axes: Tuple[str, ...],
    map_mode: str,
    output_name: Optional[Names],
) -> MapResult:
    """Return the result of a map; what it runs again are the items that failed."""

    def again(result: MapResult) -> MapResult:
        numbers = result.failed_rows()
        columns = [list(inputs[axis]) for axis in axes]
        rows = list(itertools.product(*columns) if map_mode == "product" else zip(*columns))
        fewer = {axis: [rows[number][place] for number in numbers] for place, axis in enumerate(axes)}
        fresh = pipeline.map({**inputs, **fewer}, axes, "zip", output_name, error_policy="collect")
        merged = {name: list(column) for name, column in result.items()}
        memo: Dict[int, Failure] = {}
        for name, column in fresh.items():
            for number, cell in zip(numbers, column):
                merged[name][number] = _moved(cell, number, memo)
        return map_result(pipeline, merged, inputs, axes, map_mode, output_name)

    length = len(next(iter(outputs.values()))) if outputs else len(inputs[axes[0]])
    return MapResult(outputs, length, None, again)


def _moved(cell: Any, number: int, memo: Dict[int, Failure]) -> Any:
    """Return a cell of a smaller map as that of item `number`."""
    if type(cell) is FailedColumn:
        return FailedColumn([_moved(inner, number, memo) for inner in cell])
    if type(cell) is not Failure:
        return cell
    if id(cell) not in memo:
        memo[id(cell)] = renumbered(cell, number)
    return memo[id(cell)]
