"""What stands between a program and its workers: how they start, where they may not, and that they end with it.

Programs that could start processes without end run in a session of their own, with a bound on its processes.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
from pathlib import Path

import pytest
from scripts import Program, assert_nothing_left, linux, members, wait_until

from hypernodes import LocalBackend, Pipeline, node
from hypernodes.errors import NestedWorkersError, NotPicklableError, WorkerStartError
from hypernodes.runtime.processes import process, role

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no worker processes")

PIPELINE = """
    import os, signal, sys, threading, time
    from hypernodes import LocalBackend, Pipeline, node

    @node(output_name="y")
    def double(x):
        return 2 * x

    def doubled():
        with LocalBackend("sequential", "parallel", max_workers=2) as backend:
            return Pipeline(nodes=[double], name="p", backend=backend).map({"x": [1, 2]}, "x")["y"]
"""


def said(tmp_path, text, **modules):
    """Return what a program prints that has these modules beside it; it ends by itself and leaves nothing."""
    for name, source in modules.items():
        Program.write(tmp_path / f"{name}.py", PIPELINE, source)
    with Program(tmp_path, PIPELINE, text) as program:
        status, out, err = program.finish()
        assert_nothing_left(program.pid)
    assert (status, err) == (0, "")
    return out


# -- where there are no workers ---------------------------------------------------------------------------------------


def test_a_module_that_runs_a_pipeline_while_it_is_imported_is_named(tmp_path):
    """Its worker imports it too, and would do the same; `import` in a node is the node's own run."""
    text = """
        try:
            import eager
        except Exception as error:
            print(type(error).__name__, error.module, os.path.basename(error.file))
            print(error.__notes__[0])
    """
    name, *note = said(tmp_path, text, eager="doubled()").splitlines()
    assert name == "NestedWorkersError eager eager.py"
    assert note[0].startswith("raised while a worker process read what node 'double' of pipeline 'p' needs, item ")


@linux
def test_a_script_with_the_name_of_a_module_of_the_standard_library(tmp_path):
    """Each worker that imports `colorsys` gets this file."""
    Program.write(
        tmp_path / "colorsys.py",
        PIPELINE,
        """
        @node(output_name="y")
        def double(x):
            import colorsys
            return 2 * x

        doubled()
        """,
    )
    with Program(tmp_path, "import runpy; runpy.run_path('colorsys.py', run_name='__main__')") as program:
        status, _, err = program.finish()
        assert_nothing_left(program.pid)
    assert status == 1
    assert "module 'colorsys' (" in err
    if sys.version_info >= (3, 10):
        assert "rename the file: 'colorsys' is a module of the standard library" in err


@pytest.mark.slow
def test_threads_of_a_module_that_is_imported_come_so_deep_and_no_deeper(tmp_path):
    """They do not wait for that import, which waits for them."""
    module = """
        def function(x):
            return x

        plain = node(output_name="y")(function)

        def mapped():
            with LocalBackend("sequential", "parallel", max_workers=2) as backend:
                return Pipeline(nodes=[plain], backend=backend).map({"x": [1, 2]}, "x")["y"]

        def run():
            global found
            try:
                found = mapped()
            except Exception as error:
                found = error

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        if isinstance(found, Exception):
            raise found
    """
    text = """
        try:
            import astray
        except Exception as error:
            print(type(error).__name__, error.depth)
    """
    assert said(tmp_path, text, astray=module) == f"NestedWorkersError {role.DEEPEST}\n"


class Eager:
    """Runs a pipeline in workers while it is read."""

    def __reduce__(self):
        return _run_in_workers, ()


def _run_in_workers():
    with LocalBackend("sequential", "parallel", max_workers=1) as backend:
        return Pipeline(nodes=[node("y")(lambda x: x)], backend=backend).map({"x": [1]}, "x")


def test_an_object_that_runs_a_pipeline_while_it_is_read(backends):
    pipeline = Pipeline(nodes=[node("y")(lambda x: 1)], backend=backends(("sequential", "parallel")))
    with pytest.raises(NestedWorkersError) as caught:
        pipeline.map({"x": [Eager()]}, "x")
    assert (caught.value.module, caught.value.depth) == ("", 0)
    result = pipeline.map({"x": [1, Eager()]}, "x", error_policy="collect")
    assert [failure.item for failure in result.failures] == [1]


# -- nothing outlives what started it ---------------------------------------------------------------------------------


