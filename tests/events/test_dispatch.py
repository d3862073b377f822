"""Events in, hooks called: what belongs together is told together, whatever it is called."""

from __future__ import annotations

import threading

import pytest

from hypernodes import LocalBackend, Pipeline, PipelineCallback, node
from hypernodes.events.dispatch import Dispatcher
from hypernodes.events.event import NODE_END, NODE_START, Event
from hypernodes.events.hooks import Listeners


class Durations(PipelineCallback):
    def __init__(self):
        self.seconds = {}

    def on_node_end(self, node_id, outputs, duration, ctx):
        self.seconds[(ctx.pipeline_path, *outputs)] = duration


@pytest.mark.parametrize(
    ("one", "other"),
    [((("x",), "a"), (("x",), "b")), ((("ab", "c"), "y"), (("a", "bc"), "y")), (((), "a"), (("a",), ""))],
    ids=["one function", "names that join to one", "a name and a place"],
)
def test_the_end_of_a_node_goes_with_its_own_start(one, other):
    told = Durations()
    steps = {scope[:length]: 1 for scope, _ in (one, other) for length in range(1, len(scope) + 1)}
    dispatcher = Dispatcher(Listeners({}, [told]), {(): dict.fromkeys(steps, 9)})

    def event(kind, step, time):
        scope, output = step
        return Event(kind, (), ("top",), scope, "fn", {output: 0}, time, output)

    for kind, step, time in (
        (NODE_START, one, 0.0),
        (NODE_START, other, 1.0),
        (NODE_END, one, 5.0),
        (NODE_END, other, 7.0),
    ):
        dispatcher.receive(event(kind, step, time))
    assert told.seconds == {(("top", *one[0]), one[1]): 5.0, (("top", *other[0]), other[1]): 6.0}


def test_two_nodes_of_one_function_at_once_have_durations_of_their_own():
    """Each is inside while the other is: the first ends after the second, which ends after the first has begun."""
    inside, over = threading.Event(), threading.Event()

    def fn(x):
        if x == "first":
            inside.set()
            assert over.wait(20)
        else:
            assert inside.wait(20)
        return x

    class Told(Durations):
        def on_node_end(self, node_id, outputs, duration, ctx):
            super().on_node_end(node_id, outputs, duration, ctx)
            if "b" in outputs:
                over.set()

    told = Told()
    nodes = [node("a")(fn), node("b")(lambda second: fn(second))]
    nodes[1] = node("b", name="fn")(nodes[1].fn)
    backend = LocalBackend("threaded", max_workers=2)
    Pipeline(nodes=nodes, backend=backend, callbacks=[told]).run({"x": "first", "second": "second"})
    assert told.seconds[("pipeline",), "a"] > 0
    assert told.seconds[("pipeline",), "b"] > 0
