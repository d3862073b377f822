"""Where a node failed is said in the same words in every mode, and is what callbacks hear."""

from __future__ import annotations

import asyncio
import copy
import pickle
import traceback

import pytest
from graphs import LOCAL_PAIRS, PAIRS, ids

from hypernodes import LocalBackend, Pipeline, PipelineCallback, node
from hypernodes.errors.location import Location, Note
from hypernodes.errors.notes import add_note, move_notes, notes_of


@node("y")
def fail_on_two(x, k=0):
    if x == 2:
        raise ValueError(f"bad {x}")
    return x + k


@node("total")
def total(ys):
    return sum(ys)


class Errors(PipelineCallback):
    def __init__(self):
        self.heard = []

    def on_error(self, node_id, error, ctx):
        self.heard.append((ctx.pipeline_path, node_id, ctx.items))


NAMES = [("ab", "c"), ("a", "bc"), ("p", "p")]
"""Of an outer and an inner pipeline; joined by dots or by nothing, some of them are alike."""


def nested(outer, inner, own=None, **options):
    """A pipeline within a map within a pipeline."""
    deep = Pipeline(nodes=[fail_on_two], name=inner)
    around = Pipeline(nodes=[deep.as_node()], name=outer, backend=own)
    mapped = around.as_node(input_mapping={"xs": "x"}, output_mapping={"y": "ys"}, map_over="xs", name=inner)
    return Pipeline(nodes=[mapped, total], name=outer, **options)


def failure(call, **options):
    with pytest.raises(ValueError, match="bad 2") as caught:
        call(**options)
    (location,) = [note.location for note in notes_of(caught.value) if type(note) is Note]
    return location


async def listed(stream):
    return [item async for item in stream]


CALLS = {
    "run": lambda p: p.run({"xs": [0, 2]}),
    "arun": lambda p: asyncio.run(p.arun({"xs": [0, 2]})),
    "map": lambda p: p.map({"xs": [[0], [1, 2]]}, "xs"),
    "amap": lambda p: asyncio.run(p.amap({"xs": [[0], [1, 2]]}, "xs")),
    "stream": lambda p: list(p.stream({"xs": [[0], [1, 2]]}, "xs")),
    "astream": lambda p: asyncio.run(listed(p.astream({"xs": [[0], [1, 2]]}, "xs"))),
}


@pytest.mark.parametrize("own", [False, True], ids=["one backend", "a backend of its own"])
@pytest.mark.parametrize("names", NAMES, ids=".".join)
@pytest.mark.parametrize("pair", PAIRS, ids=ids)
def test_the_location_is_the_same_in_every_mode(pair, names, own, backends):
    outer, inner = names
    backend = backends(pair)
    pipeline = nested(outer, inner, LocalBackend("threaded", max_workers=2) if own else None, backend=backend)
    for name, call in CALLS.items():
        items = (1,) if "run" in name else (1, 1)
        expected = Location((outer, inner, inner), "fail_on_two", items)
        assert failure(call, p=pipeline) == expected, name


@pytest.mark.parametrize("own", [False, True], ids=["one backend", "a backend of its own"])
@pytest.mark.parametrize("names", NAMES, ids=".".join)
@pytest.mark.parametrize("pair", PAIRS, ids=ids)
def test_callbacks_hear_the_same(pair, names, own, backends):
    outer, inner = names
    errors = Errors()
    pipeline = nested(
        outer, inner, LocalBackend("threaded") if own else None, backend=backends(pair), callbacks=[errors]
    )
    location = failure(CALLS["map"], p=pipeline)
    assert (location.pipelines, location.node, location.items) in errors.heard


@pytest.mark.parametrize("heard", [False, True], ids=["unheard", "heard"])
@pytest.mark.parametrize("names", NAMES, ids=".".join)
@pytest.mark.parametrize("pair", PAIRS, ids=ids)
def test_what_is_collected_says_the_same(pair, names, heard, backends):
    outer, inner = names
    pipeline = nested(outer, inner, backend=backends(pair), callbacks=[Errors()] if heard else None)
    result = pipeline.map({"xs": [[0], [1, 2]]}, "xs", error_policy="collect")
    (collected,) = result.failures
    (location,) = [note.location for note in notes_of(collected.exception) if type(note) is Note]
    assert location == Location((outer, inner, inner), "fail_on_two", (1, 1))
    assert collected.path == (1, 1)