@linux
def test_workers_that_have_not_run_a_line_end_with_their_program(tmp_path):
    """The interpreter itself takes its time: a `sitecustomize` that never ends."""
    hang = """
        import os, sys, time
        if "--hypernodes-worker" in open("/proc/self/cmdline").read():
            os.write(2, b"in")
            while True:
                time.sleep(60)
    """
    Program.write(tmp_path / "sitecustomize.py", hang)
    text = "os.dup2(1, 2)\ndoubled()\n"
    with Program(tmp_path, PIPELINE, text, path=[tmp_path]) as program:
        program.hear(b"in")
        # Between its start and then a worker would end at its first own line, which this one never comes to.
        wait_until(lambda: len(armed(members(program.pid))) == 2, "the workers are not armed")
        program.signal(signal.SIGKILL)
        program.finish()
        assert_nothing_left(program.pid)


def armed(pids):
    """Return the workers among processes whose lifeline the kernel watches for them."""
    found = []
    for pid in pids:
        try:
            if b"--hypernodes-worker" in (Path("/proc") / str(pid) / "cmdline").read_bytes():
                opened = [info.read_text().split() for info in (Path("/proc") / str(pid) / "fdinfo").iterdir()]
                if any(int(facts[facts.index("flags:") + 1], 8) & _O_ASYNC for facts in opened):
                    found.append(pid)
        except OSError:  # it has ended, or is about to
            continue
    return found


_O_ASYNC = 0o20000


@linux
def test_workers_of_a_worker_that_read_end_with_it(tmp_path):
    """Level two is in the middle of reading when level one is killed."""
    with Program(tmp_path, PIPELINE, _LEVELS) as program:
        program.hear(b"two\n")
        os.kill(int((tmp_path / "one").read_text()), signal.SIGKILL)
        program.hear(b"WorkerDiedError\n")
        two = int((tmp_path / "two").read_text())
        wait_until(lambda: two not in members(program.pid), "the worker of a killed worker goes on")
        program.finish()
        assert_nothing_left(program.pid)


_LEVELS = """
    class Slow:
        def __reduce__(self):
            return eval, ("(lambda os, time: (open('two', 'w').write(str(os.getpid())), os.write(1, b'two\\\\n'), "
                          "time.sleep(600)))(__import__('os'), __import__('time'))",)

    def outer(x):
        with open("one", "w") as file:
            file.write(str(os.getpid()))
        os.write(1, b"one\\n")
        with LocalBackend("sequential", "parallel", max_workers=1) as backend:
            Pipeline(nodes=[node("y")(lambda x: 1)], backend=backend).map({"x": [Slow()]}, "x")

    try:
        with LocalBackend("sequential", "parallel", max_workers=1, worker_retries=0) as backend:
            Pipeline(nodes=[node("y")(outer)], backend=backend).map({"x": [1]}, "x")
    except Exception as error:
        print(type(error).__name__, flush=True)
"""


# -- workers that cannot start ----------------------------------------------------------------------------------------


@pytest.fixture
def executable(monkeypatch):
    from multiprocessing import spawn

    def use(path):
        monkeypatch.setattr(spawn, "get_executable", lambda: path)

    return use


def refusal(**options):
    pipeline = Pipeline(nodes=[node("y")(lambda x: len(x))], name="p")
    with LocalBackend("sequential", "parallel", max_workers=2) as backend:
        pipeline.backend = backend
        with pytest.raises(WorkerStartError) as caught:
            pipeline.map({"x": [[1], list(range(1_000_000))]}, "x", **options)
    return caught.value


@pytest.mark.parametrize("options", [{}, {"error_policy": "collect"}], ids=["raise", "collect"])
def test_a_program_that_is_no_python_is_no_fault_of_a_node(options, executable):
    executable("/bin/false")
    error = refusal(**options)
    assert (error.command[0], error.exitcode) == ("/bin/false", 1)
    assert "set_executable" in str(error)


def test_one_that_lives_on_and_says_nothing(tmp_path, executable, monkeypatch):
    (tmp_path / "app").write_text("#!/bin/sh\nexec sleep 600\n")
    (tmp_path / "app").chmod(0o755)
    process._tracker()  # multiprocessing's own would be such a one as well
    executable(str(tmp_path / "app"))
    monkeypatch.setattr(process, "BEGINNING", 0.3)
    assert refusal().reason == "it did not begin within 0 s"


@pytest.mark.parametrize(
    ("path", "reason"),
    [("/no/such/python", "No such file"), ("/", "Permission denied"), (None, "does not know its Python")],
)
def test_a_python_that_is_not_there(path, reason, executable):
    executable(path)
    error = refusal()
    assert reason in error.reason
    assert error.exitcode is None


def test_a_frozen_program_is_no_python(monkeypatch):
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    assert "frozen" in refusal().reason


def test_a_program_that_runs_in_place_of_a_worker_starts_none(monkeypatch):
    monkeypatch.setattr(role, "started_as_worker", lambda: True)
    assert "in place of a worker process" in refusal().reason


