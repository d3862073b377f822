"""What is wrong is said before any node runs, with fields; what a node raises keeps its type and says where."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import types
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import pytest
from graphs import LOCAL_PAIRS, PAIRS, ids
from observing import notes_of

from hypernodes import LocalBackend, Pipeline, PipelineCallback, node
from hypernodes.errors import (
    ClosedError,
    CycleError,
    DuplicateOutputError,
    MapInputError,
    MapLengthError,
    MissingInputError,
    NotPicklableError,
    OptionError,
    PipelineDefinitionError,
    PlanInputsError,
    TypeMismatchError,
    UnknownNameError,
)


@pytest.fixture
def ran():
    """Every node of the pipelines below that ran."""
    return []


@pytest.fixture
def pipeline(ran):
    """Two nodes, the first without inputs, so that any run that gets as far as running leaves a trace."""

    @node("start")
    def start():
        ran.append("start")
        return 0

    @node("end")
    def end(start, text, scale=1):
        ran.append("end")
        return (start, text, scale)

    return Pipeline(nodes=[start, end], name="errors")


# -- before anything runs ---------------------------------------------------------------------------------------------


def test_missing_input(pipeline, ran):
    with pytest.raises(MissingInputError) as caught:
        pipeline.run({"scale": 2})
    error = caught.value
    assert (error.pipeline, error.node, error.parameter, error.provided) == ("errors", "end", "text", ("scale",))
    assert ran == []


def test_missing_input_of_a_nested_pipeline(pipeline, ran):
    with pytest.raises(MissingInputError) as caught:
        Pipeline(nodes=[pipeline.as_node(input_mapping={"outer": "text"}, name="inner")], name="top").run()
    error = caught.value
    assert (error.pipeline, error.node, error.parameter) == ("top.inner", "end", "outer")
    assert ran == []


ALL_GAPS = (
    ("top", "one", "a"),
    ("top", "one", "b"),
    ("top", "two", "b"),
    ("top.inner", "three", "c"),
    ("top.each", "four", "d"),
)


@pytest.fixture
def gaps():
    """Nodes that need four inputs, one of them twice, in the pipeline itself, in a nested one and in a map."""
    inner = Pipeline(nodes=[node("r3", name="three")(lambda c: c)], name="inner")
    each = Pipeline(nodes=[node("r4", name="four")(lambda item, d: (item, d))], name="each")
    nodes = [node("r1", name="one")(lambda a, b, default=1: a), node("r2", name="two")(lambda b: b)]
    return Pipeline(nodes=[*nodes, inner, each.as_node({"items": "item"}, map_over="items")], name="top")


@pytest.mark.parametrize("pair", LOCAL_PAIRS, ids=ids)
def test_all_missing_inputs_are_told_at_once_with_who_needs_them(gaps, pair):
    gaps.backend = LocalBackend(*pair, max_workers=2)

    async def astream():
        return [row async for row in gaps.astream({"items": [[1]]}, "items")]

    for run in (
        lambda: gaps.run({"items": [1]}),
        lambda: gaps.map({"items": [[1]]}, "items"),
        lambda: list(gaps.stream({"items": [[1]]}, "items")),
        lambda: gaps.plan(["items"]),
        lambda: gaps.run({"items": [1]}, error_policy="collect"),
        lambda: asyncio.run(gaps.arun({"items": [1]})),
        lambda: asyncio.run(gaps.amap({"items": [[1]]}, "items")),
        lambda: asyncio.run(astream()),
    ):
        with pytest.raises(MissingInputError) as caught:
            run()
        assert caught.value.missing == ALL_GAPS
        text = str(caught.value)
        assert "nodes 'one', 'two' need 'b'" in text
        assert "node 'four' of 'top.each' needs 'd'" in text
        assert "inputs={'a': ..., 'b': ..., 'c': ..., 'd': ...}" in text


def test_only_what_is_asked_for_is_missing(gaps):
    with pytest.raises(MissingInputError) as caught:
        gaps.run({"a": 1}, output_name=["r1", "r3"])
    assert caught.value.missing == (("top", "one", "b"), ("top.inner", "three", "c"))


def test_all_that_a_spread_item_lacks_is_told_at_once():
    inner = Pipeline(nodes=[node("y")(lambda left, right, scale=1: left)], name="inner")
    with pytest.raises(MissingInputError) as caught:
        Pipeline(nodes=[inner.as_node(map_over="rows")]).run({"rows": [{"scale": 2}]})
    assert [name for _, _, name in caught.value.missing] == ["left", "right"]
    assert "item 0" in str(caught.value)


def test_all_axes_that_are_not_given_are_named(gaps):
    with pytest.raises(MapInputError) as caught:
        gaps.map({}, ["a", "c"])
    assert caught.value.fix == "pass inputs={'a': [...], 'c': [...]}"


def test_unknown_input(pipeline, ran):
    with pytest.raises(UnknownNameError) as caught:
        pipeline.run({"txt": "a"})
    assert (caught.value.role, caught.value.given, caught.value.known) == ("input", "txt", ("text", "scale"))
    assert "did you mean 'text'?" in str(caught.value)
    assert ran == []


def test_unknown_output(pipeline, ran):
    for asked in ("ende", ["start", "ende"]):
        with pytest.raises(UnknownNameError) as caught:
            pipeline.run({"text": "a"}, output_name=asked)
        assert (caught.value.role, caught.value.given) == ("output", "ende")
        assert "did you mean 'end'?" in str(caught.value)
    assert ran == []


@pytest.mark.parametrize("axes", ["txt", ["text", "txt"]])
def test_unknown_map_over(pipeline, axes, ran):
    with pytest.raises(UnknownNameError) as caught:
        pipeline.map({"text": ["a"]}, map_over=axes)
    assert caught.value.given == "txt"
    assert "did you mean 'text'?" in str(caught.value)
    assert ran == []


def test_mapping_over_nothing(pipeline):
    for start in (lambda: pipeline.map({"text": ["a"]}, map_over=[]), lambda: pipeline.as_node(map_over=[])):
        with pytest.raises(OptionError) as caught:
            start()
        assert caught.value.option == "map_over"


def test_map_over_what_is_not_given(pipeline, ran):
    with pytest.raises(MapInputError) as caught:
        pipeline.map({"text": ["a"]}, map_over="scale")
    assert caught.value.parameter == "scale"
    assert ran == []


@pytest.mark.parametrize("value", ["abc", b"abc", bytearray(b"abc"), {"a": 1}, 5, None, 1.5, object], ids=repr)
@pytest.mark.parametrize("mode", ["zip", "product"])
def test_what_cannot_be_mapped_over(pipeline, value, mode, ran):
    with pytest.raises(MapInputError) as caught:
        pipeline.map({"text": value}, map_over="text", map_mode=mode)
    assert (caught.value.pipeline, caught.value.parameter) == ("errors", "text")
    assert ran == []


def test_unequal_lengths(pipeline, ran):
    with pytest.raises(MapLengthError) as caught:
        pipeline.map({"text": ["ab"], "scale": [1, 2]}, map_over=["text", "scale"])
    assert caught.value.lengths == {"text": 1, "scale": 2}
    assert ran == []


@pytest.mark.parametrize("pair", LOCAL_PAIRS, ids=ids)
def test_a_fault_in_a_nested_map_fails_the_run(pair):
    inner = Pipeline(nodes=[node("y")(lambda x: x)], name="inner")
    outer = Pipeline(nodes=[inner.as_node(map_over="x")], backend=LocalBackend(*pair, max_workers=2))
    with pytest.raises(MapInputError) as caught:
        outer.map({"x": [[1], 5]}, map_over="x")
    assert caught.value.parameter == "x"


@pytest.mark.parametrize("item", [{"b": 1}, {"a": 1, "c": 2}, 5], ids=repr)
@pytest.mark.parametrize("mode", ["sequential", "threaded", "parallel"])
def test_rows_that_do_not_fit(item, mode):
    inner = Pipeline(nodes=[node("y")(lambda a, b=0: a)], name="inner")
    with LocalBackend(map_execution=mode, max_workers=2) as backend:
        outer = Pipeline(nodes=[inner.as_node(map_over="rows")], backend=backend)
        with pytest.raises((MissingInputError, UnknownNameError, MapInputError)) as caught:
            outer.run({"rows": [{"a": 1}, item]})
    assert "item 1" in str(caught.value)


@pytest.mark.parametrize("mode", ["ZIP", "both", "", None])
def test_map_mode(pipeline, mode, ran):
    with pytest.raises(OptionError):
        pipeline.map({"text": ["a"]}, map_over="text", map_mode=mode)
    with pytest.raises(OptionError):
        pipeline.as_node(map_over="text", map_mode=mode)
    assert ran == []


def test_duplicate_outputs():
    with pytest.raises(DuplicateOutputError) as caught:
        Pipeline(nodes=[node("x", name="one")(lambda: 1), node(("y", "x"), name="two")(lambda: 2)], name="p")
    error = caught.value
    assert (error.pipeline, error.output, error.first, error.second) == ("p", "x", "one", "two")


def test_duplicate_outputs_of_nested_pipelines():
    inner = Pipeline(nodes=[node("x", name="one")(lambda: 1)], name="inner")
    with pytest.raises(DuplicateOutputError) as caught:
        Pipeline(nodes=[inner, node("x", name="two")(lambda: 1)])
    assert (caught.value.first, caught.value.second) == ("inner", "two")


def test_all_collisions_are_told_at_once():
    inner = Pipeline(nodes=[node(("x", "y"), name="one")(lambda: (1, 2)), node("z")(lambda y: y)], name="inner")
    with pytest.raises(DuplicateOutputError) as caught:
        Pipeline(nodes=[inner, inner.as_node(name="again"), node("x", name="two")(lambda: 1)])
    error = caught.value
    assert (error.output, error.first, error.second) == ("x", "inner", "again")
    collisions = [("x", "again"), ("y", "again"), ("z", "again"), ("x", "two")]
    assert error.collisions == tuple((output, "inner", second) for output, second in collisions)
    assert "output_mapping={'x': ..., 'y': ..., 'z': ...}" in str(error)
    renamed = inner.as_node(output_mapping={name: f"{name}2" for name in "xyz"})
    assert Pipeline(nodes=[inner, renamed]).run() == {"x": 1, "y": 2, "z": 2, "x2": 1, "y2": 2, "z2": 2}


@pytest.mark.parametrize("length", [1, 2, 3, 5000])
def test_a_cycle_is_drawn(length):
    nodes = [node(f"v{i}", name=f"n{i}")(_identity(f"v{(i - 1) % length}")) for i in range(length)]
    with pytest.raises(CycleError) as caught:
        Pipeline(nodes=[node("free")(lambda: 1), *nodes], name="loop")
    path = caught.value.path
    assert path[0] == path[-1]
    assert len(path) == length + 1
    assert " → ".join(path) in str(caught.value)
    numbers = [int(name[1:]) for name in path]
    assert all(later == (earlier + 1) % length for earlier, later in zip(numbers, numbers[1:]))


def _identity(name):
    namespace = {"__name__": "made_up"}
    exec(f"def f({name}): return {name}", namespace)
    return namespace["f"]


@pytest.mark.parametrize(
    "nodes", [[], [lambda x: x], [None], 5, node("x")(lambda: 1)], ids=["none", "function", "None", "int", "one"]
)
def test_nodes_that_make_no_pipeline(nodes):
    with pytest.raises(PipelineDefinitionError) as caught:
        Pipeline(nodes=nodes, name="p")
    assert caught.value.pipeline == "p"


def test_type_mismatch():
    def make(a: int) -> str:
        return str(a)

    def take(text: int) -> int:
        return text

    with pytest.raises(TypeMismatchError) as caught:
        Pipeline(nodes=[node("text")(make), node("out")(take)], name="p")
    error = caught.value
    assert (error.pipeline, error.value, error.producer, error.consumer) == ("p", "text", "make", "take")
    assert (error.produced, error.parameter, error.wanted) == ("str", "text", "int")
    assert Pipeline(nodes=[node("text")(make), node("out")(take)], type_check=False).run({"a": 1})["out"] == "1"


class Rows(dict):
    pass


@pytest.mark.parametrize(
    "wrong", [5, "text", b"text", ["text"], ("text",), [("text", "a")], {"text"}, object, dict, 1.5, True], ids=repr
)
def test_inputs_of_a_wrong_type(pipeline, wrong, ran):
    async def awaited(coroutine):
        return await coroutine

    pipeline.run({"text": "a"})
    pipeline.map({"text": ["a"]}, "text")
    ran.clear()
    plan = pipeline.plan(["text"])
    for run in (
        lambda: pipeline.run(wrong),
        lambda: pipeline.run(inputs=wrong, output_name="end", error_policy="collect"),
        lambda: pipeline.map(wrong, "text"),
        lambda: pipeline.stream(wrong, "text"),
        lambda: pipeline.astream(wrong, "text"),
        lambda: asyncio.run(awaited(pipeline.arun(wrong))),
        lambda: asyncio.run(awaited(pipeline.amap(wrong, "text"))),
        lambda: plan.run(wrong),
    ):
        with pytest.raises(OptionError) as caught:
            run()
        assert caught.value.option == "inputs"
        assert "dict" in caught.value.fix
    assert ran == []


def test_inputs_may_be_any_mapping_and_what_is_like_one(pipeline):
    pandas = pytest.importorskip("pandas")
    expected = pipeline.run({"text": 1, "scale": 2})
    for inputs in (Rows(text=1, scale=2), types.MappingProxyType({"text": 1, "scale": 2})):
        assert pipeline.run(inputs) == expected
    assert pipeline.run(pandas.Series({"text": 1, "scale": 2})) == expected
    frame = pandas.DataFrame({"text": [1, 1], "scale": [2, 2]})
    assert pipeline.map(frame, ["text", "scale"])["end"] == [expected["end"]] * 2
    assert list(pipeline.stream(frame, ["text", "scale"], ordered=True)) == [(0, expected), (1, expected)]


@pytest.mark.parametrize("wrong", [None, 5, [5], [None], [["text"]], b"text", ["text", "text"], object], ids=repr)
def test_map_over_of_a_wrong_type(pipeline, wrong, ran):
    inputs = {"text": ["a"]}
    calls = [
        lambda: pipeline.map(inputs, map_over=wrong),
        lambda: pipeline.stream(inputs, map_over=wrong),
        lambda: pipeline.astream(inputs, map_over=wrong),
        lambda: asyncio.run(pipeline.amap(inputs, map_over=wrong)),
    ]
    if wrong is not None:
        calls += [lambda: pipeline.as_node(map_over=wrong), lambda: pipeline.plan(map_over=wrong)]
    for call in calls:
        with pytest.raises(OptionError) as caught:
            call()
        assert caught.value.option == "map_over"
        assert caught.value.fix
    assert ran == []


@pytest.mark.parametrize("wrong", [5, [5], [["end"]], object], ids=repr)
def test_output_name_of_a_wrong_type(pipeline, wrong, ran):
    for call in (
        lambda: pipeline.run({"text": "a"}, output_name=wrong),
        lambda: pipeline.map({"text": ["a"]}, "text", output_name=wrong),
        lambda: pipeline.plan(output_name=wrong),
    ):
        with pytest.raises(OptionError) as caught:
            call()
        assert caught.value.option == "output_name"
    assert ran == []


def test_names_may_come_from_an_iterator(pipeline):
    for _ in range(2):
        assert pipeline.run({"text": "a"}, output_name=iter(["end"])) == {"end": (0, "a", 1)}
    assert pipeline.run({"text": "a"}, output_name=()) == {}
    assert pipeline.map({"text": ["a"]}, map_over=iter(["text"]))["end"] == [(0, "a", 1)]


@pytest.mark.parametrize("wrong", [5, "callback", object(), [5], [PipelineCallback], {"a": 1}])
def test_callbacks_of_a_wrong_type(pipeline, wrong):
    for call in (
        lambda: Pipeline(nodes=pipeline.nodes, callbacks=wrong),
        lambda: setattr(pipeline, "callbacks", wrong),
    ):
        with pytest.raises(OptionError) as caught:
            call()
        assert caught.value.option == "callbacks"
        assert caught.value.fix


@pytest.mark.parametrize("option", ["input_mapping", "output_mapping"])
@pytest.mark.parametrize("wrong", [5, "text", ["text"], [("a", "text")]], ids=repr)
def test_mappings_of_a_wrong_type(pipeline, option, wrong):
    with pytest.raises(OptionError) as caught:
        pipeline.as_node(**{option: wrong})
    assert caught.value.option == option


def test_the_inputs_of_a_plan_are_names(pipeline):
    assert pipeline.plan("text").run({"text": "a"}) == pipeline.run({"text": "a"})
    for wrong in (5, [5], ["text", "text"]):
        with pytest.raises(OptionError) as caught:
            pipeline.plan(wrong)
        assert caught.value.option == "inputs"


def test_a_plan_runs_what_it_was_made_for(pipeline, ran):
    plan = pipeline.plan(inputs=["text"])
    with pytest.raises(PlanInputsError) as caught:
        plan.run({"text": "a", "scale": 1})
    assert caught.value.made_for == ("text",)
    with pytest.raises(PlanInputsError):
        plan.run()
    assert ran == []
    assert plan.run({"text": "a"}) == pipeline.run({"text": "a"})


# -- backends ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["node_execution", "map_execution"])
@pytest.mark.parametrize("mode", ["thread", "Async", "", None, 3])
def test_a_bad_mode_lists_the_four(option, mode):
    with pytest.raises(OptionError) as caught:
        LocalBackend(**{option: mode})
    assert caught.value.option == option
    for known in ("sequential", "async", "threaded", "parallel"):
        assert known in caught.value.fix


@pytest.mark.parametrize("workers", [0, -1, 1.5, True, "4"], ids=repr)
def test_a_bad_number_of_workers(workers):
    with pytest.raises(OptionError) as caught:
        LocalBackend(max_workers=workers)
    assert caught.value.option == "max_workers"


def test_an_executor_that_cannot_serve_the_mode():
    with ThreadPoolExecutor(1) as threads, ProcessPoolExecutor(1) as processes:
        for modes, executor in [
            (("threaded", "threaded"), processes),
            (("sequential", "async"), processes),
            (("parallel", "sequential"), threads),
            (("sequential", "sequential"), threads),
            (("threaded", "threaded"), object()),
        ]:
            with pytest.raises(OptionError) as caught:
                LocalBackend(*modes, executor=executor)
            assert caught.value.option == "executor"


@pytest.mark.parametrize("cls", [ThreadPoolExecutor, ProcessPoolExecutor])
def test_the_class_of_an_executor_is_no_executor(cls):
    with pytest.raises(OptionError) as caught:
        LocalBackend("threaded", "parallel", executor=cls)
    assert (caught.value.option, caught.value.given) == ("executor", cls.__name__)
    assert f"{cls.__name__}(" in caught.value.fix


def test_a_closed_backend_says_so():
    backend = LocalBackend("parallel", max_workers=1)
    pipeline = Pipeline(nodes=[node("a")(lambda: 1)], backend=backend)
    backend.close()
    backend.close()
    with pytest.raises(ClosedError):
        pipeline.run()


@pytest.mark.parametrize("modes", [("parallel", "sequential"), ("sequential", "parallel")], ids=ids)
def test_what_cannot_be_pickled_is_found_before_any_node_runs(modes, tmp_path):
    lock = threading.Lock()
    trace = tmp_path / "trace"

    @node("first")
    def first(x):
        trace.write_text("ran")
        return x

    @node("second")
    def second(first):
        return lock.locked()

    with LocalBackend(*modes, max_workers=2) as backend:
        pipeline = Pipeline(nodes=[first, second], name="p", backend=backend)
        with pytest.raises(NotPicklableError) as caught:
            pipeline.map({"x": [1]}, "x")
    assert caught.value.subject == "node 'second'"
    assert caught.value.path
    assert "'lock'" in caught.value.path[0]
    assert not trace.exists()


def test_an_input_that_cannot_be_pickled_is_named(tmp_path):
    with LocalBackend("parallel", max_workers=2) as backend:
        pipeline = Pipeline(nodes=[node("y")(lambda client: 1)], name="p", backend=backend)
        with pytest.raises(NotPicklableError) as caught:
            pipeline.run({"client": threading.Lock()})
    assert "'client'" in caught.value.subject


# -- what a node raises -----------------------------------------------------------------------------------------------


class Broken(Exception):
    def __init__(self, x, *, why):
        super().__init__(x)
        self.x = x
        self.why = why

    def __reduce__(self):
        return _broken, (self.x, self.why)


def _broken(x, why):
    return Broken(x, why=why)


def explode(x):
    if x == 3:
        raise Broken(x, why="three")
    return x


async def explode_later(x):
    await asyncio.sleep(0)
    return explode(x)


@pytest.mark.parametrize("fn", [explode, explode_later], ids=["plain", "coroutine"])
@pytest.mark.parametrize("pair", PAIRS, ids=ids)
def test_an_exception_keeps_its_type_and_says_where(pair, fn, backends):
    pipeline = Pipeline(nodes=[node("y", name="fragile")(fn)], name="p", backend=backends(pair))
    with pytest.raises(Broken) as caught:
        pipeline.run({"x": 3})
    assert (caught.value.x, caught.value.why) == (3, "three")
    assert notes_of(caught.value) == ["node 'fragile' of pipeline 'p', inputs x=3"]


@pytest.mark.parametrize("fn", [explode, explode_later], ids=["plain", "coroutine"])
@pytest.mark.parametrize("pair", PAIRS, ids=ids)
def test_an_exception_in_a_map_names_the_item(pair, fn, backends):
    pipeline = Pipeline(nodes=[node("y", name="fragile")(fn)], name="p", backend=backends(pair))
    with pytest.raises(Broken) as caught:
        pipeline.map({"x": [0, 1, 3]}, "x")
    assert notes_of(caught.value) == ["node 'fragile' of pipeline 'p', item 2, inputs x=3"]


@pytest.mark.parametrize("pair", PAIRS, ids=ids)
def test_an_exception_in_nested_maps_names_all_items(pair, backends):
    inner = Pipeline(nodes=[node("y", name="fragile")(explode)], name="inner")
    middle = Pipeline(nodes=[inner], name="middle")
    outer = Pipeline(nodes=[middle.as_node(map_over="x", name="each")], name="outer", backend=backends(pair))
    with pytest.raises(Broken) as caught:
        outer.map({"x": [[0], [1, 3]]}, "x")
    assert notes_of(caught.value) == ["node 'fragile' of pipeline 'outer.each.inner', item 1.1, inputs x=3"]


def test_inputs_in_a_note_are_shortened():
    def fail(text, numbers):
        raise ValueError

    with pytest.raises(ValueError) as caught:
        Pipeline(nodes=[node("y")(fail)]).run({"text": "a" * 10_000, "numbers": list(range(10_000))})
    assert len(notes_of(caught.value)[0]) < 300


def test_an_input_that_cannot_be_shown_spoils_nothing():
    class Shy:
        def __repr__(self):
            raise RuntimeError

    def fail(x):
        raise ValueError

    with pytest.raises(ValueError) as caught:
        Pipeline(nodes=[node("y")(fail)]).run({"x": Shy()})
    assert "inputs x=<" in notes_of(caught.value)[0]


@pytest.mark.parametrize("modes", [("threaded", "sequential"), ("async", "sequential")], ids=ids)
def test_of_two_failures_one_is_raised_and_the_other_told(modes):
    both = threading.Barrier(2, timeout=20)

    @node("a")
    def first():
        both.wait()
        raise KeyError("first")

    @node("b")
    def second():
        both.wait()
        raise IndexError("second")

    pipeline = Pipeline(nodes=[first, second], backend=LocalBackend(*modes, max_workers=2))
    with pytest.raises((KeyError, IndexError)) as caught:
        pipeline.run()
    other = "IndexError" if isinstance(caught.value, KeyError) else "KeyError"
    assert any(other in note for note in notes_of(caught.value))


def test_of_two_failures_the_first_is_raised():
    """The second node fails only as it is cancelled, which the first one's failure causes."""
    waits = threading.Event()

    @node("a")
    def first():
        waits.wait(20)
        raise KeyError("first")

    @node("b")
    async def second():
        waits.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise IndexError("second") from None

    pipeline = Pipeline(nodes=[first, second], backend=LocalBackend("threaded", max_workers=2))
    with pytest.raises(KeyError) as caught:
        pipeline.run()
    assert any("IndexError" in note for note in notes_of(caught.value))


