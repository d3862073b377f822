"""One loop for the process: what is opened on it works in the next run, and no run ends what is another's."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import threading
import time

import pytest
from graphs import LOCAL_PAIRS, ids
from observing import Made, notes_of
from scripts import run_script

from hypernodes import LocalBackend, Pipeline, node
from hypernodes.runtime.drivers.loop import LoopLanes


class Client:
    """Bound to the loop that it is used on first, as pools of connections are."""

    def __init__(self):
        self.loop = None
        self.keeping = None
        self.kept = 0
        self.lock = None

    async def get(self, x):
        loop = asyncio.get_running_loop()
        if self.loop is None:
            self.loop, self.lock = loop, asyncio.Lock()
            self.keeping = loop.create_task(self._keep())
        assert loop is self.loop, "opened on another loop"
        async with self.lock:
            await asyncio.sleep(0)
        return x + 1

    async def _keep(self):
        while True:
            self.kept += 1
            await asyncio.sleep(0.001)


@pytest.fixture
def script(tmp_path):
    """Run a program to its end; return what it said, its complaints and its exit status."""

    def run(text):
        program = run_script(tmp_path, text)
        try:
            out, err = program.communicate(timeout=60)
        finally:
            program.kill()
        return out, err, program.returncode

    return run


@pytest.fixture
def client():
    found = Client()
    yield found
    if found.keeping is not None:
        found.loop.call_soon_threadsafe(found.keeping.cancel)


@pytest.mark.parametrize("pair", LOCAL_PAIRS, ids=ids)
def test_a_client_works_in_every_run(pair, client, backends):
    async def fetch(x):
        return await client.get(x)

    async def limited(y):
        limit_of = client.__dict__.setdefault("limit", asyncio.Semaphore(1))
        async with limit_of:
            await asyncio.sleep(0)
            if y == 3 and not client.__dict__.setdefault("failed", []):
                client.failed.append(y)
                raise ValueError(y)
            return y

    pipeline = Pipeline(nodes=[node("y")(fetch), node("z")(limited)], backend=backends(pair))
    result = pipeline.map({"x": [1, 2, 3]}, "x", error_policy="collect")
    assert result.failed_rows() == [1]
    assert result.retry()["z"] == [2, 3, 4]
    assert pipeline.map({"x": [5, 6]}, "x")["z"] == [6, 7]
    assert pipeline.run({"x": 1})["z"] == 2
    assert sorted(delivery["z"] for _, delivery in pipeline.stream({"x": [7, 8]}, "x")) == [8, 9]
    other = Pipeline(nodes=[node("y")(fetch)], backend=LocalBackend(*pair, max_workers=2))
    assert other.run({"x": 1}) == {"y": 2}
    kept = client.kept
    wait_until(lambda: client.kept > kept)


def wait_until(true):
    deadline = threading.Event()
    for _ in range(5000):
        if true():
            return
        deadline.wait(0.002)
    raise AssertionError("it did not come to that")


def test_beside_a_running_loop(client):
    pipeline = Pipeline(nodes=[node("y")(client.get)], backend=LocalBackend(map_execution="async"))

    async def notebook():
        return [pipeline.map({"x": [1, 2]}, "x")["y"] for _ in range(2)]

    assert asyncio.run(notebook()) == [[2, 3], [2, 3]]
    assert asyncio.run(notebook()) == [[2, 3], [2, 3]]


def test_a_client_of_another_loop_is_named_with_the_way_out():
    semaphore = []

    async def limited(x):
        if not semaphore:
            semaphore.append(asyncio.Semaphore(1))
            await semaphore[0].acquire()
            asyncio.get_running_loop().call_later(0.01, semaphore[0].release)
        async with semaphore[0]:  # waits, which ties it to the loop
            await asyncio.sleep(0.01)
        return x

    pipeline = Pipeline(nodes=[node("y")(limited)], backend=LocalBackend(map_execution="async", max_workers=4))
    assert pipeline.map({"x": [1, 2, 3]}, "x")["y"] == [1, 2, 3]
    with pytest.raises(RuntimeError, match="loop") as caught:
        asyncio.run(pipeline.amap({"x": [1, 2, 3]}, "x"))
    assert any("was opened on another event loop" in str(note) for note in notes_of(caught.value))


@pytest.fixture
def server():
    """Return the address of a server of HTTP that answers with the path."""
    loop = asyncio.new_event_loop()

    async def answer(reader, writer):
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                body = head.split()[1].encode()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    serving = loop.run_until_complete(asyncio.start_server(answer, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{serving.sockets[0].getsockname()[1]}"

    async def end():
        serving.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.run_until_complete(end())
    loop.close()


@pytest.mark.parametrize("library", ["httpx", "aiohttp"])
def test_clients_that_people_use(library, server, backends):
    module = pytest.importorskip(library)
    clients = []

    async def fetch(path):
        if library == "httpx":
            if not clients:
                clients.append(module.AsyncClient(trust_env=False))
            return (await clients[0].get(server + path)).text
        if not clients:
            clients.append(module.ClientSession())
        async with clients[0].get(server + path) as response:
            return await response.text()

    async def close(x):
        await (clients[0].aclose() if library == "httpx" else clients[0].close())
        return x

    pipeline = Pipeline(nodes=[node("text")(fetch)], backend=backends(("async", "async")))
    paths = [f"/{number}" for number in range(8)]
    for _ in range(2):
        assert pipeline.map({"path": paths}, "path")["text"] == paths
    assert sorted(found["text"] for _, found in pipeline.stream({"path": paths}, "path")) == paths
    assert pipeline.run({"path": "/one"}) == {"text": "/one"}

    async def notebook():
        return pipeline.map({"path": paths}, "path")["text"]

    assert asyncio.run(notebook()) == paths
    assert Pipeline(nodes=[node("y")(close)]).run({"x": 1}) == {"y": 1}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_one_of_its_own(client):
    pipeline = Pipeline(nodes=[node("y")(client.get)], backend=LocalBackend("async"))
    assert pipeline.run({"x": 1}) == {"y": 2}
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            fresh = Client()
            found = Pipeline(nodes=[node("y")(fresh.get)], backend=LocalBackend("async")).run({"x": 1})
            os.write(writing, repr(found).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        assert pipe.read() == b"{'y': 2}"
    os.waitpid(pid, 0)
    assert pipeline.run({"x": 3}) == {"y": 4}


@pytest.mark.parametrize("pair", LOCAL_PAIRS, ids=ids)
def test_runs_within_coroutines_of_runs_end(pair, backends):
    """A run that is called on the loop's thread holds it up, and so has one of its own; so have those in its lanes."""
    backend = backends(pair)

    async def awaited(x):
        await asyncio.sleep(0)
        return x + 1

    pipeline = Pipeline(nodes=[node("y")(awaited)], backend=backend)
    for depth in range(3):
        inner = pipeline

        def plain(x, inner=inner):
            return inner.map({"x": [x]}, "x")["y"][0]

        async def holding(x, inner=inner):
            return inner.run({"x": x})["y"] + inner.map({"x": [x]}, "x")["y"][0]

        async def waiting(x, inner=inner):
            return (await inner.arun({"x": x}))["y"]

        nodes = [node("p")(plain), node("h")(holding), node("w")(waiting), node("y")(lambda p, h, w: p + h + w)]
        pipeline = Pipeline(nodes=nodes, backend=backend, name=f"depth {depth}")
    assert pipeline.run({"x": 1}, output_name="y") == {"y": 2 * 4**3}
    assert pipeline.map({"x": [1, 2]}, "x", output_name="y")["y"] == [2 * 4**3, 3 * 4**3]


