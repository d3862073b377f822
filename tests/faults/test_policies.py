"""Retries, timeouts and pins do in every mode what they say, or are refused before anything runs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
from graphs import PAIRS, PARALLEL_PAIRS, ids
from observing import notes_of

from hypernodes import LocalBackend, Pipeline, node
from hypernodes.errors import NodeDefinitionError, NodeTimeoutError, PlacementError

pytestmark = pytest.mark.slow

every_pair = pytest.mark.parametrize("pair", PAIRS, ids=ids)
parallel_pairs = pytest.mark.parametrize("pair", PARALLEL_PAIRS, ids=ids)
FOREVER = 600


def attempts(folder: Path, x: int) -> int:
    """Count one attempt more, on disk: it may be made in any process."""
    number = len(list(folder.glob(f"{x}-*")))
    (folder / f"{x}-{number}").touch()
    return number


@node(output_name="y", retries=2, retry_on=(TimeoutError, ConnectionError))
def flaky(x: int, folder: Path, failures: int, kind: type) -> int:
    if attempts(folder, x) < failures:
        raise kind(f"attempt at {x}")
    return 2 * x


@node(output_name="y", retries=2, retry_on=ConnectionError)
async def flaky_coroutine(x: int, folder: Path, failures: int, kind: type) -> int:
    await asyncio.sleep(0)
    if attempts(folder, x) < failures:
        raise kind(f"attempt at {x}")
    return 2 * x


_made = {}


@pytest.fixture(scope="module", autouse=True)
def _end_workers():
    yield
    for made in _made.values():
        made.close()
    _made.clear()


@contextlib.contextmanager
def backend(pair):
    """One backend per pair for all of these tests, so that its worker processes are started once."""
    if pair not in _made:
        _made[pair] = LocalBackend(*pair, max_workers=2)
    yield _made[pair]


@every_pair
@pytest.mark.parametrize("fn", [flaky, flaky_coroutine], ids=["plain", "coroutine"])
def test_a_failed_call_is_made_again(pair, fn, tmp_path):
    with backend(pair) as made:
        pipeline = Pipeline(nodes=[fn], name="p", backend=made)
        fixed = {"folder": tmp_path, "failures": 2, "kind": ConnectionError}
        assert pipeline.map(inputs={"x": [1, 2, 3], **fixed}, map_over="x")["y"] == [2, 4, 6]
        assert len(list(tmp_path.iterdir())) == 9
        with pytest.raises(ConnectionError, match="attempt at 7") as caught:
            pipeline.run(inputs={"x": 7, **fixed, "failures": 3})
        notes = caught.value.__notes__
        assert notes[0] == "tried 3 times"
        assert "of pipeline 'p'" in notes[1]
        # What is not worth a retry is not retried.
        with pytest.raises(KeyError) as caught:
            pipeline.run(inputs={"x": 8, **fixed, "kind": KeyError})
        assert not any("tried" in note for note in caught.value.__notes__)
        assert len(list(tmp_path.glob("8-*"))) == 1


@node(output_name="y", timeout=0.2)
async def late_coroutine(x: int) -> int:
    if x == 1:
        await asyncio.sleep(FOREVER)
    return 2 * x


@node(output_name="y", timeout=0.2, placement="process")
def late(x: int) -> int:
    if x == 1:
        time.sleep(FOREVER)
    return 2 * x


@every_pair
@pytest.mark.parametrize("fn", [late_coroutine, late], ids=["coroutine", "process"])
def test_a_late_call_is_ended(pair, fn):
    with backend(pair) as made:
        pipeline = Pipeline(nodes=[fn], name="p", backend=made)
        with pytest.raises(TimeoutError) as caught:
            pipeline.map(inputs={"x": [0, 1, 2, 3]}, map_over="x")
        error = caught.value
        assert isinstance(error, NodeTimeoutError)
        assert (error.node, error.seconds) == (fn.name, 0.2)
        assert "item 1" in error.__notes__[0]
        assert pipeline.map(inputs={"x": [2, 3]}, map_over="x")["y"] == [4, 6]
        with pytest.raises(NodeTimeoutError):
            pipeline.run(inputs={"x": 1})
        assert pipeline.run(inputs={"x": 5}) == {"y": 10}


def test_a_late_call_is_ended_under_arun():
    async def main():
        with pytest.raises(NodeTimeoutError):
            await Pipeline(nodes=[late_coroutine]).arun(inputs={"x": 1})

    asyncio.run(main())


@node(output_name="y", timeout=0.3, retries=2, retry_on=TimeoutError, placement="process")
def late_twice(x: int, folder: Path) -> int:
    if attempts(folder, x) < 2:
        time.sleep(FOREVER)
    return x


@node(output_name="y", timeout=0.3, retries=2, retry_on=TimeoutError)
async def late_twice_coroutine(x: int, folder: Path) -> int:
    if attempts(folder, x) < 2:
        await asyncio.sleep(FOREVER)
    return x


@pytest.mark.parametrize("fn", [late_twice, late_twice_coroutine], ids=["process", "coroutine"])
def test_a_late_call_is_made_again(fn, tmp_path):
    pipeline = Pipeline(nodes=[fn])
    assert pipeline.map(inputs={"x": [1, 2], "folder": tmp_path}, map_over="x")["y"] == [1, 2]
    assert len(list(tmp_path.iterdir())) == 6


def test_a_call_that_is_late_each_time_says_how_often():
    @node(output_name="y", timeout=0.1, retries=1, placement="process")
    def never(x):
        time.sleep(FOREVER)

    with pytest.raises(NodeTimeoutError) as caught:
        Pipeline(nodes=[never]).run(inputs={"x": 1})
    assert "tried 2 times" in caught.value.__notes__


def test_a_coroutine_that_ends_in_time_is_left_alone():
    @node(output_name="y", timeout=FOREVER)
    async def quick(x):
        await asyncio.sleep(0)
        return x

    async def main():
        result = await Pipeline(nodes=[quick]).amap(inputs={"x": range(50)}, map_over="x")
        assert result["y"] == list(range(50))
        # No timer is left to cancel this task.
        await asyncio.sleep(0)

    asyncio.run(main())


def test_a_coroutine_is_given_the_time_to_clean_up():
    cleaned = []

    @node(output_name="y", timeout=0.05)
    async def tidy(x):
        try:
            await asyncio.sleep(FOREVER)
        finally:
            await asyncio.sleep(0)
            cleaned.append(x)

    with pytest.raises(NodeTimeoutError):
        Pipeline(nodes=[tidy]).run(inputs={"x": 1})
    assert cleaned == [1]


@pytest.mark.parametrize("modes", [("sequential", "sequential"), ("threaded", "threaded"), ("async", "async")])
def test_a_timeout_that_nothing_can_keep_is_refused_before_anything_runs(modes):
    ran = []

    @node(output_name="a")
    def first(x):
        ran.append(x)

    @node(output_name="b", timeout=1)
    def second(a):
        return a

    pipeline = Pipeline(nodes=[first, second], name="p", backend=LocalBackend(*modes))
    with pytest.raises(PlacementError, match='add placement="process"') as caught:
        pipeline.run(inputs={"x": 1})
    assert (caught.value.pipeline, caught.value.node) == ("p", "second")
    with pytest.raises(PlacementError):
        pipeline.map(inputs={"x": [1]}, map_over="x")
    with pytest.raises(PlacementError):
        pipeline.plan()
    assert not ran


def test_a_timeout_inside_a_process_with_threads_is_refused():
    @node(output_name="b", timeout=1)
    def slow(x):
        return x

    pipeline = Pipeline(nodes=[slow], backend=LocalBackend("threaded", "parallel", max_workers=2))
    with pytest.raises(PlacementError, match="a thread"):
        pipeline.map(inputs={"x": [1]}, map_over="x")


def test_a_timeout_in_somebody_elses_process_is_refused():
    with ProcessPoolExecutor(1) as executor:
        modes = LocalBackend(map_execution="parallel", executor=executor)
        pipeline = Pipeline(nodes=[late], name="p", backend=modes)
        with pytest.raises(PlacementError, match="ProcessPoolExecutor, which cannot be killed alone"):
            pipeline.map(inputs={"x": [1]}, map_over="x")


# -- pins -------------------------------------------------------------------------------------------------------------


class Client:
    """What cannot leave this process."""

    def __init__(self) -> None:
        self.lock = threading.Lock()

    def __call__(self, x: int) -> str:
        with self.lock:
            return f"{os.getpid()}/{threading.current_thread().name}/{x}"


def where_am_i() -> tuple:
    loop = False
    with contextlib.suppress(RuntimeError):
        loop = asyncio.get_running_loop() is not None
    return os.getpid(), threading.current_thread() is threading.main_thread(), loop


def pinned(placement: str) -> Pipeline:
    @node(output_name="before")
    def before(x):
        return x, os.getpid()

    if placement == "loop":

        @node(output_name="where", placement=placement)
        async def here(before):
            return where_am_i()

    else:

        @node(output_name="where", placement=placement)
        def here(before):
            return where_am_i()

    @node(output_name="after")
    def after(before, where):
        return before, where

    return Pipeline(nodes=[before, here, after], name="p")


EXPECTED = {
    "inline": lambda pid, main, loop: pid == os.getpid() and main and not loop,
    "thread": lambda pid, main, loop: pid == os.getpid() and not loop,
    "process": lambda pid, main, loop: pid != os.getpid(),
    "loop": lambda pid, main, loop: pid == os.getpid() and not main and loop,
}


@every_pair
@pytest.mark.parametrize("placement", list(EXPECTED))
def test_a_pinned_node_runs_where_it_is_pinned(pair, placement):
    with backend(pair) as made:
        pipeline = pinned(placement)
        pipeline.backend = made
        assert EXPECTED[placement](*pipeline.run(inputs={"x": 1})["where"])
        result = pipeline.map(inputs={"x": [1, 2, 3]}, map_over="x")
        assert [before[0] for before in result["before"]] == [1, 2, 3]
        for where in result["where"]:
            assert EXPECTED[placement](*where)
        outer = Pipeline(nodes=[pipeline.as_node(map_over="x")], name="outer", backend=made)
        nested = outer.map(inputs={"x": [[1, 2], [3]]}, map_over="x")
        assert [len(each) for each in nested["where"]] == [2, 1]
        assert all(EXPECTED[placement](*where) for each in nested["where"] for where in each)
        plan = str(pipeline.plan(map_over="x"))
        assert f"[{placement}: " in plan


@parallel_pairs
def test_what_cannot_be_pickled_stays_here(pair):
    client = Client()

    @node(output_name="fetched", placement="thread")
    def fetch(x: int) -> str:
        return client(x)

    @node(output_name="pid")
    def work(fetched: str) -> int:
        return os.getpid()

    with backend(pair) as made:
        pipeline = Pipeline(nodes=[fetch, work], backend=made)
        result = pipeline.map(inputs={"x": [1, 2, 3]}, map_over="x")
        assert {text.split("/")[0] for text in result["fetched"]} == {str(os.getpid())}
        if pair[1] == "parallel" or pair[0] == "parallel":
            assert os.getpid() not in result["pid"]


# -- as they are printed, and refused ---------------------------------------------------------------------------------


def test_the_plan_shows_policies():
    pipeline = Pipeline(nodes=[flaky, node(output_name="z", timeout=2, placement="process")(late.fn)])
    text = str(pipeline.plan(inputs=["x", "folder", "failures", "kind"]))
    assert "    retries 2 on TimeoutError or ConnectionError\n" in text
    assert "[process: placement='process']" in text
    assert "      timeout 2 s\n" in text
    assert '"retry_on": [\n' in pipeline.plan().to_json()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"retries": -1}, "whole number"),
        ({"retries": True}, "whole number"),
        ({"retries": 1.5}, "whole number"),
        ({"retries": 1, "retry_on": KeyboardInterrupt}, "exception classes"),
        ({"retries": 1, "retry_on": "TimeoutError"}, "exception classes"),
        ({"retries": 1, "retry_on": (ValueError, 3)}, "exception classes"),
        ({"retries": 1, "retry_on": ()}, "retry_on=()"),
        ({"retry_on": ()}, "retry_on=()"),
        ({"retry_on": ValueError}, "no retries"),
        ({"backoff": 1}, "no retries"),
        ({"retries": 1, "backoff": -1}, "number of seconds"),
        ({"retries": 1, "jitter": "1"}, "number of seconds"),
        ({"timeout": 0}, "number of seconds"),
        ({"timeout": float("inf")}, "number of seconds"),
        ({"placement": "thraed"}, "did you mean 'thread'"),
        ({"placement": 3}, "use one of"),
        ({"placement": "loop"}, "async def"),
    ],
)
def test_options_without_a_meaning_are_refused(options, words):
    with pytest.raises(NodeDefinitionError, match=words) as caught:

        @node(output_name="y", **options)
        def odd(x):
            return x

    assert caught.value.node == "odd"


@parallel_pairs
def test_failed_and_late_attempts_are_counted_together(pair, tmp_path):
    @node(output_name="y", retries=3, timeout=0.3, placement="process")
    def odd(x):
        if attempts(tmp_path, x) % 2:
            time.sleep(FOREVER)
        raise ValueError(x)

    with backend(pair) as made, pytest.raises(NodeTimeoutError) as caught:
        Pipeline(nodes=[odd], backend=made).map({"x": [0]}, "x")
    assert attempts(tmp_path, 0) == 4
    assert "tried 4 times" in notes_of(caught.value)


@parallel_pairs
def test_nodes_of_one_name_have_policies_of_their_own(pair, tmp_path):
    @node(output_name="u", name="work", timeout=FOREVER, placement="process")
    def quick(x):
        return x

    @node(output_name="v", name="work", timeout=0.3, retries=2, placement="process")
    def slow(u):
        attempts(tmp_path, u)
        time.sleep(FOREVER)

    inner = [Pipeline(nodes=[quick], name="first"), Pipeline(nodes=[slow], name="second")]
    with backend(pair) as made, pytest.raises(NodeTimeoutError) as caught:
        Pipeline(nodes=inner, name="p", backend=made).map({"x": [0]}, "x")
    assert attempts(tmp_path, 0) == 3
    assert any(note.startswith("node 'work' of pipeline 'p.second'") for note in notes_of(caught.value))


@every_pair
def test_a_coroutine_that_holds_up_its_loop_is_late(pair):
    @node(output_name="y", timeout=0.1)
    async def blocking(x):
        time.sleep(0.3)

    with backend(pair) as made, pytest.raises(NodeTimeoutError):
        Pipeline(nodes=[blocking], backend=made).map({"x": [0]}, "x")


@every_pair
def test_a_node_that_ends_late_does_not_make_the_next_one_late(pair):
    """It swallows its cancellation: it is late all the same, and nothing of that is left behind in its task."""

    @node(output_name="a", timeout=0.1)
    async def stubborn(x):
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(FOREVER)
        return x

    @node(output_name="b", timeout=0.1)
    async def patient(x):
        await asyncio.sleep(FOREVER)

    with backend(pair) as made:
        pipeline = Pipeline(nodes=[stubborn, patient], backend=made)
        result = pipeline.map({"x": [1, 2, 3]}, "x", error_policy="collect")
    assert [(failure.node, type(failure.exception)) for failure in result.failures] == [
        (name, NodeTimeoutError) for _ in range(3) for name in ("stubborn", "patient")
    ]
