"""Events in, hooks called: what belongs together is told together, whatever it is called."""

from __future__ import annotations

import threading

import pytest

from hypernodes import LocalBackend, Pipeline, PipelineCallback, node
from hypernodes.events.dispatch import Dispatcher
from hypernodes.events.event import MAP_END, MAP_START, NODE_END, Event
from hypernodes.events.hooks import Listeners


class MapDurations(PipelineCallback):
    def __init__(self):
        self.seconds = {}

    def on_map_end(self, duration, ctx):
        self.seconds[ctx.pipeline_path] = duration


class Durations(PipelineCallback):
    def __init__(self):
        self.seconds = {}

    def on_node_end(self, node_id, outputs, duration, ctx):
        self.seconds[(ctx.pipeline_path, *outputs)] = duration


@pytest.mark.parametrize(
    ("one", "other"),
    [((("x",), "a"), (("x",), "b")), ((("ab", "c"), "y"), (("a", "bc"), "y")), (((), "a"), (("a",), ""))],
    ids=["one pipeline", "names that join to one", "a name and a place"],
)
def test_the_end_of_a_map_goes_with_its_own_start(one, other):
    told = MapDurations()
    steps = {scope[:length]: 1 for scope, _ in (one, other) for length in range(1, len(scope) + 1)}
    dispatcher = Dispatcher(Listeners({}, [told]), {(): dict.fromkeys(steps, 9)})

    def event(kind, step, time, payload):
        scope, output = step
        return Event(kind, (), ("top",), scope, f"map of {output}", payload, time, output)

    for kind, step, time, payload in (
        (MAP_START, one, 0.0, (3, False)),
        (MAP_START, other, 1.0, (3, False)),
        (MAP_END, one, 5.0, False),
        (MAP_END, other, 7.0, False),
    ):
        dispatcher.receive(event(kind, step, time, payload))
    assert told.seconds == {
        ("top", *one[0], f"map of {one[1]}"): 5.0,
        ("top", *other[0], f"map of {other[1]}"): 6.0,
    }


def test_the_end_of_a_node_says_when_it_began():
    told = Durations()
    dispatcher = Dispatcher(Listeners({}, [told]), {(): {}})
    dispatcher.receive(Event(NODE_END, (), ("top",), (), "fn", {"y": 0}, 5.0, "y", 1.5))
    assert told.seconds == {(("top",), "y"): 3.5}


def test_events_that_came_together_are_told_in_their_order():
    told = Durations()
    dispatcher = Dispatcher(Listeners({}, [told]), {(): {}})
    ends = [
        Event(NODE_END, (), ("top",), (), "fn", {name: 0}, time, name, 1.0) for name, time in (("b", 2.0), ("a", 3.0))
    ]
    together = Event.of_several(ends)
    dispatcher.receive(together)
    assert list(told.seconds.items()) == [((("top",), "b"), 1.0), ((("top",), "a"), 2.0)]
    assert [event.output for event in together.each] == ["b", "a"]
    assert list(ends[0].each) == ends[:1]


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
