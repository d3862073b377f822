"""What `map` gives back: columns in, the same columns as rows or as a table out."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping


class MapResult(Dict[str, List[Any]]):
    """Results of a map: output name → list with one value per item, in item order.

    It is a plain dict of lists with two more views.

    Examples
    --------
    >>> result = MapResult({"count": [2, 3]}, length=2)
    >>> result["count"], result.rows()
    ([2, 3], [{'count': 2}, {'count': 3}])
    """

    def __init__(self, columns: Mapping[str, List[Any]], length: int) -> None:
        super().__init__(columns)
        self.length = length

    def rows(self) -> List[Dict[str, Any]]:
        """Return one dict per item, output name → value, in item order."""
        names = list(self)
        if not names:
            return [{} for _ in range(self.length)]
        return [dict(zip(names, values)) for values in zip(*self.values())]

    def to_pandas(self) -> Any:
        """Return a `pandas.DataFrame` with a row per item and a column per output.

        Raises
        ------
        ImportError
            When pandas is not installed.
        """
        import pandas

        return pandas.DataFrame({name: pandas.Series(column, dtype=None) for name, column in self.items()})
