"""What surrounds a run: executors, event loops, context variables, threads, Ctrl-C, and how a script is written."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import signal
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import pytest
from graphs import LOCAL_PAIRS, PAIRS, PARALLEL_PAIRS, ids
from observing import Inline
from scripts import run_script

from hypernodes import LocalBackend, Pipeline, node
from hypernodes.errors import ExecutorError

ROOT = Path(__file__).resolve().parents[2]
CONCURRENT = [pair for pair in LOCAL_PAIRS if pair != ("sequential", "sequential")]


def levels(depth, leaf):
    """Return a pipeline that maps `leaf` over `depth` nested lists of two."""
    pipeline = Pipeline(nodes=[node("y")(leaf)], name="level0")
    for level in range(depth):
        pipeline = Pipeline(nodes=[pipeline.as_node(map_over="x")], name=f"level{level + 1}")
    return pipeline


def nested(depth, number=0):
    return number if not depth else [nested(depth - 1, 2 * number), nested(depth - 1, 2 * number + 1)]


# -- executors --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("pair", CONCURRENT, ids=ids)
def test_a_pool_of_one_and_nested_maps(pair, depth):
    with ThreadPoolExecutor(1) as executor:
        pipeline = levels(depth, lambda x: x)
        pipeline.backend = LocalBackend(*pair, max_workers=4, executor=executor)
        for _ in range(20):
            assert pipeline.run({"x": nested(depth)}) == {"y": nested(depth)}
        assert executor.submit(int).result() == 0


@pytest.mark.parametrize("depth", [0, 2])
@pytest.mark.parametrize("pair", CONCURRENT, ids=ids)
def test_a_node_that_runs_a_pipeline_on_the_same_pool(pair, depth):
    """The only thread of the pool runs the node; the run inside must not wait for that thread."""
    with ThreadPoolExecutor(1) as executor:
        backend = LocalBackend(*pair, max_workers=2, executor=executor)
        inner = levels(1, lambda x: x)
        inner.backend = backend

        def reenter(x):
            return inner.run({"x": [x, x]})["y"]

        outer = levels(depth + 1, reenter)
        outer.backend = backend
        assert outer.run({"x": nested(depth + 1)}) == Pipeline(nodes=[outer], backend=LocalBackend()).run(
            {"x": nested(depth + 1)}
        )


@pytest.mark.parametrize("pair", CONCURRENT, ids=ids)
def test_an_executor_that_runs_at_once(pair):
    pipeline = levels(2, lambda x: x)
    pipeline.backend = LocalBackend(*pair, max_workers=4, executor=Inline())
    assert pipeline.run({"x": nested(2)}) == {"y": nested(2)}


@pytest.mark.parametrize("pair", CONCURRENT, ids=ids)
def test_an_executor_that_was_shut_down(pair):
    """Elsewhere its work would not find what its threads have: it is an error, and nothing runs."""
    executor, ran = ThreadPoolExecutor(1), []
    executor.shutdown()
    pipeline = levels(2, ran.append)
    pipeline.backend = LocalBackend(*pair, max_workers=4, executor=executor)
    with pytest.raises(ExecutorError, match="a ThreadPoolExecutor, takes no work: cannot schedule") as caught:
        pipeline.run({"x": nested(2)})
    assert caught.value.pipeline == pipeline.name
    assert type(caught.value.__cause__) is RuntimeError
    assert ran == []


class Late(ThreadPoolExecutor):
    """Takes the first lane, and none after."""

    def submit(self, fn, *arguments, **options):
        if getattr(self, "taken", False):
            raise OSError("no more")
        self.taken = True
        return super().submit(fn, *arguments, **options)


@pytest.mark.parametrize("pair", [pair for pair in CONCURRENT if pair[1] != "sequential"], ids=ids)
def test_an_executor_that_refuses_in_the_middle_of_a_run(pair):
    meet = threading.Barrier(2)

    def waits(x):
        with contextlib.suppress(threading.BrokenBarrierError):
            meet.wait(1)  # for another lane, which is refused
        return x

    with Late(4) as executor:
        pipeline = levels(1, waits)
        pipeline.backend = LocalBackend(*pair, max_workers=4, executor=executor)
        with pytest.raises(ExecutorError, match="a Late, takes no work: no more"):
            pipeline.run({"x": [1, 2, 3, 4]})


@pytest.mark.parametrize("pair", CONCURRENT, ids=ids)
def test_an_executor_whose_initializer_fails(pair):
    def fails():
        raise ValueError("no")

    with ThreadPoolExecutor(2, initializer=fails) as executor:
        pipeline = levels(1, lambda x: x)
        pipeline.backend = LocalBackend(*pair, max_workers=4, executor=executor)
        with pytest.raises(ExecutorError, match="ThreadPoolExecutor, takes no work"):
            pipeline.run({"x": [1, 2, 3]})


def test_a_process_executor_that_was_shut_down():
    executor = ProcessPoolExecutor(1)
    executor.shutdown()
    pipeline = Pipeline(nodes=[node("y")(lambda x: x)], name="p")
    pipeline.backend = LocalBackend(map_execution="parallel", executor=executor)
    with pytest.raises(ExecutorError, match="pipeline 'p': the executor of its backend, a ProcessPoolExecutor"):
        pipeline.map({"x": [1, 2]}, "x")


def test_the_width_of_an_executor_is_asked():
    with ThreadPoolExecutor(3) as executor:
        assert LocalBackend("threaded", executor=executor).max_workers == 3
        assert LocalBackend("threaded", executor=executor, max_workers=2).max_workers == 2
    assert LocalBackend("threaded", executor=Inline()).max_workers == LocalBackend("threaded").max_workers


@pytest.mark.parametrize("pair", CONCURRENT, ids=ids)
def test_an_executor_whose_threads_are_all_busy(pair):
    """The run waits for them, and what it runs has what they have."""
    release, local = threading.Event(), threading.local()

    def prepare():
        local.ready = True

    with ThreadPoolExecutor(1, initializer=prepare) as executor:
        busy = executor.submit(release.wait, 60)
        threading.Timer(0.05, release.set).start()
        pipeline = levels(1, lambda x: local.ready and release.is_set())
        pipeline.backend = LocalBackend(*pair, max_workers=4, executor=executor)
        assert pipeline.run({"x": [1, 2]}) == {"y": [True, True]}
        assert busy.result()


@pytest.mark.parametrize(
    "pair", [("threaded", "threaded"), ("sequential", "threaded"), ("threaded", "sequential")], ids=ids
)
def test_plain_work_runs_in_the_users_executor(pair):
    with ThreadPoolExecutor(2, thread_name_prefix="mine") as executor:
        pipeline = Pipeline(nodes=[node("y")(lambda x: threading.current_thread().name)])
        pipeline.backend = LocalBackend(*pair, executor=executor)
        assert all(name.startswith("mine") for name in pipeline.map({"x": range(20)}, "x")["y"])


@pytest.mark.parametrize("pair", [p for p in PARALLEL_PAIRS if "threaded" in p or "async" in p], ids=ids)
def test_a_busy_thread_pool_beside_processes(pair):
    release = threading.Event()
    with ThreadPoolExecutor(1) as executor:
        executor.submit(release.wait, 30)
        threading.Timer(0.05, release.set).start()
        with LocalBackend(*pair, max_workers=2, executor=executor) as backend:
            each = Pipeline(nodes=[node("y")(lambda x: x)], name="each")
            pipeline = Pipeline(nodes=[node("first")(lambda x: x), each.as_node(map_over="x")], backend=backend)
            assert pipeline.run({"x": [1, 2]}) == {"first": [1, 2], "y": [1, 2]}


@pytest.mark.parametrize("pair", PAIRS, ids=ids)
def test_a_node_that_runs_a_pipeline(pair):
    """With workers of its own backend's; here the same backend, at two depths."""
    with LocalBackend(*pair, max_workers=2) as backend:
        inner = levels(1, lambda x: x + 1)

        def reenter(x):
            inner.backend = LocalBackend(*pair, max_workers=1) if "parallel" not in pair else None
            return inner.run({"x": [x]})["y"][0]

        outer = levels(1, reenter)
        outer.backend = backend
        assert outer.run({"x": [1, 2, 3]}) == {"y": [2, 3, 4]}


