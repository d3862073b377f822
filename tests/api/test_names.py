"""Names are those that Python makes of them: NFKC-normalised, as it does with every parameter."""

from __future__ import annotations

import asyncio

import pytest

from hypernodes import LocalBackend, Pipeline, node
from hypernodes.errors import NodeDefinitionError, OptionError

MICRO, MU = "\u00b5", "\u03bc"
"""What keyboards write, and what Python reads in its place."""

LIGATURE, LETTERS = "\ufb01nal", "final"


def written(source):
    """Return the function that Python makes of a text."""
    namespace = {}
    exec(source, namespace)
    return namespace["f"]


@pytest.fixture
def pipeline():
    double = written(f"def f({MICRO}0): return {MICRO}0 * 2")
    add = written(f"def f({MICRO}, self=1): return {MICRO} + self")
    return Pipeline(nodes=[node(MICRO, name="double")(double), node(LIGATURE, name="add")(add)])


def test_outputs_and_parameters_meet(pipeline):
    assert pipeline.inputs == (MU + "0", "self")
    assert pipeline.outputs == (MU, LETTERS)


@pytest.mark.parametrize("given", [MICRO + "0", MU + "0"])
def test_inputs_may_be_spelled_as_they_are_written(pipeline, given):
    expected = {MU: 2, LETTERS: 3}
    assert pipeline.run({given: 1}) == expected
    assert pipeline.run({given: 1}, error_policy="collect") == expected
    assert asyncio.run(pipeline.arun({given: 1})) == expected
    assert pipeline.map({given: [1, 2]}, given, output_name=LIGATURE) == {LETTERS: [3, 5]}
    assert [row for _, row in pipeline.stream({given: [1]}, given)] == [expected]
    assert pipeline.plan([given]).run({given: 1}) == expected
    assert pipeline.plan({given: [1]}, map_over=given).run({given: [1]}) == {MU: [2], LETTERS: [3]}


def test_overriding_and_asking(pipeline):
    assert pipeline.run({MICRO: 1}, output_name=LIGATURE) == {LETTERS: 2}
    assert pipeline.run({MICRO + "0": 1}, output_name=[MICRO]) == {MU: 2}


def test_nesting(pipeline):
    renamed = pipeline.as_node({"\ufb02": MICRO + "0"}, {LIGATURE: "\ufb03"}, map_over="\ufb02")
    assert Pipeline(nodes=[renamed]).run({"fl": [1, 2]}) == {MU: [2, 4], "ffi": [3, 5]}
    spread = Pipeline(nodes=[pipeline.as_node(map_over="rows")])
    assert spread.run({"rows": [{MICRO + "0": 1}, {MU + "0": 2}]})[LETTERS] == [3, 5]


def test_what_failed_is_run_again_under_its_name():
    halve = written(f"def f({MICRO}): return 1 / {MICRO}")
    pipeline = Pipeline(nodes=[node("y", name="halve")(halve), node("z")(lambda: 1)])
    result = pipeline.run({MICRO: 0}, error_policy="collect")
    assert [failure.node for failure in result.retry().failures] == ["halve"]


def test_one_name_in_two_spellings_is_refused(pipeline):
    with pytest.raises(OptionError) as caught:
        pipeline.run({MICRO + "0": 1, MU + "0": 2})
    assert caught.value.option == "inputs"
    with pytest.raises(NodeDefinitionError):
        node((MICRO, MU))(lambda: (1, 2))


def test_an_input_may_be_called_self():
    @node("y")
    def of_self(self, x=1):
        return self + x

    assert of_self(self=1) == 2
    pipeline = Pipeline(nodes=[of_self], name="inner")
    assert pipeline(self=1) == {"y": 2}
    own = Pipeline(nodes=[of_self], name="inner", backend=LocalBackend())
    assert Pipeline(nodes=[own])(self=1) == {"y": 2}
