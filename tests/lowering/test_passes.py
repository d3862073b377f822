"""Each pass of the lowering alone: a graph or groups written by hand in, and what must come out written by hand too."""

from __future__ import annotations

from typing import Dict, List, Optional, Sequence, Tuple

import attrs
import pytest

from hypernodes.errors import MissingInputError
from hypernodes.ir.graph import DISCARD, Call, Graph, Input, Invoke, MapOver, Use, Value
from hypernodes.ir.text import graph_text
from hypernodes.lowering import concurrent, lower, parallel, seal, sequential
from hypernodes.lowering.fuse import Group, Placed, chains
from hypernodes.lowering.inline import inline
from hypernodes.lowering.last_use import Freed, last_uses
from hypernodes.lowering.placement import place_frame
from hypernodes.lowering.plan import FRAMES, INLINE, LOOP, PROCESS, THREAD, MapStep, Options
from hypernodes.lowering.prune import prune
from hypernodes.lowering.waves import Flow, flow
from hypernodes.lowering.widths import map_width
from hypernodes.views.text import plan_text, ranges


def fn(*values: object, **named: object) -> object:
    raise AssertionError("the lowering called a user's function")


def uses(*reads: str) -> Tuple[Use, ...]:
    """One use for each ``"name"``, ``"parameter=name"`` or, optional, ``"name?"``."""
    found = []
    for read in reads:
        parameter, _, name = read.rstrip("?").rpartition("=")
        found.append(Use(parameter or name, Value(name), optional=read.endswith("?")))
    return tuple(found)


def call(results: str, *reads: str, name: str = "", coroutine: bool = False) -> Call:
    names = results.split()
    values = tuple(Value(own) for own in names)
    return Call(name or f"make_{names[0]}", fn, uses(*reads), values, len(names) > 1, coroutine)


def graph(inputs: str, operations: Sequence[object], outputs: str, name: str = "g") -> Graph:
    """Inputs that end in ``?`` have a default."""
    entries = [Input(Value(own.rstrip("?")), 0) if own.endswith("?") else Input(Value(own)) for own in inputs.split()]
    return Graph(name, tuple(entries), tuple(operations), tuple(Value(own) for own in outputs.split()))


def shown(graph: Graph) -> List[str]:
    return [line.strip() for line in graph_text(graph).splitlines()]


# -- prune ------------------------------------------------------------------------------------------------------------

LINE = graph("x y?", [call("a", "x"), call("b", "a", "y?"), call("c", "x"), call("d e", "b")], "a b c d e")


def test_what_is_not_asked_for_is_gone_with_what_only_it_needed():
    assert prune(LINE, {"x"}, ["a"]) == graph("x", [call("a", "x")], "a")
    assert shown(prune(LINE, {"x", "y"}, ["b", "c"])) == [
        "graph g(x, y=0) {",
        "a = call make_a(x)",
        "b = call make_b(a, y)",
        "c = call make_c(x)",
        "return b, c",
        "}",
    ]


def test_outputs_come_in_the_order_they_were_asked_in():
    assert prune(LINE, {"x"}, ["c", "a"]).output_names == ("c", "a")


def test_an_input_that_is_not_given_is_not_passed():
    """The function's own default applies, whatever the graph says it is."""
    kept = prune(LINE, {"x"}, ["b"])
    assert kept.input_names == ("x",)
    assert kept.operations[1] == call("b", "a")


def test_a_parameter_behind_one_that_is_left_out_is_passed_by_name():
    three = graph("x y? z", [call("a", "x", "y?", "z")], "a")
    (kept,) = prune(three, {"x", "z"}, ["a"]).operations
    assert [(use.parameter, use.keyword) for use in kept.uses] == [("x", False), ("z", True)]


def test_a_given_value_overrides_the_node_that_makes_it():
    kept = prune(LINE, {"a"}, ["b"])
    assert kept == Graph("g", (Input(Value("a")),), (call("b", "a"),), (Value("b"),))


def test_one_overridden_result_of_several_is_thrown_away():
    kept = prune(LINE, {"x", "d"}, ["d", "e"])
    last = kept.operations[-1]
    assert [value.name for value in last.results] == [DISCARD, "e"]
    assert last.unpack
    assert kept.output_names == ("d", "e")


