"""Systems without what our worker processes are made of: parallel mode uses loky's, and the rest needs none of it."""

from __future__ import annotations

import asyncio
import os
import sys
import textwrap
import threading

import pytest
from observing import ours
from scripts import run_script

from hypernodes import LocalBackend, Pipeline, node
from hypernodes.errors import ClosedError, PlacementError, WorkerDiedError, WorkerStartError
from hypernodes.runtime.drivers import cores

loky = pytest.importorskip("loky")
PAIRS = [("sequential", "parallel"), ("parallel", "sequential"), ("threaded", "parallel"), ("async", "parallel")]


@pytest.fixture(autouse=True)
def no_pool(monkeypatch):
    monkeypatch.setattr(cores, "has_own_pool", lambda: False)


@pytest.fixture(scope="module")
def backends():
    made = {pair: LocalBackend(*pair, max_workers=2) for pair in PAIRS}
    yield made
    for backend in made.values():
        backend.close()
    assert ours() == []


@node("y")
def double(x):
    return 2 * x


@node("z")
async def plus(y, k=1):
    await asyncio.sleep(0)
    return y + k


@node("total")
def total(y, z):
    return y + z, os.getpid()


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_results_are_those_of_the_sequential_mode(pair, backends):
    pipeline = Pipeline(nodes=[double, plus, total], backend=backends[pair])
    mapped = pipeline.map({"x": range(30)}, "x")
    assert [value for value, _ in mapped["total"]] == [4 * x + 1 for x in range(30)]
    assert os.getpid() not in {process for _, process in mapped["total"]} or pair == ("parallel", "sequential")
    assert pipeline.run({"x": 3})["total"][0] == 13
    assert asyncio.run(pipeline.amap({"x": [1, 2]}, "x"))["z"] == [3, 5]
    assert sorted(found["y"] for _, found in pipeline.stream({"x": range(5)}, "x")) == [0, 2, 4, 6, 8]


def test_processes_look_like_this_one(monkeypatch, tmp_path, backends):
    pipeline = Pipeline(nodes=[node("seen")(lambda x: (os.getcwd(), os.environ.get("HYPERNODES_MINE")))])
    pipeline.backend = backends["sequential", "parallel"]
    pipeline.map({"x": [1]}, "x")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYPERNODES_MINE", "1")
    assert pipeline.map({"x": [1]}, "x")["seen"] == [(str(tmp_path), "1")]


def test_exceptions_and_deaths_are_named_and_the_next_run_has_processes(backends):
    def dies(x):
        if x == 3:
            os._exit(1)
        if x == 4:
            raise ValueError("four")
        return x

    pipeline = Pipeline(nodes=[node("y")(dies)], name="shop", backend=backends["sequential", "parallel"])
    with pytest.raises(WorkerDiedError, match=r"pipeline 'shop': the worker process running 'dies'.* item"):
        pipeline.map({"x": [3, 3]}, "x")
    assert pipeline.map({"x": [1, 2]}, "x")["y"] == [1, 2]
    with pytest.raises(ValueError, match="four"):
        pipeline.map({"x": [1, 4]}, "x")
    kept = pipeline.map({"x": [1, 4]}, "x", error_policy="collect")
    assert [failure.item for failure in kept.failures] == [1]


def test_an_initializer_is_called_in_each(tmp_path):
    def load(what, folder):
        os.environ["HYPERNODES_STATE"] = what
        open(os.path.join(folder, str(os.getpid())), "w").close()

    backend = LocalBackend(*PAIRS[0], max_workers=2, initializer=load, initargs=("m", str(tmp_path)))
    with backend:
        backend.warm()
        pipeline = Pipeline(nodes=[node("y")(lambda x: os.getpid())], backend=backend)
        found = set(map(str, pipeline.map({"x": range(20)}, "x")["y"]))
        assert found <= set(os.listdir(tmp_path))
    with pytest.raises(ClosedError):
        pipeline.map({"x": [1]}, "x")


def test_nodes_with_a_timeout_are_refused(backends):
    pipeline = Pipeline(nodes=[node("y", timeout=1)(lambda x: x)], backend=backends["sequential", "parallel"])
    with pytest.raises(PlacementError, match="loky"):
        pipeline.map({"x": [1]}, "x")


def test_without_loky_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "loky", None)
    with pytest.raises(WorkerStartError, match="pip install loky"):
        Pipeline(nodes=[double], backend=LocalBackend(*PAIRS[0])).map({"x": [1]}, "x")


def test_several_threads_share_the_processes(backends):
    pipeline = Pipeline(nodes=[double], backend=backends["sequential", "parallel"])
    found = []
    threads = [threading.Thread(target=lambda: found.append(pipeline.map({"x": range(10)}, "x")["y"])) for _ in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == [[2 * x for x in range(10)]] * 3


UNIX = """
# What others import of it, they have by then, and keep.
import asyncio, concurrent.futures, multiprocessing.pool, subprocess, sys, tempfile
import attrs, cloudpickle, loky, msgspec
import os, select, signal

for name in ("fcntl", "resource", "pwd", "grp", "termios", "_posixshmem", "_posixsubprocess", "posix"):
    sys.modules[name] = None
for module, names in {
    os: "fork register_at_fork sched_getaffinity memfd_create waitid getppid killpg sysconf",
    select: "poll epoll",
    signal: "SIGKILL SIGCHLD pthread_sigmask siginterrupt SIG_BLOCK SIG_SETMASK",
}.items():
    for name in names.split():
        if hasattr(module, name):
            delattr(module, name)
"""

SCRIPT = """
import asyncio
from hypernodes import LocalBackend, Pipeline, node


@node("y")
def double(x):
    return 2 * x


@node("z")
def plus(x):
    return x + 1


for pair in [("sequential", "sequential"), ("threaded", "threaded"), ("async", "async"), ("async", "threaded")]:
    pipeline = Pipeline(nodes=[double, plus], backend=LocalBackend(*pair))
    assert pipeline.map({"x": range(5)}, "x")["y"] == [0, 2, 4, 6, 8]
    assert list(pipeline.stream({"x": [1]}, "x")) == [(0, {"y": 2, "z": 2})]
print("done")
"""

IMPORTS = """
from hypernodes.runtime.processes import executor_transport, lane, loky_pool, own_workers, warming, worker
print("done")
"""


@pytest.mark.parametrize("script", [SCRIPT, IMPORTS], ids=["runs", "imports"])
def test_what_needs_no_processes_needs_nothing_of_unix(script, tmp_path):
    program = run_script(tmp_path, textwrap.dedent(UNIX) + script)
    out, err = program.communicate(timeout=60)
    assert (out, err) == ("done\n", "")
