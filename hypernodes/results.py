"""What runs and maps give back: outputs in, the same outputs as rows or as a table, and without their failures, out."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Protocol, Sequence, Tuple, TypeVar

from hypernodes.errors import RetryError
from hypernodes.runtime.bundle.failure import Failure, failures_in

Result = TypeVar("Result")


class Again(Protocol[Result]):
    """Runs what failed of a result again, and returns a result with that in its place."""

    def now(self, result: Result) -> Result:
        """Do it in the calling thread."""

    async def awaited(self, result: Result) -> Result:
        """Do it on the running event loop."""


class RunResult(Dict[str, Any]):
    """Outputs of a run whose errors were collected: output name → value, or the `Failure` in its place.

    A dict with three more views. Which outputs failed is asked with `failures`: like any dict, a result is true when it
    has outputs.
    """

    def __init__(self, outputs: Mapping[str, Any], again: Optional[Again[RunResult]] = None) -> None:
        super().__init__(outputs)
        self._again = again

    @property
    def failures(self) -> List[Failure]:
        """What failed, each once, in the order of the outputs that show it."""
        return _distinct(self.values())

    def ok(self) -> Dict[str, Any]:
        """Return the outputs without any failure in them."""
        return {name: value for name, value in self.items() if next(failures_in(value), None) is None}

    def retry(self) -> RunResult:
        """Run again what failed, and what depends on it, with the other outputs as they are.

        Returns
        -------
        RunResult
            With the same outputs; what failed again is a failure in it. Itself when nothing failed.

        Raises
        ------
        RetryError
            When something failed and this result was unpickled or copied, or an input of it can be read only once.
        """
        return _known(self._again).now(self) if self.failures else self

    async def aretry(self) -> RunResult:
        """Do what `retry` does, as `arun` does it."""
        return await _known(self._again).awaited(self) if self.failures else self

    def __reduce__(self) -> Tuple[object, ...]:
        return RunResult, (dict(self),)


class MapResult(Dict[str, List[Any]]):
    """Results of a map: output name → list with one value per item, in item order.

    It is a plain dict of lists with more views. Where errors are collected, a `Failure` stands in the place of what
    failed.

    Attributes
    ----------
    length : int
        The number of items.
    index : sequence of int
        The number of each item in the map; all of them, but for what `ok` returns.

    Examples
    --------
    >>> result = MapResult({"count": [2, 3]}, length=2)
    >>> result["count"], result.rows()
    ([2, 3], [{'count': 2}, {'count': 3}])
    """

    def __init__(
        self,
        columns: Mapping[str, List[Any]],
        length: int,
        index: Optional[Sequence[int]] = None,
        again: Optional[Again[MapResult]] = None,
    ) -> None:
        super().__init__(columns)
        self.length = length
        self.index = range(length) if index is None else index
        self._again = again

    def rows(self) -> List[Dict[str, Any]]:
        """Return one dict per item, output name → value, in item order."""
        names = list(self)
        if not names:
            return [{} for _ in range(self.length)]
        return [dict(zip(names, values)) for values in zip(*self.values())]

    @property
    def failures(self) -> List[Failure]:
        """What failed, each once, in item order; empty unless errors were collected."""
        return _distinct([cell for row in zip(*self.values()) for cell in row])

    def failed_rows(self) -> List[int]:
        """Return the positions of the items that have a failure in some output."""
        found = set()
        for column in self.values():
            found.update([number for number, cell in enumerate(column) if next(failures_in(cell), None) is not None])
        return sorted(found)

    def ok(self) -> MapResult:
        """Return the items without any failure in their outputs, as a result of their own.

        Returns
        -------
        MapResult
            Of as many items as have none, in their order; `index` says which they are. It cannot be retried: nothing
            in it failed.
        """
        failed = set(self.failed_rows())
        kept = [number for number in range(self.length) if number not in failed]
        columns = {name: [column[number] for number in kept] for name, column in self.items()}
        return MapResult(columns, len(kept), [self.index[number] for number in kept])

    def retry(self) -> MapResult:
        """Run the items that failed again, by themselves, with the inputs they had.

        Returns
        -------
        MapResult
            Of all `length` items, theirs in the place of the failures; what failed again is a failure in it, of the
            same item. Itself when nothing failed.

        Raises
        ------
        RetryError
            When something failed and this result was unpickled or copied, or an input of it can be read only once.
        """
        return _known(self._again).now(self) if self.failed_rows() else self

    async def aretry(self) -> MapResult:
        """Do what `retry` does, as `amap` does it."""
        return await _known(self._again).awaited(self) if self.failed_rows() else self

    def to_pandas(self) -> Any:
        """Return a `pandas.DataFrame` with a row per item, its index in front, and a column per output.

        Raises
        ------
        ImportError
            When pandas is not installed.
        """
        import pandas

        index = pandas.Index(self.index)
        columns = {name: pandas.Series(column, index=index, dtype=None) for name, column in self.items()}
        return pandas.DataFrame(columns, index=index)

    def __reduce__(self) -> Tuple[object, ...]:
        return MapResult, (dict(self), self.length, list(self.index))


def _known(again: Optional[Again[Result]]) -> Again[Result]:
    if again is None:
        raise RetryError(
            "this result was unpickled or copied, which leaves its pipeline and its inputs behind",
            "call retry() before it is pickled, or run the pipeline with the inputs of what failed: failures and "
            "failed_rows() say which these are",
        )
    return again


def _distinct(cells: Any) -> List[Failure]:
    # One failure that went to several worker processes came back as several objects.
    found: Dict[Tuple[Any, ...], Failure] = {}
    for cell in cells:
        for failure in failures_in(cell):
            # The notes say which pipeline it was in; up to Python 3.10 the traceback does not have them.
            notes = tuple(getattr(failure.exception, "__notes__", ()))
            found.setdefault((failure.node, failure.path, failure.traceback, notes), failure)
    return list(found.values())
