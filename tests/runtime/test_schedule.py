"""The schedule alone: no thread, loop or clock; the test is the driver."""

from __future__ import annotations

import random

import pytest

from hypernodes import LocalBackend, Pipeline, node
from hypernodes.errors import MapInputError
from hypernodes.ir.build import mapped
from hypernodes.lowering import lower, specialise
from hypernodes.lowering.plan import PROCESS, THREAD
from hypernodes.runtime.bundle.interpreter import StepFailed, execute
from hypernodes.runtime.bundle.linked import LinkedPlan
from hypernodes.runtime.drivers.services import Services
from hypernodes.runtime.schedule.feed import Feed
from hypernodes.runtime.schedule.frames import Chunk, Expand
from hypernodes.runtime.schedule.schedule import Schedule


class Driver:
    """Takes what is ready, and finishes what it took when the test says so."""

    def __init__(self, pipeline, inputs, nodes="threaded", items="threaded", workers=4, chunk=None, **options):
        plan = pipeline.plan(inputs, backend=LocalBackend(nodes, items, workers), **options).plan
        slots = [None] * (len(plan.slots) + 1)
        for name, slot in zip(plan.input_names, plan.inputs):
            slots[slot] = inputs[name]
        slots[0] = Services()
        self.plan, self.slots = plan, slots
        self.schedule = Schedule(
            LinkedPlan(plan), slots, workers, sizes={PROCESS: chunk, THREAD: chunk} if chunk else None
        )
        self.out = []
        self.most = 0

    def take_all(self, placement=THREAD):
        taken = []
        while self.schedule.ready.has(placement):
            taken.append(self.schedule.take(placement))
        assert self.schedule.take(placement) is None
        self.out.extend(taken)
        self.most = max(self.most, len(self.out))
        return taken

    def finish(self, task):
        self.out.remove(task)
        if isinstance(task, Expand):
            try:
                expansion = self.schedule.expand(task)
            except StepFailed as error:
                self.schedule.fail(task, error)
            else:
                self.schedule.expanded(task, expansion)
        elif isinstance(task, Chunk):
            finish_chunk(self.schedule, task, results_of(task))
        else:
            execute(task.frame.linked.codes[task.bundle], task.frame.slots)
            self.schedule.finish(task)

    def work(self, rng=None):
        """Finish everything, in the order taken or a random one."""
        while not self.schedule.done:
            self.take_all()
            assert self.out, "nothing to take and nothing out: the schedule is stuck"
            self.finish(rng.choice(self.out) if rng else self.out[0])

    def run(self, rng=None):
        """Work to the end and return the outputs."""
        self.work(rng)
        return {name: self.slots[slot] for name, slot in zip(self.plan.output_names, self.plan.outputs)}


def results_of(chunk):
    """Return what the items of a chunk come to, laid end to end."""
    found = []
    for number, row in enumerate(chunk.open(), chunk.start):
        slots = chunk.map_run.template.copy()
        chunk.map_run.linked.fill(slots, row if isinstance(row, tuple) else (row,), number)
        execute(chunk.map_run.linked.codes[0], slots)
        found += [slots[slot] for slot in chunk.map_run.linked.made]
    return found


def finish_chunk(schedule, chunk, results):
    """Finish a chunk, or as much of it as there are results."""
    count = len(results) // len(chunk.map_run.linked.made)
    schedule.put(chunk, 0, results, count)
    schedule.finish_chunk(chunk, count)


def names(tasks):
    return [task.frame.linked.plan.bundles[task.bundle].steps[0].name for task in tasks]


def made(source, name):
    namespace = {"__name__": "made_up"}
    exec(source, namespace)
    return node(name)(namespace["f"])


def test_the_longest_remaining_path_is_taken_first():
    nodes = [
        made("def f(): return 1", "short"),
        made("def f(): return 1", "a"),
        made("def f(): return 1", "b"),
        made("def f(a, b): return 1", "c"),
        made("def f(c, short): return 1", "d"),
    ]
    nodes = [node(n.output_name, name=n.output_name)(n.fn) for n in nodes]
    driver = Driver(Pipeline(nodes=nodes), {})
    assert names(driver.take_all()) == ["a", "b", "short"]


def test_a_bundle_starts_when_its_last_input_exists():
    nodes = [
        node("a", name="a")(lambda: 1),
        node("b", name="b")(lambda: 2),
        node("c", name="c")(lambda a: a),
        node("d", name="d")(lambda a, b: a + b),
    ]
    driver = Driver(Pipeline(nodes=nodes), {})
    a, b = driver.take_all()
    driver.finish(a)
    assert names(driver.take_all()) == ["c"]
    driver.finish(b)
    assert names(driver.take_all()) == ["d"]


