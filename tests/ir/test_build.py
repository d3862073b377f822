"""Declared operations become one graph: wired by name, ordered, printed the same everywhere."""

from __future__ import annotations

import re
from typing import Dict, List, Tuple

import pytest
from graphs import PAIRS

from hypernodes import LocalBackend, Pipeline, node


@node(output_name="text")
def load(path: str, encoding: str = "utf-8") -> str:
    return ""


@node(output_name="tokens")
def tokenize(text: str, *, lower: bool = True) -> List[str]:
    return []


@node(output_name=("count", "sizes"))
def measure(tokens: List[str]) -> Tuple[int, Dict[str, int]]:
    return 0, {}


@node(output_name="remote")
async def fetch(count):
    return count


@node(output_name="total")
def add_up(count: List[int]) -> int:
    return 0


TEXT = Pipeline(nodes=[measure, tokenize, load], name="text_stats")
CORPUS = Pipeline(nodes=[TEXT.as_node({"paths": "path"}, map_over="paths", name="each"), add_up], name="corpus")


def nested():
    pair = Pipeline(nodes=[node("y", name="scale")(lambda x, k=2: x * k)], name="pair")
    return Pipeline(
        nodes=[
            pair.as_node({"a": "x", "b": "k"}, {"y": "grid"}, ["a", "b"], "product", name="grid"),
            pair.as_node(output_mapping={"y": "rows_y"}, map_over="rows", name="rows"),
            TEXT,
            fetch,
        ],
        name="nested",
    )


def test_graph_of_a_flat_pipeline(golden):
    golden("graph_flat.txt", str(TEXT.graph))


def test_graph_of_a_mapped_pipeline(golden):
    golden("graph_corpus.txt", str(CORPUS.graph))


def test_graph_of_nested_pipelines(golden):
    golden("graph_nested.txt", str(nested().graph))


def test_operations_are_ordered_and_outputs_keep_the_order_given():
    assert [operation.name for operation in TEXT.graph.operations] == ["load", "tokenize", "measure"]
    assert TEXT.graph.output_names == ("count", "sizes", "tokens", "text")


def test_an_input_is_required_when_one_reader_has_no_default():
    nodes = [node("a")(lambda x=1: x), node("b")(lambda x: x)]
    assert not Pipeline(nodes=nodes).graph.inputs[0].optional
    assert Pipeline(nodes=nodes[:1]).graph.inputs[0].optional


def test_equal_pipelines_have_equal_graphs():
    assert Pipeline(nodes=[measure, tokenize, load], name="text_stats").graph == TEXT.graph
    assert hash(TEXT.graph) == hash(Pipeline(nodes=[measure, tokenize, load], name="text_stats").graph)


async def ask(w):
    return w


SAMPLE = Pipeline(
    nodes=[
        Pipeline(nodes=[node("w", name="double")(lambda x: 2 * x), node("y", name="ask")(ask)], name="inner").as_node(
            {"xs": "x"}, map_over="xs", name="each"
        ),
        node("n", name="size")(lambda y: len(y)),
        node("s", name="sum")(lambda y: sum(y)),
        node("r", name="ratio")(lambda s, n: s / n),
    ],
    name="sample",
)


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_plan_of_every_pair(pair, golden):
    """Bytes of a payload depend on the Python version, everything else does not."""
    text = str(SAMPLE.plan(map_over="xs", backend=LocalBackend(*pair, max_workers=8), n=20))
    golden(f"plan_{pair[0]}_{pair[1]}.txt", re.sub(r"\d+ bytes", "N bytes", text))
