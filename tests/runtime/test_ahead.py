"""Quick items: a chunk is sent ahead while every worker is busy, and nothing of it is lost, whatever happens.

Chunks usually hold 50 ms of work. Here they hold a fraction of that, so that a small map has many.
"""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from hypernodes import LocalBackend, Pipeline, node
from hypernodes.errors import WorkerDiedError
from hypernodes.runtime.processes import chunks
from hypernodes.runtime.processes.transports import PoolTransport

ITEMS = 4000


class Boom(Exception):
    pass


def work(x, bad, how):
    if x == bad and how == "die":
        os._exit(3)
    if x == bad:
        raise Boom
    return x + sum(range(200))


@pytest.fixture
def kept(monkeypatch):
    """Of all requests for which no worker was free whether one was sent ahead, with small chunks."""
    monkeypatch.setattr(chunks, "TARGET_SECONDS", 0.0005)
    monkeypatch.setattr(chunks, "LEAST_SECONDS", 0.0001)
    counted = []
    sent_ahead = PoolTransport._sent_ahead

    def noted(transport, request):
        counted.append(sent_ahead(transport, request))
        return counted[-1]

    monkeypatch.setattr(PoolTransport, "_sent_ahead", noted)
    return counted


@pytest.fixture
def pipeline():
    nodes = [node(output_name="y")(work), node(output_name="z")(lambda x: -x)]
    with LocalBackend("sequential", "parallel", max_workers=2) as backend:
        yield Pipeline(nodes=nodes, backend=backend)
        pool = backend._workers.pool
        assert pool is None or not pool._leased


def check(result, but=()):
    assert len(result["y"]) == ITEMS
    assert [y for x, y in enumerate(result["y"]) if x not in but] == [x + 19900 for x in range(ITEMS) if x not in but]


@pytest.mark.parametrize("collect", [False, True], ids=["raise", "collect"])
def test_results_are_those_of_their_items(kept, pipeline, collect):
    policy = "collect" if collect else "raise"
    check(pipeline.map({"x": range(ITEMS), "bad": -1, "how": ""}, "x", error_policy=policy))
    assert sum(kept) > 10


@pytest.mark.parametrize(("how", "error"), [("die", WorkerDiedError), ("raise", Boom)])
@pytest.mark.parametrize("bad", [0, 1500, ITEMS - 1])
def test_a_failure_ends_it(kept, pipeline, how, error, bad):
    with pytest.raises(error):
        pipeline.map({"x": range(ITEMS), "bad": bad, "how": how}, "x")
    check(pipeline.map({"x": range(ITEMS), "bad": -1, "how": how}, "x"))


@pytest.mark.parametrize("how", ["die", "raise"])
@pytest.mark.parametrize("bad", [0, 1500, ITEMS - 1])
def test_only_the_failure_is_missing(kept, pipeline, how, bad):
    result = pipeline.map({"x": range(ITEMS), "bad": bad, "how": how}, "x", error_policy="collect")
    check(result, [bad])
    assert [failure.item for failure in result.failures] == [bad]


@pytest.mark.parametrize(("given", "made"), [(2000, 1), (1, 20_000), (2000, 20_000)])
def test_whatever_their_size(kept, given, made):
    """Neither side waits for the other to read, however much there is to write."""
    nodes = [node(output_name="y")(lambda x: x[:1] * made)]
    xs = [b"%d" % (n % 10) * given for n in range(ITEMS)]
    with LocalBackend("sequential", "parallel", max_workers=2) as backend:
        ys = Pipeline(nodes=nodes, backend=backend).map({"x": xs}, "x")["y"]
    assert ys == [x[:1] * made for x in xs]
    assert all(kept) if given == 1 else not all(kept)


def linger(x, flag):
    if not os.path.exists(flag):
        time.sleep(0.002)
    return os.path.exists(flag)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_small_map_does_not_wait_for_a_large_one(tmp_path, workers):
    """The large one would take 20 seconds of its workers, or until the small one is done."""
    flag, begun = tmp_path / "small map is done", threading.Event()
    with LocalBackend("sequential", "parallel", max_workers=workers) as backend:
        pipeline = Pipeline(nodes=[node(output_name="y")(linger)], backend=backend)

        def feed():
            for number in range(10_000 * workers):
                if number == 100:
                    begun.set()
                yield number

        with ThreadPoolExecutor() as threads:
            stream = pipeline.stream({"x": feed(), "flag": str(flag)}, "x")
            large = threads.submit(lambda: sum(outputs["y"] for _, outputs in stream))
            whole = threads.submit(pipeline.map, {"x": range(10_000 * workers), "flag": str(flag)}, "x")
            begun.wait()
            pipeline.map({"x": [1, 2], "flag": str(flag)}, "x")
            flag.touch()
            assert large.result()
            assert any(whole.result()["y"])


def test_slow_items_are_never_kept(kept, monkeypatch):
    monkeypatch.setattr(chunks, "TARGET_SECONDS", 0.0)
    with LocalBackend("sequential", "parallel", max_workers=2) as backend:
        Pipeline(nodes=[node(output_name="y")(work)], backend=backend).map({"x": range(50), "bad": -1, "how": ""}, "x")
    assert not any(kept)
