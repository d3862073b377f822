"""What a test sees of a run beside its results: the notes of an exception, the threads that are left."""

from __future__ import annotations

import threading
import weakref
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


class Gauge:
    """Counts how many are inside at once, and the most there ever were."""

    def __init__(self):
        self.lock = threading.Lock()
        self.inside = self.most = 0

    def __enter__(self):
        with self.lock:
            self.inside += 1
            self.most = max(self.most, self.inside)

    def __exit__(self, *exc):
        with self.lock:
            self.inside -= 1


class Large:
    """What is worth to be let go of."""


class Made:
    """A function of any arguments that returns large values, and knows which of them are alive."""

    def __init__(self):
        self._made = []

    def __call__(self, *arguments: object) -> Large:
        value = Large()
        self._made.append(weakref.ref(value))
        return value

    @property
    def alive(self) -> List[bool]:
        """Whether each of them is, in the order in which they were made."""
        return [reference() is not None for reference in self._made]
