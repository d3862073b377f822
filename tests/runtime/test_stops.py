"""Once a run is stopped, no further step begins: a chain ends with the function that is running."""

from __future__ import annotations

import asyncio
import threading

import pytest

from hypernodes import LocalBackend, Pipeline, node
from hypernodes.runtime.run import Services

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