@pytest.mark.parametrize("pair", LOCAL_PAIRS, ids=ids)
def test_after_a_failure_nothing_new_starts(pair):
    ran = []

    def work(x):
        ran.append(x)
        if x == 0:
            raise ValueError(x)
        return x

    pipeline = Pipeline(nodes=[node("y")(work)], backend=LocalBackend(*pair, max_workers=2))
    with pytest.raises(ValueError):
        pipeline.map({"x": range(100_000)}, "x")
    seen = len(ran)
    assert seen < 100_000
    assert len(ran) == seen


@pytest.mark.parametrize("pair", [p for p in LOCAL_PAIRS if p != ("sequential", "sequential")], ids=ids)
def test_running_coroutines_are_cancelled_and_awaited(pair):
    """The item that fails waits until others run; these would wait for ever, and clean up as they are cancelled."""
    if pair[1] == "sequential":
        pytest.skip("one item at a time")
    entered, cleaned = [], []

    async def work(x):
        entered.append(x)
        if x == 3:
            while len(entered) < 4:
                await asyncio.sleep(0)
            raise ValueError(x)
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned.append(x)

    pipeline = Pipeline(nodes=[node("y")(work)], backend=LocalBackend(*pair, max_workers=4))
    with pytest.raises(ValueError):
        pipeline.map({"x": range(4)}, "x")
    assert sorted(cleaned) == [0, 1, 2]


