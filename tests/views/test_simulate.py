"""The schedule on a virtual clock: how close to the critical path it comes, and that no width is exceeded.

No worker and no sleep is in here: a simulated run drives the very `Schedule` that real runs use.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import Dict, Iterable, List, Sequence, Tuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypernodes import LocalBackend, Pipeline, node
from hypernodes.errors import OptionError, UnknownNameError
from hypernodes.records import evolve
from hypernodes.views.simulate import simulate
from hypernodes.views.timeline import Entry, Timeline

MODES = ("sequential", "async", "threaded", "parallel")


def never(*values: object) -> object:
    raise AssertionError("a simulation called a node")


def step(name: str, reads: Sequence[str]):
    """A node called `name` that defines `name` and must not run."""
    scope: Dict[str, object] = {"never": never}
    exec(f"def {name}({', '.join(reads)}): never()", scope)
    return node(output_name=name)(scope[name])


def graph(edges: Dict[str, Sequence[str]], name: str = "graph") -> Pipeline:
    return Pipeline(nodes=[step(own, reads) for own, reads in edges.items()], name=name)


def threaded(workers: int, items: str = "threaded") -> LocalBackend:
    return LocalBackend(node_execution="threaded", map_execution=items, max_workers=workers)


def most_at_once(entries: Iterable[Entry]) -> int:
    """The most entries in progress at one time; one that ends as another starts does not meet it."""
    changes = sorted([(entry.start, 1) for entry in entries] + [(entry.end, -1) for entry in entries])
    now = most = 0
    for _, change in changes:
        now += change
        most = max(most, now)
    return most


def spans(timeline: Timeline) -> Dict[str, Tuple[float, float]]:
    return {"+".join(entry.steps): (entry.start, entry.end) for entry in timeline.entries}


# -- one frame --------------------------------------------------------------------------------------------------------


def test_both_sides_of_a_diamond_run_together():
    diamond = graph({"a": ["x"], "b": ["a"], "c": ["a"], "d": ["b", "c"]})
    timeline = diamond.plan(backend=threaded(2)).simulate({"b": 2.0, "c": 3.0})
    assert spans(timeline) == {"a": (0.0, 1.0), "b": (1.0, 3.0), "c": (1.0, 4.0), "d": (4.0, 5.0)}
    assert timeline.makespan == timeline.critical_path == 5.0
    assert timeline.work == 7.0
    assert timeline.busy == 0.7
    assert diamond.plan(backend=threaded(2)).simulate({"b": 2.0, "c": 3.0}, workers=1).makespan == 7.0


def test_a_wave_is_no_barrier():
    """The long side's second node starts while the short side's first still runs."""
    edges = {"a": ["x"], "b": ["x"], "a1": ["a"], "a2": ["a"], "b1": ["b"], "b2": ["b"], "z": ["a1", "a2", "b1", "b2"]}
    timeline = graph(edges).plan(backend=threaded(8)).simulate({"a": 1.0, "b": 5.0, "a1": 6.0})
    assert spans(timeline)["a1"] == (1.0, 7.0)
    assert timeline.makespan == timeline.critical_path == 8.0


@pytest.mark.parametrize("seed", range(20))
def test_unbalanced_graphs_take_their_critical_path_when_there_is_room(seed):
    edges, seconds = random_edges(seed, 30)
    timeline = graph(edges).plan(backend=threaded(30)).simulate(seconds)
    assert timeline.makespan == pytest.approx(timeline.critical_path)
    assert timeline.critical_path == pytest.approx(longest_path(edges, seconds))


def test_the_longest_remaining_path_goes_first():
    """Four single nodes stand before a chain of four; in their order a worker would begin the chain last."""
    edges = {f"single{i}": ["x"] for i in range(4)}
    edges.update({"c0": ["x"], "c1": ["c0"], "c2": ["c1"], "c3": ["c2"]})
    plan = graph(edges).plan(backend=threaded(2)).plan
    assert simulate(plan).makespan == 4.0
    in_order = evolve(plan, bundles=tuple(evolve(bundle, rank=0) for bundle in plan.bundles))
    assert simulate(in_order).makespan == 6.0


def random_edges(seed: int, size: int) -> Tuple[Dict[str, List[str]], Dict[str, float]]:
    """A graph of `size` nodes, each reading up to three earlier ones, and seconds between 1 and 9 for each."""
    draw = random.Random(seed)
    names = [f"n{i}" for i in range(size)]
    edges = {name: ["x", *draw.sample(names[:i], draw.randint(0, min(3, i)))] for i, name in enumerate(names)}
    return edges, {name: float(draw.randint(1, 9)) for name in names}


def longest_path(edges: Dict[str, List[str]], seconds: Dict[str, float]) -> float:
    ends: Dict[str, float] = {"x": 0.0}
    for name, reads in edges.items():
        ends[name] = max(ends[read] for read in reads) + seconds[name]
    return max(ends.values())


@given(seed=st.integers(0, 10**6), size=st.integers(1, 40), workers=st.integers(1, 9), mode=st.sampled_from(MODES[1:]))
def test_no_schedule_exceeds_the_bound_of_list_scheduling(seed, size, workers, mode):
    """Graham 1969, "Bounds on multiprocessing timing anomalies": work / m + (1 - 1 / m) * critical path."""
    edges, seconds = random_edges(seed, size)
    backend = LocalBackend(node_execution=mode, max_workers=workers)
    timeline = graph(edges).plan(backend=backend).simulate(seconds)
    assert timeline.work == sum(seconds.values())
    assert timeline.critical_path == longest_path(edges, seconds)
    bound = timeline.work / workers + (1 - 1 / workers) * timeline.critical_path
    assert max(timeline.critical_path, timeline.work / workers) <= timeline.makespan <= bound + 1e-9
    assert most_at_once(timeline.entries) <= workers
    by_lane: Dict[int, float] = {}
    for entry in timeline.entries:
        assert entry.start >= by_lane.get(entry.lane, 0.0)
        by_lane[entry.lane] = entry.end


# -- maps -------------------------------------------------------------------------------------------------------------

one = graph({"y": ["x"]}, "one")
two = Pipeline(nodes=[one.as_node(map_over="xs", input_mapping={"xs": "x"}, name="inner")], name="two")
three = Pipeline(nodes=[two.as_node(map_over="xss", input_mapping={"xss": "xs"}, name="middle")], name="three")


@pytest.mark.parametrize(
    ("nodes", "items"),
    [("sequential", "async"), ("sequential", "threaded"), ("sequential", "parallel")]
    + [(nodes, items) for nodes in ("async", "threaded", "parallel") for items in ("async", "threaded")]
    + [("parallel", "parallel")],
)
def test_nested_maps_of_equal_items_keep_all_workers_busy(nodes, items):
    """200 items of one second on 8 workers are 25 rounds; the widths of the guide (8 and 3) must not cost one more."""
    backend = LocalBackend(node_execution=nodes, map_execution=items, max_workers=8)
    plan = two.plan(inputs=["xs"], map_over="xs", backend=backend)
    timeline = plan.simulate(items={"two": 20, "inner": 10})
    assert timeline.work == 200.0
    assert 25.0 <= timeline.makespan <= 26.0
    assert Counter(entry.path for entry in timeline.entries) == Counter((i, j) for i in range(20) for j in range(10))


@given(
    workers=st.integers(1, 20),
    sizes=st.tuples(st.integers(0, 12), st.integers(0, 7), st.integers(0, 4)),
    seed=st.integers(0, 10**6),
)
def test_no_map_is_wider_than_its_plan_says(workers, sizes, seed):
    plan = three.plan(inputs=["xss"], map_over="xss", backend=threaded(workers))
    items = dict(zip(("three", "middle", "inner"), sizes))

    def seconds(name: str, path: Tuple[int, ...]) -> float:
        return random.Random(f"{seed} {path}").randint(1, 5)

    timeline = plan.simulate(seconds, items)
    paths = [entry.path for entry in timeline.entries]
    assert sorted(paths) == [(i, j, k) for i in range(sizes[0]) for j in range(sizes[1]) for k in range(sizes[2])]
    assert timeline.work == sum(seconds("y", path) for path in paths)
    assert most_at_once(timeline.entries) <= workers
    widths = (workers, max(1, round(workers**0.5)), 1)
    for depth, width in enumerate(widths):
        frames: Dict[Tuple[int, ...], Dict[int, List[Entry]]] = {}
        for entry in timeline.entries:
            frames.setdefault(entry.path[:depth], {}).setdefault(entry.path[depth], []).append(entry)
        for children in frames.values():
            whole = [
                evolve(own[0], start=min(e.start for e in own), end=max(e.end for e in own))
                for own in children.values()
            ]
            assert most_at_once(whole) <= width


def test_sequential_items_take_turns():
    plan = two.plan(map_over="xs", inputs=["xs"], backend=threaded(8, items="sequential"))
    timeline = plan.simulate(items={"two": 3, "inner": 4})
    assert timeline.makespan == 12.0
    assert timeline.critical_path == 1.0
    assert [entry.path for entry in timeline.entries] == [(i, j) for i in range(3) for j in range(4)]


@pytest.mark.parametrize("nodes", MODES)
@pytest.mark.parametrize("items", MODES)
def test_every_pair_of_modes_can_be_simulated(nodes, items):
    """All of the work is on the timeline, but where a worker runs whole items by a schedule of its own."""
    backend = LocalBackend(node_execution=nodes, map_execution=items, max_workers=4)
    timeline = three.plan(map_over="xss", inputs=["xss"], backend=backend).simulate(items=3)
    if items != "parallel" or nodes in ("sequential", "parallel"):
        assert timeline.work == 27.0
    assert timeline.critical_path <= timeline.makespan <= 27.0
    if nodes == items == "sequential":
        assert (timeline.workers, timeline.makespan) == (1, 27.0)


def test_a_map_reads_what_another_defines():
    """Sizes do not come from values, so maps over results, and two maps over one value, each have their own."""
    both = Pipeline(
        nodes=[
            one.as_node(map_over="xs", input_mapping={"xs": "x"}, output_mapping={"y": "ys"}, name="first"),
            one.as_node(map_over="ys", input_mapping={"ys": "x"}, output_mapping={"y": "zs"}, name="second"),
            one.as_node(map_over="xs", input_mapping={"xs": "x"}, output_mapping={"y": "ws"}, name="third"),
        ],
        name="both",
    )
    timeline = both.plan(backend=threaded(4)).simulate(items={"first": 4, "second": 8, "third": 0})
    assert (timeline.makespan, timeline.work, timeline.critical_path) == (3.0, 12.0, 2.0)


def test_items_that_are_mappings_and_products_count_as_items():
    rows = Pipeline(nodes=[one.as_node(map_over="rows", name="each")], name="rows")
    assert rows.plan(backend=threaded(4)).simulate(items=8).makespan == 2.0
    pair = graph({"y": ["a", "b"]}, "pair")
    plan = pair.plan(map_over=["a", "b"], map_mode="product", backend=threaded(4))
    assert plan.simulate(items=6).work == 6.0


def test_the_items_a_plan_was_made_for_are_the_default():
    assert one.plan(map_over="x", n=7, backend=threaded(7)).simulate().work == 7.0
    assert one.plan(map_over="x", backend=threaded(7)).simulate().work == 10.0


# -- what is asked and what is shown ----------------------------------------------------------------------------------


def test_durations_know_nested_pipelines():
    nested = Pipeline(nodes=[one], name="nested")
    plan = nested.plan(backend=threaded(1))
    assert plan.simulate({"one.y": 3.0}).makespan == 3.0
    assert plan.simulate({"y": 2.0}).makespan == 2.0


def test_names_and_numbers_are_checked():
    plan = one.plan(map_over="x", backend=threaded(2))
    with pytest.raises(UnknownNameError) as caught:
        plan.simulate({"yy": 1.0})
    assert (caught.value.role, caught.value.given, caught.value.known) == ("node", "yy", ("y",))
    with pytest.raises(UnknownNameError) as caught:
        plan.simulate(items={"won": 1})
    assert (caught.value.role, caught.value.known) == ("map", ("one",))
    for arguments in (
        {"durations": {"y": -1.0}},
        {"durations": lambda name, path: -1.0},
        {"items": -1},
        {"items": {"one": -1}},
        {"workers": 0},
    ):
        with pytest.raises(OptionError):
            plan.simulate(**arguments)


def test_a_timeline_prints_as_a_chart():
    diamond = graph({"load": ["x"], "left": ["load"], "right": ["load"], "join": ["left", "right"]}, "diamond")
    timeline = diamond.plan(backend=threaded(2)).simulate({"left": 2.0})
    assert str(timeline).splitlines() == [
        "diamond: 4 s on 2 workers, 62% busy; critical path 4 s, work 5 s",
        "0 |load-------------------|left--------------------------------------------|join--------------------",
        "1                         |right-------------------",
        "  0" + " " * 94 + "4 s",
    ]


@pytest.mark.parametrize("workers", [1, 3, 60])
def test_a_chart_fits_a_hundred_columns(workers):
    timeline = one.plan(map_over="x", backend=threaded(workers)).simulate(items=500)
    lines = str(timeline).splitlines()
    assert max(map(len, lines)) <= 100
    assert len(lines) <= 43


def test_nothing_to_run_is_no_time():
    timeline = one.plan(map_over="x", backend=threaded(2)).simulate(items=0)
    assert (timeline.makespan, timeline.critical_path, timeline.entries, timeline.busy) == (0.0, 0.0, (), 0.0)
    assert str(timeline) == "one: 0 s on 2 workers, 0% busy; critical path 0 s, work 0 s"
