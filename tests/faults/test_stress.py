"""Everything at once: threads share backends, change what their functions refer to, and every result is right."""

from __future__ import annotations

import asyncio
import random

import pytest
from faults.test_leaks import what_there_is
from observing import faults_of
from scripts import linux

from hypernodes import LocalBackend, Pipeline, node

pytestmark = [pytest.mark.slow, linux, pytest.mark.timeout(600)]
THREADS, RUNS = 4, 500


class Model:
    weight = 1

    def predict(self, x):
        return x * self.weight


class Work:
    """The pipelines of one thread on shared backends, and the state that their functions refer to."""

    def __init__(self, seed, backends):
        self.random = random.Random(seed)
        self.space = {"__name__": "__main__", "K": 1, "D": {"by": [2]}}
        exec("def helper(x): return x + K\ndef shifted(x): return helper(x) + D['by'][0]", self.space)
        self.model = model = Model()
        self.offset = 0

        async def moved(shifted, weighted):
            await asyncio.sleep(0)
            return shifted + weighted + self_offset()

        def self_offset():
            return offset[0]

        self.shift = offset = [0]
        nodes = [
            node(output_name="shifted")(self.space["shifted"]),
            node(output_name="weighted")(model.predict),
            node(output_name="moved")(moved),
        ]
        inner = Pipeline(nodes=nodes, name="inner")
        nested = inner.as_node(input_mapping={"xs": "x"}, output_mapping={"moved": "all_moved"}, map_over="xs")
        outer = [nested, node(output_name="total")(lambda all_moved: sum(all_moved))]
        self.single = [Pipeline(nodes=nodes, name="single", backend=backend) for backend in backends]
        self.nested = [Pipeline(nodes=outer, name="nested", backend=backend) for backend in backends]

    def change(self):
        """Change one thing that functions refer to: in place, or by another of its name."""
        value = self.random.randrange(100)
        what = self.random.randrange(6)
        if what == 0:
            self.space["K"] = value
        elif what == 1:
            self.space["D"]["by"][0] = value
        elif what == 2:
            self.model.weight = value
        elif what == 3:
            self.shift[0] = value
        elif what == 4:
            exec(f"def helper(x): return K - x + {value}", self.space)

    def expected(self, x):
        return self.space["shifted"](x) + self.model.predict(x) + self.shift[0]

    def run_once(self):
        xs = [self.random.randrange(1000) for _ in range(self.random.randrange(1, 5))]
        want = [self.expected(x) for x in xs]
        number = self.random.randrange(len(self.single))
        single, nested = self.single[number], self.nested[number]
        how = self.random.randrange(6)
        if how == 0:
            assert single.run(inputs={"x": xs[0]})["moved"] == want[0]
        elif how == 1:
            assert single.map(inputs={"x": xs}, map_over="x")["moved"] == want
        elif how == 2:
            stream = single.stream(inputs={"x": iter(xs)}, map_over="x", ordered=True)
            assert [outputs["moved"] for _, outputs in stream] == want
        elif how == 3:
            assert nested.run(inputs={"xs": xs})["total"] == sum(want)
        elif how == 4:
            assert asyncio.run(single.amap(inputs={"x": xs}, map_over="x"))["moved"] == want
        else:
            found = single.map(inputs={"x": [*xs, None]}, map_over="x", error_policy="collect")
            assert found.ok()["moved"] == want
            assert {failure.item for failure in found.failures} == {len(xs)}


def test_threads_share_backends_and_change_what_functions_refer_to():
    with LocalBackend("parallel") as backend:
        Work(0, [backend]).run_once()  # what starts with the first process stays
    before = what_there_is()
    with LocalBackend("async", "parallel", max_workers=2) as one, LocalBackend("parallel", "threaded", 2) as other:
        backends = [one, other, LocalBackend("threaded", "async", 3), LocalBackend()]

        def work(seed):
            mine = Work(seed, backends)
            for _ in range(RUNS):
                mine.change()
                mine.run_once()

        faults = faults_of(THREADS, work)
    assert not faults
    assert what_there_is() == before