@pytest.mark.parametrize("pair", LOCAL_PAIRS, ids=ids)
def test_a_second_try_says_which_item_it_was(pair, backends):
    """It runs as a smaller map, whose items have other numbers."""
    pipeline = nested("a", "b", backend=backends(pair))
    result = pipeline.map({"xs": [[0], [1], [1, 2], [3]]}, "xs", error_policy="collect").retry()
    (collected,) = result.failures
    assert collected.path == (2, 1)
    assert [note.location.items for note in notes_of(collected.exception)] == [(2, 1)]
    assert "item 2.1, inputs x=2" in notes_of(collected.exception)[0]


# -- notes ------------------------------------------------------------------------------------------------------------


HERE = Location(("p", "q"), "n", (3, 1))


def test_a_note_is_its_words():
    note = Note("node 'n' of pipeline {pipeline}{, item}", HERE, ", inputs x='{item}'")
    assert note == "node 'n' of pipeline 'p.q', item 3.1, inputs x='{item}'"
    assert Note("'x'{ of item} for node 'n'", HERE) == "'x' of item 3.1 for node 'n'"
    assert Note("node 'n' of pipeline {pipeline}{, item}", Location(("p",))) == "node 'n' of pipeline 'p'"


@pytest.mark.parametrize("clone", [copy.copy, copy.deepcopy, lambda note: pickle.loads(pickle.dumps(note))])
def test_a_note_keeps_its_location(clone):
    note = Note("node 'n' of pipeline {pipeline}{, item}", HERE, ", inputs none")
    found = clone(note)
    assert (found, type(found), found.location) == (note, Note, HERE)


def test_one_note_for_each_node():
    error = ValueError()
    for location in (HERE, HERE.moved(4), Location(("p", "q"), "m"), Location(("pq",), "n")):
        add_note(error, Note("node in {pipeline}{, item}", location))
        add_note(error, "in plain words")
    assert sorted(notes_of(error)) == [
        "in plain words",
        "node in 'p.q'",
        "node in 'p.q', item 4.1",
        "node in 'pq'",
    ]


def test_a_run_within_a_node_learns_where_that_is():
    error = ValueError()
    add_note(error, Note("node 'n' of pipeline {pipeline}{, item}", Location(("inner", "q"), "n", (1,), within=True)))
    assert move_notes(error, Location(("outer",), "as_node", (7,)))
    assert notes_of(error) == ["node 'n' of pipeline 'outer.as_node.q', item 7.1"]
    assert not move_notes(error, Location(("another",), "node")), "it is where it is"


@pytest.mark.parametrize("pair", [pair for pair in PAIRS if "parallel" not in pair], ids=ids)
@pytest.mark.parametrize("kind", ["plain", "coroutine", "returned", "nested"])
def test_a_traceback_leads_from_the_call_to_the_function(kind, pair, backends):
    """What lies between is ours, differs between modes, and tells a reader nothing."""

    def helper(x):
        raise ValueError(x)

    def plain(x):
        return helper(x)

    async def coroutine(x):
        await asyncio.sleep(0)
        return helper(x)

    def returned(x):
        return coroutine(x)

    inner = Pipeline(nodes=[node("y")(plain)], name="inner")

    def nested(x):
        return inner.run({"x": x})["y"]

    functions = {"plain": plain, "coroutine": coroutine, "returned": returned, "nested": nested}
    pipeline = Pipeline(nodes=[node("z")(functions[kind]), node("end")(lambda z: z)], backend=backends(pair))
    shown = {"returned": ["coroutine", "helper"], "nested": ["nested", "plain", "helper"]}.get(kind, [kind, "helper"])
    for call in (lambda: pipeline.run({"x": 1}), lambda: pipeline.map({"x": [1, 2]}, "x")):
        with pytest.raises(ValueError, match="1") as caught:
            call()
        frames = traceback.extract_tb(caught.value.__traceback__)
        names = [frame.name for frame in frames if frame.filename == __file__][2:]
        assert names == shown
        between = [frame.name for frame in frames if frame.filename != __file__]
        assert set(between) <= {"run", "map", "_closed"}
