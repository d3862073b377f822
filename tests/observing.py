"""What a test sees of a run beside its results: the notes of an exception, the threads that are left."""

from __future__ import annotations

import threading
from typing import List


def notes_of(error: BaseException) -> List[str]:
    """Return the notes of an exception, which Python has since 3.11 and we keep in the same place before."""
    return getattr(error, "__notes__", [])


def our_threads() -> List[threading.Thread]:
    """Return the threads that belong to runs of ours; that of the event loop outlives them."""
    found = [thread for thread in threading.enumerate() if thread.name.startswith("hypernodes")]
    return [thread for thread in found if thread.name != "hypernodes-loop"]


def ours() -> List[str]:
    """Return the names of these threads."""
    return [thread.name for thread in our_threads()]