def test_all_results_stay_where_one_is_needed():
    """A function that returns a tuple returns it whole."""
    assert prune(LINE, {"x"}, ["e"]).operations[-1] == call("d e", "b")


def test_gaps_are_reported_in_order():
    gaps = graph("p q", [call("a", "p"), call("b", "q"), call("c", "a", "b")], "c")
    with pytest.raises(MissingInputError) as caught:
        prune(gaps, {"r"}, ["c"])
    assert (caught.value.node, caught.value.parameter, caught.value.provided) == ("make_a", "p", ("r",))
    assert caught.value.missing == (("g", "make_a", "p"), ("g", "make_b", "q"))
    assert prune(gaps, {"p"}, ["a"]).input_names == ("p",)


BODY = graph("i s t?", [call("u", "i"), call("v", "i", "s"), call("w", "t?")], "u v w", name="body")


def over(results: str, *reads: str, axes: str, body: Graph = BODY, yields: str = "", spread: bool = False) -> MapOver:
    values = tuple(Value(own) for own in results.split())
    inner = tuple((yields or results).split())
    return MapOver("each", body, uses(*reads), values, inner, tuple(axes.split()), spread=spread)


def test_the_body_of_a_map_is_pruned_too():
    outer = graph("xs s t?", [over("us vs ws", "i=xs", "s", "t?", axes="i", yields="u v w")], "us vs ws")
    assert shown(prune(outer, {"xs", "s"}, ["us"])) == [
        "graph g(xs) {",
        "us = map zip each(i in xs)",
        "graph body(i) {",
        "u = call make_u(i)",
        "return u",
        "}",
        "return us",
        "}",
    ]


def test_an_axis_that_nothing_reads_still_counts_the_items():
    outer = graph("xs t?", [over("ws", "i=xs", "t?", axes="i", yields="w")], "ws")
    (kept,) = prune(outer, {"xs"}, ["ws"]).operations
    assert isinstance(kept, MapOver)
    assert [use.value.name for use in kept.uses] == ["xs"]
    assert kept.graph.input_names == ("i",)
    assert kept.graph.operations == (call("w"),)


def test_a_map_needs_what_its_body_needs():
    outer = graph("xs s", [over("vs", "i=xs", "s", axes="i", yields="v")], "vs")
    with pytest.raises(MissingInputError) as caught:
        prune(outer, {"xs"}, ["vs"])
    assert (caught.value.pipeline, caught.value.node, caught.value.parameter) == ("g.each", "make_v", "s")
    with pytest.raises(MissingInputError) as caught:
        prune(outer, {"s"}, ["vs"])
    assert caught.value.parameter == "xs"


def test_items_that_are_mappings_keep_every_input():
    outer = graph("rows", [over("us", "rows", axes="rows", yields="u", spread=True)], "us")
    (kept,) = prune(outer, {"rows"}, ["us"]).operations
    assert isinstance(kept, MapOver)
    assert kept.graph.input_names == ("i", "s", "t")
    assert [operation.name for operation in kept.graph.operations] == ["make_u"]


# -- inline -----------------------------------------------------------------------------------------------------------


def invoke(name: str, body: Graph, reads: Sequence[str], results: str, yields: str) -> Invoke:
    return Invoke(name, body, uses(*reads), tuple(Value(own) for own in results.split()), tuple(yields.split()))


def test_a_nested_graph_takes_the_names_it_has_outside():
    inner = graph("i", [call("t", "i"), call("o", "t", "i")], "o", name="inner")
    outer = graph("x", [invoke("n", inner, ["i=x"], "y", "o"), call("z", "y")], "y z")
    flat = inline(outer)
    assert [(op.name, [use.value.name for use in op.uses]) for op in flat.operations] == [
        ("make_t", ["x"]),
        ("make_o", ["n/t", "x"]),
        ("make_z", ["y"]),
    ]
    assert [use.parameter for use in flat.operations[1].uses] == ["t", "i"]
    assert [value.name for op in flat.operations for value in op.results] == ["n/t", "y", "z"]
    assert [op.scope.path if op.scope else () for op in flat.operations] == [("n",), ("n",), ()]


