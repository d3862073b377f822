"""A callback that overrides one hook hears in it what one that overrides all of them hears in it."""

from __future__ import annotations

import pytest

from hypernodes import LocalBackend, Pipeline, PipelineCallback, node
from hypernodes.events.hooks import HOOKS, NODE_ENDS, NODE_ERRORS, NODE_STARTS, heard_by

BACKENDS = {
    "sequential": LocalBackend(),
    "threaded": LocalBackend("threaded", "threaded", max_workers=4),
    "parallel": LocalBackend("sequential", "parallel", max_workers=2),
}


@node(output_name="a")
def first(x):
    return x + 1


@node(output_name="b")
def second(a):
    return 10 // a


@node(output_name="n")
def count(bs):
    return len(bs)


def nested():
    inner = Pipeline(nodes=[first, second], name="inner")
    middle = Pipeline(nodes=[inner.as_node()], name="middle")
    mapped = middle.as_node(input_mapping={"xs": "x"}, map_over="xs", output_mapping={"b": "bs"}, name="each")
    return Pipeline(nodes=[mapped, count], name="outer")


def without_durations(hook, told):
    """Return what a hook was told, but for the seconds and the values that are told with it."""
    *given, context = told
    kept = given[:-1] if hook.endswith("_end") else given
    return hook, repr(kept), context.pipeline_path, context.items


def callback(hooks):
    told = []

    def override(hook):
        return lambda self, *given: told.append(without_durations(hook, given))

    made = type("Told", (PipelineCallback,), {hook: override(hook) for hook in hooks})()
    return made, told


@pytest.mark.parametrize("policy", ["raise", "collect"])
@pytest.mark.parametrize("mode", BACKENDS)
@pytest.mark.parametrize("hook", HOOKS)
def test_one_hook_alone_hears_the_same(hook, mode, policy):
    heard = {}
    items = [0, 1, -1] if policy == "collect" else [0, 1, 2]
    for hooks in (HOOKS, [hook]):
        made, told = callback(hooks)
        pipeline = nested()
        pipeline.backend, pipeline.callbacks = BACKENDS[mode], [made]
        result = pipeline.map({"xs": [items, items]}, "xs", error_policy=policy)
        assert len(result["n"]) == 2
        heard[len(hooks)] = sorted([call for call in told if call[0] == hook], key=repr)
    assert heard[1] == heard[len(HOOKS)]
    assert bool(heard[1]) is (hook != "on_error" or policy == "collect")


def test_only_what_a_hook_gets_is_made():
    assert heard_by([callback(["on_error"])[0]]) == NODE_ERRORS
    assert not heard_by([callback(["on_node_end"])[0]]) & (NODE_STARTS | NODE_ERRORS)
    assert not heard_by([callback(["on_node_start"])[0]]) & (NODE_ENDS | NODE_ERRORS)
    assert heard_by([PipelineCallback()]) == 0