def test_the_end_of_a_run_cancels_its_own_coroutines_only():
    inside, go = threading.Event(), threading.Event()

    async def patient(x):
        inside.set()
        while not go.is_set():
            await asyncio.sleep(0.001)
        return x

    found = []
    other = Pipeline(nodes=[node("y")(patient)], backend=LocalBackend("async"))
    thread = threading.Thread(target=lambda: found.append(other.run({"x": 1})))
    thread.start()
    assert inside.wait(20)

    async def failing(x):
        raise ValueError(x)

    with pytest.raises(ValueError, match="2"):
        Pipeline(nodes=[node("y")(failing), node("z")(failing)], backend=LocalBackend("async")).run({"x": 2})
    go.set()
    thread.join(20)
    assert found == [{"y": 1}]


def test_a_task_that_goes_on_keeps_nothing_of_its_run_alive():
    made, stop, tasks = Made(), threading.Event(), []

    def large(x):
        return made(x)

    async def beat():
        while not stop.is_set():
            await asyncio.sleep(0.001)
        return "over"

    async def spawning(a):
        tasks.append(asyncio.get_running_loop().create_task(beat()))
        return 1

    backend = LocalBackend("async")
    gc.collect()
    gc.disable()
    try:
        result = Pipeline(nodes=[node("a")(large), node("b")(spawning)], backend=backend).run({"x": 1})
        del result
        assert made.alive == [False]
    finally:
        gc.enable()
    assert not tasks[0].done()
    stop.set()
    wait_until(tasks[0].done)
    assert tasks[0].result() == "over"


def test_a_node_that_stops_the_loop_ends_no_other_run():
    async def harmful(x):
        asyncio.get_running_loop().stop()
        return x

    Pipeline(nodes=[node("y")(harmful)], backend=LocalBackend("async")).run({"x": 1})
    client = Client()
    pipeline = Pipeline(nodes=[node("y")(client.get)], backend=LocalBackend("async"))
    assert pipeline.run({"x": 1}) == {"y": 2}
    assert pipeline.run({"x": 2}) == {"y": 3}
    client.loop.call_soon_threadsafe(client.keeping.cancel)


def test_the_program_ends_in_silence_and_tasks_come_to_their_end(script):
    assert script(
        """
        import asyncio
        from hypernodes import LocalBackend, Pipeline, node

        async def keep():
            try:
                await asyncio.Event().wait()
            finally:
                print("closed", flush=True)

        async def ticks():
            try:
                while True:
                    yield 1
            finally:
                print("generator closed", flush=True)

        tasks = []
        generators = []

        @node(output_name="y")
        async def fetch(x):
            tasks.append(asyncio.ensure_future(keep()))
            generators.append(ticks())
            await asyncio.sleep(0)
            return x + await generators[0].__anext__()

        pipeline = Pipeline(nodes=[fetch], backend=LocalBackend("async"))
        print(pipeline.run({"x": 1}))
        """
    ) == ("{'y': 2}\nclosed\ngenerator closed\n", "", 0)


def test_a_task_that_will_not_end_does_not_hold_up_the_program(script):
    out, err, code = script(
        """
        import asyncio
        from hypernodes import LocalBackend, Pipeline, node

        async def stubborn():
            while True:
                try:
                    await asyncio.sleep(60)
                except asyncio.CancelledError:
                    pass

        tasks = []

        @node(output_name="y")
        async def fetch(x):
            tasks.append(asyncio.ensure_future(stubborn()))
            return x

        print(Pipeline(nodes=[fetch], backend=LocalBackend("async")).run({"x": 1}))
        """
    )
    assert (out, err, code) == ("{'y': 1}\n", "", 0)


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="policies are deprecated from Python 3.14 on")
def test_it_is_made_by_the_policy_in_force(script):
    assert script(
        """
        import asyncio
        from hypernodes import LocalBackend, Pipeline, node

        class Loop(asyncio.SelectorEventLoop):
            pass

        class Policy(asyncio.DefaultEventLoopPolicy):
            def new_event_loop(self):
                return Loop()

        asyncio.set_event_loop_policy(Policy())

        @node(output_name="y")
        async def kind(x):
            return type(asyncio.get_running_loop()).__name__

        print(Pipeline(nodes=[kind]).run({"x": 1}))
        """
    ) == ("{'y': 'Loop'}\n", "", 0)


def test_lanes_that_were_asked_for_before_the_end_come_before_it():
    """What ends a lane at that moment is not taken for the end of all: somebody may still be asked to start one."""
    calls = []

    class Ready:
        def has(self, placement):
            return True

    class Schedule:
        ready = Ready()

        def take(self, placement):
            return None

    class Run:
        lock, schedule = threading.Lock(), Schedule()

    class Loop:
        def call_soon_threadsafe(self, call, *given):
            calls.append((call, given))

    lanes = LoopLanes(Run(), Loop())
    lanes.wake()
    lanes._tasks.add("a lane")
    closing = threading.Thread(target=lanes.close)
    closing.start()
    while len(calls) < 2:
        time.sleep(0.001)
    lanes._lane_ended("a lane")
    closing.join(0.05)
    assert closing.is_alive()
    for call, given in calls:
        call(*given)
    closing.join(20)
    assert not closing.is_alive()