def test_scopes_lead_out_through_every_level_and_are_shared():
    inmost = graph("i", [call("p", "i"), call("q", "p")], "q", name="inmost")
    middle = graph("i", [invoke("deep", inmost, ["i"], "r", "q")], "r", name="middle")
    flat = inline(graph("x", [invoke("mid", middle, ["i=x"], "y", "r")], "y"))
    first, second = flat.operations
    assert first.scope.path == ("mid", "deep")
    assert first.scope is second.scope
    assert [value.name for value in first.results] == ["mid/deep/p"]
    assert [value.name for value in second.results] == ["y"]


def test_the_body_of_a_map_is_flattened_within_itself():
    inner = graph("i", [call("o", "i")], "o", name="inner")
    body = graph("i", [invoke("n", inner, ["i"], "u", "o")], "u", name="body")
    (kept,) = inline(graph("xs", [over("us", "i=xs", axes="i", yields="u", body=body)], "us")).operations
    assert isinstance(kept, MapOver)
    assert [(op.name, op.scope.path) for op in kept.graph.operations] == [("make_o", ("n",))]


def test_a_flat_graph_is_left_as_it_is():
    assert inline(LINE) is LINE


# -- fuse and the targets ---------------------------------------------------------------------------------------------


def placed(*rows: Tuple[object, str], cuts: str = "") -> List[Placed]:
    return [
        Placed(operation, placement, "why", any(value.name in cuts.split() for value in operation.results))
        for operation, placement in rows
    ]


def members(groups: Sequence[Group]) -> List[List[int]]:
    return [group.members for group in groups]


A, B, C, D = call("a", "x"), call("b", "a"), call("c", "b", "x"), call("d", "b")


@pytest.mark.parametrize(
    ("operations", "expected"),
    [
        ([A, B, C], [[0, 1, 2]]),
        ([A, B, C, D], [[0, 1], [2], [3]]),
        ([A, call("b", "x"), call("c", "a", "b")], [[0], [1], [2]]),
        ([A, call("b", "y"), call("c", "a"), call("d", "b")], [[0, 2], [1, 3]]),
        ([call("a b", "x"), call("c", "a", "b")], [[0, 1]]),
        ([call("a b", "x"), call("c", "a"), call("d", "b")], [[0], [1], [2]]),
        ([], []),
    ],
    ids=["chain", "fork", "join", "two chains", "two values to one reader", "two values to two readers", "nothing"],
)
def test_a_chain_is_one_group(operations, expected):
    rows = placed(*[(operation, THREAD) for operation in operations])
    assert members(concurrent.group(rows)) == expected
    assert members(chains(rows, fusible=())) == [[index] for index in range(len(operations))]


@pytest.mark.parametrize(("cuts", "expected"), [("", [[0, 1, 2]]), ("a", [[0], [1, 2]]), ("a b", [[0], [1], [2]])])
def test_a_bundle_ends_behind_a_cut(cuts, expected):
    assert members(concurrent.group(placed((A, THREAD), (B, THREAD), (C, THREAD), cuts=cuts))) == expected
    assert members(parallel.group(placed((A, PROCESS), (B, PROCESS), (C, PROCESS), cuts=cuts))) == expected
    assert members(sequential.group(placed((A, INLINE), (B, INLINE), (C, INLINE), cuts=cuts))) == expected


def test_a_chain_ends_where_the_placement_changes():
    rows = placed((A, THREAD), (B, LOOP), (call("c", "b"), THREAD), (call("d", "c"), THREAD))
    assert members(concurrent.group(rows)) == [[0], [1], [2, 3]]
    assert [group.placement for group in concurrent.group(rows)] == [THREAD, LOOP, THREAD]


def test_coroutines_in_a_row_are_not_fused_but_processes_are():
    assert members(concurrent.group(placed((A, LOOP), (B, LOOP)))) == [[0], [1]]
    assert members(parallel.group(placed((A, PROCESS), (B, PROCESS)))) == [[0, 1]]


