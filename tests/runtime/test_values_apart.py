"""What a run, map or item does to values in a worker process is not seen by others; what cannot travel fails alone."""

from __future__ import annotations

import contextvars
import os
import random
import threading

import pytest
from graphs import PAIRS, ids
from observing import notes_of

from hypernodes import LocalBackend, Pipeline, PipelineCallback, node

variable = contextvars.ContextVar("variable")


@pytest.fixture(scope="module")
def backend():
    with LocalBackend("sequential", "parallel", max_workers=1) as made:
        yield made


# ── equal values are not one value ───────────────────────────────────────────────────────────────────────────────────


def appended(x, seen):
    seen.append(x)
    return list(seen)


class Counting:
    def __init__(self):
        self.count = 0

    def __call__(self, x):
        self.count += 1
        return self.count


def test_a_run_finds_fixed_inputs_as_they_were_given(backend):
    pipeline = Pipeline(nodes=[node(output_name="y")(appended)], backend=backend)
    results = [pipeline.map({"x": [1, 2], "seen": []}, "x")["y"] for _ in range(3)]
    assert results == [results[0]] * 3


def test_a_run_finds_context_variables_as_they_were_set(backend):
    pipeline = Pipeline(nodes=[node(output_name="y")(lambda x: appended(x, variable.get()))], backend=backend)

    def run():
        variable.set([])
        return pipeline.map({"x": [1, 2]}, "x")["y"]

    results = [contextvars.copy_context().run(run) for _ in range(3)]
    assert results == [results[0]] * 3


def test_a_run_finds_directory_and_environment_as_they_are(backend, monkeypatch):
    monkeypatch.delenv("HYPERNODES_TEST", raising=False)

    @node(output_name="y")
    def moves(x):
        seen = os.getcwd(), os.environ.get("HYPERNODES_TEST")
        os.chdir("/")
        os.environ["HYPERNODES_TEST"] = "1"
        return seen

    pipeline = Pipeline(nodes=[moves], backend=backend)
    assert [pipeline.map({"x": [0]}, "x")["y"] for _ in range(2)] == [[(os.getcwd(), None)]] * 2


@pytest.mark.parametrize("pair", PAIRS, ids=ids)
def test_items_of_an_outer_map_have_values_of_their_own(pair, backends):
    @node(output_name="draws")
    def generator(seed):
        return random.Random(42)

    @node(output_name="d")
    def draw(x, draws):
        return draws.random()

    inner = Pipeline(nodes=[draw], name="inner")
    outer = Pipeline(nodes=[generator, inner.as_node(input_mapping={"xs": "x"}, map_over="xs")], backend=backends(pair))
    found = outer.map({"seed": [1, 2, 3], "xs": [0]}, "seed", output_name="d")["d"]
    assert found == [[random.Random(42).random()]] * 3


# ── what a callback is told ──────────────────────────────────────────────────────────────────────────────────────────


class Heard(PipelineCallback):
    def __init__(self):
        self.ends = []
        self.errors = []

    def on_node_end(self, node_id, outputs, duration, ctx):
        self.ends.append((node_id, repr(outputs)))

    def on_error(self, node_id, error, ctx):
        self.errors.append(error)


class TwoArguments(Exception):
    def __init__(self, first, second):
        super().__init__(f"{first}-{second}")


class Locked(Exception):
    def __init__(self, text):
        super().__init__(text)
        self.lock = threading.Lock()


class Unreadable:
    def __getstate__(self):
        return {"x": 1}

    def __setstate__(self, state):
        raise ValueError("cannot be rebuilt")


@pytest.mark.parametrize("make", [threading.Lock, Unreadable])
@pytest.mark.parametrize("policy", ["raise", "collect"])
def test_values_that_stay_in_the_worker_are_no_fault(make, policy, backend):
    heard = Heard()
    nodes = [node(output_name="kept")(lambda x: make()), node(output_name="y")(lambda kept, x: x)]
    pipeline = Pipeline(nodes=nodes, backend=backend, callbacks=[heard])
    assert pipeline.map({"x": [1, 2, 3]}, "x", output_name="y", error_policy=policy)["y"] == [1, 2, 3]
    told = [outputs for _, outputs in heard.ends if "kept" in outputs]
    assert len(told) == 3
    assert all("stayed in its process" in outputs for outputs in told)


@pytest.mark.parametrize(("kind", "arguments"), [(TwoArguments, ("a", "b")), (Locked, ("a-b",))])
def test_an_exception_arrives_as_itself_where_somebody_listens(kind, arguments, backend):
    heard = Heard()

    @node(output_name="y")
    def fail(x):
        raise kind(*arguments)

    pipeline = Pipeline(nodes=[fail], backend=backend, callbacks=[heard])
    with pytest.raises(kind, match="a-b"):
        pipeline.map({"x": [1]}, "x")
    assert [type(each) for each in heard.errors] == [kind]


# ── what cannot be read fails alone ──────────────────────────────────────────────────────────────────────────────────


def test_a_row_that_cannot_be_read_is_one_failure(backend):
    pipeline = Pipeline(nodes=[node(output_name="y")(lambda x: 0)], backend=backend)
    xs = [*range(250), Unreadable(), *range(250)]
    result = pipeline.map({"x": xs}, "x", error_policy="collect")
    assert [failure.item for failure in result.failures] == [250]
    with pytest.raises(ValueError, match="cannot be rebuilt") as caught:
        pipeline.map({"x": [Unreadable()]}, "x")
    assert any("read what node" in note and "item 0" in note for note in notes_of(caught.value))


@pytest.mark.parametrize("retries", [0, 1])
def test_a_result_that_cannot_be_read_is_one_failure_and_nothing_runs_twice(retries, tmp_path):
    path = tmp_path / "ran"

    @node(output_name="y")
    def odd(x):
        with open(path, "ab") as file:
            file.write(f"{x}\n".encode())
        return Unreadable() if x == 150 else [x]

    with LocalBackend("sequential", "parallel", max_workers=2, worker_retries=retries) as backend:
        result = Pipeline(nodes=[odd], backend=backend).map({"x": range(500)}, "x", error_policy="collect")
    assert [failure.item for failure in result.failures] == [150]
    assert "cannot be read here" in str(result.failures[0].exception)
    assert result.ok()["y"] == [[x] for x in range(500) if x != 150]
    assert sorted(map(int, path.read_text().split())) == list(range(500))