@pytest.mark.slow
@pytest.mark.parametrize("pair", PAIRS, ids=ids)
def test_nothing_is_left_of_a_run_that_failed(pair):
    """No thread, no descriptor and no process; and the next run works at once."""
    nodes = [node("y")(explode), node("z")(explode_later), node("w")(lambda y, z: (y, z))]
    pipeline = Pipeline(nodes=nodes)

    def fail_and_work():
        with LocalBackend(*pair, max_workers=2) as pipeline.backend:
            for _ in range(2):
                with pytest.raises(Broken):
                    pipeline.map({"x": [0, 3, 1]}, "x")
                assert pipeline.map({"x": [0, 1]}, "x")["w"] == [(0, 0), (1, 1)]

    fail_and_work()
    before = what_there_is()
    fail_and_work()
    assert what_there_is() == before


def what_there_is():
    """Return threads, the number of descriptors, and child processes, once garbage has let go of its own."""
    gc.collect()
    with open(f"/proc/self/task/{os.getpid()}/children") as children:
        return threading.enumerate(), len(os.listdir("/proc/self/fd")), children.read()


@pytest.mark.parametrize("pair", LOCAL_PAIRS, ids=ids)
def test_no_task_is_left_on_the_callers_loop(pair):
    pipeline = Pipeline(
        nodes=[node("y")(explode), node("z")(explode_later)], backend=LocalBackend(*pair, max_workers=2)
    )

    async def main():
        with pytest.raises(Broken):
            await pipeline.amap({"x": [0, 3, 1, 2]}, "x")
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())