def test_sequential_groups_are_runs_of_one_placement():
    rows = placed((A, INLINE), (call("b", "x"), INLINE), (C, FRAMES), (D, FRAMES), (call("e", "d"), INLINE))
    assert members(sequential.group(rows)) == [[0, 1], [2], [3], [4]]


# -- waves ------------------------------------------------------------------------------------------------------------


def groups(*rows: Sequence[int]) -> List[Group]:
    return [Group(THREAD, "why", list(row)) for row in rows]


# Slot 1 is an input. Operation 0 makes 2; 1 and 2 read 2 and make 3 and 4; 3 reads 3 and makes 5; 4 reads 4 and 5.
READS = [[1], [2], [2], [3], [4, 5]]
RESULTS = [[2], [3], [4], [5], [6]]


def test_waves_are_as_early_as_they_can_be():
    assert flow(groups([0], [1], [2], [3], [4]), READS, RESULTS, [1] * 5, False) == Flow(
        waits=[0, 1, 1, 1, 2],
        releases=[[1, 2], [3], [4], [4], []],
        levels=[0, 1, 1, 2, 3],
        ranks=[4, 3, 2, 2, 1],
        waves=((0,), (1, 2), (3,), (4,)),
    )


def test_a_chain_counts_as_one_group_of_all_its_steps():
    found = flow(groups([0], [1, 3], [2], [4]), READS, RESULTS, [1] * 5, False)
    assert found == Flow([0, 1, 1, 2], [[1, 2], [3], [3], []], [0, 1, 1, 2], [4, 3, 2, 1], ((0,), (1, 2), (3,)))


def test_a_weight_is_what_a_map_adds_to_a_path():
    found = flow(groups([0], [1], [2], [3], [4]), READS, RESULTS, [1, 1, 7, 1, 1], False)
    assert found.ranks == [9, 3, 8, 2, 1]


def test_ordered_groups_wait_for_the_one_before():
    found = flow(groups([0], [1], [2]), [[1], [1], [1]], [[2], [3], [4]], [1] * 3, True)
    assert found == Flow([0, 1, 1], [[1], [2], []], [0, 1, 2], [3, 2, 1], ((0,), (1,), (2,)))


def test_two_values_from_one_group_are_one_wait():
    found = flow(groups([0], [1]), [[1], [2, 3, 2]], [[2, 3], [4]], [1, 1], False)
    assert (found.waits, found.releases) == ([0, 1], [[1], []])


# -- last use ---------------------------------------------------------------------------------------------------------


def freed(rows: Sequence[Sequence[int]], asked: Sequence[int], ordered: bool = False) -> Freed:
    return last_uses(groups(*rows), READS, RESULTS, set(asked), 1, ordered)


def test_the_last_reader_frees_a_value():
    """Slot 1 is the caller's and slot 6 is asked for; 2 has two readers in no order, of which the last one frees it."""
    assert freed([[0], [1], [2], [3], [4]], [6]) == Freed(
        by_step={},
        by_end={3: [3], 4: [4, 5]},
        shared={1: [2], 2: [2]},
        by_bundle={2: 2, 3: 3, 4: 4, 5: 4},
        crossing={2, 3, 4, 5},
    )


def test_within_a_bundle_a_value_is_freed_by_step():
    assert freed([[0, 1, 2, 3, 4]], [6]) == Freed(
        by_step={2: (2,), 3: (3,), 4: (4, 5)}, by_end={}, shared={}, by_bundle={2: 0, 3: 0, 4: 0, 5: 0}, crossing=set()
    )


def test_in_order_the_last_reader_is_known():
    found = freed([[0], [1, 2], [3, 4]], [6], ordered=True)
    assert found.by_end == {1: [2], 2: [3, 4]}
    assert (found.shared, found.by_step) == ({}, {4: (5,)})


def test_a_value_nobody_reads_is_freed_by_its_own_step():
    found = freed([[0], [1], [2], [3], [4]], [5])
    assert found.by_step == {4: (6,)}
    assert found.by_bundle[6] == 4
    assert 5 not in found.by_bundle


