"""A run as its lanes see it: what they take tasks from, tell of them, and wake. `Run` is what it is."""

from __future__ import annotations

import threading
from typing import Any, List, Protocol

from hypernodes.runtime.drivers.tasks import HasTasks, Outcome
from hypernodes.runtime.schedule.ready import Task


class InProgress(HasTasks, Protocol):
    """One run in progress."""

    @property
    def lock(self) -> threading.Lock:
        """Guards the schedule."""

    @property
    def caller(self) -> threading.Thread:
        """The thread that the run was called from."""

    @property
    def settled(self) -> bool:
        """Whether there is nobody whom `wake` could wake. Under the lock."""

    @property
    def abandoned(self) -> bool:
        """Whether nobody waits for it any more."""

    def settle(self, task: Task, outcome: Outcome) -> None:
        """Tell the schedule how a task ended. Under the lock."""

    def garbage(self) -> List[Any]:
        """Return what is to be dropped without the lock. Under the lock."""

    def wake(self) -> bool:
        """Let others take what is ready; return whether `grow` is to be called. Under the lock."""

    def grow(self) -> None:
        """Let threads start that were asked for."""

    def interrupt(self, error: BaseException) -> None:
        """Stop the run from outside."""

    def stop(self) -> None:
        """Let nothing new start."""

    def join_threads(self, placement: str) -> bool:
        """Let the coordinator take what lanes would; return whether it can. Under the lock."""

    def wake_coordinator(self) -> None:
        """Let the coordinator look, if it waits. Under the lock."""
