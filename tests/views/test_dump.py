"""A plan leaves the process as JSON and comes back: whole, the same bytes every time, and only in a version we know."""

from __future__ import annotations

import functools
import json
import os.path
from typing import List, Optional

import msgspec
import pytest

from hypernodes import LocalBackend, Pipeline, node
from hypernodes.errors import PlanVersionError
from hypernodes.pipeline import Pipeline as PipelineClass
from hypernodes.views.dump import VERSION, CallDump, HostedDump, MapDump, decode_plan, dump_plan, reference

MODES = ("sequential", "async", "threaded", "parallel")


@node(output_name="text")
def load(path: str) -> str:
    return path


@node(output_name=("first", "rest"))
def split(text: str, *, by: str = " ") -> tuple:
    return text, by


@node(output_name="fetched")
async def fetch(first: str) -> Optional[str]:
    return first


@node(output_name="report")
def summarise(fetcheds: List[Optional[str]]) -> str:
    return ""


inner = Pipeline(nodes=[load, split, fetch], name="inner")
outer = Pipeline(
    nodes=[
        inner.as_node(input_mapping={"paths": "path"}, output_mapping={"fetched": "fetcheds"}, map_over="paths"),
        Pipeline(nodes=[summarise], name="ending"),
    ],
    name="outer",
)


def plan_of(nodes: str, items: str):
    backend = LocalBackend(node_execution=nodes, map_execution=items, max_workers=4)
    return outer.plan(inputs=["paths", "by"], output_name="report", backend=backend)


@pytest.mark.parametrize("items", MODES)
@pytest.mark.parametrize("nodes", MODES)
def test_what_is_decoded_is_what_was_dumped(nodes, items):
    plan = plan_of(nodes, items)
    dump = dump_plan(plan.plan)
    assert decode_plan(plan.to_json()) == dump
    assert decode_plan(plan.to_json(indent=0).encode()) == dump
    assert plan_of(nodes, items).to_json() == plan.to_json()


def test_a_dump_says_what_the_plan_does():
    frame = decode_plan(plan_of("threaded", "async").to_json()).frame
    assert (frame.options.nodes, frame.options.items, frame.options.max_workers) == ("threaded", "async", 4)
    assert [frame.slots[slot - 1].name for slot in frame.inputs] == ["paths", "by"]
    first, last = frame.bundles
    (spread,) = first.steps
    assert isinstance(spread, MapDump)
    assert first.placement == "frames"
    assert spread.width.limit == 4
    assert spread.width.rule == "depth 0: max_workers=4"
    assert [(axis.parameter, axis.slot, axis.body_slot) for axis in spread.axes] == [("path", 1, 1)]
    assert [(shared.slot, shared.body_slot) for shared in spread.shared] == [(2, 2)]
    body = spread.body
    assert body.depth == 1
    assert [bundle.placement for bundle in body.bundles] == ["thread", "loop"]
    calls = [step for bundle in body.bundles for step in bundle.steps]
    assert [step.function.split(":")[1] for step in calls] == ["load", "split", "fetch"]
    assert [step.coroutine for step in calls] == [False, False, True]
    assert [step.unpack for step in calls] == [False, True, False]
    assert [(use.parameter, use.slot, use.keyword) for use in calls[1].arguments] == [
        ("text", 3, False),
        ("by", 2, True),
    ]
    assert calls[1].frees == (3, 5)
    assert [(slot.name, slot.type, slot.freed_by) for slot in body.slots] == [
        ("path", "str", None),
        ("by", "str", None),
        ("text", "str", 0),
        ("first", None, 1),
        ("rest", None, 0),
        ("fetched", "str | None", None),
    ]
    (ending,) = last.steps
    assert isinstance(ending, CallDump)
    assert ending.scope == ("ending",)
    assert (last.wave, last.waits, first.releases, last.payload) == (1, 1, (1,), None)


def test_a_process_bundle_has_a_payload_and_a_hosted_frame_a_body():
    frame = decode_plan(plan_of("threaded", "parallel").to_json()).frame
    (bundle,) = frame.bundles[0].steps[0].body.bundles
    assert bundle.placement == "process"
    assert bundle.payload > 0
    (hosted,) = bundle.steps
    assert isinstance(hosted, HostedDump)
    assert [step.name for inner in hosted.body.bundles for step in inner.steps] == ["load", "split", "fetch"]


def test_items_of_mappings_have_defaults_as_text():
    each = Pipeline(nodes=[inner.as_node(map_over="rows")], name="each")
    (step,) = dump_plan(each.plan().plan).frame.bundles[0].steps
    assert [(entry.name, entry.default) for entry in step.spread] == [("path", None), ("by", "' '")]
    assert step.axes[0].body_slot is None


def test_the_number_of_items_is_kept():
    plan = inner.plan(map_over="path", n=7)
    assert decode_plan(plan.to_json()).items == 7


def test_fifty_maps_within_each_other_come_back():
    add = node(output_name="x1", name="add")(lambda x0: x0)
    nest = Pipeline(nodes=[add], name="p0")
    for depth in range(50):
        nest = Pipeline(nodes=[nest.as_node(map_over="x0")], name=f"p{depth + 1}")
    plan = nest.plan(backend=LocalBackend(map_execution="threaded", max_workers=2))
    assert decode_plan(plan.to_json()) == dump_plan(plan.plan)


@pytest.mark.parametrize("version", [VERSION + 1, 0, None, "1", 1.0, True])
def test_another_version_is_refused(version):
    data = json.loads(plan_of("sequential", "sequential").to_json())
    data["version"] = version
    with pytest.raises(PlanVersionError) as caught:
        decode_plan(json.dumps(data))
    assert caught.value.known == VERSION
    assert caught.value.given == repr(version)
    assert repr(version) in str(caught.value)


def test_a_plan_without_a_version_is_refused():
    with pytest.raises(PlanVersionError):
        decode_plan("{}")


@pytest.mark.parametrize("text", ["", "[]", '{"version": 1}'])
def test_what_is_no_plan_is_refused(text):
    with pytest.raises(msgspec.DecodeError):
        decode_plan(text)


def test_fields_of_a_later_release_are_passed_over():
    data = json.loads(plan_of("sequential", "sequential").to_json())
    data["frame"]["colour"] = "green"
    assert decode_plan(json.dumps(data)) == dump_plan(plan_of("sequential", "sequential").plan)


class Caller:
    def __call__(self, x):
        return x

    def method(self, x):
        return x


@pytest.mark.parametrize(
    ("fn", "expected"),
    [
        (os.path.join, f"{os.path.join.__module__}:join"),
        (len, "builtins:len"),
        ("".join, "builtins:str.join"),
        (Caller, f"{__name__}:Caller"),
        (Caller().method, f"{__name__}:Caller.method"),
        (Caller(), f"{__name__}:Caller()"),
        (functools.partial(json.dumps, indent=1), "functools:partial(json:dumps)"),
        (PipelineClass.as_node, "hypernodes.pipeline:Pipeline.as_node"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_function_is_named_without_its_address(fn, expected):
    assert reference(fn) == expected