def test_values_are_freed_after_their_last_reader():
    nodes = [
        node("a", name="a")(lambda: object()),
        node("b", name="b")(lambda a: 1),
        node("c", name="c")(lambda a: 1),
        node("d", name="d")(lambda b, c: b + c),
    ]
    driver = Driver(Pipeline(nodes=nodes), {}, output_name="d")
    slot = next(number for number, slot in enumerate(driver.plan.slots) if slot.name == "a")
    (a,) = driver.take_all()
    driver.finish(a)
    b, c = driver.take_all()
    driver.finish(c)
    assert driver.slots[slot] is not None
    driver.finish(b)
    assert driver.slots[slot] is None
    assert driver.run() == {"d": 2}


@pytest.mark.parametrize("workers", [1, 2, 3, 8])
def test_no_more_out_than_workers(workers):
    inner = Pipeline(nodes=[node("y")(lambda x: x)], name="inner")
    nodes = [inner.as_node(map_over="x"), *[node(f"n{i}")(lambda: 1) for i in range(10)]]
    driver = Driver(Pipeline(nodes=nodes), {"x": [[1, 2]] * 9}, workers=workers, map_over="x")
    assert driver.run(random.Random(0))["y"] == [[1, 2]] * 9
    assert driver.most <= workers


@pytest.mark.parametrize(("workers", "width"), [(1, 1), (3, 2), (8, 3), (10, 3), (32, 6)])
def test_the_width_of_a_map_in_a_map(workers, width):
    inner = Pipeline(nodes=[node("y")(lambda x: x)], name="inner")
    driver = Driver(Pipeline(nodes=[inner.as_node(map_over="x")]), {"x": [range(50)]}, workers=workers, map_over="x")
    assert len(driver.take_all()) == width


@pytest.mark.parametrize("items", [0, 1, 5])
def test_the_width_of_a_map_is_at_most_its_items(items):
    driver = Driver(Pipeline(nodes=[node("y")(lambda x: x)]), {"x": range(items)}, workers=8, map_over="x")
    assert len(driver.take_all()) == items
    assert driver.run() == {"y": list(range(items))}


@pytest.mark.parametrize("seed", range(20))
def test_results_come_in_item_order_whatever_the_order_of_ends(seed):
    inner = Pipeline(nodes=[node("y")(lambda x, k: x * k), node("z")(lambda y: -y)], name="inner")
    outer = Pipeline(nodes=[inner.as_node(map_over="x"), node("n")(lambda z: len(z))])
    inputs = {"x": [[1, 2, 3], [], [4]], "k": 2}
    driver = Driver(outer, inputs, workers=5, map_over="x")
    expected = {"y": [[2, 4, 6], [], [8]], "z": [[-2, -4, -6], [], [-8]], "n": [3, 0, 1]}
    assert driver.run(random.Random(seed)) == expected


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_empty_maps_end_at_once(depth):
    pipeline = Pipeline(nodes=[node("y")(lambda x: x)], name="level")
    for _ in range(depth):
        pipeline = Pipeline(nodes=[pipeline.as_node(map_over="x")], name="level")
    driver = Driver(pipeline, {"x": []})
    assert driver.schedule.done
    assert driver.run() == {"y": []}


def test_a_hundred_thousand_items_that_end_as_they_start():
    """Each item is a map over nothing: the schedule ends it itself, and must not recurse into the next."""
    inner = Pipeline(nodes=[node("y")(lambda x: x)], name="inner")
    driver = Driver(Pipeline(nodes=[inner.as_node(map_over="x")]), {"x": [[]] * 100_000}, map_over="x")
    assert driver.schedule.done
    assert driver.run()["y"] == [[]] * 100_000


def test_ten_thousand_bundles():
    nodes = [node(f"a{i}")(lambda: 1) for i in range(10_000)]
    driver = Driver(Pipeline(nodes=nodes), {}, workers=64)
    assert driver.run(random.Random(1)) == {f"a{i}": 1 for i in range(10_000)}
    assert driver.most == 64


def test_nothing_is_taken_after_a_failure():
    driver = Driver(Pipeline(nodes=[node(f"a{i}")(lambda: 1) for i in range(9)]), {}, workers=2)
    first, second = driver.take_all()
    fault = ValueError()
    driver.schedule.fail(first, fault)
    assert driver.take_all() == []
    assert not driver.schedule.done
    driver.finish(second)
    assert driver.schedule.done
    assert driver.schedule.failures == [(first, fault)]


