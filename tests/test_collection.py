"""The collector is as the user left it, whoever paused it, for how long, and however it ended."""

from __future__ import annotations

import gc
import sys
import threading
from typing import Iterator

import pytest

from hypernodes import Pipeline, collection, node
from hypernodes.errors import PipelineDefinitionError


@pytest.fixture(autouse=True)
def collector_on() -> Iterator[None]:
    gc.enable()
    yield
    gc.enable()


def test_pauses_nest() -> None:
    with collection.paused():
        with collection.paused():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()


def test_a_collector_that_is_off_stays_off() -> None:
    gc.disable()
    with collection.paused():
        pass
    assert not gc.isenabled()


def test_an_exception_ends_the_pause() -> None:
    with pytest.raises(ZeroDivisionError), collection.paused():
        raise ZeroDivisionError
    assert gc.isenabled()
    with pytest.raises(PipelineDefinitionError):
        Pipeline(nodes=[print])
    assert gc.isenabled()


def test_pauses_of_two_threads_overlap() -> None:
    """The first to begin is the first to end; the collector stays off until the other has ended too."""
    began, ended = threading.Event(), threading.Event()

    def pause() -> None:
        with collection.paused():
            began.set()
            assert ended.wait(10)

    other = threading.Thread(target=pause)
    with collection.paused():
        other.start()
        assert began.wait(10)
    assert not gc.isenabled()
    ended.set()
    other.join()
    assert gc.isenabled()


def test_pipelines_made_and_run_in_many_threads_leave_it_on() -> None:
    @node(output_name="y")
    def double(x: int) -> int:
        return 2 * x

    def work() -> None:
        for _ in range(50):
            assert Pipeline(nodes=[double]).run(inputs={"x": 1}) == {"y": 2}

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert gc.isenabled()