# -- widths and placement ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "workers", "depth", "limit"),
    [
        ("threaded", 8, 0, 8),
        ("async", 8, 1, 3),
        ("parallel", 4, 1, 2),
        ("threaded", 100, 1, 10),
        ("threaded", 1, 1, 1),
        ("threaded", 2, 1, 1),
        ("threaded", 6, 1, 2),
        ("threaded", 100, 2, 1),
        ("threaded", 100, 9, 1),
        ("sequential", 8, 0, 1),
    ],
)
def test_widths_are_those_of_the_guide(mode, workers, depth, limit):
    width = map_width(mode, workers, depth)
    assert width.limit == limit
    assert [width.of(items) for items in (0, 1, limit, limit + 1)] == [1, 1, limit, limit]


def test_a_width_says_its_rule():
    assert map_width("threaded", 8, 0).text() == "min(8, items)"
    assert map_width("threaded", 8, 1).text(2) == "2"
    assert map_width("threaded", 8, 2).text() == "1"
    assert [map_width("async", 8, depth).rule for depth in (0, 1, 2)] == [
        "depth 0: max_workers=8",
        "depth 1: sqrt(max_workers=8)",
        "depth 2: one at a time",
    ]


# Of the frame of a run and of an item: plain functions, coroutine functions, grouping, with * for a hosted frame.
PLACEMENTS: Dict[Tuple[str, str], Tuple[str, str]] = {
    ("sequential", "sequential"): ("inline inline sequential", "inline inline sequential"),
    ("sequential", "async"): ("inline inline sequential", "thread loop sequential"),
    ("sequential", "threaded"): ("inline inline sequential", "thread loop sequential"),
    ("sequential", "parallel"): ("inline inline sequential", "process process sequential"),
    ("async", "sequential"): ("thread loop concurrent", "thread loop concurrent"),
    ("async", "async"): ("thread loop concurrent", "thread loop concurrent"),
    ("async", "threaded"): ("thread loop concurrent", "thread loop concurrent"),
    ("async", "parallel"): ("thread loop concurrent", "process process sequential *"),
    ("threaded", "sequential"): ("thread loop concurrent", "thread loop concurrent"),
    ("threaded", "async"): ("thread loop concurrent", "thread loop concurrent"),
    ("threaded", "threaded"): ("thread loop concurrent", "thread loop concurrent"),
    ("threaded", "parallel"): ("thread loop concurrent", "process process sequential *"),
    ("parallel", "sequential"): ("process process parallel", "process process parallel"),
    ("parallel", "async"): ("process process parallel", "process process parallel"),
    ("parallel", "threaded"): ("process process parallel", "process process parallel"),
    ("parallel", "parallel"): ("process process parallel", "process process parallel"),
}


@pytest.mark.parametrize(("nodes", "items"), PLACEMENTS)
def test_placements_are_the_table_of_the_design(nodes, items):
    for depth, expected in enumerate(PLACEMENTS[nodes, items]):
        placing = place_frame(Options(nodes, items, 4), depth)
        star = " *" if placing.hosted else ""
        assert f"{placing.plain} {placing.coroutine} {placing.grouping}{star}" == expected
        assert placing.plain_reason
        assert placing.coroutine_reason


# -- all of them ------------------------------------------------------------------------------------------------------


def lowered(nodes: str, items: str, body: Optional[Graph] = None):
    inner = body or graph("i s", [call("t", "i", "s"), call("u", "t")], "u", name="body")
    operations = [call("xs", "x"), over("us", "i=xs", "s", axes="i", yields="u", body=inner), call("n", "us")]
    return lower(graph("x s", operations, "n"), Options(nodes, items, 4))


def test_a_map_knows_its_slots_on_both_sides():
    plan = lowered("threaded", "threaded")
    assert [slot.name for slot in plan.slots] == ["", "x", "s", "xs", "us", "n"]
    assert [slot.freed_by for slot in plan.slots] == [None, None, None, 1, 2, None]
    mapping = plan.bundles[1].steps[0]
    assert isinstance(mapping, MapStep)
    assert [(axis.slot, axis.body_slot) for axis in mapping.axes] == [(3, 1)]
    assert mapping.shared == ((2, 2),)
    assert mapping.results == (4,)
    assert [bundle.imports for bundle in plan.bundles] == [(1,), (3, 2), (4,)]
    assert [bundle.exports for bundle in plan.bundles] == [(3,), (4,), (5,)]
    assert [bundle.rank for bundle in plan.bundles] == [5, 4, 1]
    assert [bundle.frees for bundle in plan.bundles] == [(), (3,), (4,)]
    (inner,) = mapping.body.bundles
    assert [(step.results, step.frees) for step in inner.steps] == [((3,), ()), ((4,), (3,))]


