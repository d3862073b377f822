"""Once a run is stopped, no further step begins: a chain ends with the function that is running."""

from __future__ import annotations

import asyncio
import contextvars
import threading

import pytest

from hypernodes import LocalBackend, Pipeline, node
from hypernodes.runtime.drivers.coordinator import Coordinator
from hypernodes.runtime.drivers.services import Services
from hypernodes.runtime.processes.work_items import WorkItem

PATIENCE = 20


class Boom(Exception):
    pass


class Halt(BaseException):
    """No failure to collect: it ends the run in any case."""


@pytest.fixture
def stopped(monkeypatch):
    """An event that is set once a run has been told to stop."""
    event = threading.Event()
    stop = Services.stop

    def stop_and_tell(services):
        stop(services)
        event.set()

    monkeypatch.setattr(Services, "stop", stop_and_tell)
    return event


def chain(kind, error, stopped):
    """Return two nodes in a chain and what the second was given: x = 0 ends after x = 1 has failed."""
    begun, second_began = threading.Event(), []

    def first(x):
        if x:
            begun.wait(PATIENCE)
            raise error
        begun.set()
        assert stopped.wait(PATIENCE)
        return x

    async def first_awaited(x):
        while x and not begun.is_set():
            await asyncio.sleep(0.001)
        if x:
            raise error
        begun.set()
        while not stopped.is_set():
            try:
                await asyncio.sleep(0.001)
            except asyncio.CancelledError:
                continue
        return x

    def second(a):
        second_began.append(a)

    async def second_awaited(a):
        second_began.append(a)

    pair = (first, second) if kind == "def" else (first_awaited, second_awaited)
    return [node("a")(pair[0]), node("b")(pair[1])], second_began


@pytest.mark.parametrize("items", ["async", "threaded"])
@pytest.mark.parametrize("nodes", ["sequential", "async", "threaded"])
@pytest.mark.parametrize(("policy", "error"), [("raise", Boom), ("collect", Halt)])
@pytest.mark.parametrize("kind", ["def", "async def"])
def test_a_failure_of_an_item_ends_the_chains_of_others(kind, policy, error, nodes, items, stopped):
    chained, second_began = chain(kind, error, stopped)
    with LocalBackend(nodes, items, max_workers=2) as backend, pytest.raises(error):
        Pipeline(nodes=chained, backend=backend).map({"x": [0, 1]}, "x", error_policy=policy)
    assert second_began == []


@pytest.mark.parametrize("nodes", ["async", "threaded"])
def test_a_failure_of_a_node_ends_the_chains_beside_it(stopped, nodes):
    begun, ran = threading.Event(), []

    @node("a")
    def first(x):
        begun.set()
        assert stopped.wait(PATIENCE)
        return x

    @node("b")
    def second(a):
        ran.append(a)

    @node("c")
    def fail(x):
        assert begun.wait(PATIENCE)
        raise Boom

    with LocalBackend(nodes, max_workers=2) as backend, pytest.raises(Boom):
        Pipeline(nodes=[first, second, fail], backend=backend).run({"x": 1})
    assert ran == []


def outlasting(inner, stopped, run):
    """Return what runs `inner` within a node, in a run that fails while the first item of `inner` is at work."""
    begun, ran = threading.Event(), []

    @node("y")
    def item(x):
        ran.append(x)
        begun.set()
        assert stopped.wait(PATIENCE)
        return x

    @node("z")
    def after(y):
        ran.append("after")

    @node("b")
    def fail(x):
        assert begun.wait(PATIENCE)
        raise Boom

    pipeline = Pipeline(nodes=[item, after], backend=inner)
    return node("a")(lambda x: run(pipeline)), fail, ran


async def consumed(stream):
    return [outputs async for _, outputs in stream]


