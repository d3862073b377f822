"""A worker process may end at any moment, by any means: the work is done by another, or the error names one item."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import pytest

from hypernodes import LocalBackend, Pipeline, node
from hypernodes.errors import OptionError, WorkerDiedError
from hypernodes.runtime.drivers.cores import usable_cores
from hypernodes.runtime.processes import process, worker
from hypernodes.runtime.processes.lane import ProcessLane

ITEMS = 300


def by_signal() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def by_segfault() -> None:
    import faulthandler

    faulthandler.disable()
    ctypes.string_at(0)


def by_exit() -> None:
    os._exit(7)


def by_abort() -> None:
    import faulthandler

    faulthandler.disable()
    os.abort()


WAYS = {by_signal: -signal.SIGKILL, by_segfault: -signal.SIGSEGV, by_exit: 7, by_abort: -signal.SIGABRT}
ways = pytest.mark.parametrize(("end", "code"), list(WAYS.items()), ids=[way.__name__ for way in WAYS])


@node(output_name="y")
def fatal(x: int, bad: int, end) -> int:
    if x == bad:
        end()
    return x * x


@node(output_name="y")
def fatal_once(x: int, bad: int, folder: Path) -> int:
    """Leave a file for each time an item is run; the bad one dies where it finds itself the first."""
    runs = len(list(folder.glob(f"{x}-*")))
    (folder / f"{x}-{runs}").touch()
    if x == bad and not runs:
        os._exit(1)
    return x * x


@pytest.fixture(params=["items", "nodes"])
def backend(request):
    """A backend whose worker processes run items, or nodes."""
    modes = ("sequential", "parallel") if request.param == "items" else ("parallel", "threaded")
    with LocalBackend(*modes, max_workers=2) as made:
        yield made


@pytest.mark.slow
@ways
def test_an_error_names_the_one_item_and_how_its_worker_ended(backend, end, code):
    pipeline = Pipeline(nodes=[fatal], name="p", backend=backend)
    with pytest.raises(WorkerDiedError) as caught:
        pipeline.map(inputs={"x": range(ITEMS), "bad": 217, "end": end}, map_over="x")
    error = caught.value
    assert (error.pipeline, error.nodes, error.items, error.exitcode) == ("p", ("fatal",), "item 217", code)
    assert error.losses >= 2
    # The next run works at once.
    good = pipeline.map(inputs={"x": range(ITEMS), "bad": -1, "end": end}, map_over="x")
    assert good["y"] == [x * x for x in range(ITEMS)]


@ways
def test_a_run_names_the_node(end, code):
    with LocalBackend(node_execution="parallel", max_workers=2) as backend:
        pipeline = Pipeline(nodes=[fatal], name="p", backend=backend)
        with pytest.raises(WorkerDiedError) as caught:
            pipeline.run(inputs={"x": 1, "bad": 1, "end": end})
        assert (caught.value.nodes, caught.value.items, caught.value.exitcode) == (("fatal",), "", code)
        assert caught.value.losses == 2
        assert pipeline.run(inputs={"x": 2, "bad": 1, "end": end}) == {"y": 4}


def test_a_chunk_that_is_lost_once_is_run_again_and_others_are_not(backend, tmp_path):
    pipeline = Pipeline(nodes=[fatal_once], backend=backend)
    result = pipeline.map(inputs={"x": range(ITEMS), "bad": 150, "folder": tmp_path}, map_over="x")
    assert result["y"] == [x * x for x in range(ITEMS)]
    runs = [len(list(tmp_path.glob(f"{x}-*"))) for x in range(ITEMS)]
    assert runs[150] == 2
    assert max(runs) == 2
    # Only what was in the same chunk, before the fatal item, can have run twice.
    again = [x for x in range(ITEMS) if runs[x] == 2]
    assert again == list(range(again[0], 151))


def test_a_bundle_that_is_lost_once_is_run_again(tmp_path):
    with LocalBackend(node_execution="parallel", max_workers=2) as backend:
        pipeline = Pipeline(nodes=[fatal_once], backend=backend)
        assert pipeline.run(inputs={"x": 3, "bad": 3, "folder": tmp_path}) == {"y": 9}


@pytest.mark.parametrize("retries", [2, 3])
def test_a_fatal_item_is_tried_as_often_as_asked(retries, tmp_path):
    with LocalBackend(map_execution="parallel", max_workers=1, worker_retries=retries) as backend:
        pipeline = Pipeline(nodes=[fatal], backend=backend)
        with pytest.raises(WorkerDiedError) as caught:
            pipeline.map(inputs={"x": [5], "bad": 5, "end": by_exit}, map_over="x")
        assert caught.value.losses == retries + 1


def test_without_retries_nothing_runs_twice(tmp_path):
    with LocalBackend(map_execution="parallel", max_workers=1, worker_retries=0) as backend:
        pipeline = Pipeline(nodes=[fatal_once], backend=backend)
        with pytest.raises(WorkerDiedError, match=r"(one of items \d+ to \d+|item 150)"):
            pipeline.map(inputs={"x": range(ITEMS), "bad": 150, "folder": tmp_path}, map_over="x")
    assert {path.name.split("-")[1] for path in tmp_path.iterdir()} == {"0"}


def test_two_fatal_items_leave_one_error(backend):
    pipeline = Pipeline(nodes=[fatal], backend=backend)
    with pytest.raises(WorkerDiedError) as caught:
        pipeline.map(inputs={"x": [1] * 40, "bad": 1, "end": by_exit}, map_over="x")
    assert caught.value.exitcode == 7


def test_a_broken_executor_of_the_user_is_a_dead_worker():
    with ProcessPoolExecutor(1) as executor:
        backend = LocalBackend(map_execution="parallel", max_workers=1, executor=executor)
        pipeline = Pipeline(nodes=[fatal], backend=backend)
        with pytest.raises(WorkerDiedError) as caught:
            pipeline.map(inputs={"x": [1, 2], "bad": 1, "end": by_exit}, map_over="x")
        assert caught.value.exitcode is None
        assert caught.value.items == "item 0"


@pytest.mark.parametrize("given", [-1, 1.5, "1", True, None])
def test_worker_retries_is_a_whole_number(given):
    with pytest.raises(OptionError, match="worker_retries"):
        LocalBackend(worker_retries=given)


def native_threads(workers: int) -> str:
    @node(output_name="y")
    def threads(x):
        return os.environ["OPENBLAS_NUM_THREADS"]

    with LocalBackend(map_execution="parallel", max_workers=workers) as backend:
        (found,) = set(Pipeline(nodes=[threads], backend=backend).map(inputs={"x": [1, 2]}, map_over="x")["y"])
    return found


def test_numerical_libraries_share_the_cores(monkeypatch):
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    cores = usable_cores()
    assert native_threads(1) == str(cores)
    assert native_threads(cores) == "1"
    assert native_threads(cores + 1) == "1"
    assert "OPENBLAS_NUM_THREADS" not in os.environ
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "5")
    assert native_threads(1) == "5"


class Fatal:
    """Kills the process that reads it."""

    def __reduce__(self):
        return os._exit, (9,)


def test_a_worker_that_dies_of_what_it_is_sent_is_named_in_the_end():
    pipeline = Pipeline(nodes=[node("y")(lambda x: 1)], name="p")
    with LocalBackend("sequential", "parallel", max_workers=2) as backend:
        pipeline.backend = backend
        with pytest.raises(WorkerDiedError) as caught:
            pipeline.map({"x": [[Fatal(), list(range(1_000_000))]]}, "x")
        assert (caught.value.items, caught.value.exitcode) == ("item 0", 9)
        assert pipeline.map({"x": [1]}, "x")["y"] == [1]


def test_workers_that_cannot_begin_are_not_started_for_ever(monkeypatch):
    """They die while they are sent what is larger than the pipe."""
    started = []
    monkeypatch.setattr(worker, "server", lambda workers, initializer: _ends_at_once)
    start = process.start
    monkeypatch.setattr(process, "start", lambda *args: (started.append(1), start(*args))[1])
    with LocalBackend("sequential", "parallel", max_workers=2) as backend:
        pipeline = Pipeline(nodes=[node("y")(lambda x: len(x))], backend=backend)
        with pytest.raises(WorkerDiedError):
            pipeline.map({"x": [list(range(1_000_000))]}, "x")
    assert len(started) < 8


def _ends_at_once(connection):
    os._exit(7)


def test_runs_that_wait_for_a_worker_rest(monkeypatch):
    """A coordinator that wakes itself would look for a free worker as fast as it can, and hold up everything else."""
    looks = []
    wait = ProcessLane.wait
    monkeypatch.setattr(ProcessLane, "wait", lambda lane, timeout: (looks.append(1), wait(lane, timeout))[1])
    with LocalBackend("sequential", "parallel", max_workers=1) as backend:
        pipeline = Pipeline(nodes=[node("y")(lambda x: time.sleep(0.1))], backend=backend)
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(lambda _: pipeline.map({"x": range(2)}, "x"), range(4)))
    assert len(looks) < 400
