"""What a worker does, without a worker: a program and rows of values in, results or a failure and events out."""

from __future__ import annotations

import contextvars

import pytest

from hypernodes import Failure, LocalBackend, Pipeline, node
from hypernodes.errors.location import Location
from hypernodes.events.event import ITEM_END, ITEM_START, NODE_END, NODE_ERROR, NODE_START
from hypernodes.events.hooks import INPUTS, ITEMS, NODES, OUTPUTS
from hypernodes.lowering.plan import Program
from hypernodes.runtime.bundle.evaluate import LinkedProgram, Place, Values, evaluate
from hypernodes.runtime.bundle.layers import layers_of
from hypernodes.runtime.drivers.services import Services

ITEMS_3 = Place(Location(("doubling",)), 0)


@node(output_name="doubled")
def double(x):
    return 2 * x


@node(output_name="total")
def add(doubled, by=1):
    return doubled + by


@node(output_name="inverse")
def invert(doubled):
    return 8 / doubled


def program(*nodes, over="x", name="doubling"):
    """Return the body of a map of these nodes as a worker gets it, with the names of what it reads and makes."""
    pipeline = Pipeline(nodes=list(nodes), name=name)
    inputs = [entry.value.name for entry in pipeline.graph.inputs]
    plan = pipeline.plan(inputs, map_over=over, backend=LocalBackend(map_execution="parallel", max_workers=2))
    (step,) = plan.plan.bundles[0].steps
    (bundle,) = step.body.bundles
    slots = step.body.slots
    found = Program(bundle.steps, len(slots), bundle.imports, bundle.exports)
    return found, [slots[slot].name for slot in bundle.imports], [slots[slot].name for slot in bundle.exports]


def rows(names, varying, shared, place=ITEMS_3, scope=None):
    """Return values for imports `names`: lists for those that vary, one value for those that rows share."""
    flat = [value for row in zip(*varying.values()) for value in row]
    return Values(
        [list(shared.values())],
        place,
        scope,
        [[names.index(name) for name in shared]],
        [names.index(name) for name in varying],
        len(next(iter(varying.values()))),
        flat,
    )


def run(linked, values, **options):
    services = Services()
    try:
        return evaluate(linked, values, services, **options)
    finally:
        services.close()


def test_every_row_of_a_single_call():
    found, names, _ = program(double)
    done = run(LinkedProgram(found), rows(names, {"x": [1, 2, 3]}, {}))
    assert (done.results, done.completed, done.failure, done.events) == ([2, 4, 6], 3, None, [])


def test_results_are_laid_end_to_end_in_the_order_of_the_exports():
    found, names, exports = program(double, add)
    done = run(LinkedProgram(found), rows(names, {"x": [1, 2, 3]}, {"by": 10}))
    by_name = {"doubled": [2, 4, 6], "total": [12, 14, 16]}
    assert done.results == [value for row in zip(*[by_name[name] for name in exports]) for value in row]
    assert done.completed == 3


def test_a_bundle_of_the_frame_is_one_row_and_no_item():
    found, names, exports = program(double, add)
    values = rows(names, {"x": [4], "by": [1]}, {}, Place(Location(("doubling",)), -1))
    done = run(LinkedProgram(found), values)
    assert dict(zip(exports, done.results)) == {"doubled": 8, "total": 9}


@pytest.mark.parametrize("nodes", [(invert,), (double, invert)], ids=["one call", "two calls"])
def test_the_failure_is_the_users_own_and_says_where(nodes):
    found, names, exports = program(*nodes, over="x" if double in nodes else "doubled", name="p")
    done = run(LinkedProgram(found), rows(names, {names[0]: [4, 0, 2]}, {}, Place(Location(("p",)), 7)))
    assert type(done.failure) is ZeroDivisionError
    assert done.failure.__notes__[0].startswith("node 'invert' of pipeline 'p', item 8, inputs doubled=0")
    assert done.completed == 1
    assert len(done.results) == len(exports)  # of the row before it, and of no other


def test_collecting_goes_on_and_leaves_failures_among_the_results():
    found, names, exports = program(double, invert)
    scope = (("doubling",), (("inverse", -1),))
    linked = LinkedProgram(found, layers_of(0, True))
    done = run(linked, rows(names, {"x": [1, 0, 2]}, {}, scope=scope))
    assert (done.completed, done.failure) == (3, None)
    inverse = done.results[exports.index("inverse") :: len(exports)]
    assert (inverse[0], inverse[2]) == (4.0, 2.0)
    assert (type(inverse[1]), inverse[1].item) == (Failure, 1)


def test_events_come_in_order_with_the_items_they_are_of():
    found, names, _ = program(double, invert)
    linked = LinkedProgram(found, layers_of(NODES | INPUTS | OUTPUTS | ITEMS, False))
    done = run(linked, rows(names, {"x": [1, 0]}, {}, scope=(("doubling",), (("inverse", -1),))))
    assert [(event.kind, event.name, event.items) for event in done.events] == [
        (ITEM_START, "", (0,)),
        (NODE_START, "double", (0,)),
        (NODE_END, "double", (0,)),
        (NODE_START, "invert", (0,)),
        (NODE_END, "invert", (0,)),
        (ITEM_END, "", (0,)),
        (ITEM_START, "", (1,)),
        (NODE_START, "double", (1,)),
        (NODE_END, "double", (1,)),
        (NODE_START, "invert", (1,)),
        (NODE_ERROR, "invert", (1,)),
    ]
    assert done.events[2].payload == {"doubled": 2}
    assert type(done.failure) is ZeroDivisionError


def test_no_row_begins_after_the_budget_and_the_first_always_does():
    for nodes in [(double,), (double, add)]:
        found, names, exports = program(*nodes)
        shared = {"by": 1} if len(nodes) > 1 else {}
        done = run(LinkedProgram(found), rows(names, {"x": [1, 2, 3]}, shared), budget=-1.0)
        assert (done.completed, len(done.results)) == (1, len(exports))


def test_each_row_has_a_context_of_its_own():
    variable = contextvars.ContextVar("variable", default=0)

    @node(output_name="seen")
    def count(x):
        variable.set(variable.get() + x)
        return variable.get()

    found, names, _ = program(count)
    base = contextvars.copy_context()
    base.run(variable.set, 10)
    done = run(LinkedProgram(found), rows(names, {"x": [1, 2, 3]}, {}), context=base.copy)
    assert done.results == [11, 12, 13]


def test_a_coroutine_is_waited_for():
    @node(output_name="fetched")
    async def fetch(x):
        return x + 1

    @node(output_name="twice")
    def forward(fetched):
        return later(fetched)

    async def later(value):
        return 2 * value

    found, names, exports = program(fetch, forward)
    done = run(LinkedProgram(found), rows(names, {"x": [1, 2]}, {}))
    assert done.results[exports.index("twice") :: len(exports)] == [4, 6]


def test_no_rows_are_no_results():
    found, names, _ = program(double, add)
    done = run(LinkedProgram(found), rows(names, {"x": []}, {"by": 1}))
    assert (done.results, done.completed, done.failure) == ([], 0, None)


def test_a_program_is_left_as_it_was_for_the_next_rows():
    found, names, _ = program(double, invert)
    linked = LinkedProgram(found)
    assert type(run(linked, rows(names, {"x": [0]}, {})).failure) is ZeroDivisionError
    first, second = [run(linked, rows(names, {"x": [1, 2]}, {})).results for _ in range(2)]
    assert first == second == [value for row in [(2, 4.0), (4, 2.0)] for value in row]