# -- loops, contexts, threads -----------------------------------------------------------------------------------------


variable = contextvars.ContextVar("variable", default="unset")


def see(x):
    before = variable.get()
    variable.set(f"changed by {x}")
    return before


async def asee(x):
    before = variable.get()
    variable.set(f"changed by {x}")
    await asyncio.sleep(0)
    assert variable.get() == f"changed by {x}"
    return before


@pytest.mark.parametrize("pair", [p for p in PAIRS if p != ("sequential", "sequential")], ids=ids)
def test_every_node_sees_the_callers_context(pair):
    """And what one item sets, no other sees; but plain functions in the caller's thread are in his very context."""
    token = variable.set("mine")
    try:
        with LocalBackend(*pair, max_workers=2) as backend:
            pipeline = Pipeline(nodes=[node("a")(see)], backend=backend)
            awaited = Pipeline(nodes=[node("b")(asee)], backend=backend)
            if pair[0] != "sequential":
                assert pipeline.run({"x": 1}) == {"a": "mine"}
            assert awaited.run({"x": 1}) == {"b": "mine"}
            assert set(awaited.map({"x": range(6)}, "x")["b"]) == {"mine"}
            if pair[1] != "sequential":
                assert set(pipeline.map({"x": range(6)}, "x")["a"]) == {"mine"}
        assert variable.get() == "mine"
    finally:
        variable.reset(token)


