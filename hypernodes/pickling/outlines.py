"""Plain records in, their pickle but for some of the objects in them out; with those objects, the records again.

The steps of a plan never change, and what their functions refer to may: the outline of steps is pickled once.
"""

from __future__ import annotations

import io
import pickle
from typing import Any, Dict, Sequence


def outlined(records: object, apart: Sequence[object]) -> bytes:
    """Pickle records without the objects `apart`, which have to be alive."""
    file = io.BytesIO()
    _Outliner(file, apart).dump(records)
    return file.getvalue()


def filled(outline: bytes, apart: Sequence[object]) -> Any:
    """Return the records of an outline, with these objects in the places of those it was made without."""
    return _Filler(io.BytesIO(outline), apart).load()


class _Outliner(pickle.Pickler):
    def __init__(self, file: io.BytesIO, apart: Sequence[object]) -> None:
        super().__init__(file, 5)
        self._numbers: Dict[int, int] = {id(each): number for number, each in enumerate(apart)}

    def persistent_id(self, obj: Any) -> Any:
        return self._numbers.get(id(obj))


class _Filler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, apart: Sequence[object]) -> None:
        super().__init__(file)
        self._apart = apart

    def persistent_load(self, pid: Any) -> Any:
        return self._apart[pid]