def test_what_hinders_a_worker_is_told(tmp_path):
    """A package of ours that it finds in the parent's module path, and that is broken."""
    text = """
        os.mkdir("shadow")
        with open("shadow/msgspec.py", "w") as file:
            file.write("raise ImportError('not this one')")
        sys.path.insert(0, "shadow")
        try:
            doubled()
        except Exception as error:
            print(type(error).__name__, error.exitcode, error.reason.splitlines()[-1])
    """
    assert said(tmp_path, text) == "WorkerStartError 1 ImportError: not this one\n"


def test_packages_that_only_the_module_path_of_the_parent_leads_to(tmp_path):
    """As in a program that was handed its path: workers learn it before they look for anything."""
    text = """
        os.environ.pop("PYTHONPATH")
        print(doubled())
    """
    assert said(tmp_path, text) == "[2, 4]\n"


def test_relative_entries_of_the_module_path_are_what_they_meant(tmp_path):
    """As '' is in a notebook; an entry that is no directory stays, as editable installs have such."""
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "near.py").write_text("def near(x): return x + 1")
    text = """
        sys.path[:0] = ["", "lib", "__editable__.finder"]
        import near

        def find(x):
            return [*sys.path[:3], os.getcwd()]

        os.mkdir("elsewhere")
        with LocalBackend("sequential", "parallel", max_workers=1) as backend:
            pipeline = Pipeline(nodes=[node("a")(near.near), node("b")(find)], backend=backend)
            result = pipeline.map({"x": [1]}, "x")
            home = os.getcwd()
            assert result.rows() == [{"a": 2, "b": [home, home + "/lib", "__editable__.finder", home]}], result
            del sys.path[:3]
            os.chdir("elsewhere")
            print(pipeline.map({"x": [1]}, "x")["a"])
            if sys.version_info[:3] != (3, 13, 0):  # which cannot import socket where there is no directory
                os.rmdir("../elsewhere")  # now it means nothing
            sys.path[:0] = [""]
            del sys.argv  # as in a program that embeds Python
            print(doubled())
    """
    assert said(tmp_path, text) == "[2]\n[2, 4]\n"


# -- odd environments ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "streams",
    [
        "for number in range(3): os.close(number)",
        "sys.stdout.close(); sys.stderr.close()",
        "sys.stdin = sys.stdout = sys.stderr = None; os.close(1)",
        "import io; sys.stdin = sys.stdout = sys.stderr = io.StringIO()",
    ],
    ids=["closed", "closed files", "none", "in memory"],
)
def test_standard_streams_do_not_matter(streams, tmp_path):
    """What a node opens or prints does not go where a stream was, and large values arrive as they are."""
    text = f"""
        {streams}
        def noisy(x):
            print("said", file=sys.stderr)
            os.write(1, b"written")
            return bytes(200_000) + x

        with LocalBackend("parallel", "parallel", max_workers=2) as backend:
            pipeline = Pipeline(nodes=[node("y")(noisy)], backend=backend)
            result = [pipeline.run({{"x": b"1"}})["y"], *pipeline.map({{"x": [b"1", b"2"]}}, "x")["y"]]
        with open("result", "w") as file:
            file.write(repr([(len(y), y[-1:]) for y in result]))
        os._exit(0)
    """
    with Program(tmp_path, PIPELINE, text) as program:
        program.finish()
        assert_nothing_left(program.pid)
    assert (tmp_path / "result").read_text() == repr([(200_001, b"1"), (200_001, b"1"), (200_001, b"2")])


def test_a_descriptor_above_a_limit_that_was_lowered(tmp_path):
    """It was inherited, or the program had more once; nobody could tell a new process to close it."""
    text = """
        import fcntl, resource
        fcntl.fcntl(0, fcntl.F_DUPFD, 100)
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        print(doubled())
    """
    assert said(tmp_path, text) == "[2, 4]\n"


def test_input_in_a_worker_is_at_its_end(backends):
    def ask(x):
        with open(0, closefd=False) as file:
            return file.read()

    pipeline = Pipeline(nodes=[node("y")(ask)], backend=backends(("sequential", "parallel")))
    assert pipeline.map({"x": [1]}, "x")["y"] == [""]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_node_may_use_multiprocessing(method, tmp_path):
    """With the start method of the program, also where that was chosen after the workers had started."""
    text = f"""
        import multiprocessing

        def use(x):
            process = multiprocessing.Process(target=of_the_script, args=(x,))
            process.start()
            process.join()
            with multiprocessing.Pool(2) as pool:
                squares = [*pool.map(abs, [-x, x]), *pool.map(of_the_script, [x])]
                if multiprocessing.get_start_method() == "fork":
                    assert type(pool.apply(Own)) is Own
            assert multiprocessing.parent_process().is_alive()
            return multiprocessing.get_start_method(), process.exitcode, squares

        class Own:
            pass

        def helper(x):
            return 2 * x

        def of_the_script(x):
            return helper(x)

        if __name__ == "__main__":
            with LocalBackend("sequential", "parallel", max_workers=1) as backend:
                pipeline = Pipeline(nodes=[node("y")(use)], backend=backend)
                Pipeline(nodes=[double], backend=backend).map({{"x": [1]}}, "x")
                multiprocessing.set_start_method({method!r})
                print(pipeline.map({{"x": [1, 2]}}, "x")["y"])
    """
    assert said(tmp_path, text) == f"{[(method, 0, [1, 1, 2]), (method, 0, [2, 2, 4])]}\n"


