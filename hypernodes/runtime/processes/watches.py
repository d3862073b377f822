"""The clock of calls that may take only so long, by the worker that makes them: who is late, after how many attempts.

A worker says when such a call begins and when it ends (`Notice`). Whoever waits for workers waits no longer than
`within` says, and ends those that are `late`.
"""

from __future__ import annotations

import time
from operator import itemgetter
from typing import Dict, List, Optional, Tuple

from hypernodes.runtime.processes.pool import Worker
from hypernodes.runtime.processes.wire import Late, Notice


class Watches:
    """The calls under watch of one run's workers."""

    def __init__(self) -> None:
        self._deadlines: Dict[Worker, Tuple[float, str]] = {}
        # How often each call was begun, and failed, for the request that a worker is at work on.
        self._attempts: Dict[Worker, Dict[str, int]] = {}

    def note(self, worker: Worker, notice: Notice) -> None:
        """Take in that a call of a worker has begun, or ended."""
        attempts = self._attempts.setdefault(worker, {})
        if notice.seconds:
            self._deadlines[worker] = (time.monotonic() + notice.seconds, notice.call)
            attempts[notice.call] = attempts.get(notice.call, 0) + 1
        elif not notice.failed:
            attempts.pop(notice.call, None)  # the next one of this call is another item's

    def pause(self, worker: Worker) -> None:
        """Stop the clock of a worker: it has said something."""
        self._deadlines.pop(worker, None)

    def forget(self, worker: Worker) -> None:
        """Take in that the request of a worker has ended."""
        self.pause(worker)
        self._attempts.pop(worker, None)

    def clear(self) -> None:
        """Stop all clocks."""
        self._deadlines.clear()

    def within(self, timeout: Optional[float]) -> Optional[float]:
        """Return the seconds until a call may be late, `timeout` at the most."""
        if not self._deadlines:
            return timeout
        left = max(0.0, min(self._deadlines.values(), key=itemgetter(0))[0] - time.monotonic())
        return left if timeout is None else min(left, timeout)

    def late(self) -> List[Tuple[Worker, Late]]:
        """Return the workers whose time is up, each with its call, and stop their clocks."""
        now = time.monotonic()
        found = [(worker, call) for worker, (deadline, call) in self._deadlines.items() if deadline <= now]
        for worker, _ in found:
            del self._deadlines[worker]
        return [(worker, Late(call, self._attempts[worker][call])) for worker, call in found]
