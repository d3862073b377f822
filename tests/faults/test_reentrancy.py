"""A node may run pipelines, on any backend and its own, at any depth; and a program may fork with a backend in hand.

Other reentrant runs, on one executor of the user's, are in tests/api/test_running.py.
"""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor

import pytest
from graphs import MODES, PAIRS, ids
from runtime.test_overlap import meet_in_files
from scripts import Program, assert_nothing_left, linux, wait_until

from hypernodes import LocalBackend, Pipeline, node

pytestmark = pytest.mark.slow


def slow_pair(*pair):
    return pytest.param(pair, marks=pytest.mark.sweep)


def tower(backends, leaf):
    """Return a pipeline whose node maps the next one over two items, on its own backend, and so on down to `leaf`."""
    backend, *rest = backends
    if rest:
        inner = tower(rest, leaf)

        def work(x):
            return sum(inner.map({"x": [2 * x, 2 * x + 1]}, "x")["y"])

    else:
        work = leaf
    return Pipeline(nodes=[node("y")(work)], name=f"level{len(backends)}", backend=backend)


def combinations():
    """Every pair within every other; by default those in which both modes are the same."""
    for outer in PAIRS:
        for inner in PAIRS:
            usual = outer[0] == outer[1] and inner[0] == inner[1]
            marks = [] if usual else [pytest.mark.sweep]
            yield pytest.param(outer, inner, marks=marks, id=f"{ids(outer)}-{ids(inner)}")


@pytest.mark.parametrize(("outer", "inner"), list(combinations()))
def test_a_run_within_a_node(outer, inner):
    with LocalBackend(*outer, max_workers=2) as first, LocalBackend(*inner, max_workers=2) as second:
        pipeline = tower([first, second], lambda x: x + 1)
        assert pipeline.map({"x": [0, 1]}, "x") == {"y": [1 + 2, 3 + 4]}
        assert pipeline.run({"x": 1}) == {"y": 3 + 4}


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("pair", [(mode, mode) for mode in MODES] + [("parallel", "sequential")], ids=ids)
def test_one_backend_three_levels_deep(pair, workers):
    with LocalBackend(*pair, max_workers=workers) as backend:
        pipeline = tower([backend] * 3, lambda x: x)
        assert pipeline.map({"x": [0, 1]}, "x") == {"y": [0 + 1 + 2 + 3, 4 + 5 + 6 + 7]}


@pytest.mark.parametrize("pair", [("threaded", "parallel"), slow_pair("parallel", "async")])
def test_a_nested_pipeline_with_a_backend_of_its_own(pair):
    """As a node, and not called by one: its run begins within a worker all the same."""
    with LocalBackend(*pair, max_workers=2) as first, LocalBackend(*pair, max_workers=2) as second:
        inner = Pipeline(nodes=[node("y")(lambda x: x + 1)], name="inner", backend=second)
        middle = Pipeline(nodes=[inner.as_node(map_over="x")], name="middle", backend=first)
        outer = Pipeline(nodes=[middle.as_node(map_over="x")], name="outer", backend=second)
        assert outer.map({"x": [[[1, 2], [3]], [[4]]]}, "x") == {"y": [[[2, 3], [4]], [[5]]]}


# -- how many processes -----------------------------------------------------------------------------------------------


def levels_of(folder):
    """Return level → the processes that ran its node."""
    found = {}
    for name in os.listdir(folder):
        level, pid = name.split("-")
        found.setdefault(int(level), set()).add(int(pid))
    return found


def traced_tower(backends, folder, together):
    """Return a tower whose nodes leave their level and process in a folder; as many as `together` at the top meet."""

    def trace(level):
        open(os.path.join(folder, "seen", f"{level}-{os.getpid()}"), "w").close()

    pipeline = None
    for level in range(len(backends), 0, -1):
        pipeline = Pipeline(nodes=[node("y")(_traced(level, pipeline, trace, folder, together))])
        pipeline.backend = backends[level - 1]
    return pipeline


def _traced(level, inner, trace, folder, together):
    def work(x):
        if level == 1:
            meet_in_files(os.path.join(folder, "met"), x, together)
        trace(level)
        return inner.map({"x": range(3)}, "x")["y"] if inner is not None else x

    return work


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "seen").mkdir()
    (tmp_path / "met").mkdir()
    return str(tmp_path)


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@linux
@pytest.mark.parametrize("pair", [("parallel", "parallel"), slow_pair("sequential", "parallel")])
def test_each_level_has_no_more_processes_than_the_first(pair, folder):
    """Three workers, three levels: 3 + 3 + 3 processes and not 3 + 9 + 27; and they end with the backend."""
    with LocalBackend(*pair, max_workers=3) as backend:
        pipeline = traced_tower([backend] * 3, folder, 3)
        assert pipeline.map({"x": range(3)}, "x")["y"] == [[[0, 1, 2]] * 3] * 3
        seen = levels_of(os.path.join(folder, "seen"))
        assert {level: len(pids) for level, pids in seen.items()} == {1: 3, 2: 3, 3: 3}
        everybody = set().union(*seen.values())
        assert len(everybody) == 9
        assert os.getpid() not in everybody
    wait_until(lambda: not any(map(alive, everybody)), "workers outlive the backend of their parents")