def test_failures_are_kept_in_order_and_drops_are_none():
    driver = Driver(Pipeline(nodes=[node(f"a{i}")(lambda: 1) for i in range(9)]), {}, workers=3)
    first, second, third = driver.take_all()
    faults = [ValueError(), KeyError()]
    driver.schedule.fail(second, faults[0])
    driver.schedule.fail(first, faults[1])
    driver.schedule.drop(third)
    assert driver.schedule.done
    assert driver.schedule.failures == [(second, faults[0]), (first, faults[1])]


def test_a_value_that_cannot_be_mapped_over_fails_the_run():
    inner = Pipeline(nodes=[node("y")(lambda x: x)], name="inner")
    driver = Driver(Pipeline(nodes=[node("x")(lambda: 5), inner.as_node(map_over="x")]), {})
    (task,) = driver.take_all()
    driver.finish(task)
    (expand,) = driver.take_all()
    driver.finish(expand)
    assert driver.schedule.done
    ((where, fault),) = driver.schedule.failures
    assert where is expand
    assert isinstance(fault, StepFailed)
    assert isinstance(fault.error, MapInputError)


def test_a_straight_process_map_is_taken_in_chunks():
    sizes = iter([1, 3, 100])
    pipeline = Pipeline(nodes=[node("y")(lambda x: -x)])
    driver = Driver(pipeline, {"x": range(10)}, "sequential", "parallel", 2, lambda run: next(sizes), map_over="x")
    first, second = driver.take_all(PROCESS)
    assert all(isinstance(task, Chunk) for task in (first, second))
    assert [(task.start, task.count) for task in (first, second)] == [(0, 1), (1, 3)]
    finish_chunk(driver.schedule, second, [-1, -2, -3])
    (third,) = driver.take_all(PROCESS)
    assert (third.start, third.count) == (4, 6)
    finish_chunk(driver.schedule, third, [-4, -5, -6, -7, -8, -9])
    assert not driver.schedule.done
    finish_chunk(driver.schedule, first, [0])
    assert driver.schedule.done
    assert driver.slots[driver.plan.outputs[0]] == [-i for i in range(10)]


# -- a map whose rows are fed -----------------------------------------------------------------------------------------


class Fed(Driver):
    """A driver of the map around a pipeline, whose rows the test pushes."""

    def __init__(self, pipeline, ordered=False, **options):
        plan = lower(
            specialise(mapped(pipeline.graph, ("x",), "zip", fed=True), {"x"}, pipeline.outputs),
            LocalBackend("threaded", "threaded", 4).options,
        )
        self.delivered = []
        linked = LinkedPlan(plan)
        feed = Feed(linked.map_steps[0], plan.output_names, self.delivered.append, ordered, None)
        slots = [None] * (len(plan.slots) + 1)
        slots[0] = Services()
        slots[plan.inputs[0]] = ()
        self.schedule = Schedule(linked, slots, 4, feed=feed, **options)
        self.out = []
        self.most = 0

    def push(self, *values):
        for value in values:
            self.schedule.push((value,))


CHAIN = [node("a")(lambda x: x + 1)]
DIAMOND = [*CHAIN, node("b")(lambda x: x + 2), node("c")(lambda a, b: a * b)]


@pytest.mark.parametrize("nodes", [CHAIN, DIAMOND], ids=["straight", "frames"])
def test_a_fed_map_is_over_when_its_feed_has_ended(nodes):
    driver = Fed(Pipeline(nodes=nodes))
    assert driver.take_all() == []
    for value in range(3):
        driver.push(value)
        while driver.take_all() or driver.out:
            driver.finish(driver.out[0])
        assert not driver.schedule.done
        assert driver.delivered[-1] == (value, Pipeline(nodes=nodes).run({"x": value}))
    driver.schedule.end_feed()
    assert driver.schedule.done
    driver.push(4)
    assert driver.take_all() == []


@pytest.mark.parametrize("nodes", [CHAIN, DIAMOND], ids=["straight", "frames"])
def test_the_feed_may_end_while_items_are_out(nodes):
    driver = Fed(Pipeline(nodes=nodes), ordered=True)
    driver.push(*range(20))
    driver.take_all()
    assert len(driver.out) == 4
    driver.schedule.end_feed()
    driver.work(random.Random(1))
    assert driver.delivered == [(value, Pipeline(nodes=nodes).run({"x": value})) for value in range(20)]