@pytest.mark.parametrize(
    "text",
    [
        """
        def late():
            threading.main_thread().join()
            print(doubled())

        threading.Thread(target=late).start()
        """,
        """
        import atexit
        atexit.register(lambda: print(doubled()))
        import hypernodes.runtime.processes.transports
        """,
        """
        import atexit
        backend = LocalBackend("sequential", "parallel", max_workers=2)
        pipeline = Pipeline(nodes=[double], backend=backend)
        atexit.register(lambda: print(pipeline.map({"x": [1, 2]}, "x")["y"]))
        pipeline.map({"x": [1]}, "x")
        """,
    ],
    ids=["after the main thread", "first at exit", "again at exit"],
)
def test_a_program_that_is_about_to_end(text, tmp_path):
    assert said(tmp_path, text) == "[2, 4]\n"


@pytest.mark.skipif(importlib.util.find_spec("gevent") is None, reason="needs gevent")
@pytest.mark.parametrize("when", ["before", "after"])
def test_greenlets_share_workers(when, tmp_path):
    """Patched before or after our import: nothing hangs, and other greenlets go on while one waits for a worker."""
    patch = "from gevent import monkey; monkey.patch_all()\n"
    text = """
        import gevent
        from hypernodes import LocalBackend, Pipeline, node

        def meet(x):
            import os, time
            while not os.path.exists("go"):
                time.sleep(0.005)
            return x

        def let_go():
            with open("go", "w"):
                pass

        for pair in [("sequential", "parallel"), ("parallel", "threaded"), ("threaded", "parallel")]:
            with LocalBackend(*pair, max_workers=2) as backend:
                pipeline = Pipeline(nodes=[node("a")(meet), node("b")(lambda a: -a)], backend=backend)
                jobs = [gevent.spawn(lambda: pipeline.map({"x": [1, 2, 3]}, "x")["b"]) for _ in range(3)]
                gevent.spawn_later(0.1, let_go)
                gevent.joinall(jobs, raise_error=True)
                print([job.value for job in jobs])
    """
    first = "import hypernodes.runtime.processes.transports\n" if when == "after" else ""
    with Program(tmp_path, first + patch, text) as program:
        status, out, err = program.finish()
    assert (status, err) == (0, "")
    assert out == 3 * f"{3 * [[-1, -2, -3]]}\n"


# -- objects that leave -----------------------------------------------------------------------------------------------


class Own(BaseException):
    """An exit of a library's own."""


class Leaves:
    """Raises an exit where it is pickled, or where it is unpickled."""

    def __init__(self, how, kind):
        self.how = how
        self.kind = kind

    def __reduce__(self):
        if self.how == "dumps":
            raise self.kind(3)
        return _leave, (self.kind,)


def _leave(kind):
    raise kind(3)


@pytest.mark.parametrize("kind", [SystemExit, GeneratorExit, Own])
@pytest.mark.parametrize("how", ["dumps", "loads"])
def test_an_exit_of_an_objects_own_is_a_value_that_cannot_travel(how, kind, backends):
    backend = backends(("parallel", "parallel"))
    reads = Pipeline(nodes=[node("y")(lambda x: 1)], name="p", backend=backend)
    makes = Pipeline(nodes=[node("made")(lambda x: Leaves(how, kind) if x else x)], name="p", backend=backend)
    for attempt, named in [
        (lambda: reads.run({"x": Leaves(how, kind)}), "y" if how == "loads" else "'x'"),
        (lambda: reads.map({"x": [1, Leaves(how, kind)]}, "x"), "item 1"),
        (lambda: list(reads.stream({"x": [1, Leaves(how, kind)]}, "x")), "item 1"),
        (lambda: makes.run({"x": 1}), "output 'made' of node 'made'"),
        (lambda: makes.map({"x": [0, 1]}, "x"), "output 'made' of node 'made'"),
    ]:
        with pytest.raises(Exception, match=kind.__name__) as caught:
            attempt()
        assert named in f"{caught.value} {getattr(caught.value, '__notes__', '')}"
        assert how == "loads" or isinstance(caught.value, NotPicklableError)
    for pipeline, x in [(reads, Leaves(how, kind)), (makes, 1)]:
        result = pipeline.map({"x": [0, x]}, "x", error_policy="collect")
        assert [failure.item for failure in result.failures] == [1]