@pytest.mark.parametrize(("outer", "inner", "each"), [(1, 3, 3), (2, 4, 2), (2, 3, 1)])
def test_workers_share_what_a_backend_within_them_may_have(outer, inner, each, folder):
    """A worker that is alone has them all: so many items of the inner map meet."""

    def meet(x, at):
        return meet_in_files(os.path.join(folder, "met"), f"{at}-{x}", each * outer)

    with LocalBackend("parallel", max_workers=outer) as backend:
        low = Pipeline(nodes=[node("y")(meet)], backend=LocalBackend("parallel", "threaded", max_workers=inner))

        def work(at):
            return low.map({"x": range(each), "at": at}, "x")["y"]

        # Independent nodes rather than items: a map over one worker is not worth a process.
        nodes = [node(name)(_constant(work, name)) for name in "abc"[:outer]]
        found = Pipeline(nodes=nodes, backend=backend).run()
    assert [len(set(pids)) for pids in found.values()] == [each] * outer


def _constant(fn, value):
    return lambda: fn(value)


def test_workers_of_a_users_executor_share_too(folder):
    with ProcessPoolExecutor(2) as executor:
        outer = LocalBackend("sequential", "parallel", max_workers=2, executor=executor)
        pipeline = traced_tower([outer, LocalBackend("parallel", "parallel", max_workers=2)], folder, 2)
        assert pipeline.map({"x": range(2)}, "x")["y"] == [[0, 1, 2]] * 2
    assert {level: len(pids) for level, pids in levels_of(os.path.join(folder, "seen")).items()} == {1: 2, 2: 2}


# -- forks ------------------------------------------------------------------------------------------------------------

HEAD = """
    import gc, multiprocessing, os, signal, sys, threading, time, warnings
    from hypernodes import LocalBackend, Pipeline, node

    warnings.simplefilter("ignore", DeprecationWarning)  # of forks where there are threads, since Python 3.12

    def where(x):
        if x > 5:
            open("in", "w").close()
            while not os.path.exists("release"):
                time.sleep(0.002)
        return os.getpid()

    def ended(pid):
        return os.waitpid(pid, 0)[1] >> 8
"""


@linux
@pytest.mark.parametrize("pair", [("parallel", "sequential"), ("sequential", "parallel")], ids=ids)
def test_a_forked_child_runs_on_processes_of_its_own(pair, tmp_path):
    text = f"""
        backend = LocalBackend(*{pair!r}, max_workers=2)
        pipeline = Pipeline(nodes=[node("y")(where)], backend=backend)
        pids = lambda: set(pipeline.map({{"x": [1]}}, "x")["y"])
        before = pids()
        child = os.fork()
        if not child:
            mine = pids()
            assert not mine & before and os.getpid() not in mine
            assert pids() == mine
            sys.exit(5)
        assert ended(child) == 5
        assert pids() == before

        def use():
            assert not pids() & before

        for daemon in (False, True):
            other = multiprocessing.get_context("fork").Process(target=use, daemon=daemon)
            other.start()
            other.join()
            assert other.exitcode == 0
        assert pids() == before
        print("done")
    """
    with Program(tmp_path, HEAD, text) as program:
        assert program.finish() == (0, "done\n", "")
        assert_nothing_left(program.pid)


@linux
@pytest.mark.parametrize("pair", [("parallel", "sequential"), ("sequential", "parallel")], ids=ids)
def test_a_fork_while_another_thread_is_in_a_run(pair, tmp_path):
    """The child has a run in its memory that nobody works at; the parent's goes on."""
    text = f"""
        backend = LocalBackend(*{pair!r}, max_workers=2)
        pipeline = Pipeline(nodes=[node("y")(where)], backend=backend)
        found = []
        runner = threading.Thread(target=lambda: found.append(pipeline.map({{"x": [6, 7]}}, "x")["y"]))
        runner.start()
        while not os.path.exists("in"):
            time.sleep(0.002)
        child = os.fork()
        if not child:
            own = pipeline.map({{"x": [1]}}, "x")["y"]
            with open("own", "w") as file:
                print(own[0], file=file)
            sys.exit(5)
        assert ended(child) == 5
        open("release", "w").close()
        runner.join()
        with open("own") as file:
            assert len(found[0]) == 2 and int(file.read()) not in found[0]
        print("done")
    """
    with Program(tmp_path, HEAD, text) as program:
        assert program.finish() == (0, "done\n", "")
        assert_nothing_left(program.pid)


@linux
def test_forks_at_any_moment_of_other_threads(tmp_path):
    """Threads make backends and lower plans all the time; no lock of theirs is found held, no collector turned off."""
    text = """
        over = threading.Event()

        def churn():
            while not over.is_set():
                backend = LocalBackend("threaded", "threaded", max_workers=2)
                pipe = Pipeline(nodes=[node(f"n{n}")(lambda x: x) for n in range(20)], backend=backend)
                pipe.map({"x": [1, 2]}, "x")

        threads = [threading.Thread(target=churn) for _ in range(3)]
        for thread in threads:
            thread.start()
        status = []
        for _ in range(30):
            child = os.fork()
            if not child:
                signal.alarm(30)
                with LocalBackend("parallel", "threaded", max_workers=2) as backend:
                    backend.transport().close()
                pipe = Pipeline(nodes=[node("y")(where)], backend=LocalBackend("threaded", "threaded"))
                assert pipe.map({"x": [1, 2]}, "x")["y"] == [os.getpid()] * 2
                os._exit(5 if gc.isenabled() else 6)
            status.append(ended(child))
        over.set()
        for thread in threads:
            thread.join()
        print(set(status))
    """
    with Program(tmp_path, HEAD, text) as program:
        assert program.finish() == (0, "{5}\n", "")
        assert_nothing_left(program.pid)
