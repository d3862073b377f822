"""What a run made is gone with the last reference to its results, without waiting for a garbage collection."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import weakref

import pytest
from graphs import PAIRS, ids
from observing import Large, Made

from hypernodes import Pipeline, node


@pytest.fixture
def uncollected():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


WAYS = {
    "run": lambda pipeline: pipeline.run(inputs={"x": 1}),
    "map": lambda pipeline: pipeline.map(inputs={"x": [1, 2, 3]}, map_over="x"),
    "collect": lambda pipeline: pipeline.map(inputs={"x": [1, 2, 3]}, map_over="x", error_policy="collect"),
    "stream": lambda pipeline: list(pipeline.stream(inputs={"x": [1, 2, 3]}, map_over="x")),
    "arun": lambda pipeline: asyncio.run(pipeline.arun(inputs={"x": 1})),
    "amap": lambda pipeline: asyncio.run(pipeline.amap(inputs={"x": [1, 2, 3]}, map_over="x")),
}


@pytest.mark.parametrize("pair", [pair for pair in PAIRS if "parallel" not in pair], ids=ids)
@pytest.mark.parametrize("way", WAYS)
def test_values_go_with_the_last_reference_to_them(pair, way, backends, uncollected):
    made = Made()

    def large(x):
        return made(x)

    async def awaited(x):
        return made(x)

    nodes = [node("a")(large), node("b")(awaited), node("c")(lambda a, b: 0)]
    result = WAYS[way](Pipeline(nodes=nodes, backend=backends(pair)))
    assert any(made.alive)
    del result
    assert not any(made.alive)


@pytest.mark.parametrize("last", [("a",), ("b",), ("a", "b")], ids="".join)
def test_a_step_of_two_arguments_lets_go_of_those_it_is_the_last_to_read(last, uncollected):
    made = {}

    def large(name):
        value = Large()
        made[name] = weakref.ref(value)
        return value

    def alive(both):
        return sorted(name for name, value in made.items() if value() is not None)

    nodes = [
        node(output_name="a")(lambda x: large("a")),
        node(output_name="b")(lambda x: large("b")),
        node(output_name="both")(lambda a, b: None),
        node(output_name="alive")(alive),
        *[node(output_name=f"end_{name}")(eval(f"lambda {name}, alive: None")) for name in "ab" if name not in last],
    ]
    kept = [f"end_{name}" for name in "ab" if name not in last]
    found = Pipeline(nodes=nodes).run(inputs={"x": 1}, output_name=["alive", *kept])
    assert found["alive"] == [name for name in "ab" if name not in last]


@pytest.mark.parametrize("pair", [pair for pair in PAIRS if "parallel" not in pair], ids=ids)
@pytest.mark.parametrize("way", WAYS)
def test_values_of_a_run_that_fails_go_with_its_exception(pair, way, backends, uncollected):
    """What an exception has in its traceback refers to it no more, or the frames with all results stay in a cycle."""
    made = Made()

    def large(x):
        return made(x)

    def failing(a, x):
        raise ValueError(x)

    async def awaited(a, x):
        await asyncio.sleep(0)
        raise ValueError(x)

    async def outcome(awaitable):
        # A task of asyncio.run that fails is in such a cycle itself.
        try:
            return await awaitable
        except ValueError:
            return None

    for last in (failing, awaited):
        pipeline = Pipeline(nodes=[node("a")(large), node("b")(last)], backend=backends(pair))
        if way == "arun":
            assert asyncio.run(outcome(pipeline.arun(inputs={"x": 1}))) is None
        elif way == "amap":
            assert asyncio.run(outcome(pipeline.amap(inputs={"x": [1, 2, 3]}, map_over="x"))) is None
        elif way == "collect":
            WAYS[way](pipeline)
        else:
            with contextlib.suppress(ValueError):
                WAYS[way](pipeline)
                raise AssertionError("it should have failed")
        assert made.alive
        assert not any(made.alive)
