"""Quick items: a chunk is kept ready while every worker is busy, and nothing of it is lost, whatever happens.

Chunks usually hold 50 ms of work. Here they hold a fraction of that, so that a small map has many.
"""

from __future__ import annotations

import os

import pytest

from hypernodes import LocalBackend, Pipeline, node
from hypernodes.errors import WorkerDiedError
from hypernodes.runtime import processes
from hypernodes.runtime.couriers import PoolCourier

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
    """How many parcels were kept by a courier, with small chunks."""
    monkeypatch.setattr(processes, "TARGET_SECONDS", 0.0005)
    counted = []
    send = PoolCourier.send

    def sent(courier, parcel):
        before = len(courier._waiting)
        send(courier, parcel)
        counted.append(len(courier._waiting) > before)

    monkeypatch.setattr(PoolCourier, "send", sent)
    return counted


@pytest.fixture
def pipeline():
    nodes = [node(output_name="y")(work), node(output_name="z")(lambda x: -x)]
    with LocalBackend("sequential", "parallel", max_workers=2) as backend:
        yield Pipeline(nodes=nodes, backend=backend)
        pool = backend._pool
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


def test_slow_items_are_never_kept(kept, monkeypatch):
    monkeypatch.setattr(processes, "TARGET_SECONDS", 0.0)
    with LocalBackend("sequential", "parallel", max_workers=2) as backend:
        Pipeline(nodes=[node(output_name="y")(work)], backend=backend).map({"x": range(50), "bad": -1, "how": ""}, "x")
    assert not any(kept)
