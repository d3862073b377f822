"""Each rule of a well-formed graph, broken once; and every pass, over random pipelines, keeps them all."""

from __future__ import annotations

import pytest
from graphs import build, random_case, random_map

from hypernodes.ir.build import mapped
from hypernodes.ir.graph import Call, Graph, Input, Invoke, MapOver, Use, Value
from hypernodes.ir.verify import MalformedGraphError, verify
from hypernodes.lowering import specialise
from hypernodes.lowering.inline import inline
from hypernodes.records import evolve

X, Y, Z = Value("x"), Value("y"), Value("z")
CALL = Call("f", abs, (Use("x", X),), (Y,))
GOOD = Graph("g", (Input(X),), (CALL,), (Y,))
INVOKE = Invoke("inner", GOOD, (Use("x", X),), (Z,), ("y",))
MAP = MapOver("inner", GOOD, (Use("x", X),), (Z,), ("y",), ("x",))


def with_operation(operation):
    return Graph("g", (Input(X),), (operation,), operation.results)


BROKEN = {
    "read before its definition": Graph("g", (Input(X),), (Call("f", abs, (Use("x", Z),), (Y,)), CALL), ()),
    "read as another value": with_operation(evolve(CALL, uses=(Use("x", Value("x", int)),))),
    "defined twice": Graph("g", (Input(X),), (CALL, CALL), (Y,)),
    "an input defined again": with_operation(evolve(CALL, results=(X,))),
    "a parameter passed twice": with_operation(evolve(CALL, uses=(Use("x", X), Use("x", X)))),
    "an output never defined": evolve(GOOD, outputs=(Z,)),
    "more results than yields": with_operation(evolve(INVOKE, results=(Y, Z))),
    "yields what is not returned": with_operation(evolve(INVOKE, yields=("nothing",))),
    "a required input left out": with_operation(evolve(INVOKE, uses=())),
    "maps over what it does not read": with_operation(evolve(MAP, axes=("k",))),
}


@pytest.mark.parametrize("operation", [CALL, INVOKE, MAP], ids=["call", "invoke", "map"])
def test_well_formed(operation):
    graph = with_operation(operation)
    assert verify(graph) is graph


@pytest.mark.parametrize("graph", list(BROKEN.values()), ids=list(BROKEN))
def test_broken(graph):
    with pytest.raises(MalformedGraphError):
        verify(graph)


def verify_deep(graph):
    verify(graph)
    for operation in graph.operations:
        if not isinstance(operation, Call):
            verify_deep(operation.graph)


@pytest.mark.parametrize("seed", range(100))
def test_every_pass_keeps_a_graph_well_formed(seed):
    case = random_case(seed)
    graph = build(case.spec).graph
    verify_deep(graph)
    verify_deep(inline(graph))
    pruned = specialise(graph, frozenset(case.inputs), case.asked or graph.output_names[:1])
    verify_deep(pruned)
    assert not any(isinstance(operation, Invoke) for operation in pruned.operations)
    many = random_map(seed)
    verify_deep(mapped(build(many.spec).graph, many.axes, many.mode))
