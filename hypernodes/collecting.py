"""Outputs with failures among them in, results that can run what failed again out."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Tuple

import attrs

from hypernodes.asking import Names
from hypernodes.errors import OptionError, did_you_mean
from hypernodes.results import MapResult, RunResult
from hypernodes.runtime.cells import FailedColumn, Failure, column_of, renumbered

if TYPE_CHECKING:
    from hypernodes.pipeline import Pipeline

POLICIES = ("raise", "collect")


def collects(error_policy: str) -> bool:
    """Return whether errors are collected, or refuse a policy that there is not."""
    if error_policy not in POLICIES:
        hint = did_you_mean(str(error_policy), POLICIES)
        raise OptionError("error_policy", repr(error_policy), f"use 'raise' or 'collect'{hint}")
    return error_policy == "collect"


def run_result(pipeline: Pipeline, outputs: Dict[str, Any], inputs: Mapping[str, Any]) -> RunResult:
    """Return the result of a run; what it runs again gets the other outputs as they are."""
    return RunResult(outputs, _RunAgain(pipeline, inputs))


@attrs.frozen
class _RunAgain:
    """A run whose failed outputs can be asked for again."""

    pipeline: Pipeline
    inputs: Mapping[str, Any]

    def now(self, result: RunResult) -> RunResult:
        return self._merged(result, self.pipeline.run(*self._asked(result), error_policy="collect"))

    async def awaited(self, result: RunResult) -> RunResult:
        return self._merged(result, await self.pipeline.arun(*self._asked(result), error_policy="collect"))

    def _asked(self, result: RunResult) -> Tuple[Dict[str, Any], List[str]]:
        fine = result.ok()
        return {**self.inputs, **fine}, [name for name in result if name not in fine]

    def _merged(self, result: RunResult, fresh: Mapping[str, Any]) -> RunResult:
        return RunResult({name: fresh.get(name, value) for name, value in result.items()}, self)


def map_result(
    pipeline: Pipeline,
    outputs: Dict[str, List[Any]],
    inputs: Mapping[str, Any],
    axes: Tuple[str, ...],
    map_mode: str,
    output_name: Optional[Names],
) -> MapResult:
    """Return the result of a map; what it runs again are the items that failed."""
    length = len(next(iter(outputs.values()))) if outputs else len(inputs[axes[0]])
    return MapResult(outputs, length, None, _MapAgain(pipeline, inputs, axes, map_mode, output_name))


@attrs.frozen
class _MapAgain:
    """A map whose failed items can be run again."""

    pipeline: Pipeline
    inputs: Mapping[str, Any]
    axes: Tuple[str, ...]
    map_mode: str
    output_name: Optional[Names]

    def now(self, result: MapResult) -> MapResult:
        fresh = self.pipeline.map(self._asked(result), self.axes, "zip", self.output_name, error_policy="collect")
        return self._merged(result, fresh)

    async def awaited(self, result: MapResult) -> MapResult:
        asked = self._asked(result)
        fresh = await self.pipeline.amap(asked, self.axes, "zip", self.output_name, error_policy="collect")
        return self._merged(result, fresh)

    def _asked(self, result: MapResult) -> Dict[str, Any]:
        columns = [list(self.inputs[axis]) for axis in self.axes]
        rows = list(itertools.product(*columns) if self.map_mode == "product" else zip(*columns))
        numbers = result.failed_rows()
        return {
            **self.inputs,
            **{axis: [rows[number][place] for number in numbers] for place, axis in enumerate(self.axes)},
        }

    def _merged(self, result: MapResult, fresh: MapResult) -> MapResult:
        merged = {name: list(column) for name, column in result.items()}
        numbers = result.failed_rows()
        memo: Dict[int, Failure] = {}
        for name, column in fresh.items():
            for number, cell in zip(numbers, column):
                merged[name][number] = _moved(cell, number, memo)
        return MapResult(merged, result.length, None, self)


def _moved(cell: Any, number: int, memo: Dict[int, Failure]) -> Any:
    """Return a cell of a smaller map as that of item `number`."""
    if type(cell) is FailedColumn:
        return column_of([_moved(inner, number, memo) for inner in cell])
    if type(cell) is not Failure:
        return cell
    if id(cell) not in memo:
        memo[id(cell)] = renumbered(cell, number)
    return memo[id(cell)]
