"""Which values a run sees: the items of a map are those at the call, whatever is added to their list meanwhile."""

from __future__ import annotations

import asyncio

import pytest
from graphs import LOCAL_PAIRS, PAIRS, ids

from hypernodes import Pipeline, node

# -- the items of a map -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pair", LOCAL_PAIRS, ids=ids)
def test_items_are_those_at_the_call(pair, backends):
    for mode, awaited in (("zip", False), ("product", False), ("zip", True)):
        items = [1, 2, 3]

        @node("y")
        def grow(x):
            items.append(x)  # noqa: B023
            return x

        pipeline = Pipeline(nodes=[grow], backend=backends(pair))
        found = (
            asyncio.run(pipeline.amap({"x": items}, "x", mode)) if awaited else pipeline.map({"x": items}, "x", mode)
        )
        assert found == {"y": [1, 2, 3]}
        assert len(items) == 6


@pytest.mark.parametrize("pair", PAIRS, ids=ids)
def test_items_may_be_added_or_taken_away_while_a_map_is_awaited(pair, backends):
    pipeline = Pipeline(nodes=[node("y")(lambda x: x)], backend=backends(pair))

    async def main(change):
        items = list(range(20))
        task = asyncio.ensure_future(pipeline.amap({"x": items}, "x"))
        await asyncio.sleep(0)
        change(items)
        return await task

    for change in (lambda items: items.append(20), lambda items: items.clear()):
        assert asyncio.run(main(change)) == {"y": list(range(20))}


@pytest.mark.parametrize("pair", LOCAL_PAIRS, ids=ids)
def test_items_that_a_node_made_are_those_when_their_map_began(pair, backends):
    made = []

    @node("xs")
    def make(n):
        made[:] = range(n)
        return made

    @node("y")
    def shrink(x):
        made.pop()
        return x

    inner = Pipeline(nodes=[shrink], name="inner").as_node(input_mapping={"xs": "x"}, map_over="xs")
    assert Pipeline(nodes=[make, inner], backend=backends(pair)).run({"n": 4}, "y") == {"y": [0, 1, 2, 3]}


def test_a_stream_reads_as_it_goes():
    items = [1]

    @node("y")
    def grow(x):
        if x < 4:
            items.append(x + 1)
        return x

    assert [found["y"] for _, found in Pipeline(nodes=[grow]).stream({"x": items}, "x")] == [1, 2, 3, 4]


def test_arrays_are_not_copied():
    numpy = pytest.importorskip("numpy")
    array = numpy.arange(3)

    @node("y")
    def change(x):
        array[2] = 10
        return int(x)

    assert Pipeline(nodes=[change]).map({"x": array}, "x") == {"y": [0, 1, 10]}
