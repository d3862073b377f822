"""A hook that waits holds up nobody, where anything runs beside the caller's thread."""

from __future__ import annotations

import asyncio
import gc
import itertools
import threading
import time
import weakref

import pytest
from graphs import PAIRS, ids
from observing import ours
from scripts import wait_until

from hypernodes import LocalBackend, Pipeline, PipelineCallback, node

BESIDE = [pair for pair in PAIRS if set(pair) != {"sequential"}]


def wait_for(path):
    """Wait for a file, which any process may write."""
    deadline = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < deadline, "the hook holds up what it waits for"
        time.sleep(0.001)


def writer(path):
    def write(x):
        if x == 3:
            path.touch()
        return x

    return write


@pytest.mark.parametrize("hook", ["on_map_start", "on_map_item_start", "on_node_start", "on_map_item_end"])
@pytest.mark.parametrize("pair", BESIDE, ids=ids)
def test_a_hook_may_wait_for_what_comes_after_it(pair, hook, backends, tmp_path):
    ends = []

    class Waiting(PipelineCallback):
        def on_pipeline_end(self, *arguments):
            ends.append(threading.current_thread().name)

    setattr(Waiting, hook, lambda self, *arguments: wait_for(tmp_path / "written"))
    pipeline = Pipeline(nodes=[node("y")(writer(tmp_path / "written"))], backend=backends(pair), callbacks=[Waiting()])
    assert pipeline.map({"x": [0, 1, 2, 3]}, "x")["y"] == [0, 1, 2, 3]
    assert len(ends) == 1
    assert not [name for name in ours() if "hooks" in name]


@pytest.mark.parametrize("pair", PAIRS, ids=ids)
def test_a_hook_that_waits_does_not_block_the_loop_of_the_caller(pair, backends):
    went_on = threading.Event()

    class Waiting(PipelineCallback):
        def on_pipeline_start(self, *arguments):
            assert went_on.wait(20)

    pipeline = Pipeline(nodes=[node("y")(abs)], backend=backends(pair), callbacks=[Waiting()])

    async def main():
        asyncio.get_running_loop().call_soon(went_on.set)
        return await pipeline.arun({"x": -1})

    assert asyncio.run(main()) == {"y": 1}


@pytest.mark.parametrize("pair", PAIRS, ids=ids)
def test_streams_tell_all_before_they_end_and_leave_no_thread(pair, backends):
    class Counting(PipelineCallback):
        def __init__(self):
            self.told = []

        def on_map_item_end(self, index, duration, ctx):
            self.told.append(index)

        def on_pipeline_end(self, *arguments):
            self.told.append("end")

    counting = Counting()
    pipeline = Pipeline(nodes=[node("y")(abs)], backend=backends(pair), callbacks=[counting])
    assert len(list(pipeline.stream({"x": range(5)}, "x"))) == 5
    assert sorted(counting.told[:-1]) == [0, 1, 2, 3, 4]
    assert counting.told[-1] == "end"
    left = pipeline.stream({"x": range(100)}, "x")
    next(left)
    left.close()
    pipeline.stream({"x": range(5)}, "x")  # never begun
    assert not [name for name in ours() if "hooks" in name]


def test_only_what_somebody_hears_is_told(backends):
    """Hooks of the run alone leave the plan as it is where nobody listens."""

    class Runs(PipelineCallback):
        def on_pipeline_end(self, *arguments):
            pass

    pipeline = Pipeline(nodes=[node("y")(abs)], callbacks=[Runs()])
    executable = pipeline.plan(["x"])._executable
    assert executable._layers is None


def test_where_no_thread_is_to_be_had_the_end_of_the_run_calls_the_hooks(monkeypatch):
    told = []

    class Ends(PipelineCallback):
        def on_node_end(self, node_id, outputs, duration, ctx):
            told.append((node_id, outputs))

        def on_pipeline_end(self, pipeline_id, outputs, duration, ctx):
            told.append(outputs)

    def refuse(self):
        raise RuntimeError("can't start new thread")

    pipeline = Pipeline(
        nodes=[node("y")(abs), node("z")(lambda x: x)], backend=LocalBackend("threaded"), callbacks=[Ends()]
    )
    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert pipeline.run({"x": -1}) == {"y": 1, "z": -1}
    assert sorted(map(repr, told[:2])) == ["('abs', {'y': 1})", "('z', {'z': -1})"]
    assert told[2:] == [{"y": 1, "z": -1}]


@pytest.mark.parametrize("pair", [pair for pair in BESIDE if "parallel" not in pair], ids=ids)
def test_what_was_told_is_gone_with_the_last_reference_to_the_results(pair, backends):
    class Large:
        pass

    made = []

    class Hears(PipelineCallback):
        def on_node_end(self, *told):
            pass

    def make(x):
        value = Large()
        made.append(weakref.ref(value))
        return value

    pipeline = Pipeline(nodes=[node("y")(make)], backend=backends(pair), callbacks=[Hears()])
    gc.collect()
    gc.disable()
    try:
        result = pipeline.map({"x": [1, 2, 3]}, "x")
        assert len(result["y"]) == 3
        del result
        assert [ref() for ref in made] == [None] * 3
    finally:
        gc.enable()


class Stuck(PipelineCallback):
    """Hears of one item, and of nothing more until it is let go."""

    def __init__(self):
        self.inside, self.go, self.told = threading.Event(), threading.Event(), []

    def on_map_item_end(self, index, duration, ctx):
        self.told.append(index)
        self.inside.set()
        assert self.go.wait(20)


@pytest.mark.parametrize("pair", BESIDE, ids=ids)
def test_a_cancelled_run_does_not_wait_for_a_hook_that_is_stuck(pair, backends):
    stuck = Stuck()
    pipeline = Pipeline(nodes=[node("y")(abs)], backend=backends(pair), callbacks=[stuck])

    async def main():
        task = asyncio.ensure_future(pipeline.amap({"x": range(5)}, "x"))
        await asyncio.get_running_loop().run_in_executor(None, stuck.inside.wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not stuck.go.is_set()

    try:
        asyncio.run(main())
    finally:
        stuck.go.set()
    gone(stuck)


@pytest.mark.parametrize("pair", BESIDE, ids=ids)
def test_a_stream_that_is_left_does_not_wait_for_a_hook_that_is_stuck(pair, backends):
    stuck = Stuck()
    pipeline = Pipeline(nodes=[node("y")(abs)], backend=backends(pair), callbacks=[stuck])
    stream = pipeline.stream({"x": itertools.count()}, "x")
    try:
        next(stream)
        assert stuck.inside.wait(20)
        stream.close()
        assert not stuck.go.is_set()
    finally:
        stuck.go.set()
    gone(stuck)


def gone(stuck):
    """See that the thread of a hook that was let go ends, and tells of nothing more."""
    wait_until(lambda: not [name for name in ours() if "hooks" in name], "the thread of hooks goes on")
    assert len(stuck.told) == 1
