"""Ctrl-C ends a run in any mode with one KeyboardInterrupt, whoever the signal goes to, and nothing is left.

That a caught one leaves no thread and that the next `map` works is in tests/api/test_running.py; these programs also
`run`, await, are interrupted twice, while they start workers, and are killed.
"""

from __future__ import annotations

import signal

import pytest
from graphs import PAIRS, PARALLEL_PAIRS, ids
from scripts import Program, assert_nothing_left, linux, members, wait_until

pytestmark = [pytest.mark.slow, linux]

# Two nodes, or the items of a map, say that they have begun and wait for a file. Nobody makes it before a process ends
# that has to be killed; a thread cannot be, so for it the file comes once the signal is there: `set_wakeup_fd` says so.
HEAD = """
    import asyncio, os, signal, sys, threading, time
    from hypernodes import LocalBackend, Pipeline, node

    def wait(x):
        if x:
            os.write(1, b"in")
            while not os.access(f"release {x}", os.F_OK):
                time.sleep(0.002)
        return x

    async def await_(x):
        if x:
            os.write(1, b"in")
            while not os.access(f"release {x}", os.F_OK):
                await asyncio.sleep(0.002)
        return x

    def pipeline(backend):
        nodes = [node("a")(wait), node("b")(await_), node("last")(lambda a, b: a + b)]
        return Pipeline(nodes=nodes, name="p", backend=backend)

    def on_a_loop(awaitable):
        loop = asyncio.new_event_loop()
        try:
            return loop.run_until_complete(awaitable)
        finally:
            loop.close()

    def left():
        # That of the event loop is the process's, and outlives runs.
        return sum(thread.name != "hypernodes-loop" for thread in threading.enumerate())

    os.set_blocking(1, False)
    signal.set_wakeup_fd(1, warn_on_full_buffer=False)
"""
STARTS = {
    "run": 'pipe.run({"x": x})',
    "map": 'pipe.map({"x": [x] * 50}, "x")',
    "arun": 'asyncio.run(pipe.arun({"x": x}))',
    "amap": 'asyncio.run(pipe.amap({"x": [x] * 50}, "x"))',
    # Without the handler that asyncio.run has since Python 3.11.
    "amap-on-a-loop": 'on_a_loop(pipe.amap({"x": [x] * 50}, "x"))',
}
CTRL_C = b"\x02"


def usual_here(pair, usual):
    """Return a pair as a parameter that the default selection leaves out unless it is a usual one."""
    return pytest.param(pair, marks=[] if usual else [pytest.mark.sweep], id=ids(pair))


def cases():
    """Every pair with every way to start; by default one way for a pair in each direction."""
    for pair in PAIRS:
        for start in STARTS:
            for group in (False, True):
                chosen = start == "run" or (start == "amap-on-a-loop" and pair[0] == pair[1])
                chosen = chosen or (start == "amap" and "sequential" in pair and pair[0] != pair[1])
                usual = chosen and group == (pair in PARALLEL_PAIRS)
                marks = [] if usual else [pytest.mark.sweep]
                name = "-".join([*pair, start, "group" if group else "parent"])
                yield pytest.param(pair, start, group, marks=marks, id=name)


@pytest.mark.parametrize(("pair", "start", "group"), list(cases()))
def test_ctrl_c(pair, start, group, tmp_path):
    """Caught, and the next run works; not caught, and the program ends by it with one traceback."""
    text = f"""
        with LocalBackend(*{pair!r}, max_workers=2) as backend:
            pipe = pipeline(backend)
            start = lambda x: {STARTS[start]}
            try:
                start(1)
            except KeyboardInterrupt:
                print("caught", flush=True)
            start(0)
            print("worked", left(), flush=True)
            start(2)
    """
    in_processes = pair[0] == "parallel" or (pair[1] == "parallel" and "map" in start)
    with Program(tmp_path, HEAD, text) as program:
        for number, said in ((1, b"worked 1\n"), (2, b"")):
            program.hear(b"in")
            program.signal(signal.SIGINT, group)
            program.hear(CTRL_C)
            if not in_processes:
                (tmp_path / f"release {number}").touch()
            program.hear(said)
        status, out, err = program.finish()
        assert_nothing_left(program.pid)
    assert (status, out.replace("in", "")) == (-signal.SIGINT, "")
    assert [line for line in err.splitlines() if line.startswith("KeyboardInterrupt")] == ["KeyboardInterrupt"]
    # asyncio.run raises it from the CancelledError of the task that it cancelled.
    assert err.count("Traceback (most recent call last)") <= (2 if start.startswith("a") else 1)
    assert "script.py" in err


