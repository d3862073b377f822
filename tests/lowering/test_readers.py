"""What is known of a function's results without a call: that they are neither streams nor coroutines."""

from __future__ import annotations

import functools

import pytest

from hypernodes.lowering.readers import returns_data

CERTAIN = [
    lambda x: x + 1,
    lambda x, y: x / y,
    lambda x: x < 2,
    lambda x: -x,
    lambda x: [x, (i for i in x)],
    lambda x: {"x": x},
    lambda x: f"{x}!",
    lambda x: 7,
]


async def coroutine(x):
    return x + 1


def generator(x):
    yield x
    return x + 1


def either(x):
    if x:
        return (i for i in x)
    return x + 1


def caught(x):
    try:
        return iter(x)
    except TypeError:
        return []


UNCERTAIN = [
    coroutine,
    generator,
    either,
    caught,
    lambda x: x,
    lambda x: x(),
    lambda x: x | len,
    lambda x: x >> len,
    lambda x: x.y,
    lambda x: x[0],
    lambda x: x or 1,
    lambda x: (i for i in x),
    lambda x: x + 1 if x else iter(x),
    functools.partial(lambda x, y: x + y, 1),
    len,
    int,
]


@pytest.mark.parametrize("fn", CERTAIN)
def test_sums_and_displays_are_data(fn):
    assert returns_data(fn)


@pytest.mark.parametrize("fn", UNCERTAIN)
def test_whatever_may_be_something_else_is_not(fn):
    assert not returns_data(fn)
