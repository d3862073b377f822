"""Whoever cancels every task of a loop, at whatever moment, ends a run on it; nothing hangs and nothing is left."""

from __future__ import annotations

import asyncio

import pytest
from graphs import PAIRS, ids
from observing import ours

from hypernodes import LocalBackend, Pipeline, node

MOMENTS = 8


@node("y")
def double(x):
    return 2 * x


@node("z")
async def add(y):
    await asyncio.sleep(0)
    return y + 1


async def consumed(stream):
    return [outputs async for _, outputs in stream]


STARTS = {
    "arun": lambda pipeline: pipeline.arun({"x": 1}),
    "amap": lambda pipeline: pipeline.amap({"x": range(20)}, "x"),
    "astream": lambda pipeline: consumed(pipeline.astream({"x": range(20)}, "x")),
}


async def cancelled_with_task(start, number):
    """Cancel all tasks before the first step of the task that is made as number `number`, from 1.

    Returns whether there were as many.
    """
    loop, known, reached = asyncio.get_running_loop(), [asyncio.current_task()], False
    main = loop.create_task(start())

    def look():
        nonlocal reached
        known.extend([task for task in asyncio.all_tasks() if task not in known])
        if not reached and len(known) > number + 1:
            reached = True
            for task in known[1:]:
                task.cancel()
        if not main.done():
            loop.call_soon(look)

    # Put in again and again at the end of what is ready, it comes between a task and its first step.
    look()
    try:
        await main
    except asyncio.CancelledError:
        assert reached
    return reached


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("pair", PAIRS, ids=ids)
def test_everything_is_cancelled_before_a_task_begins(pair, start):
    with LocalBackend(*pair, max_workers=2) as backend:
        pipeline = Pipeline(nodes=[double, add], backend=backend)
        for number in range(1, MOMENTS):
            reached = asyncio.run(cancelled_with_task(lambda: STARTS[start](pipeline), number))
            assert ours() == []
            if not reached:
                break
        assert pipeline.run({"x": 3}) == {"y": 6, "z": 7}
        assert backend._workers is None or not backend._workers.pool._leased