@pytest.mark.parametrize("pair", LOCAL_PAIRS, ids=ids)
def test_a_cancelled_arun_stops_and_is_awaited(pair):
    entered, cleaned = threading.Event(), []

    async def work(x):
        entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.append(x)

    pipeline = Pipeline(nodes=[node("y")(work)], backend=LocalBackend(*pair, max_workers=2))

    async def main():
        task = asyncio.ensure_future(pipeline.arun({"x": 1}))
        while not entered.is_set():
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert cleaned == [1]

    asyncio.run(asyncio.wait_for(main(), 30))


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError, StopIteration])
@pytest.mark.parametrize("pair", LOCAL_PAIRS, ids=ids)
def test_unusual_exceptions_come_out(pair, error):
    def work(x):
        raise error("from a node")

    pipeline = Pipeline(nodes=[node("y")(work)], backend=LocalBackend(*pair, max_workers=2))
    with pytest.raises(error):
        pipeline.run({"x": 1})
    with pytest.raises(error):
        pipeline.map({"x": [1, 2]}, "x")


# -- coroutine functions may stay where their clients are -------------------------------------------------------------


class Client:
    def __reduce__(self):
        raise TypeError("holds a connection")


def test_what_a_coroutine_function_reads_may_stay_here():
    """The fix names placement="loop", and it works."""

    async def fetch(x, session):
        return x

    for pair in (("parallel", "sequential"), ("sequential", "parallel"), ("parallel", "parallel")):
        with LocalBackend(*pair, max_workers=1) as backend:
            pipeline = Pipeline(nodes=[node(output_name="y")(fetch)], backend=backend)
            for inputs in ({"x": [1], "session": Client()}, {"x": [1], "session": [Client()]}):
                axes = ["x"] if type(inputs["session"]) is Client else ["x", "session"]
                with pytest.raises(NotPicklableError) as caught:
                    pipeline.map(inputs=inputs, map_over=axes)
                assert "@node(placement='loop')" in caught.value.fix
                assert "'session'" in caught.value.subject
                assert "node 'fetch'" in caught.value.subject
            pinned = Pipeline(nodes=[node(output_name="y", placement="loop")(fetch)], backend=backend)
            assert pinned.map(inputs={"x": [1], "session": Client()}, map_over="x")["y"] == [1]


