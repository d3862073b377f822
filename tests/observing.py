"""What a test sees of a run beside its results (notes, threads that are left, values alive), and how it provokes it."""

from __future__ import annotations

import threading
import weakref
from concurrent.futures import Executor, Future
from typing import Callable, List


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


class Inline(Executor):
    """Runs what is submitted in the caller's thread, before `submit` returns."""

    def submit(self, fn, *args, **kwargs):
        future = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except BaseException as error:
            future.set_exception(error)
        return future


def faults_of(count: int, work: Callable[[int], object]) -> List[BaseException]:
    """Call `work` in so many threads at once, each with its number; return what they raised."""
    faults: List[BaseException] = []

    def begin(number: int) -> None:
        try:
            work(number)
        except BaseException as fault:
            faults.append(fault)

    threads = [threading.Thread(target=begin, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return faults
