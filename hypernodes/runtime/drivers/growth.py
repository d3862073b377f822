"""When a pool gets one more thread: where work waits, and the processors do not.

The first threads, as many as there are cores, start at once. What makes more of them worth their cost is that those
there are wait: for files, requests, sleep. Threads that compute would only share the cores, and in Python the
interpreter's lock, with others. So one thread of the process looks every millisecond at the pools in which lanes are
asked for that nobody runs, and at the processor time that the process has used meanwhile.
"""

from __future__ import annotations

import functools
import os
import threading
import time
from typing import Dict, Optional, Protocol, Set, Tuple

from hypernodes.runtime.drivers.cores import usable_cores

TICK = 0.001
"""Seconds that ready work has waited for, about, when another thread may start."""

BUSY = 0.9
"""Of the processor time that the cores offer, what a process that waits uses less of."""

LATE = 0.002
"""Seconds: who is woken so long after its time has waited for the interpreter's lock, under which others compute."""

STALLED = 0.02
"""Seconds after which threads that end nothing, and use no processor, wait, however late anybody is woken."""

STUCK = 1.0
"""Seconds after which threads that end nothing get company, whatever they do: they may wait for what has not begun."""


class Growing(Protocol):
    """A pool whose threads may be too few."""

    def progress(self) -> Optional[Tuple[object, ...]]:
        """Return what changes when work is begun; None when none waits, and nobody has to look any more."""

    def add(self) -> None:
        """Let more of them compute."""


class _Watch:
    """Looks at pools whose lanes wait; its thread sleeps while there are none, and ends with the last pool in use."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin anew, as in a forked child: there is no thread there, and the lock may be somebody's."""
        # Held while pools are looked at, so that nobody refers to those that `leave`; their locks come behind it.
        self._guard = threading.Lock()
        self._users: Set[Growing] = set()
        self._seen: Dict[Growing, Tuple[Optional[Tuple[object, ...]], float]] = {}
        self._thread: Optional[threading.Thread] = None
        self._over = threading.Event()
        self._wanted = threading.Event()

    def look_at(self, pool: Growing) -> bool:
        """Look at this one from now on; returns False where there is no thread to be had for it."""
        with self._guard:
            self._users.add(pool)
            self._seen[pool] = (None, time.monotonic())
            self._wanted.set()
            if self._thread is None:
                self._over, self._wanted = over, wanted = threading.Event(), threading.Event()
                work = threading.Thread(target=self._work, args=(over, wanted), name="hypernodes-growth", daemon=True)
                try:
                    work.start()
                except RuntimeError:
                    self._seen.clear()
                    self._users.clear()
                    return False
                self._thread = work
            return True

    def leave(self, pool: Growing) -> None:
        """Look at this one no more; the thread has ended when it was the last."""
        with self._guard:
            self._seen.pop(pool, None)
            self._users.discard(pool)
            if self._users or self._thread is None:
                return
            thread, self._thread = self._thread, None
            self._over.set()
            self._wanted.set()
        thread.join()

    def _work(self, over: threading.Event, wanted: threading.Event) -> None:
        clock, used = time.monotonic(), time.process_time()
        while not over.wait(TICK):
            now, used_now = time.monotonic(), time.process_time()
            idle = used_now - used < BUSY * core_count() * (now - clock)
            late = now - clock > TICK + LATE
            clock, used = now, used_now
            with self._guard:
                for pool in list(self._seen):
                    self._look(pool, now, idle, late)
                    del pool
                if self._seen or over.is_set():
                    continue
                wanted.clear()
            wanted.wait()
            clock, used = time.monotonic(), time.process_time()

    def _look(self, pool: Growing, now: float, idle: bool, late: bool) -> None:
        before, since = self._seen[pool]
        progress = pool.progress()
        if progress is None:
            del self._seen[pool]
            return
        since = since if progress == before else now
        self._seen[pool] = (progress, since)
        stalled = now - since
        if (idle and (not late or stalled > STALLED)) or stalled > STUCK:
            pool.add()


@functools.lru_cache(maxsize=None)
def core_count() -> int:
    """Return how many cores this process may use, as it was when somebody asked first."""
    return usable_cores()


watch = _Watch()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=watch.reset)
