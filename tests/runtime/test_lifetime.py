"""What a run made is gone with the last reference to its results, without waiting for a garbage collection."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest
from graphs import PAIRS, ids

from hypernodes import Pipeline, node


class Large:
    pass


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
    made = []

    def large(x):
        value = Large()
        made.append(weakref.ref(value))
        return value

    async def awaited(x):
        return large(x)

    nodes = [node("a")(large), node("b")(awaited), node("c")(lambda a, b: 0)]
    result = WAYS[way](Pipeline(nodes=nodes, backend=backends(pair)))
    assert any(reference() is not None for reference in made)
    del result
    assert [reference() for reference in made] == [None] * len(made)
