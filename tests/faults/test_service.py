"""One backend in a service: runs, maps and streams from threads and event loops at once, nested, cancelled and left."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time

import pytest
from observing import faults_of, ours

from hypernodes import LocalBackend, Pipeline, node

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
THREADS, ROUNDS = 6, 60
PAIRS = ["threaded-threaded", "async-threaded", "async-async", "sequential-threaded", "sequential-sequential"]


class Expected(Exception):
    pass


class Service:
    """Two pipelines of one backend, the nodes of one running the other, and somebody who asks them for anything."""

    def __init__(self, backend, seed):
        self.random = random.Random(seed)
        nodes = [node("y")(self.work), node("z")(self.awaits), node("w")(self.fails)]
        self.inner = Pipeline(nodes=nodes, backend=backend, name="inner")
        nodes = [node("a")(self.nests), node("b")(lambda x: x), node("c")(lambda a, b: (a, b))]
        self.outer = Pipeline(nodes=nodes, backend=backend, name="outer")

    def work(self, x):
        if self.random.random() < 0.3:
            time.sleep(0.001 * self.random.random())
        return x + 1

    async def awaits(self, y):
        await asyncio.sleep(0.001 * self.random.random())
        return y * 2

    def fails(self, y):
        if self.random.random() < 0.02:
            raise Expected(y)
        return y

    def nests(self, x):
        way = self.random.random()
        if way < 0.3:
            return self.inner.run({"x": x})["y"]
        if way < 0.5:
            return self.inner.map({"x": [x, x]}, "x", error_policy="collect")["y"][0]
        if way < 0.6:
            with contextlib.suppress(RuntimeError):
                asyncio.get_running_loop()
                return x + 1
            return asyncio.run(self.inner.arun({"x": x}))["y"]
        if way < 0.7:
            return next(found["y"] for _, found in self.inner.stream({"x": [x, x, x]}, "x"))
        return x + 1

    def ask(self):
        """Ask for something, in some way."""
        pipeline = self.random.choice([self.inner, self.outer])
        first = "y" if pipeline is self.inner else "a"
        way = self.random.random()
        if way < 0.2:
            assert pipeline.run({"x": 1})[first] == 2
        elif way < 0.4:
            xs = list(range(self.random.choice([0, 1, 5, 40])))
            assert pipeline.map({"x": xs}, "x")[first] == [x + 1 for x in xs]
        elif way < 0.6:
            stream = pipeline.stream({"x": range(20)}, "x")
            for _ in range(self.random.randrange(20)):
                next(stream)
            if self.random.random() < 0.5:
                stream.close()
        else:
            asyncio.run(self.ask_on_a_loop(pipeline, first))

    async def ask_on_a_loop(self, pipeline, first):
        number = self.random.choice([1, 3, 30])
        requests = [asyncio.ensure_future(pipeline.arun({"x": x})) for x in range(number)]
        requests.append(asyncio.ensure_future(pipeline.amap({"x": range(30)}, "x")))
        await asyncio.sleep(0.003 * self.random.random())
        if self.random.random() < 0.5:
            for request in requests[::2]:
                request.cancel()
        with contextlib.suppress(Expected):
            async for _ in pipeline.astream({"x": range(10)}, "x"):
                if self.random.random() < 0.2:
                    break
        found = await asyncio.gather(*requests, return_exceptions=True)
        for x, outputs in enumerate(found[:-1]):
            if not isinstance(outputs, (Expected, asyncio.CancelledError)):
                assert outputs[first] == x + 1


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("pair", PAIRS)
def test_everything_at_once(pair, workers, caplog):
    backend = LocalBackend(*pair.split("-"), max_workers=workers)

    def asks(seed):
        service = Service(backend, seed)
        for _ in range(ROUNDS):
            with contextlib.suppress(Expected):
                service.ask()

    assert faults_of(THREADS, asks) == []
    pool = backend._threads
    backend.close()
    assert (pool._computing, len(pool.queue), pool._joined, len(pool._runs)) == (0, 0, 0, 0)
    assert ours() == []
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []
