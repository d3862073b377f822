"""When a run gets one more thread: where work waits, and the processors do not.

The first lanes of a run, as many as there are cores, start at once. What makes more of them worth their cost is that
those there are wait: for files, requests, sleep. Lanes that compute would only share the cores, and in Python the
interpreter's lock, with others. So one thread of the process looks every millisecond at the runs in which work is ready
that nobody takes, and at the processor time that the process has used meanwhile.
"""

from __future__ import annotations

import functools
import os
import threading
import time
from typing import Dict, Optional, Protocol, Tuple

from hypernodes.runtime.drivers.cores import usable_cores

TICK = 0.001
"""Seconds that ready work has waited for, about, when another lane may start."""

BUSY = 0.9
"""Of the processor time that the cores offer, what a process that waits uses less of."""

LATE = 0.002
"""Seconds: who is woken so long after its time has waited for the interpreter's lock, under which others compute."""

STALLED = 0.02
"""Seconds after which lanes that end nothing, and use no processor, wait, however late anybody is woken."""

STUCK = 1.0
"""Seconds after which lanes that end nothing get company, whatever they do: they may wait for what has not begun."""


class Growing(Protocol):
    """Lanes that may be too few."""

    def progress(self) -> Optional[Tuple[int, ...]]:
        """Return what changes when work is begun; None when none waits, and nobody has to look any more."""

    def add(self) -> None:
        """Start more lanes."""


class _Watch:
    """Looks at lanes until none wants it any more; its thread ends then."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin anew, as in a forked child: there is no thread there, and the lock may be somebody's."""
        # Held while lanes are looked at, so that nobody refers to those that `leave`. Locks of runs come behind it.
        self._guard = threading.Lock()
        self._seen: Dict[Growing, Tuple[Optional[Tuple[int, ...]], float]] = {}
        self._thread: Optional[threading.Thread] = None
        self._over = threading.Event()  # that thread's own

    def look_at(self, lanes: Growing) -> None:
        """Look at these from now on; where there is no thread to be had for it, add some at once."""
        with self._guard:
            self._seen[lanes] = (None, time.monotonic())
            if self._thread is not None:
                return
            over = self._over = threading.Event()
            thread = threading.Thread(target=self._work, args=(over,), name="hypernodes-growth", daemon=True)
            try:
                thread.start()
                self._thread = thread
                return
            except RuntimeError:
                self._seen.clear()
        lanes.add()

    def leave(self, lanes: Growing) -> None:
        """Look at these no more; the thread has ended when they were the last."""
        with self._guard:
            self._seen.pop(lanes, None)
            if self._seen or self._thread is None:
                return
            thread, self._thread = self._thread, None
            self._over.set()
        thread.join()

    def _work(self, over: threading.Event) -> None:
        clock, used = time.monotonic(), time.process_time()
        while not over.wait(TICK):
            now, used_now = time.monotonic(), time.process_time()
            idle = used_now - used < BUSY * core_count() * (now - clock)
            late = now - clock > TICK + LATE
            clock, used = now, used_now
            with self._guard:
                for lanes in list(self._seen):
                    self._look(lanes, now, idle, late)
                    del lanes
                if not self._seen and not over.is_set():
                    self._thread = None
                    return

    def _look(self, lanes: Growing, now: float, idle: bool, late: bool) -> None:
        before, since = self._seen[lanes]
        progress = lanes.progress()
        if progress is None:
            del self._seen[lanes]
            return
        since = since if progress == before else now
        self._seen[lanes] = (progress, since)
        stalled = now - since
        if (idle and (not late or stalled > STALLED)) or stalled > STUCK:
            lanes.add()


@functools.lru_cache(maxsize=None)
def core_count() -> int:
    """Return how many cores this process may use, as it was when somebody asked first."""
    return usable_cores()


watch = _Watch()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=watch.reset)