def test_sequential_maps_are_loops_within_the_one_bundle():
    plan = lowered("sequential", "sequential")
    (bundle,) = plan.bundles
    assert [type(step).__name__ for step in bundle.steps] == ["Step", "MapStep", "Step"]
    assert (bundle.placement, bundle.imports, bundle.exports) == (INLINE, (1, 2), (5,))
    assert [step.frees for step in bundle.steps] == [(), (3,), (4,)]


def test_cuts_reach_the_frames_of_maps():
    inner = graph("i s", [call("t", "i", "s"), call("u", "t")], "u", name="body")
    operations = [call("xs", "x"), over("us", "i=xs", "s", axes="i", yields="u", body=inner), call("n", "us")]
    whole = graph("x s", operations, "n")
    for nodes, cuts, steps in (
        ("threaded", frozenset(), [["t", "u"]]),
        ("threaded", frozenset(["t"]), [["t"], ["u"]]),
        ("parallel", frozenset(["t"]), [["t"], ["u"]]),
    ):
        plan = lower(whole, Options(nodes, "threaded", 4), cuts=cuts)
        (mapping,) = [bundle for bundle in plan.bundles if bundle.placement == FRAMES]
        found = [[step.outputs[0] for step in bundle.steps] for bundle in mapping.steps[0].body.bundles]
        assert found == steps


def test_what_goes_to_processes_is_sealed_behind_the_other_passes():
    plan = lowered("threaded", "parallel")
    mapping = plan.bundles[1].steps[0]
    assert [bundle.sealed for bundle in mapping.body.bundles] == [None]
    sealed = seal(plan)
    assert [bundle.sealed is None for bundle in sealed.bundles[1].steps[0].body.bundles] == [False]
    assert sealed == plan  # what is sent follows from the rest
    inline = lowered("threaded", "threaded")
    assert seal(inline) is inline


def test_equal_graphs_have_equal_plans():
    """Functions are compared by identity, so a plan can be a key, and a test can write down the one it expects."""
    assert lowered("async", "threaded") == lowered("async", "threaded")
    assert lowered("async", "threaded") != lowered("threaded", "threaded")
    assert plan_text(lowered("threaded", "async")) == plan_text(lowered("threaded", "async"))


def test_what_is_printed_says_where_every_slot_is_freed():
    plan = lowered("threaded", "threaded")
    text = plan_text(plan)
    for frame in (plan, plan.bundles[1].steps[0].body):
        for number, slot in enumerate(frame.slots):
            if slot.freed_by is not None:
                assert any("free " in line and f"{slot.name}%{number}" in line for line in text.splitlines())
    assert attrs.asdict(plan.options) == {"nodes": "threaded", "items": "threaded", "max_workers": 4}


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ([], ""),
        ([3], "3"),
        ([0, 1], "0, 1"),
        ([0, 2, 3, 4, 5, 7, 8], "0, 2-5, 7, 8"),
        (range(1000), "0-999"),
        (range(0, 40, 2), "0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24 and 7 more"),
        (range(0, 26, 2), "0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24"),
    ],
    ids=str,
)
def test_numbers_of_bundles_print_short(numbers, expected):
    assert ranges(list(numbers)) == expected


def test_a_long_list_has_a_member_to_a_line():
    """A diff of two plans then shows the member that changed, and no line grows with the graph."""
    many = " ".join(f"value_number_{i}" for i in range(12))
    reads = many.split()
    text = plan_text(lower(graph("x", [call(many, "x"), call("z", *reads)], "z"), Options("threaded", "sequential", 2)))
    assert max(map(len, text.splitlines())) <= 100
    assert "      value_number_3%5," in text.splitlines()
    assert "      value_number_3%5" in text.splitlines()
