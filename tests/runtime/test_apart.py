"""What is the user's runs beside the engine, never inside it: code that blocks holds up nobody else.

Each of them waits for a file that another branch writes, two nodes later. Were it run while the schedule is locked, in
the coordinator or on the caller's event loop, that branch could not go on, and the wait would come to its end.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping

import pytest
from graphs import MODES

from hypernodes import LocalBackend, Pipeline, node

PATIENCE = 20


def wait_for(path):
    until = time.monotonic() + PATIENCE
    while not os.path.exists(path):
        assert time.monotonic() < until, "nobody else could go on"
        time.sleep(0.001)


class Numbers:
    """Three numbers, for who waits long enough."""

    def __init__(self, path):
        self.path = path

    def __iter__(self):
        wait_for(self.path)
        return iter([1, 2, 3])

    def __len__(self):
        wait_for(self.path)
        return 3


class Record(Mapping):
    """One number under the name `x`."""

    def __init__(self, path, x):
        self.path = path
        self.x = x

    def __getitem__(self, name):
        wait_for(self.path)
        return {"x": self.x}[name]

    def __iter__(self):
        return iter(["x"])

    def __len__(self):
        return 1


class Last:
    """Something that takes its time to go."""

    def __init__(self, path):
        self.path = path

    def __del__(self):
        wait_for(self.path)


def doubled(x):
    return 2 * x


@node("first")
def first(start):
    return start


@node("beside")
def beside(start):
    return start


@node("second")
def second(first, beside, path):
    # Of two, so that it is a bundle of its own, which somebody has to take.
    with open(path, "w"):
        return first


def pipeline_around(produce, map_over):
    inner = Pipeline(nodes=[node("y")(doubled)], name="inner")
    mapped = inner.as_node(input_mapping={"values": "x"} if map_over == "values" else None, map_over=map_over)
    return Pipeline(nodes=[produce, mapped, first, beside, second])


def run(pipeline, inputs, how):
    if how == "run":
        return pipeline.run(inputs)

    async def main():
        # The caller's loop goes on as well: this task would not be done in time otherwise.
        ticking = asyncio.ensure_future(asyncio.sleep(0))
        result = await pipeline.arun(inputs)
        assert ticking.done()
        return result

    return asyncio.run(main())


@node("values")
def numbers(path):
    return Numbers(path)


@node("records")
def records(path):
    return [Record(path, x) for x in (1, 2, 3)]


@pytest.mark.parametrize("how", ["run", "arun"])
@pytest.mark.parametrize("items", MODES)
@pytest.mark.parametrize("nodes", MODES[1:])
@pytest.mark.parametrize(("produce", "map_over"), [(numbers, "values"), (records, "records")])
def test_values_of_a_map_are_read_beside_other_branches(produce, map_over, nodes, items, how, tmp_path):
    with LocalBackend(nodes, items, max_workers=3) as backend:
        pipeline = pipeline_around(produce, map_over)
        pipeline.backend = backend
        outputs = run(pipeline, {"path": str(tmp_path / "there"), "start": 7}, how)
    assert outputs["y"] == [2, 4, 6]
    assert outputs["second"] == 7


@node("last")
def last(path):
    return Last(path)


@node("seen")
def seen(last):
    return True


@pytest.mark.parametrize("how", ["run", "arun"])
@pytest.mark.parametrize("nodes", ["async", "threaded"])
def test_values_are_dropped_beside_other_branches(nodes, how, tmp_path):
    @node("also")
    def also(last, seen):
        return True

    with LocalBackend(nodes, max_workers=3) as backend:
        pipeline = Pipeline(nodes=[last, seen, also, first, beside, second], backend=backend)
        inputs = {"path": str(tmp_path / "there"), "start": 7}
        if how == "run":
            assert pipeline.run(inputs, output_name=["also", "seen", "second"])["second"] == 7
        else:
            outputs = asyncio.run(pipeline.arun(inputs, output_name=["also", "seen", "second"]))
            assert outputs["second"] == 7
