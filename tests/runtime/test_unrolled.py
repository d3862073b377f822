"""A chain of calls, written out for its shape: what it makes, and which call failed with what."""

from __future__ import annotations

import asyncio
import traceback

import pytest

from hypernodes import Pipeline, node
from hypernodes.runtime.bundle.cancellation import Cancellation
from hypernodes.runtime.bundle.interpreter import StepFailed, Stopped
from hypernodes.runtime.bundle.unrolled import LONGEST, Link, run_chain


class Run(Cancellation):
    """Stands in slot 0; a coroutine comes to what it returns."""

    def settle(self, slots, coroutine):
        return asyncio.run(coroutine)


def chain(functions, asked=None, of_data=False):
    asked = set(range(len(functions))) if asked is None else asked
    return [Link(fn, number in asked, of_data, number + 1, number + 2) for number, fn in enumerate(functions)]


def slots(count, apart=False):
    run = Run()
    run.apart = apart
    return [run, *[None] * (count + 1)]


def plus(amount):
    return lambda value: value + amount


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("length", [1, 2, 3, LONGEST])
def test_what_is_asked_for_comes_item_by_item(length, apart):
    for asked in ({length - 1}, set(range(length)), set(range(0, length, 2))):
        found = []
        links = chain([plus(number + 1) for number in range(length)], asked)
        run_chain(links, [10, 20], slots(length, apart), found.append)
        sums = [sum(range(1, number + 2)) for number in range(length)]
        assert found == [start + sums[number] for start in (10, 20) for number in sorted(asked)]


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("of_data", [False, True])
@pytest.mark.parametrize("length", [1, 2, 3, 8])
def test_the_call_that_failed_and_its_argument_are_known(length, of_data, apart):
    for failing in range(length):
        own, found = slots(length, apart), []
        functions = [plus(1) for _ in range(length)]
        functions[failing] = lambda value: value + 1 if value < 50 else 1 // 0
        with pytest.raises(StepFailed) as caught:
            run_chain(chain(functions, of_data=of_data), [1, 100, 2], own, found.append)
        assert caught.value.out == failing + 2
        assert type(caught.value.error) is ZeroDivisionError
        assert own[failing + 1] == 100 + failing
        assert len(found) == length + failing  # the first item whole, and what came before the failure


def test_a_coroutine_is_settled_and_its_failure_is_that_call():
    async def later(value):
        if value == 3:
            raise KeyError(value)
        return value * 10

    found = []
    run_chain(chain([plus(1), later]), [0, 1], slots(2), found.append)
    assert found == [1, 10, 2, 20]
    own = slots(2)
    with pytest.raises(StepFailed) as caught:
        run_chain(chain([plus(1), later]), [0, 2], own, found.append)
    assert (caught.value.out, own[2]) == (3, 3)
    assert type(caught.value.error) is KeyError


@pytest.mark.parametrize("stopping", [0, 1, 2])
def test_no_call_begins_once_the_run_was_stopped(stopping):
    own, made = slots(3, apart=True), []

    def recording(number):
        def fn(value):
            made.append(number)
            if number == stopping:
                own[0].stop()
            return value

        return fn

    with pytest.raises(StepFailed) as caught:
        run_chain(chain([recording(number) for number in range(3)]), ["x", "y"], own, lambda value: None)
    assert type(caught.value.error) is Stopped
    assert made == list(range(stopping + 1))


def test_the_traceback_shows_the_call():
    def boom(value):
        raise ValueError(value)

    with pytest.raises(StepFailed) as caught:
        run_chain(chain([plus(1), boom]), [1], slots(2), print)
    shown = "".join(traceback.format_tb(caught.value.error.__traceback__))
    assert "value = f1(made)" in shown
    assert "raise ValueError(value)" in shown


@pytest.mark.parametrize("length", [1, 2, LONGEST, LONGEST + 1, 40])
def test_long_and_short_chains_come_to_the_same(length):
    nodes = [node(f"v{number + 1}", name=f"n{number + 1}")(made(number)) for number in range(length)]
    pipeline = Pipeline(nodes=nodes, name="p")
    found = pipeline.map({"v0": [1, 2, 3]}, "v0")
    assert found[f"v{length}"] == [1 + length, 2 + length, 3 + length]
    last = pipeline.map({"v0": [1, 2, 3]}, "v0", output_name=f"v{length}")
    assert dict(last) == {f"v{length}": found[f"v{length}"]}
    with pytest.raises(TypeError) as caught:
        pipeline.map({"v0": [1, "x", 3]}, "v0")
    assert str(caught.value.__notes__[0]) == "node 'n1' of pipeline 'p', item 1, inputs v0='x'"
    collected = pipeline.map({"v0": [1, "x", 3]}, "v0", error_policy="collect")
    assert collected.failed_rows() == [1]
    assert [collected[f"v{length}"][number] for number in (0, 2)] == [1 + length, 3 + length]


def made(number):
    namespace = {}
    exec(f"def f(v{number}): return v{number} + 1", namespace)
    return namespace["f"]