def test_the_node_that_reads_it_is_named_also_behind_others():
    async def fetch(ready, session):
        return ready

    def prepare(x):
        return x + 1

    nodes = [node(output_name="ready")(prepare), node(output_name="y")(fetch)]
    with LocalBackend("parallel", "parallel", max_workers=1) as backend:
        pipeline = Pipeline(nodes=nodes, backend=backend)
        for action in (
            lambda: pipeline.run(inputs={"x": 1, "session": Client()}),
            lambda: pipeline.map(inputs={"x": [1], "session": Client()}, map_over="x"),
        ):
            with pytest.raises(NotPicklableError) as caught:
                action()
            assert "node 'fetch'" in caught.value.subject
            assert "@node(placement='loop')" in caught.value.fix


def test_what_a_coroutine_function_refers_to_may_stay_here():
    held = Client()

    async def fetch(x):
        return held

    with LocalBackend("parallel", max_workers=1) as backend:
        with pytest.raises(NotPicklableError) as caught:
            Pipeline(nodes=[node(output_name="y")(fetch)], backend=backend).run(inputs={"x": 1})
        assert "@node(placement='loop')" in caught.value.fix
        pinned = Pipeline(nodes=[node(output_name="y", placement="loop")(fetch)], backend=backend)
        assert pinned.run(inputs={"x": 1})["y"] is held


def test_a_plain_function_gets_no_such_advice():
    with LocalBackend("parallel", max_workers=1) as backend, pytest.raises(NotPicklableError) as caught:
        Pipeline(nodes=[node(output_name="y")(lambda session: 1)], backend=backend).run(inputs={"session": Client()})
    assert "loop" not in caught.value.fix
