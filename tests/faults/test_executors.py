"""Executors of the user's: what holds for which of them, a row of the table in the docs each."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import multiprocessing
import os
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import pytest
from observing import Gauge, Inline, notes_of, ours

from hypernodes import LocalBackend, Pipeline, node
from hypernodes.errors import ExecutorError, OptionError, WorkerDiedError

THREADED, PARALLEL = ("sequential", "threaded"), ("sequential", "parallel")


class Wrapper:
    """An executor of a class that nobody knows, which passes calls on and counts them."""

    def __init__(self, inner):
        self.inner, self.count = inner, 0

    def submit(self, fn, *args, **kwargs):
        self.count += 1
        return self.inner.submit(fn, *args, **kwargs)


class Blocking(ThreadPoolExecutor):
    """Its submit waits until one of its threads is free, and gives up rather than hang a test."""

    def __init__(self, workers):
        super().__init__(workers)
        self._slots = threading.BoundedSemaphore(workers)

    def submit(self, fn, *args, **kwargs):
        assert self._slots.acquire(timeout=30), "nobody becomes free"
        future = super().submit(fn, *args, **kwargs)
        future.add_done_callback(lambda _: self._slots.release())
        return future


class Late(ThreadPoolExecutor):
    """Takes one call, and raises something of its own at the second."""

    calls = 0

    def submit(self, fn, *args, **kwargs):
        self.calls += 1
        if self.calls > 1:
            raise LookupError("quota exceeded")
        return super().submit(fn, *args, **kwargs)


def context_of(method):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} here")
    return multiprocessing.get_context(method)


@contextlib.contextmanager
def threads(workers, **options):
    with ThreadPoolExecutor(workers, **options) as executor:
        yield executor


def processes(method):
    @contextlib.contextmanager
    def make(workers, **options):
        with ProcessPoolExecutor(workers, context_of(method), **options) as executor:
            yield executor

    return make


def loky_of(module):
    @contextlib.contextmanager
    def make(workers, **options):
        loky = pytest.importorskip(module)
        executor = loky.ProcessPoolExecutor(workers, **options)
        try:
            yield executor
        finally:
            executor.shutdown(kill_workers=True)

    return make


def dask(in_processes):
    @contextlib.contextmanager
    def make(workers):
        distributed = pytest.importorskip("distributed")
        options = {"threads_per_worker": 1} if in_processes else {"threads_per_worker": workers}
        options["n_workers"] = workers if in_processes else 1
        with distributed.Client(processes=in_processes, dashboard_address=":0", **options) as client:
            yield client.get_executor()

    return make


@contextlib.contextmanager
def wrapped(workers):
    with ThreadPoolExecutor(workers) as executor:
        yield Wrapper(executor)


@contextlib.contextmanager
def inline(workers):
    yield Inline()


@contextlib.contextmanager
def blocking(workers):
    with Blocking(workers) as executor:
        yield executor


def rows(*names):
    slow = ("spawn", "forkserver", "joblib", "Dask, in processes")
    return [pytest.param(name, marks=pytest.mark.slow if name in slow else (), id=name) for name in names]


MAKERS = {
    "threads": threads,
    "fork": processes("fork"),
    "spawn": processes("spawn"),
    "forkserver": processes("forkserver"),
    "loky": loky_of("loky"),
    "joblib": loky_of("joblib.externals.loky"),
    "Dask, in process": dask(False),
    "Dask, in processes": dask(True),
    "wrapper": wrapped,
    "inline": inline,
    "blocking": blocking,
}
IN_PROCESSES = ("fork", "spawn", "forkserver", "loky", "joblib", "Dask, in processes")
MODES = {
    **{name: [PARALLEL] for name in (*IN_PROCESSES, "Dask, in process")},
    "threads": [THREADED],
    "blocking": [THREADED],
    "wrapper": [THREADED, PARALLEL, ("threaded", "parallel")],
    "inline": [THREADED, PARALLEL],
}
BOTH = [
    pytest.param(name, pair, id=f"{name}-{'-'.join(pair)}", marks=row.marks)
    for row in rows(*MODES)
    for name in row.values
    for pair in MODES[name]
]


def double(x):
    return 2 * x


def plus(y):
    return y + 1


def fails_at_three(x):
    if x == 3:
        raise ValueError("three")
    return x


def pipeline_of(backend, *nodes):
    return Pipeline(nodes=list(nodes) or [node("y")(double), node("z")(plus)], backend=backend, name="shop")


# -- what holds for all that take work ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "pair"), BOTH)
def test_results_are_those_of_the_sequential_mode(name, pair):
    with MAKERS[name](2) as executor:
        backend = LocalBackend(*pair, max_workers=2, executor=executor)
        pipeline = pipeline_of(backend)
        found = pipeline.map({"x": range(20)}, "x")
        assert (found["y"], found["z"]) == ([2 * x for x in range(20)], [2 * x + 1 for x in range(20)])
        assert sorted(outputs["z"] for _, outputs in pipeline.stream({"x": range(5)}, "x")) == [1, 3, 5, 7, 9]
        assert asyncio.run(pipeline.amap({"x": [4, 5]}, "x"))["z"] == [9, 11]
        assert pipeline.run({"x": 3}) == {"y": 6, "z": 7}
        with pytest.raises(ValueError, match="three") as raised:
            pipeline_of(backend, node("y")(fails_at_three)).map({"x": range(6)}, "x")
        assert any("'fails_at_three'" in note and "item 3" in note for note in notes_of(raised.value))
        kept = pipeline_of(backend, node("y")(fails_at_three)).map({"x": range(6)}, "x", error_policy="collect")
        assert [failure.item for failure in kept.failures] == [3]
    assert ours() == []


@pytest.mark.parametrize(("name", "pair"), BOTH)
def test_equal_items_are_computed_each(name, pair, tmp_path):
    def notes(x, folder):
        with open(os.path.join(folder, "calls"), "a") as file:
            file.write("x")
        return x

    with MAKERS[name](1) as executor:
        pipeline = pipeline_of(LocalBackend(*pair, max_workers=1, executor=executor), node("y")(notes))
        for _ in range(2):
            pipeline.map({"x": [1, 1, 1], "folder": str(tmp_path)}, "x")
    assert (tmp_path / "calls").read_text() == "x" * 6


@pytest.mark.parametrize(("name", "pair"), BOTH)
def test_what_still_runs_when_a_run_fails_is_waited_for(name, pair, tmp_path):
    def writes(x, folder):
        if x == 0:
            time.sleep(0.1)
            raise ValueError("zero")
        time.sleep(0.3)
        with open(os.path.join(folder, str(x)), "w"):
            return x

    with MAKERS[name](2) as executor:
        backend = LocalBackend(*pair, max_workers=2, executor=executor)
        with pytest.raises(ValueError, match="zero"):
            pipeline_of(backend, node("y")(writes)).map({"x": range(20), "folder": str(tmp_path)}, "x")
        before = sorted(os.listdir(tmp_path))
        time.sleep(0.4)
        assert sorted(os.listdir(tmp_path)) == before
    assert len(before) < 4


@pytest.mark.parametrize(("name", "pair"), BOTH)
def test_context_travels_and_nothing_else_changes_there(name, pair, tmp_path, monkeypatch):
    def looks(x):
        return VARIABLE.get(), os.getcwd(), os.environ.get("HYPERNODES_MINE"), sys.path[-1], threading.active_count()

    with MAKERS[name](1) as executor:
        if name in IN_PROCESSES:
            executor.submit(double, 1).result()  # a worker, as it is before
        before = os.getcwd(), os.environ.get("HYPERNODES_MINE"), sys.path[-1]
        monkeypatch.setenv("HYPERNODES_MINE", "1")
        monkeypatch.chdir(tmp_path)
        monkeypatch.syspath_prepend(str(tmp_path))
        sys.path.append(str(tmp_path))
        backend = LocalBackend(*pair, max_workers=1, executor=executor)
        token = VARIABLE.set("told")
        try:
            found = pipeline_of(backend, node("seen")(looks)).map({"x": [1, 2]}, "x")["seen"]
        finally:
            VARIABLE.reset(token)
            sys.path.remove(str(tmp_path))
        here = (str(tmp_path), "1", str(tmp_path))
        assert [seen[0] for seen in found] == ["told", "told"]
        assert [seen[1:4] for seen in found] == [before if name in IN_PROCESSES else here] * 2
        assert (os.getcwd(), os.environ["HYPERNODES_MINE"]) == here[:2]
        assert executor.submit(threading.active_count).result() == found[0][4] or name not in IN_PROCESSES


VARIABLE = contextvars.ContextVar("VARIABLE", default="nothing")


@pytest.mark.parametrize(("name", "pair"), [both for both in BOTH if both.values[0] in ("wrapper", "inline")])
def test_an_executor_of_unknown_class_is_used_for_what_its_modes_ask(name, pair):
    with MAKERS[name](2) as executor:
        counted = Wrapper(executor)
        pipeline_of(LocalBackend(*pair, max_workers=2, executor=counted)).map({"x": range(20)}, "x")
        assert counted.count


def test_an_executor_of_unknown_class_may_serve_nodes_and_items():
    def where(x):
        return threading.current_thread().name

    with ThreadPoolExecutor(2, thread_name_prefix="mine") as inner:
        backend = LocalBackend("threaded", "parallel", max_workers=2, executor=Wrapper(inner))
        pipeline = pipeline_of(backend, node("a")(where), node("b")(where))
        found = [*pipeline.run({"x": 1}).values(), *pipeline.map({"x": [1, 2]}, "x", output_name="a")["a"]]
    assert [name[:4] for name in found] == ["mine"] * 4


# -- processes ---------------------------------------------------------------------------------------------------------


def sets_state(value):
    os.environ["HYPERNODES_STATE"] = value


def state(x):
    return os.environ.get("HYPERNODES_STATE")


def dies_at_three(x):
    if x == 3:
        os._exit(1)
    return x


@pytest.mark.parametrize("name", rows("fork", "spawn", "forkserver", "loky", "joblib"))
def test_what_an_initializer_has_set_in_a_process_stays(name):
    with MAKERS[name](2, initializer=sets_state, initargs=("7",)) as executor:
        backend = LocalBackend(*PARALLEL, max_workers=2, executor=executor)
        assert pipeline_of(backend, node("y")(state)).map({"x": range(4)}, "x")["y"] == ["7"] * 4


@pytest.mark.parametrize("name", rows("fork", "spawn", "loky", "joblib"))
def test_a_process_that_dies_is_named_with_its_node_and_items(name):
    with MAKERS[name](2) as executor:
        backend = LocalBackend(*PARALLEL, max_workers=2, executor=executor)
        with pytest.raises(WorkerDiedError, match=r"pipeline 'shop': .* running 'dies_at_three', .*item"):
            pipeline_of(backend, node("y")(dies_at_three)).map({"x": range(6)}, "x")


@pytest.mark.parametrize("name", rows("fork", "loky"))
def test_processes_that_cannot_start_end_the_run(name):
    def fails():
        raise OSError("no device")

    if name == "fork":
        fails = fails_to_start
    with MAKERS[name](1, initializer=fails) as executor:
        backend = LocalBackend(*PARALLEL, max_workers=1, executor=executor)
        with pytest.raises((WorkerDiedError, ExecutorError), match="shop"):
            pipeline_of(backend).map({"x": range(6)}, "x")


def fails_to_start():
    raise OSError("no device")


@pytest.mark.parametrize("name", rows("fork", "loky", "Dask, in process"))
def test_its_width_is_asked(name):
    with MAKERS[name](3) as executor:
        assert LocalBackend(*PARALLEL, executor=executor).max_workers == 3


# -- threads -----------------------------------------------------------------------------------------------------------


def test_what_an_initializer_has_set_in_a_thread_stays():
    local = threading.local()

    def opens():
        local.client = "open"

    with ThreadPoolExecutor(2, initializer=opens) as executor:
        backend = LocalBackend(*THREADED, max_workers=4, executor=executor)
        pipeline = pipeline_of(backend, node("y")(lambda x: local.client))
        assert pipeline.map({"x": range(20)}, "x")["y"] == ["open"] * 20


def test_a_submit_that_blocks_does_not_block_the_loop_of_arun():
    held, ticks = threading.Event(), []

    def holds(x):
        assert held.wait(30)
        return x

    async def main(pipeline):
        running = asyncio.ensure_future(pipeline.amap({"x": range(6)}, "x"))
        while len(ticks) < 20:
            await asyncio.sleep(0.005)
            ticks.append(1)
        held.set()
        return await running

    with Blocking(1) as executor:
        backend = LocalBackend(*THREADED, max_workers=4, executor=executor)
        assert asyncio.run(main(pipeline_of(backend, node("y")(holds))))["y"] == list(range(6))


def test_no_more_runs_at_once_than_its_threads():
    inside = Gauge()

    def work(x):
        with inside:
            time.sleep(0.002)

    with ThreadPoolExecutor(2) as executor:
        backend = LocalBackend(*THREADED, max_workers=8, executor=executor)
        pipeline_of(backend, node("y")(work)).map({"x": range(40)}, "x")
    assert inside.most <= 2


# -- executors that take no work ---------------------------------------------------------------------------------------

TAKERS = [(ThreadPoolExecutor, THREADED), (ProcessPoolExecutor, PARALLEL)]


@pytest.mark.parametrize(("kind", "pair"), TAKERS)
def test_one_that_was_shut_down_before(kind, pair):
    executor = kind(1)
    executor.shutdown()
    backend = LocalBackend(*pair, max_workers=2, executor=executor)
    for call in (pipeline_of(backend).map, lambda *given: asyncio.run(pipeline_of(backend).amap(*given))):
        with pytest.raises(ExecutorError, match=f"pipeline 'shop': the executor of its backend, a {kind.__name__}"):
            call({"x": range(3)}, "x")


@pytest.mark.parametrize("cancels", [False, True], ids=["", "cancels"])
@pytest.mark.parametrize("how", ["map", "amap"])
def test_one_that_is_shut_down_during_a_run(how, cancels):
    if cancels and sys.version_info < (3, 9):
        pytest.skip("there is no cancel_futures yet")
    options = {"cancel_futures": True} if cancels else {}
    executor = ThreadPoolExecutor(1)
    busy = threading.Event()
    executor.submit(busy.wait, 30)
    began = threading.Event()

    def shut_down():
        assert began.wait(30)
        while not executor._work_queue.qsize():
            time.sleep(0.001)
        executor.shutdown(wait=False, **options)
        busy.set()

    thread = threading.Thread(target=shut_down)
    thread.start()
    pipeline = pipeline_of(LocalBackend("threaded", "threaded", max_workers=2, executor=executor))
    call = pipeline.map if how == "map" else lambda *given: asyncio.run(pipeline.amap(*given))
    began.set()
    if cancels:
        with pytest.raises(ExecutorError, match="shop"):
            call({"x": range(10)}, "x")
    else:
        # What it had taken before runs; it may have taken what does all of the work.
        with contextlib.suppress(ExecutorError):
            assert call({"x": range(10)}, "x")["y"] == [2 * x for x in range(10)]
    thread.join()


@pytest.mark.parametrize("pair", [THREADED, ("threaded", "sequential")])
def test_one_whose_submit_raises_late(pair):
    held = threading.Barrier(2)

    def meets(x):
        with contextlib.suppress(threading.BrokenBarrierError):
            held.wait(0.2)  # the second of them never comes
        return x

    with Late(2) as executor:
        backend = LocalBackend(*pair, max_workers=2, executor=executor)
        pipeline = pipeline_of(backend, node("a")(meets), node("b")(meets))
        with pytest.raises(ExecutorError, match="quota exceeded"):
            pipeline.map({"x": range(4)}, "x") if pair == THREADED else pipeline.run({"x": 1})


def test_one_whose_initializer_fails():
    def fails():
        raise OSError("no device")

    with ThreadPoolExecutor(2, initializer=fails) as executor:
        backend = LocalBackend(*THREADED, max_workers=2, executor=executor)
        with pytest.raises(ExecutorError, match="shop"):
            pipeline_of(backend).map({"x": range(4)}, "x")


def test_one_that_cannot_serve_the_modes_is_refused_at_once():
    with ThreadPoolExecutor(1) as executor, pytest.raises(OptionError, match="runs work in threads"):
        LocalBackend(*PARALLEL, executor=executor)
    with ProcessPoolExecutor(1) as executor, pytest.raises(OptionError, match="runs work in other processes"):
        LocalBackend(*THREADED, executor=executor)
