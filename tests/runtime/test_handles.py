"""What a driver needs whose results are handles: bundles issued ahead, sinks of pieces, maps that have to wait."""

from __future__ import annotations

import random

import pytest
from runtime.test_schedule import Driver, results_of

from hypernodes import LocalBackend, Pipeline, node
from hypernodes.lowering.plan import THREAD
from hypernodes.runtime.bundle.interpreter import execute
from hypernodes.runtime.bundle.linked import LinkedPlan
from hypernodes.runtime.drivers.services import Services
from hypernodes.runtime.schedule.frames import Chunk, Expand
from hypernodes.runtime.schedule.schedule import Schedule


class Handles(Driver):
    """Issues each bundle as soon as it is taken, and settles it later; results are there all along, as on a cluster."""

    def take_all(self, placement=THREAD):
        taken = []
        while self.schedule.ready.has(placement):
            task = self.schedule.take(placement)
            if task is None:
                break
            taken.append(task)
            if type(task) not in (Expand, Chunk):
                execute(task.frame.linked.codes[task.bundle], task.frame.slots)
                self.schedule.issued(task)
        self.out.extend(taken)
        return taken

    def finish(self, task):
        if type(task) in (Expand, Chunk):
            super().finish(task)
        else:
            self.out.remove(task)
            self.schedule.settled(task)


@pytest.mark.parametrize("seed", range(20))
def test_bundles_that_are_issued_ahead_come_to_the_same(seed):
    rng = random.Random(seed)
    spec = chained_maps(rng)
    inputs = {"x": 1, "items": list(range(rng.randrange(6)))}
    found = Handles(spec, inputs, nodes="threaded", items="threaded", workers=100).run(rng)
    assert found == spec.run(inputs)


def chained_maps(rng):
    inner = Pipeline(nodes=[node("u")(lambda i, x: i + x), node("v")(lambda u: u * 2), node("w")(lambda u, v: u - v)])
    nodes = [
        node("a")(lambda x: x + 1),
        node("b")(lambda a: a * 3),
        inner.as_node(input_mapping={"items": "i"}, map_over="items", output_mapping={"w": "ws"}),
        node("s")(lambda ws, b: sum(ws) + b),
        node("t")(lambda s, a: s * a),
    ]
    rng.shuffle(nodes)
    return Pipeline(nodes=nodes)


def test_a_whole_chain_can_be_issued_before_anything_has_settled():
    nodes = [node("a")(lambda x: x + 1), *[node(f"b{n}")(made_reader(n)) for n in range(5)]]
    driver = Handles(Pipeline(nodes=nodes), {"x": 1}, workers=100)
    driver.take_all()
    assert len(driver.out) == len(driver.plan.bundles) > 1
    assert not driver.schedule.done
    for task in list(driver.out):
        assert not driver.schedule.done
        driver.finish(task)
    assert driver.schedule.done


def made_reader(number):
    before = "x" if number == 0 else f"b{number - 1}"
    namespace = {}
    exec(f"def f({before}, a): return {before} + a", namespace)
    return namespace["f"]


def test_a_bundle_holds_its_permit_until_it_has_settled():
    driver = Handles(Pipeline(nodes=[node(f"a{n}")(lambda: 1) for n in range(4)]), {}, workers=2)
    assert len(driver.take_all()) == 2
    assert not driver.schedule.ready.has(THREAD)
    driver.finish(driver.out[0])
    assert len(driver.take_all()) == 1


def test_a_bundle_may_fail_after_it_was_issued():
    driver = Handles(Pipeline(nodes=[node("a")(lambda: 1), node("b")(lambda: 2)]), {}, workers=2)
    first, second = driver.take_all()
    fault = ValueError("lost")
    driver.schedule.fail(first, fault)
    assert driver.schedule.stopped
    assert not driver.schedule.done
    driver.schedule.settled(second)
    assert driver.schedule.done
    assert driver.schedule.failures == [(first, fault)]


def test_a_map_may_have_no_further_chunk_yet_and_others_go_on():
    # As for a cluster: nobody knows how much an item is before the first chunk of its map has ended.
    pace = {}

    def size(map_run):
        return 2 if map_run.step.name in pace or not map_run.running else 0

    one, two = (
        Pipeline(nodes=[node("y")(lambda x: x + 1)], name=name).as_node(
            input_mapping={f"{name}s": "x"}, output_mapping={"y": name}, map_over=f"{name}s"
        )
        for name in ("one", "two")
    )
    pipeline = Pipeline(nodes=[one, two])
    inputs = {"ones": [1, 2, 3, 4, 5], "twos": [10, 20, 30]}
    driver = Driver(pipeline, inputs, workers=10, chunk=size)

    def taken():
        found = []
        while True:
            task = driver.schedule.take(THREAD)
            if task is None:
                break
            driver.out.append(task)
            found.append((task.map_run.step.name, task.start, task.count))
        return found

    assert sorted(taken()) == [("one", 0, 2), ("two", 0, 2)]
    pace["two"] = True
    assert taken() == [("two", 2, 1)]
    pace["one"] = True
    assert taken() == [("one", 2, 2), ("one", 4, 1)]
    for task in list(driver.out):
        driver.finish(task)
    assert driver.schedule.done
    assert driver.slots[driver.plan.outputs[0]] == [2, 3, 4, 5, 6]


class Pieces:
    """Keeps what each chunk made as one piece, which whoever reads the list makes whole."""

    def __init__(self, outputs, total):
        self.total = total
        self.columns = [{} for _ in range(outputs)]

    def put(self, index, values):
        self.extend(index, 1, [[value] for value in values])

    def extend(self, start, count, columns):
        for pieces, column in zip(self.columns, columns):
            pieces[start] = list(column)


def whole(pieces):
    return [value for start in sorted(pieces) for value in pieces[start]]


def test_results_may_stay_in_pieces():
    pipeline = Pipeline(nodes=[node("y")(lambda x: -x)])
    plan = pipeline.plan(["x"], map_over="x", backend=backend()).plan
    slots = [Services(), *[None] * len(plan.slots)]
    slots[plan.inputs[0]] = list(range(7))
    schedule = Schedule(LinkedPlan(plan), slots, 4, sizes={THREAD: lambda map_run: 3}, sinks=Pieces)
    taken = [schedule.take(THREAD) for _ in range(3)]
    for chunk in reversed(taken):
        schedule.put(chunk, 0, results_of(chunk), chunk.count)
        schedule.finish_chunk(chunk, chunk.count)
    assert schedule.done
    pieces = slots[plan.outputs[0]]
    assert sorted(pieces) == [0, 3, 6]
    assert whole(pieces) == [-number for number in range(7)]


def backend():
    return LocalBackend("threaded", "threaded", max_workers=4)


def test_a_task_tells_its_priority():
    nodes = [
        node("a", name="a")(lambda x: x),
        node("b", name="b")(lambda a, x: a),
        node("c", name="c")(lambda b, a: b),
        node("alone", name="alone")(lambda x: x),
    ]
    driver = Driver(Pipeline(nodes=nodes), {"x": 1})
    first, second = driver.take_all()
    assert (first.priority, second.priority) == (-3, -1)