XS = {"x": [0] * 100}
RUNS = {
    "run": lambda pipeline: pipeline.run({"x": 0}),
    "map": lambda pipeline: pipeline.map(XS, "x"),
    "map, collected": lambda pipeline: pipeline.map(XS, "x", error_policy="collect"),
    "stream": lambda pipeline: list(pipeline.stream(XS, "x")),
    "arun": lambda pipeline: asyncio.run(pipeline.arun({"x": 0})),
    "amap": lambda pipeline: asyncio.run(pipeline.amap(XS, "x")),
    "astream": lambda pipeline: asyncio.run(consumed(pipeline.astream(XS, "x"))),
}


@pytest.mark.parametrize("mode", ["sequential", "async", "threaded"])
@pytest.mark.parametrize("run", RUNS)
def test_a_run_within_a_node_ends_with_the_run_around_it(stopped, mode, run):
    first, fail, ran = outlasting(LocalBackend(mode, mode, max_workers=1), stopped, RUNS[run])
    with LocalBackend("threaded", max_workers=2) as backend, pytest.raises(Boom) as caught:
        Pipeline(nodes=[first, fail], backend=backend).run({"x": 0})
    assert set(ran) == {0}
    assert len(ran) <= 2
    assert not getattr(caught.value, "__notes__", ())[1:], "what ended with it is no failure of its own"


def test_a_nested_pipeline_with_a_backend_of_its_own_ends_with_the_run_around_it(stopped):
    ran, begun = [], threading.Event()

    @node("y")
    def item(x):
        ran.append(x)
        begun.set()
        assert stopped.wait(PATIENCE)

    @node("b")
    def fail():
        assert begun.wait(PATIENCE)
        raise Boom

    inner = Pipeline(nodes=[item], backend=LocalBackend("sequential")).as_node(map_over="x")
    with LocalBackend("threaded", max_workers=2) as backend, pytest.raises(Boom):
        Pipeline(nodes=[inner, fail], backend=backend).run(XS)
    assert ran == [0]


def test_a_context_that_outlives_its_run_holds_no_other_run_back():
    contexts = []

    @node("a")
    def keep(x):
        contexts.append(contextvars.copy_context())
        raise Boom

    with LocalBackend("threaded", max_workers=2) as backend, pytest.raises(Boom):
        Pipeline(nodes=[keep], backend=backend).run({"x": 0})
    double = Pipeline(nodes=[node("y")(lambda x: 2 * x), node("z")(lambda y: y + 1)])
    assert contexts[0].run(double.run, {"x": 2}) == {"y": 4, "z": 5}


def test_a_coordinator_sleeps_while_lanes_come_home(stopped, monkeypatch):
    looks, wait, begun = [], Coordinator._wait, threading.Event()
    monkeypatch.setattr(Coordinator, "_wait", lambda self: (looks.append(0), wait(self))[1])

    @node("a")
    async def slow(x):
        begun.set()
        while not stopped.is_set():
            try:
                await asyncio.sleep(0.001)
            except asyncio.CancelledError:
                continue
        await asyncio.sleep(0.1)

    @node("b")
    def fail(x):
        assert begun.wait(PATIENCE)
        raise Boom

    with LocalBackend("async", max_workers=2) as backend, pytest.raises(Boom):
        Pipeline(nodes=[slow, fail], backend=backend).run({"x": 0})
    assert len(looks) < 20


@pytest.mark.parametrize("nodes", ["sequential", "threaded", "parallel"])
def test_a_fault_of_the_engine_itself_ends_the_run(nodes, monkeypatch):
    """What the coordinator had taken and not yet sent is lost with it, and nobody waits for that."""

    def broken(task):
        raise MemoryError("no work item for you")

    monkeypatch.setattr(WorkItem, "of", broken)
    with LocalBackend(nodes, "parallel", max_workers=2) as backend:
        pipeline = Pipeline(nodes=[node(output_name="y")(lambda x: x + 1)], backend=backend)
        with pytest.raises(MemoryError, match="no work item"):
            pipeline.map({"x": range(10)}, "x")
        monkeypatch.undo()
        assert pipeline.map({"x": range(3)}, "x")["y"] == [1, 2, 3]
