"""What a backend has to be: options and `compile`. Everything else of the package asks no more of one."""

from __future__ import annotations

import asyncio

import pytest

from hypernodes import LocalBackend, Pipeline, PipelineCallback, node
from hypernodes.backends import DEFAULT
from hypernodes.backends.base import Backend
from hypernodes.backends.isolate import isolate
from hypernodes.errors import OptionError, UnknownNameError
from hypernodes.ir.graph import Isolated
from hypernodes.ir.verify import MalformedGraphError, verify
from hypernodes.lowering import lower, specialise
from hypernodes.pickling import dumps, loads
from hypernodes.records import evolve


@node(output_name="a")
def first(x):
    return x + 1


@node(output_name="b")
def second(a, y=1):
    return a * 10 + y


class Recording(Backend):
    """Has another backend do the work, and says what it was asked for."""

    def __init__(self):
        self.inner = LocalBackend()
        self.requests = []

    @property
    def options(self):
        return self.inner.options

    def compile(self, graph, request, listeners=None):
        self.requests.append((graph.name, request.axes, request.fed, listeners is not None))
        return self.inner.compile(graph, request, listeners)


def test_a_backend_of_ones_own_runs_everything():
    backend = Recording()
    pipeline = Pipeline(nodes=[first, second], backend=backend, name="p")
    assert pipeline.run({"x": 1}) == {"a": 2, "b": 21}
    assert pipeline.run({"x": 2}) == {"a": 3, "b": 31}
    assert pipeline.map({"x": [1, 2]}, "x")["b"] == [21, 31]
    assert list(pipeline.stream({"x": iter([1])}, "x")) == [(0, {"a": 2, "b": 21})]
    assert asyncio.run(pipeline.arun({"x": 1})) == {"a": 2, "b": 21}
    assert pipeline.plan(["x"]).run({"x": 1}) == {"a": 2, "b": 21}
    pipeline.callbacks = [PipelineCallback()]
    pipeline.run({"x": 1})
    assert backend.requests == [
        ("p", None, False, False),
        ("p", ("x",), False, False),
        ("p", ("x",), True, False),
        ("p", None, False, False),  # `plan` keeps nothing
        ("p", None, False, True),
    ]


def test_a_nested_pipeline_is_run_by_its_own():
    inner_backend, outer_backend = Recording(), Recording()
    inner = Pipeline(nodes=[first], name="inner", backend=inner_backend)
    outer = Pipeline(nodes=[inner.as_node(map_over="x"), total], name="outer", backend=outer_backend)
    for _ in range(2):
        assert outer.run({"x": [1, 2]}) == {"a": [2, 3], "s": 5}
    assert [name for name, *_ in outer_backend.requests] == ["outer"]
    assert [name for name, *_ in inner_backend.requests] == ["inner"]


@node(output_name="s")
def total(a):
    return sum(a)


@pytest.mark.parametrize(
    "wrong", [LocalBackend, "threaded", object(), Recording], ids=["class", "mode", "object", "own class"]
)
def test_what_is_no_backend_is_refused(wrong):
    with pytest.raises(OptionError, match=r"backend|LocalBackend\(\.\.\.\)"):
        Pipeline(nodes=[first], backend=wrong)


def test_a_request_that_does_not_fit_is_refused_by_compile():
    pipeline = Pipeline(nodes=[first], backend=Recording())
    with pytest.raises(UnknownNameError, match="did you mean 'x'"):
        pipeline.run({"X": 1})


# -- the operation of a nested pipeline that another backend runs ------------------------------------------------------


def isolated(inner=None, **options):
    inner = inner or Pipeline(nodes=[first, second], name="inner", backend=LocalBackend("threaded"))
    outer = Pipeline(nodes=[inner.as_node(**options)], name="outer")
    return isolate(outer.graph, DEFAULT)


def test_it_is_a_call_with_a_graph():
    graph = isolated()
    (operation,) = graph.operations
    assert type(operation) is Isolated
    assert (operation.yields, operation.graph.name) == (("a", "b"), "inner")
    assert all(use.keyword for use in operation.uses)
    assert verify(graph) is graph


def test_its_text_shows_the_graph():
    assert str(isolated()) == (
        "graph outer(x, y=1) {\n"
        "  a, b = run inner(x, y)\n"
        "    graph inner(x, y=1) {\n"
        "      a = call first(x)\n"
        "      b = call second(a, y)\n"
        "      return a, b\n"
        "    }\n"
        "  return a, b\n"
        "}"
    )


def test_the_verifier_looks_into_it():
    graph = isolated()
    (operation,) = graph.operations
    for broken in (
        evolve(operation, yields=("a", "c")),
        evolve(operation, yields=("a",)),
        evolve(operation, uses=operation.uses[1:]),
    ):
        with pytest.raises(MalformedGraphError):
            verify(evolve(graph, operations=(broken,)))


def test_what_shares_a_backend_is_left_as_it_is():
    inner = Pipeline(nodes=[first], name="inner")
    outer = Pipeline(nodes=[inner.as_node()], name="outer")
    assert isolate(outer.graph, DEFAULT) is outer.graph
    own = LocalBackend()
    same = Pipeline(nodes=[Pipeline(nodes=[first], name="inner", backend=own).as_node()])
    assert isolate(same.graph, own) is same.graph


def test_only_its_step_runs_a_plan():
    graph = isolate(Pipeline(nodes=[mapped_inner(), total], name="outer").graph, DEFAULT)
    plan = lower(specialise(graph, frozenset(["x"]), ("a", "s")), DEFAULT.options)
    assert [(step.name, step.runs_plan) for step in plan.bundles[0].steps] == [("inner", True), ("total", False)]


def mapped_inner():
    return Pipeline(nodes=[first], name="inner", backend=LocalBackend("threaded")).as_node(map_over="x")


def test_an_override_reaches_the_operations_of_a_run_and_not_those_of_a_map():
    (once,), (mapped,) = isolated().operations, isolated(map_over="x").operations
    assert once.overridable == ("a", "b")
    assert mapped.overridable == ()


def test_a_users_function_with_attributes_of_ours_is_only_a_function():
    def odd(x):
        return x + 1

    odd.runs_plan, odd.overrides, odd.reads_again = True, ("a",), frozenset(["x"])
    pipeline = Pipeline(nodes=[node(output_name="a")(odd), second])
    assert pipeline.run({"x": 1}) == {"a": 2, "b": 21}
    assert pipeline.run({"a": 5}) == {"b": 51}
    stream = iter([1])
    kept = Pipeline(nodes=[node(output_name="a")(keep(odd))])
    assert kept.run({"x": stream})["a"] is stream


def keep(odd):
    def same(x):
        return x

    same.__dict__.update(odd.__dict__)
    return same


def test_it_travels_to_a_worker_process():
    (operation,) = isolated().operations
    assert loads(dumps(operation.fn, "it"))(x=1) == (2, 21)
    inner = Pipeline(nodes=[first, second], name="inner", backend=LocalBackend("threaded", max_workers=2))
    with LocalBackend(map_execution="parallel", max_workers=1) as backend:
        outer = Pipeline(nodes=[inner.as_node()], name="outer", backend=backend)
        assert outer.map({"x": [1, 2]}, "x")["b"] == [21, 31]