@pytest.mark.parametrize("pair", LOCAL_PAIRS, ids=ids)
def test_all_coroutines_of_a_run_share_one_loop(pair):
    async def loop(x):
        return asyncio.get_running_loop()

    inner = Pipeline(nodes=[node("a")(loop), node("b")(loop)], name="inner")
    pipeline = Pipeline(nodes=[inner.as_node(map_over="x")], backend=LocalBackend(*pair, max_workers=2))
    result = pipeline.map({"x": [[1, 2], [3]]}, "x")
    assert len({each for name in "ab" for item in result[name] for each in item}) == 1


@pytest.mark.parametrize("pair", PAIRS, ids=ids)
def test_arun_uses_the_callers_loop_and_does_not_block_it(pair):
    async def loop(x):
        return asyncio.get_running_loop()

    def plain(x):
        assert ticked.wait(20)
        return x

    ticked = threading.Event()
    parallel = "parallel" in pair

    async def main():
        with LocalBackend(*pair, max_workers=2) as backend:
            nodes = [node("b")(lambda x: x)] if parallel else [node("a")(loop), node("b")(plain)]
            pipeline = Pipeline(nodes=nodes, backend=backend)
            task = asyncio.ensure_future(pipeline.arun({"x": 1}))
            for _ in range(10):
                await asyncio.sleep(0)
            ticked.set()
            result = await task
        assert result["b"] == 1
        assert parallel or result["a"] is asyncio.get_running_loop()

    asyncio.run(main())


@pytest.mark.parametrize("pair", PAIRS, ids=ids)
def test_two_threads_run_one_pipeline_at_once(pair):
    """Both are inside a run at the same time, and neither sees the other's values."""
    with LocalBackend(*pair, max_workers=2) as backend:
        pipeline = levels(1, lambda x: (x, x))
        pipeline.backend = backend
        ready = threading.Barrier(4, timeout=30)
        wrong = []

        def work(number):
            ready.wait()
            for turn in range(3 if "parallel" in pair else 30):
                items = [(number, turn, i) for i in range(5)]
                if pipeline.run({"x": items}) != {"y": [(item, item) for item in items]}:
                    wrong.append((number, turn))

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []


