"""What a test sees of a run beside its results: the notes of an exception, the threads that are left."""

from __future__ import annotations

import threading
from typing import List


def notes_of(error: BaseException) -> List[str]:
    """Return the notes of an exception, which Python has since 3.11 and we keep in the same place before."""
    return getattr(error, "__notes__", [])


def ours() -> List[str]:
    """Return the names of the threads that belong to runs of ours; those of the process outlive them."""
    of_process = ("hypernodes-loop", "hypernodes-growth")
    names = [thread.name for thread in threading.enumerate()]
    return [name for name in names if name.startswith("hypernodes") and name not in of_process]
