"""What results keep, inputs only where something can be run again, and what can no longer be run again says so."""

from __future__ import annotations

import asyncio
import copy
import gc
import pickle
import weakref

import pytest
from graphs import PAIRS, ids

from hypernodes import LocalBackend, Pipeline, node
from hypernodes.errors import MapInputError, MapLengthError, RetryError


class Thing:
    def __init__(self, number):
        self.number = number


_down = [True]


@node(output_name="y")
def number_of(thing, offset):
    return thing.number + offset.number


@node(output_name="z")
def inverse(thing, offset):
    if not thing.number and _down[0]:
        raise ValueError("no inverse")
    return offset.number


def alive(kept):
    gc.collect()
    return sorted(thing.number for thing in list(kept))


@pytest.mark.parametrize("policy", ["raise", "collect"])
@pytest.mark.parametrize("pair", PAIRS, ids=ids)
def test_inputs_are_let_go_where_nothing_failed(pair, policy, backends):
    kept = weakref.WeakSet()

    def thing(number):
        made = Thing(number)
        kept.add(made)
        return made

    pipeline = Pipeline(nodes=[number_of, inverse], backend=backends(pair))
    inputs = {"thing": [thing(number) for number in range(1, 5)], "offset": thing(100)}
    mapped = pipeline.map(inputs, "thing", error_policy=policy)
    inputs = {"thing": thing(1), "offset": thing(100)}
    run = pipeline.run(inputs, error_policy=policy)
    del inputs
    assert alive(kept) == []
    assert mapped == {"y": [101, 102, 103, 104], "z": [100] * 4}
    assert run == {"y": 101, "z": 100}


@pytest.mark.parametrize("pair", PAIRS, ids=ids)
def test_of_a_map_that_failed_in_part_only_those_items_are_kept(pair, backends):
    kept = weakref.WeakSet()

    def thing(number):
        made = Thing(number)
        kept.add(made)
        return made

    pipeline = Pipeline(nodes=[number_of, inverse], backend=backends(pair))
    inputs = {"thing": [thing(number) for number in range(-3, 4)], "offset": thing(100)}
    result = pipeline.map(inputs, "thing", error_policy="collect")
    del inputs
    assert result.failed_rows() == [3]
    assert alive(kept) == [0, 100]
    del result
    assert alive(kept) == []


def test_what_was_run_again_with_success_is_let_go():
    kept = weakref.WeakSet()
    things = [Thing(number) for number in (0, 1, 0)]
    kept.update(things)
    pipeline = Pipeline(nodes=[number_of, inverse])
    _down[0] = True
    result = pipeline.map({"thing": things, "offset": Thing(1)}, "thing", error_policy="collect")
    del things
    again = result.retry()
    assert again.failed_rows() == [0, 2]
    try:
        _down[0] = False
        done = again.retry()
    finally:
        _down[0] = True
    assert done == {"y": [1, 2, 1], "z": [1, 1, 1]}
    assert alive(kept) == [0, 0]
    del result, again
    assert alive(kept) == []
    assert done.retry() is done


def test_a_result_that_was_pickled_says_that_it_cannot_run_again():
    pipeline = Pipeline(nodes=[number_of, inverse])
    inputs = {"thing": Thing(0), "offset": Thing(1)}
    run = pipeline.run(inputs, error_policy="collect")
    mapped = pipeline.map({**inputs, "thing": [Thing(0), Thing(1)]}, "thing", error_policy="collect")
    for result in (run, mapped):
        for other in (pickle.loads(pickle.dumps(result)), copy.deepcopy(result)):
            with pytest.raises(RetryError, match="unpickled or copied"):
                other.retry()
            with pytest.raises(RetryError, match="unpickled or copied"):
                asyncio.run(other.aretry())
        assert result.retry().failures
    fine = pickle.loads(pickle.dumps(mapped.ok()))
    assert fine.retry() is fine


@pytest.mark.parametrize("policy", ["raise", "collect"])
def test_what_cannot_be_mapped_over_is_refused_at_the_call(policy):
    pipeline = Pipeline(nodes=[node("s")(lambda x, y: x + y)])
    with pytest.raises(MapInputError, match="'x', which is a single int"):
        pipeline.map({"x": 5, "y": [1]}, ["x", "y"], error_policy=policy)
    with pytest.raises(MapLengthError):
        pipeline.map({"x": [1, 2], "y": [1]}, ["x", "y"], error_policy=policy)


def test_a_failed_run_is_tried_again_with_the_inputs_of_its_call():
    pipeline = Pipeline(nodes=[inverse], backend=LocalBackend())
    inputs = {"thing": Thing(0), "offset": Thing(7)}
    result = pipeline.run(inputs, error_policy="collect")
    inputs.clear()
    try:
        _down[0] = False
        assert result.retry() == {"z": 7}
    finally:
        _down[0] = True
