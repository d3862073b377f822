"""Who is still at work for a run, counted without a reference to it."""

from __future__ import annotations

import threading
from typing import Callable, Optional


class Latch:
    """Counts the lanes of one run that are asked for or at work, and knows nothing of the run.

    A thread has let go of what is the user's when it leaves, so that nobody keeps the results of a run that has ended.
    """

    __slots__ = ("_empty", "_guard", "count", "told")

    def __init__(self) -> None:
        self.count = 0
        self.told: Optional[Callable[[], None]] = None
        """Called, from any thread, when none is left."""
        self._guard = threading.Lock()
        self._empty = threading.Condition(self._guard)

    def enter(self) -> None:
        """Count one more."""
        with self._guard:
            self.count += 1

    def leave(self) -> None:
        """Count one less."""
        with self._guard:
            self.count -= 1
            if self.count:
                return
            self._empty.notify_all()
        told = self.told
        if told is not None:
            told()

    def wait(self) -> None:
        """Wait until none is left."""
        with self._guard:
            while self.count:
                self._empty.wait()