@pytest.mark.parametrize("pair", [usual_here(pair, pair[0] == pair[1]) for pair in PAIRS])
def test_an_impatient_user(pair, tmp_path):
    """Ctrl-C again and again, while the first one still winds everything down."""
    text = f"""
        backend = LocalBackend(*{pair!r}, max_workers=2)
        pipeline(backend).map({{"x": [1] * 50}}, "x")
    """
    with Program(tmp_path, HEAD, text) as program:
        program.hear(b"in")
        for _ in range(3):
            program.signal(signal.SIGINT, group=True)
            program.hear(CTRL_C, last=True)
        (tmp_path / "release 1").touch()
        status, _, _ = program.finish()
        assert_nothing_left(program.pid)
    # What it says is cut short when Ctrl-C comes while the traceback is printed.
    assert status == -signal.SIGINT


@pytest.mark.parametrize("pair", [("parallel", "sequential"), ("sequential", "parallel")], ids=ids)
def test_ctrl_c_while_workers_start(pair, tmp_path):
    """At several moments of the start of four workers; afterwards the same backend works."""
    text = f"""
        def sleep(x):
            if x:
                time.sleep(600)
            return x

        signal.set_wakeup_fd(-1)
        nodes = [node(name)(sleep) for name in "abcd"]
        with LocalBackend(*{pair!r}, max_workers=4) as backend:
            pipe = Pipeline(nodes=nodes, backend=backend)
            backend.transport().close()  # an interrupted import warns of the file that it leaves open
            for delay in (0.001, 0.01, 0.03, 0.06, 0.1, 0.15, 0.2, 0.3):
                timer = threading.Timer(delay, os.killpg, (0, signal.SIGINT))
                try:
                    timer.start()
                    pipe.map({{"x": [1] * 8}}, "x")
                    print("ended")
                except KeyboardInterrupt:
                    timer.join()
            print(pipe.map({{"x": [0] * 8}}, "x")["a"] == [0] * 8, threading.active_count())
    """
    with Program(tmp_path, HEAD, text) as program:
        assert program.finish() == (0, "True 1\n", "")
        assert_nothing_left(program.pid)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("pair", [usual_here(pair, pair[0] != pair[1] == "parallel") for pair in PARALLEL_PAIRS])
def test_workers_end_with_a_killed_program(pair, number, tmp_path):
    text = f"""
        backend = LocalBackend(*{pair!r}, max_workers=2)
        pipeline(backend).map({{"x": [1] * 50}}, "x")
    """
    with Program(tmp_path, HEAD, text) as program:
        program.hear(b"in")
        assert len(members(program.pid)) > 1
        program.signal(number)
        # Its workers hold the other ends of its pipes: they are gone when this returns.
        status, _, err = program.finish()
        assert_nothing_left(program.pid)
    assert (status, err) == (-number, "")


WORKERS_OF_WORKERS = """
    inner = pipeline(LocalBackend("parallel", max_workers=2))

    def reenter(x):
        return inner.run({"x": x})

    with LocalBackend("parallel", max_workers=2) as backend:
        Pipeline(nodes=[node("y")(reenter)], backend=backend).run({"x": 1})
"""


def test_workers_of_workers_end_with_a_killed_program(tmp_path):
    with Program(tmp_path, HEAD, WORKERS_OF_WORKERS) as program:
        program.hear(b"in")
        wait_until(lambda: len(members(program.pid)) > 2, "no worker of a worker")
        program.signal(signal.SIGKILL)
        status, _, err = program.finish()
        assert_nothing_left(program.pid)
    assert (status, err) == (-signal.SIGKILL, "")


@pytest.mark.parametrize("group", [False, True], ids=["parent", "group"])
def test_ctrl_c_reaches_workers_of_workers(group, tmp_path):
    with Program(tmp_path, HEAD, WORKERS_OF_WORKERS) as program:
        program.hear(b"in")
        program.signal(signal.SIGINT, group)
        status, _, err = program.finish()
        assert_nothing_left(program.pid)
    assert status == -signal.SIGINT
    assert err.count("Traceback (most recent call last)") == 1
