"""How long the workers of a backend live, and what they call before their first node."""

from __future__ import annotations

import asyncio
import os
import pickle
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from observing import notes_of, ours
from scripts import run_script

from hypernodes import LocalBackend, Pipeline, node
from hypernodes.errors import ClosedError, InitializerError, NotPicklableError, OptionError

PARALLEL, THREADED = ("sequential", "parallel"), ("sequential", "threaded")
local = threading.local()
STATE = []


def pipeline_of(backend, *nodes, **named):
    return Pipeline(nodes=[*nodes, *[node(name)(fn) for name, fn in named.items()]], backend=backend, name="shop")


def waits_for_file(x, folder):
    open(os.path.join(folder, f"began-{x}"), "w").close()
    until = time.monotonic() + 30
    while not os.path.exists(os.path.join(folder, "go")):
        assert time.monotonic() < until
        time.sleep(0.002)
    return x


def pid(x):
    return os.getpid()


def alive(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def gone(processes):
    until = time.monotonic() + 20
    while any(map(alive, processes)) and time.monotonic() < until:
        time.sleep(0.01)
    return not any(map(alive, processes))


@pytest.fixture
def running(tmp_path):
    """Return a backend with a run in progress in another thread, how to let that go on, and what it comes to."""
    backend, found = LocalBackend(*PARALLEL, max_workers=2), []
    pipeline = pipeline_of(backend, y=waits_for_file, p=lambda x: os.getpid())
    inputs = {"x": [0, 1, 2], "folder": str(tmp_path)}
    thread = threading.Thread(target=lambda: found.append(pipeline.map(inputs, "x")))
    thread.start()
    while not os.listdir(tmp_path):
        time.sleep(0.002)
    yield backend, (tmp_path / "go").touch, found
    (tmp_path / "go").touch()
    thread.join(30)
    assert found[0]["y"] == [0, 1, 2]


# -- close -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 3])
def test_close_waits_for_the_runs_in_progress(running, threads):
    backend, go, found = running
    closing = [threading.Thread(target=backend.close) for _ in range(threads)]
    for thread in closing:
        thread.start()
    closing[0].join(0.1)
    assert all(thread.is_alive() for thread in closing)
    with pytest.raises(ClosedError):
        pipeline_of(backend, y=pid).map({"x": [1]}, "x")
    go()
    for thread in closing:
        thread.join(30)
        assert not thread.is_alive()
    assert gone(found[0]["p"])


def test_close_without_waiting_lets_the_runs_end(running):
    backend, go, found = running
    backend.close(wait=False)
    with pytest.raises(ClosedError):
        pipeline_of(backend, y=pid).map({"x": [1]}, "x")
    go()
    while not found:
        time.sleep(0.005)
    assert gone(found[0]["p"])
    backend.close()


def test_close_without_waiting_ends_processes_that_are_idle():
    backend = LocalBackend(*PARALLEL, max_workers=2)
    processes = pipeline_of(backend, y=pid).map({"x": range(4)}, "x")["y"]
    backend.close(wait=False)
    assert gone(processes)


@pytest.mark.parametrize("pair", [("threaded", "parallel"), PARALLEL, THREADED, ("async", "sequential")])
@pytest.mark.parametrize("how", ["run", "arun"])
def test_a_node_may_close_the_backend_that_it_runs_on(pair, how):
    """It does not wait for itself; what this run does in processes afterwards finds none, as with any closed pool."""
    backend = LocalBackend(*pair, max_workers=2)

    def closes(x):
        backend.close()
        return x

    pipeline = pipeline_of(backend, y=closes)
    found = pipeline.run({"x": 1}) if how == "run" else asyncio.run(pipeline.arun({"x": 1}))
    assert found == {"y": 1}


@pytest.mark.parametrize("pair", [("threaded", "sequential"), ("sequential", "threaded"), ("sequential", "sequential")])
def test_nodes_of_two_runs_may_close_their_backend_at_once(pair):
    backend, meet = LocalBackend(*pair, max_workers=2), threading.Barrier(2)

    def closes(x):
        meet.wait(20)
        backend.close()
        return x

    pipeline = pipeline_of(backend, y=closes, z=lambda y, x: (y, x))

    async def main():
        return await asyncio.gather(*[pipeline.arun({"x": x}) for x in range(2)])

    assert [found["z"] for found in asyncio.run(main())] == [(0, 0), (1, 1)]


def test_a_stream_that_is_left_open_holds_up_nobody():
    with LocalBackend(*PARALLEL, max_workers=2) as backend:
        stream = pipeline_of(backend, y=pid).stream({"x": range(100)}, "x")
        _, first = next(stream)
    assert gone([first["y"]])
    stream.close()
    assert ours() == []


def test_a_request_on_the_same_loop_is_not_waited_for():
    async def main():
        async def slow(x):
            await asyncio.sleep(30)

        backend = LocalBackend("async", "async", max_workers=2)
        running = asyncio.ensure_future(pipeline_of(backend, node("y")(slow)).arun({"x": 1}))
        await asyncio.sleep(0.01)
        backend.close()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(main())


# -- warm --------------------------------------------------------------------------------------------------------------


def test_warm_starts_the_processes_that_runs_use():
    with LocalBackend(*PARALLEL, max_workers=2) as backend:
        backend.warm()
        assert backend._workers.pool.idle == 2
        warmed = {worker.pid for worker in backend._workers.pool._idle}
        assert set(pipeline_of(backend, y=pid).map({"x": range(50)}, "x")["y"]) <= warmed
        backend.warm()
        assert {worker.pid for worker in backend._workers.pool._idle} == warmed
    with pytest.raises(ClosedError):
        backend.warm()


def test_warm_is_for_processes_of_its_own():
    with LocalBackend(*THREADED) as backend:
        backend.warm()
        assert backend._workers is None
    with ThreadPoolExecutor(1) as executor:
        LocalBackend(*THREADED, executor=executor).warm()


def test_warm_leaves_alone_what_other_runs_use(running):
    backend, _, _ = running
    backend.warm()


def test_warm_shows_what_an_initializer_prints_and_raises(capfd):
    def says(lines):
        print("x" * 100 * lines)

    with LocalBackend(*PARALLEL, max_workers=2, initializer=says, initargs=(2000,)) as backend:
        backend.warm()
    assert capfd.readouterr().out.count("x") == 2 * 100 * 2000

    def fails():
        raise OSError("no device")

    with LocalBackend(*PARALLEL, max_workers=2, initializer=fails) as backend, pytest.raises(InitializerError):
        backend.warm()


# -- initializer -------------------------------------------------------------------------------------------------------


def loads(what, folder):
    local.model = what
    STATE.append(what)
    with open(os.path.join(folder, "calls"), "a") as file:
        file.write("x")


def uses(x):
    return local.model


def test_it_is_called_once_in_each_process_before_its_first_node(tmp_path):
    with LocalBackend(*PARALLEL, max_workers=2, initializer=loads, initargs=("m", str(tmp_path))) as backend:
        backend.warm()
        pipeline = pipeline_of(backend, y=uses)
        for _ in range(3):
            assert pipeline.map({"x": range(20)}, "x")["y"] == ["m"] * 20
    assert (tmp_path / "calls").read_text() == "xx"
    assert STATE == []


def dies_once(x, folder):
    if x == 2 and not os.path.exists(os.path.join(folder, "died")):
        open(os.path.join(folder, "died"), "w").close()
        os._exit(1)
    return local.model


def test_it_is_called_in_a_process_that_takes_the_place_of_another(tmp_path):

    with LocalBackend(*PARALLEL, max_workers=1, initializer=loads, initargs=("m", str(tmp_path))) as backend:
        pipeline = pipeline_of(backend, y=dies_once)
        assert pipeline.map({"x": range(4), "folder": str(tmp_path)}, "x")["y"] == ["m"] * 4
    assert (tmp_path / "calls").read_text() == "xx"


GLOBALS = """
from hypernodes import LocalBackend, Pipeline, node

scale, model, clients = 2, None, {"before": 1}


def load(name):
    global model
    model = named(name)
    clients["opened"] = scale


def named(name):
    return "the " + name


def predict(x):
    return x * scale, model, [clients[name] for name in sorted(clients)]


class Predictor:
    def later(self, y):
        return model, (lambda: model)()


for mode in ("sequential", "threaded", "parallel"):
    if mode == "sequential":
        load("model")
    backend = LocalBackend("sequential", mode, max_workers=2, initializer=load, initargs=("model",))
    pipeline = Pipeline(nodes=[node("y")(predict), node("z")(Predictor().later)], backend=backend)
    found = pipeline.map({"x": [1, 2]}, "x", output_name=["y", "z"])
    print(found["y"], found["z"])
    model, clients, scale = None, {"before": 1}, 2
    if mode == "parallel":
        scale = 5
        print(pipeline.map({"x": [1]}, "x", output_name=["y"])["y"])
"""


def test_what_it_sets_in_a_script_is_seen_by_the_nodes_of_the_script(tmp_path):
    out, err = run_script(tmp_path, GLOBALS).communicate(timeout=60)
    assert err == ""
    out = out.splitlines()
    assert out[0] == out[1] == out[2]
    assert "(2, 'the model', [1, 2])" in out[0]
    assert "(5, 'the model', [1, 2])" in out[3]


@pytest.mark.parametrize("pair", [THREADED, ("threaded", "sequential"), ("async", "async")])
@pytest.mark.parametrize("how", ["map", "amap"])
def test_it_is_called_once_in_each_thread_before_its_first_node(pair, how, tmp_path):
    calls = []

    def opens():
        calls.append(threading.get_ident())
        local.model = threading.get_ident()

    def used(x):
        return local.model == threading.get_ident()

    backend = LocalBackend(*pair, max_workers=3, initializer=opens)
    pipeline = pipeline_of(backend, y=used, z=lambda x: local.model == threading.get_ident())
    found = pipeline.map({"x": range(30)}, "x") if how == "map" else asyncio.run(pipeline.amap({"x": range(30)}, "x"))
    assert found["y"] == found["z"] == [True] * 30
    assert len(set(calls)) == len(calls) <= 3
    assert threading.get_ident() not in calls


@pytest.mark.parametrize("pair", [PARALLEL, THREADED, ("threaded", "sequential")])
@pytest.mark.parametrize("policy", ["raise", "collect"])
@pytest.mark.parametrize("how", ["run", "arun"])
def test_one_that_fails_ends_the_run_with_its_own_error(pair, policy, how):
    calls = []

    def fails(what):
        calls.append(what)
        raise OSError("no device")

    with LocalBackend(*pair, max_workers=2, initializer=fails, initargs=(7,)) as backend:
        pipeline = pipeline_of(backend, y=pid, z=pid)

        def call():
            if pair[1] == "sequential":
                run = (
                    pipeline.run if how == "run" else lambda *given, **more: asyncio.run(pipeline.arun(*given, **more))
                )
                return run({"x": 1}, error_policy=policy)
            run = pipeline.map if how == "run" else lambda *given, **more: asyncio.run(pipeline.amap(*given, **more))
            return run({"x": range(20)}, "x", error_policy=policy)

        for _ in range(2):  # the next run tries again
            with pytest.raises(InitializerError, match="fails' of this LocalBackend failed: OSError: no") as raised:
                call()
            assert isinstance(raised.value.__cause__, OSError)
            assert not any("worker process read" in note for note in notes_of(raised.value))
    assert len(calls) <= 8
    assert ours() == []


def test_one_that_cannot_travel_is_named():
    lock = threading.Lock()
    backend = LocalBackend(*PARALLEL, initializer=lambda: lock.locked())
    with backend, pytest.raises(NotPicklableError, match="the initializer of LocalBackend"):
        pipeline_of(backend, y=pid).map({"x": [1]}, "x")


def test_options_that_fit_nothing_are_refused():
    with pytest.raises(OptionError, match="initializer"):
        LocalBackend(*PARALLEL, initializer="load")
    with pytest.raises(OptionError, match="initargs"):
        LocalBackend(*PARALLEL, initializer=pid, initargs=[1])
    with pytest.raises(OptionError, match="initargs"):
        LocalBackend(*PARALLEL, initargs=(1,))
    with ThreadPoolExecutor(1) as executor, pytest.raises(OptionError, match="pass it to the ThreadPoolExecutor"):
        LocalBackend(*THREADED, executor=executor, initializer=pid)


def test_it_travels_with_its_backend_and_is_shown():
    backend = LocalBackend(*PARALLEL, max_workers=2, initializer=pid, initargs=(1,))
    assert "initializer=pid" in repr(backend)
    assert repr(pickle.loads(pickle.dumps(backend))) == repr(backend)