def test_a_fed_map_holds_items_back_for_their_order():
    driver = Fed(Pipeline(nodes=CHAIN), ordered=True)
    driver.push(0, 1, 2)
    first, second, third = driver.take_all()
    driver.finish(third)
    driver.finish(second)
    assert driver.delivered == []
    driver.finish(first)
    assert driver.delivered == [(0, {"a": 1}), (1, {"a": 2}), (2, {"a": 3})]


def test_nothing_is_fed_after_a_failure():
    driver = Fed(Pipeline(nodes=CHAIN))
    driver.push(0, 1)
    one, other = driver.take_all()
    driver.schedule.fail(one, ValueError())
    driver.push(2)
    driver.schedule.end_feed()
    assert not driver.schedule.done
    driver.finish(other)
    assert driver.schedule.done
    assert driver.delivered == []


@pytest.mark.parametrize("nodes", [CHAIN, DIAMOND], ids=["straight", "frames"])
def test_an_ordered_feed_waits_for_what_comes_before_a_failure_and_no_more(nodes):
    driver = Fed(Pipeline(nodes=nodes), ordered=True)
    driver.push(*range(9))
    tasks = driver.take_all()
    assert {driver.schedule._item_of(task, 0) for task in tasks} >= {0, 1}
    failing = next(task for task in tasks if driver.schedule._item_of(task, 0) == 1)
    driver.out.remove(failing)
    driver.schedule.fail(failing, ValueError())
    driver.push(9)
    assert not driver.schedule.stopped
    while not driver.schedule.stopped:
        driver.take_all()
        assert max(driver.schedule._item_of(task, 0) for task in driver.out) < 4
        driver.finish(min(driver.out, key=lambda task: driver.schedule._item_of(task, 0)))
    assert [index for index, _ in driver.delivered] == [0]
    for task in driver.out:
        driver.schedule.drop(task)
    assert driver.schedule.done


def test_the_failure_that_comes_first_in_order_is_the_first():
    driver = Fed(Pipeline(nodes=CHAIN), ordered=True)
    driver.push(0, 1, 2)
    zero, one, two = driver.take_all()
    driver.schedule.fail(two, ValueError("two"))
    driver.schedule.fail(one, ValueError("one"))
    assert not driver.schedule.done
    driver.finish(zero)
    assert driver.schedule.done
    assert [str(error) for _, error in driver.schedule.failures] == ["one", "two"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(), GeneratorExit()])
def test_what_ends_programs_waits_for_nothing(error):
    driver = Fed(Pipeline(nodes=CHAIN), ordered=True)
    driver.push(0, 1)
    _, one = driver.take_all()
    driver.schedule.fail(one, error)
    assert driver.schedule.stopped


# -- rows that come back ----------------------------------------------------------------------------------------------


def test_what_was_not_begun_of_a_chunk_is_taken_again():
    sizes = iter([4, 4, 2, 9, 9])
    pipeline = Pipeline(nodes=[node("y")(lambda x: -x)])
    driver = Driver(pipeline, {"x": range(10)}, "sequential", "parallel", 2, lambda run: next(sizes), map_over="x")
    schedule = driver.schedule
    first, second = driver.take_all(PROCESS)
    finish_chunk(schedule, first, [0])
    (third,) = driver.take_all(PROCESS)
    assert (third.start, third.flat) == (1, [1, 2])
    finish_chunk(schedule, second, [-4, -5, -6, -7])
    (fourth,) = driver.take_all(PROCESS)
    assert (fourth.start, fourth.flat) == (3, [3])
    finish_chunk(schedule, third, [-1, -2])
    (fifth,) = driver.take_all(PROCESS)
    assert (fifth.start, fifth.flat) == (8, [8, 9])
    finish_chunk(schedule, fifth, [-8, -9])
    assert not schedule.done
    finish_chunk(schedule, fourth, [-3])
    assert schedule.done
    assert driver.slots[driver.plan.outputs[0]] == [-x for x in range(10)]
    assert schedule.ready.out == 0


def test_maps_of_one_priority_take_turns():
    inner = Pipeline(nodes=[node("y")(lambda x: x)], name="inner")
    outer = Pipeline(nodes=[inner.as_node(input_mapping={"xs": "x"}, map_over="xs")])
    driver = Driver(outer, {"xs": [range(3), range(3)]}, "threaded", "threaded", 9, map_over="xs")
    taken = [(task.map_run.frame.index, task.start) for task in driver.take_all()]
    assert sorted(taken) == [(outer, inner) for outer in range(2) for inner in range(3)]
    assert [outer for outer, _ in taken] == [0, 1, 0, 1, 0, 1]
