"""What one kind of run needs is compiled once, and again when settings change that concern it."""

from __future__ import annotations

import gc

import pytest

from hypernodes import LocalBackend, Pipeline, PipelineCallback, node, plan_cache


@node(output_name="a")
def first(x, y=1):
    return x + y


@node(output_name="b")
def second(a):
    return 2 * a


def made(**options):
    return Pipeline(nodes=[first, second], **options)


@pytest.fixture
def compiled(monkeypatch):
    """Return the names of the pipelines that were compiled, once for each time."""
    names = []

    def compile_(plans, *arguments):
        names.append(plans._graph.name)
        return original(plans, *arguments)

    original = plan_cache.PlanCache.compiled
    monkeypatch.setattr(plan_cache.PlanCache, "compiled", compile_)
    return names


@pytest.mark.parametrize(
    "calls",
    [
        [{"output_name": ["b"]}, {"output_name": ["b"]}, {"output_name": ("b",)}, {"output_name": "b"}],
        [{"output_name": iter(["b", "a"])}, {"output_name": ["b", "a"]}],
        [{"inputs": {"x": 1, "y": 2}}, {"inputs": {"y": 2, "x": 1}}],
        [{"inputs": {"x": 1, "y": 2}, "output_name": ["a"]}, {"inputs": {"y": 3, "x": 1}, "output_name": "a"}],
    ],
    ids=["lists", "iterators", "order", "both"],
)
def test_calls_that_ask_for_the_same_are_one_kind(calls, compiled):
    pipeline = made()
    for call in calls:
        given = call.get("inputs", {"x": 1})
        a = given["x"] + given.get("y", 1)
        results = pipeline.run(given, call.get("output_name"))
        assert results in ({"b": 2 * a}, {"a": a}, {"a": a, "b": 2 * a})
    assert len(compiled) == 1


def test_an_iterator_of_names_is_kept_by_what_it_yields(compiled):
    pipeline = made()
    assert pipeline.run({"x": 1}, iter(["b"])) == {"b": 4}
    assert pipeline.run({"x": 1}, iter(["a"])) == {"a": 2}
    assert pipeline.run({"x": 1}) == {"a": 2, "b": 4}
    assert len(compiled) == 3


def test_maps_and_streams_are_kinds_of_their_own(compiled):
    pipeline = made()
    for _ in range(2):
        assert pipeline.map({"x": [1], "y": 2}, "x", output_name=["b"])["b"] == [6]
        assert pipeline.map({"y": 2, "x": [1]}, ["x"], output_name="b")["b"] == [6]
        assert list(pipeline.stream({"x": [1], "y": 2}, "x", output_name=["b"])) == [(0, {"b": 6})]
    assert len(compiled) == 2


class Listening(PipelineCallback):
    def __init__(self):
        self.told = 0

    def on_node_end(self, *told):
        self.told += 1


CHANGES = {
    "backend": lambda pipeline: setattr(pipeline, "backend", LocalBackend("threaded")),
    "callbacks": lambda pipeline: setattr(pipeline, "callbacks", [Listening()]),
    "cache": lambda pipeline: setattr(pipeline, "cache", None),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_concerns_a_pipeline_and_those_around_it(change, compiled):
    innermost = made(name="innermost")
    inner = Pipeline(nodes=[innermost.as_node()], name="inner")
    outer = Pipeline(nodes=[inner.as_node(input_mapping={"xs": "x"}, map_over="xs")], name="outer")
    other = made(name="other")
    everybody = [(innermost, {"x": 1}), (inner, {"x": 1}), (outer, {"xs": [1]}), (other, {"x": 1})]
    for changed, concerned in ((innermost, 3), (inner, 2), (outer, 1), (other, 1)):
        for pipeline, given in everybody:
            pipeline.run(given)
        compiled.clear()
        CHANGES[change](changed)
        for pipeline, given in everybody:
            assert pipeline.run(given)
        assert len(compiled) == concerned


def test_who_is_told_of_a_change_is_not_kept_alive():
    inner = made()
    for _ in range(5):
        outer = Pipeline(nodes=[inner.as_node()], name="outer")
        outer.run({"x": 1})
    del outer
    gc.collect()
    assert len(inner._settings._told) == 1
    inner.backend = LocalBackend("threaded")
    assert inner.run({"x": 1}) == {"a": 2, "b": 4}


def test_what_is_compiled_while_settings_change_is_not_kept(monkeypatch):
    pipeline, listening = made(), Listening()
    original = LocalBackend.compile

    def compile_(*arguments):
        found = original(*arguments)
        monkeypatch.setattr(LocalBackend, "compile", original)
        pipeline.callbacks = [listening]  # as another thread might, at this very moment
        return found

    monkeypatch.setattr(LocalBackend, "compile", compile_)
    pipeline.run({"x": 1})
    assert listening.told == 0
    pipeline.run({"x": 1})
    assert listening.told == 2


def test_a_bounded_number_of_kinds_is_kept(compiled, monkeypatch):
    monkeypatch.setattr(plan_cache, "KEPT", 4)
    nodes = [node(output_name=f"y{number}")(lambda x, number=number: x + number) for number in range(10)]
    pipeline = Pipeline(nodes=nodes)
    for number in range(10):
        assert pipeline.run({"x": 1, "number": number}, f"y{number}") == {f"y{number}": 1 + number}
    assert len(pipeline._plans._by_request) == 4
    assert len(pipeline._plans._by_call) <= 4
    compiled.clear()
    pipeline.run({"x": 1, "number": 9}, "y9")
    assert not compiled
    pipeline.run({"x": 1, "number": 0}, "y0")
    assert compiled == ["pipeline"]