# -- scripts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pair", PARALLEL_PAIRS, ids=ids)
def test_a_script_without_a_main_guard(pair, tmp_path):
    """With functions of ``__main__``, a class of its own, lambdas and closures; it runs once and says nothing else."""
    process = run_script(
        tmp_path,
        f"""
        import asyncio
        from hypernodes import LocalBackend, Pipeline, node
        print("once")

        class Box:
            def __init__(self, x):
                self.x = x

        OFFSET = 10

        @node(output_name="box")
        def box(x):
            return Box(x + OFFSET)

        @node(output_name="y")
        async def open_box(box):
            await asyncio.sleep(0)
            assert type(box) is Box
            return box.x

        def adder(n):
            return lambda y: y + n

        nodes = [box, open_box, node("z")(adder(100))]
        pipeline = Pipeline(nodes=nodes, backend=LocalBackend(*{pair!r}, max_workers=2))
        print(pipeline.run({{"x": 1}}, output_name="z"), pipeline.map({{"x": [1, 2]}}, "x")["z"])
        print(isinstance(pipeline.run({{"x": 1}})["box"], Box))
        """,
    )
    out, err = process.communicate(timeout=60)
    assert (out, err, process.returncode) == ("once\n{'z': 111} [111, 112]\nTrue\n", "", 0)


@pytest.mark.parametrize(
    ("pair", "group"),
    [*[(pair, False) for pair in PAIRS], *[(pair, True) for pair in PARALLEL_PAIRS]],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else "group" if value else "parent",
)
def test_ctrl_c(pair, group, tmp_path):
    """KeyboardInterrupt comes out of `map`, nothing of the run is left, and the next run works."""
    process = run_script(
        tmp_path,
        f"""
        import os, threading, time
        from hypernodes import LocalBackend, Pipeline, node

        def work(x):
            if x >= 0:
                os.write(1, b"in\\n")  # one system call: lines of two threads do not mix
                end = time.monotonic() + 0.5
                while time.monotonic() < end:
                    time.sleep(0.001)
            return x

        with LocalBackend(*{pair!r}, max_workers=2) as backend:
            pipeline = Pipeline(nodes=[node("y")(work)], backend=backend)
            try:
                pipeline.map({{"x": range(1000)}}, "x")
            except KeyboardInterrupt:
                print("interrupted", flush=True)
            print(pipeline.map({{"x": [-1]}}, "x"), len(threading.enumerate()), flush=True)
        """,
        start_new_session=True,
    )
    try:
        # A worker process writes to the same stdout.
        assert process.stdout.readline() == "in\n"
        if group:
            os.killpg(process.pid, signal.SIGINT)
        else:
            process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
    said = [line for line in out.splitlines() if line != "in"]
    assert (said, err, process.returncode) == (["interrupted", "{'y': [-1]} 1"], "", 0)


@pytest.mark.parametrize("pair", LOCAL_PAIRS, ids=ids)
def test_ctrl_c_in_a_coroutine(pair, tmp_path):
    process = run_script(
        tmp_path,
        f"""
        import asyncio, threading
        from hypernodes import LocalBackend, Pipeline, node

        async def work(x):
            print("in", flush=True)
            try:
                await asyncio.Event().wait()
            finally:
                print("out", flush=True)

        pipeline = Pipeline(nodes=[node("y")(work)], backend=LocalBackend(*{pair!r}, max_workers=1))
        try:
            pipeline.map({{"x": range(10)}}, "x")
        except KeyboardInterrupt:
            print("interrupted", sorted(thread.name for thread in threading.enumerate()))
        """,
    )
    try:
        assert process.stdout.readline() == "in\n"
        time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
    left = ["MainThread", "hypernodes-loop"]
    assert (out, err, process.returncode) == (f"out\ninterrupted {left}\n", "", 0)
