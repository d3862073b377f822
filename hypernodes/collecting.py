"""Outputs with failures among them in, results that can run what failed again out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, Iterable, Iterator, List, Mapping, Optional, Tuple

import attrs

from hypernodes.asking import Names
from hypernodes.errors import RetryError
from hypernodes.records import evolve
from hypernodes.results import MapResult, RunResult
from hypernodes.runtime.bundle.collect import BROKEN
from hypernodes.runtime.bundle.failure import FailedColumn, Failure, column_of, moved
from hypernodes.runtime.bundle.maps import columns_of, rows_of
from hypernodes.runtime.bundle.once import STREAMS

if TYPE_CHECKING:
    from hypernodes.running import Running


def run_result(pipeline: Running, outputs: Dict[str, Any], inputs: Mapping[str, Any]) -> RunResult:
    """Return the result of a run; what it runs again gets the other outputs as they are."""
    return RunResult(outputs, _RunAgain(pipeline, dict(inputs)) if _any_failed(outputs.values()) else None)


def _any_failed(cells: Iterable[Any]) -> bool:
    """Return whether there is something to run again: only then does a result keep the inputs alive."""
    return not BROKEN.isdisjoint(map(type, cells))


@attrs.frozen
class _RunAgain:
    """A run whose failed outputs can be asked for again."""

    pipeline: Running
    inputs: Mapping[str, Any]

    def now(self, result: RunResult) -> RunResult:
        return self._merged(result, self.pipeline.run(*self._asked(result), error_policy="collect"))

    async def awaited(self, result: RunResult) -> RunResult:
        return self._merged(result, await self.pipeline.arun(*self._asked(result), error_policy="collect"))

    def _asked(self, result: RunResult) -> Tuple[Dict[str, Any], List[str]]:
        fine = result.ok()
        for name, value in self.inputs.items():
            if name not in fine:
                _check_unread(f"input {name!r}", value)
        return {**self.inputs, **fine}, [name for name in result if name not in fine]

    def _merged(self, result: RunResult, fresh: Mapping[str, Any]) -> RunResult:
        return RunResult({name: fresh.get(name, value) for name, value in result.items()}, self)


def map_result(
    pipeline: Running,
    outputs: Dict[str, List[Any]],
    items: MapItems,
    output_name: Optional[Names],
    collected: bool,
) -> MapResult:
    """Return the result of a map; what it runs again are the items that failed, and only these are kept."""
    if not collected or not _any_failed(outputs.values()):
        return MapResult(outputs, items.total)
    result = MapResult(outputs, items.total)
    failed = set(result.failed_rows())
    rows = {number: row for number, row in enumerate(items.rows()) if number in failed}
    return MapResult(outputs, items.total, None, _MapAgain(pipeline, items.shared, items.axes, rows, output_name))


@attrs.frozen
class MapItems:
    """What a map was called with, as it was then: `given` is what runs, once for each of `total` items."""

    given: Mapping[str, Any]
    axes: Tuple[str, ...]
    mode: str
    total: int

    @classmethod
    def of(cls, pipeline: str, inputs: Mapping[str, Any], axes: Tuple[str, ...], mode: str) -> MapItems:
        """Read each iterable of items once: what is added to it from now on is no item.

        Raises
        ------
        MapInputError, MapLengthError
            As of any map.
        """
        columns, total = columns_of(pipeline, {axis: inputs[axis] for axis in axes}, mode)
        return cls({**inputs, **columns}, axes, mode, total)

    @property
    def shared(self) -> Dict[str, Any]:
        """What all items have in common."""
        return {name: value for name, value in self.given.items() if name not in self.axes}

    def rows(self) -> Iterator[Tuple[Any, ...]]:
        """Return the items, a value for each axis."""
        return rows_of(self.mode, [self.given[axis] for axis in self.axes])


@attrs.frozen
class _MapAgain:
    """A map whose failed items, those of `rows`, can be run again."""

    pipeline: Running
    shared: Mapping[str, Any]
    axes: Tuple[str, ...]
    rows: Mapping[int, Tuple[Any, ...]]
    output_name: Optional[Names]

    def now(self, result: MapResult) -> MapResult:
        fresh = self.pipeline.map(self._asked(), self.axes, "zip", self.output_name, error_policy="collect")
        return self._merged(result, fresh)

    async def awaited(self, result: MapResult) -> MapResult:
        fresh = await self.pipeline.amap(self._asked(), self.axes, "zip", self.output_name, error_policy="collect")
        return self._merged(result, fresh)

    def _asked(self) -> Dict[str, Any]:
        for name, value in self.shared.items():
            _check_unread(f"input {name!r}", value)
        for number, row in self.rows.items():
            for axis, value in zip(self.axes, row):
                _check_unread(f"item {number} of {axis!r}", value)
        columns = zip(*self.rows.values())
        return {**self.shared, **{axis: list(column) for axis, column in zip(self.axes, columns)}}

    def _merged(self, result: MapResult, fresh: MapResult) -> MapResult:
        merged = {name: list(column) for name, column in result.items()}
        memo: Dict[int, Failure] = {}
        for name, column in fresh.items():
            for number, cell in zip(self.rows, column):
                merged[name][number] = _moved(cell, number, memo)
        failed = set(fresh.failed_rows())
        left = {number: row for place, (number, row) in enumerate(self.rows.items()) if place in failed}
        return MapResult(merged, result.length, None, evolve(self, rows=left) if left else None)


def _check_unread(subject: str, value: Any) -> None:
    if type(value) in STREAMS:
        given = type(value).__name__
        raise RetryError(f"{subject} is a {given}, which can be read once and has been", f"pass list({given}) instead")


def _moved(cell: Any, number: int, memo: Dict[int, Failure]) -> Any:
    """Return a cell of a smaller map as that of item `number`."""
    if type(cell) is FailedColumn:
        return column_of([_moved(inner, number, memo) for inner in cell])
    if type(cell) is not Failure:
        return cell
    if id(cell) not in memo:
        memo[id(cell)] = moved(cell, number)
    return memo[id(cell)]
