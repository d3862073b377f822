"""The same events in every mode: each once, one at a time, starts before ends, parents around children."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter

import pytest
from graphs import PAIRS, build, ids, random_case, random_map

from hypernodes import LocalBackend, Pipeline, PipelineCallback, node

HOOKS = [name for name in dir(PipelineCallback) if name.startswith("on_")]


class Recorder(PipelineCallback):
    """Keeps every event as (hook, path, items, arguments that do not vary)."""

    def __init__(self):
        self.events = []
        self.busy = threading.Lock()
        self.overlapped = False


def _recording(hook):
    def record(self, *arguments):
        if not self.busy.acquire(blocking=False):
            self.overlapped = True
            return
        *facts, ctx = arguments
        durations = [fact for fact in facts if isinstance(fact, float)]
        assert all(duration >= 0 for duration in durations)
        shown = tuple(repr(fact) for fact in facts if not isinstance(fact, float))
        self.events.append((hook, ctx.pipeline_path, ctx.items, shown))
        self.busy.release()

    return record


for _hook in HOOKS:
    setattr(Recorder, _hook, _recording(_hook))


def sample(recorder, backend):
    """Return a pipeline with all there is: nested once, mapped, mapped in a map, coroutines."""

    async def aplus(x):
        await asyncio.sleep(0)
        return x + 1

    leaf = Pipeline(nodes=[node("y", name="plus")(aplus), node("z", name="minus")(lambda y: -y)], name="leaf")
    middle = Pipeline(nodes=[leaf.as_node(input_mapping={"xs": "x"}, map_over="xs", name="each")], name="middle")
    inner = Pipeline(nodes=[node("a", name="first")(lambda n: n), node("b", name="second")(lambda a: a)], name="inner")
    return Pipeline(
        nodes=[inner, middle.as_node(input_mapping={"xss": "xs"}, map_over="xss", name="outer_map")],
        name="top",
        backend=backend,
        callbacks=[recorder],
    )


INPUTS = {"n": 5, "xss": [[1, 2], [], [3]]}


def recorded(pair, backends, run):
    recorder = Recorder()
    run(sample(recorder, backends(pair)))
    assert not recorder.overlapped
    return recorder.events


def as_run(pipeline):
    pipeline.run(INPUTS)


def as_map(pipeline):
    pipeline.map({**INPUTS, "n": [1, 2]}, "n")


def as_arun(pipeline):
    asyncio.run(pipeline.arun(INPUTS))


@pytest.mark.parametrize("run", [as_run, as_map, as_arun])
@pytest.mark.parametrize("pair", PAIRS, ids=ids)
def test_the_same_events_in_every_mode(pair, run, backends):
    events = recorded(pair, backends, run)
    expected = recorded(("sequential", "sequential"), backends, as_run if run is as_arun else run)
    assert Counter(events) == Counter(expected)
    check_order(events)


def check_order(events):
    """Every start comes before its end, and what is inside a pipeline, a map or an item stands between the two."""
    assert events[0][0] == "on_pipeline_start"
    assert events[-1][0] == "on_pipeline_end"
    nodes, maps, items, nested = set(), set(), set(), set()
    for hook, path, at, facts in events:
        if hook == "on_node_start":
            assert (path, at, facts[0]) not in nodes
            nodes.add((path, at, facts[0]))
            assert not at or any(path[: len(p)] == p and a == at for p, a in items), "a node outside of its item"
        elif hook == "on_node_end":
            nodes.remove((path, at, facts[0]))
        elif hook == "on_map_start":
            maps.add((path, at))
        elif hook == "on_map_end":
            assert not any(p == path and a[:-1] == at for p, a in items), "a map ended before its items"
            maps.remove((path, at))
        elif hook == "on_map_item_start":
            assert (path, at[:-1]) in maps, "an item outside of its map"
            items.add((path, at))
        elif hook == "on_map_item_end":
            assert not any(a == at and p[: len(path)] == path for p, a, _ in nodes), "an item ended before its nodes"
            items.remove((path, at))
        elif hook == "on_nested_pipeline_start":
            nested.add((path, at, facts))
        elif hook == "on_nested_pipeline_end":
            nested.remove((path, at, facts))
    assert not nodes
    assert not maps
    assert not items
    assert not nested


def test_the_events_of_a_small_run_in_order():
    recorder = Recorder()
    inner = Pipeline(nodes=[node("y", name="double")(lambda x: 2 * x)], name="inner")
    Pipeline(nodes=[inner], name="outer", callbacks=[recorder]).run({"x": 1})
    assert recorder.events == [
        ("on_pipeline_start", ("outer",), (), ("'outer'", "{'x': 1}")),
        ("on_nested_pipeline_start", ("outer",), (), ("'outer'", "'inner'")),
        ("on_node_start", ("outer", "inner"), (), ("'double'", "{'x': 1}")),
        ("on_node_end", ("outer", "inner"), (), ("'double'", "{'y': 2}")),
        ("on_nested_pipeline_end", ("outer",), (), ("'outer'", "'inner'")),
        ("on_pipeline_end", ("outer",), (), ("'outer'", "{'y': 2}")),
    ]


@pytest.mark.parametrize("pair", PAIRS, ids=ids)
def test_an_error_is_told_once_and_nothing_ends(pair, backends):
    def fail(x):
        raise ValueError(x)

    recorder = Recorder()
    pipeline = Pipeline(nodes=[node("y", name="fail")(fail)], name="p", backend=backends(pair), callbacks=[recorder])
    with pytest.raises(ValueError):
        pipeline.map({"x": [1]}, "x")
    hooks = [event[0] for event in recorder.events]
    assert hooks == ["on_pipeline_start", "on_map_start", "on_map_item_start", "on_node_start", "on_error"]


@pytest.mark.slow
@pytest.mark.parametrize("pair", PAIRS, ids=ids)
def test_random_trees_tell_the_same_events(pair, backends):
    for seed in range(3 if "parallel" in pair else 25):
        depth = 1 if "parallel" in pair else 3
        for case in (random_case(seed, depth), random_map(seed, depth)):
            found = []
            for backend in (LocalBackend(), backends(pair)):
                recorder = Recorder()
                pipeline = build(case.spec, callbacks=[recorder], backend=backend)
                if hasattr(case, "axes"):
                    case.run(pipeline)
                else:
                    pipeline.run(case.inputs, case.asked)
                assert not recorder.overlapped
                check_order(recorder.events)
                found.append(Counter(recorder.events))
            assert found[0] == found[1]


def test_nested_pipelines_inherit_listeners_unless_they_have_their_own():
    outer, own = Recorder(), Recorder()
    inherits = Pipeline(nodes=[node("a", name="na")(lambda: 1)], name="inherits")
    has = Pipeline(nodes=[node("b", name="nb")(lambda: 1)], name="has", callbacks=[own])
    mute = Pipeline(nodes=[node("c", name="nc")(lambda: 1)], name="mute", callbacks=[])
    Pipeline(nodes=[inherits, has, mute], callbacks=[outer]).run()
    heard = [event[3][0] for event in outer.events if event[0] == "on_node_start"]
    assert heard == ["'na'"]
    assert [event[3][0] for event in own.events if event[0] == "on_node_start"] == ["'nb'"]


def test_nested_pipelines_with_a_backend_of_their_own_are_heard():
    recorder = Recorder()
    inner = Pipeline(nodes=[node("a", name="na")(lambda: 1)], name="inner", backend=LocalBackend("threaded"))
    Pipeline(nodes=[inner], callbacks=[recorder], name="outer").run()
    hooks = [(event[0], event[1]) for event in recorder.events]
    assert ("on_node_start", ("outer", "inner")) in hooks
    assert ("on_nested_pipeline_start", ("outer",)) in hooks


def test_the_context_is_shared_by_all_callbacks_of_a_run_and_new_in_the_next():
    seen = []

    class Counting(PipelineCallback):
        def on_node_start(self, node_id, inputs, ctx):
            ctx.set("count", ctx.get("count", 0) + 1)
            seen.append((ctx.get("count"), ctx.depth, ctx.item_index))

    pipeline = Pipeline(nodes=[node("y")(lambda x: x)], callbacks=[Counting(), Counting()])
    pipeline.map({"x": [1, 2]}, "x")
    pipeline.run({"x": 1})
    assert seen == [(1, 0, 0), (2, 0, 0), (3, 0, 1), (4, 0, 1), (1, 0, None), (2, 0, None)]


@pytest.mark.parametrize(
    "hook",
    [
        "on_pipeline_start",
        "on_node_start",
        "on_node_end",
        "on_map_start",
        "on_map_item_end",
        "on_map_end",
        "on_pipeline_end",
    ],
)
@pytest.mark.parametrize("pair", PAIRS, ids=ids)
def test_a_hook_that_raises_fails_the_run(pair, hook, backends):
    class Angry(PipelineCallback):
        pass

    def angry(self, *arguments):
        raise LookupError(hook)

    setattr(Angry, hook, angry)
    pipeline = Pipeline(nodes=[node("y")(lambda x: x)], backend=backends(pair), callbacks=[Angry()])
    with pytest.raises(LookupError):
        pipeline.map({"x": [1, 2, 3]}, "x")
