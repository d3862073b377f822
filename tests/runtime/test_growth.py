"""When a run gets one more thread: the rule alone, without a clock, and what has to come of it."""

from __future__ import annotations

import os
import threading

import pytest
from observing import Gauge, ours

from hypernodes import LocalBackend, Pipeline, node
from hypernodes.runtime.drivers.growth import STALLED, STUCK, _Watch, core_count, watch


class Lanes:
    def __init__(self, *progress):
        self._progress = list(progress)
        self.added = 0

    def progress(self):
        return self._progress.pop(0) if len(self._progress) > 1 else self._progress[0]

    def add(self):
        self.added += 1


def looked(lanes, *looks):
    """Look at lanes at these times, with whether the processors were idle and the thread was late."""
    looking = _Watch()
    looking._seen[lanes] = (None, 0.0)
    for now, idle, late in looks:
        if lanes in looking._seen:
            looking._look(lanes, now, idle, late)
    return lanes in looking._seen


def test_lanes_that_wait_get_company():
    lanes = Lanes((1,), (2,), (3,))
    assert looked(lanes, (0.1, True, False), (0.2, True, False))
    assert lanes.added == 2


def test_lanes_that_compute_get_none():
    lanes = Lanes((1,), (2,), (3,))
    assert looked(lanes, (0.1, False, False), (0.2, False, True), (0.3, True, True))
    assert lanes.added == 0


def test_lanes_that_end_nothing_on_a_loaded_machine_get_company():
    lanes = Lanes((1,))
    assert looked(lanes, (0.1, True, True), (0.1 + STALLED * 0.9, True, True))
    assert lanes.added == 0
    assert looked(lanes, (0.1, True, True), (0.11 + STALLED, True, True))
    assert lanes.added == 1


def test_lanes_that_may_wait_for_what_has_not_begun_get_company_in_the_end():
    lanes = Lanes((1,))
    assert looked(lanes, (0.1, False, True), (0.1 + STUCK * 0.9, False, True))
    assert lanes.added == 0
    assert looked(lanes, (0.1, False, True), (0.11 + STUCK, False, True))
    assert lanes.added == 1


def test_lanes_for_which_nothing_waits_are_left_alone():
    assert not looked(Lanes((1,), None), (0.1, False, False), (0.2, True, False))


@pytest.mark.parametrize("nodes", ["async", "threaded"])
def test_as_many_wait_at_once_as_the_backend_allows(nodes):
    barrier = threading.Barrier(40)

    def waits(x):
        barrier.wait(60)
        return x

    pipeline = Pipeline(nodes=[node("y")(waits)], backend=LocalBackend(nodes, "threaded", max_workers=40))
    assert pipeline.map({"x": range(80)}, "x")["y"] == list(range(80))
    wide = Pipeline(
        nodes=[node(f"y{number}")(lambda x: barrier.wait(60) and None) for number in range(40)],
        backend=LocalBackend(nodes, max_workers=40),
    )
    wide.run({"x": 1})


def test_no_more_than_the_backend_allows():
    inside = Gauge()

    def counts(x):
        with inside:
            threading.Event().wait(0.002)
        return x

    workers = core_count() + 3
    pipeline = Pipeline(nodes=[node("y")(counts)], backend=LocalBackend("async", "threaded", max_workers=workers))
    pipeline.map({"x": range(200)}, "x")
    assert inside.most <= workers


def test_lanes_that_have_ended_are_looked_at_no_more():
    pipeline = Pipeline(
        nodes=[node("y")(lambda x: threading.Event().wait(0.005))], backend=LocalBackend("threaded", "threaded", 50)
    )
    pipeline.map({"x": range(60)}, "x")
    assert watch._seen == {}
    assert ours() == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_looks_for_itself():
    barrier = threading.Barrier(8)
    pipeline = Pipeline(
        nodes=[node("y")(lambda x: barrier.wait(30) and None)], backend=LocalBackend("threaded", "threaded", 8)
    )
    parents = []

    def forks(x):
        # As a node does that is in the middle of a run.
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                pipeline.map({"x": range(8)}, "x")
                status = 0
            finally:
                os._exit(status)
        parents.append(os.waitpid(pid, 0)[1])
        return x

    busy = Pipeline(nodes=[node("z")(lambda x: threading.Event().wait(0.02)), node("y")(forks)])
    busy.backend = LocalBackend("threaded", "threaded", 8)
    busy.map({"x": range(3)}, "x")
    assert parents == [0, 0, 0]
