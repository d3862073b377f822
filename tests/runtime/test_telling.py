"""What nodes print, log and warn of in worker processes comes out where it does without them."""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
import os
import signal
import sys
import threading
import time
import warnings

import pytest
from scripts import run_script

from hypernodes import LocalBackend, Pipeline, node
from hypernodes.errors import NodeTimeoutError, WorkerDiedError
from hypernodes.runtime.processes.hearing import Ear
from hypernodes.runtime.processes.telling import ERR, FIRST, FLUSH, HEAD, LAST, OUT

NODES, ITEMS = ("parallel", "sequential"), ("sequential", "parallel")
logger = logging.getLogger("tests.telling")


def mapped(backends, function, values, **options):
    """Run a function for items in worker processes."""
    pipeline = Pipeline(nodes=[node(output_name="y", **options)(function)], backend=backends(ITEMS))
    return pipeline.map(inputs={"x": values}, map_over="x")["y"]


def speak(x):
    print("to stdout", x)
    print("to stderr", x, file=sys.stderr)
    print("no end", x, end="")
    sys.stdout.flush()
    sys.stdout.buffer.write(b"bytes\n")
    return x


@pytest.mark.parametrize("pair", [NODES, ITEMS])
def test_prints_come_out_of_the_streams_of_the_caller(backends, pair, capsys):
    pipeline = Pipeline(nodes=[node(output_name="y")(speak)], backend=backends(pair))
    pipeline.run(inputs={"x": 1})
    pipeline.map(inputs={"x": [2]}, map_over="x")
    out, err = capsys.readouterr()
    assert out == "".join(f"to stdout {x}\nno end {x}bytes\n" for x in (1, 2))
    assert err == "to stderr 1\nto stderr 2\n"


def test_they_are_redirected_as_the_callers_are(backends):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        mapped(backends, speak, [1])
    assert out.getvalue() == "to stdout 1\nno end 1bytes\n"


def test_coroutines_and_streams(backends, capsys):
    pipeline = Pipeline(nodes=[node(output_name="y")(speak)], backend=backends(ITEMS))
    asyncio.run(pipeline.amap(inputs={"x": [1]}, map_over="x"))
    assert list(pipeline.stream(inputs={"x": [2]}, map_over="x"))
    assert capsys.readouterr().err == "to stderr 1\nto stderr 2\n"


def test_lines_arrive_while_the_node_runs(backends, tmp_path):
    """The node goes on when its line was written here, so it must not wait for the node's end."""
    written = str(tmp_path / "written")

    class Opens(io.StringIO):
        def write(self, text):
            if "go on" in text:
                open(written, "w").close()
            return super().write(text)

    def waits(x):
        print("go on")
        end = time.monotonic() + 30
        while not os.path.exists(written):
            assert time.monotonic() < end, "it did not arrive"
            time.sleep(0.001)
        return x

    with contextlib.redirect_stdout(Opens()):
        assert mapped(backends, waits, [1]) == [1]


def test_lines_of_many_stay_whole(backends, capsys):
    def talk(x):
        def line(number):
            print(f"item {x}", f"thread {number}", sep=", ", end="; ")
            print("z" * 5000)

        threads = [threading.Thread(target=line, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return x

    mapped(backends, talk, list(range(8)))
    lines = capsys.readouterr().out.splitlines()
    assert sorted(lines) == sorted(f"item {x}, thread {n}; {'z' * 5000}" for x in range(8) for n in range(8))


def test_more_than_any_pipe_holds(backends, capsys):
    def talk(x):
        for number in range(20_000):
            print(x, number)
        print("z" * 2_000_000)
        return b"r" * 2_000_000

    mapped(backends, talk, [0, 1])
    lines = capsys.readouterr().out.splitlines()
    for x in (0, 1):
        assert [line for line in lines if line.startswith(f"{x} ")] == [f"{x} {n}" for n in range(20_000)]
    assert lines.count("z" * 2_000_000) == 2


def test_last_words(backends, capsys):
    """Of workers that are killed, that die, that are late, and of those that a failure elsewhere ends."""

    def die(x):
        for number in range(2000):
            print("last", number)
        if x == "late":
            time.sleep(60)
        elif x == "exit":
            os._exit(3)
        else:
            os.kill(os.getpid(), signal.SIGKILL)

    with LocalBackend(*ITEMS, max_workers=1, worker_retries=0) as backend:
        for x, error in (("late", NodeTimeoutError), ("exit", WorkerDiedError), ("kill", WorkerDiedError)):
            pipeline = Pipeline(nodes=[node(output_name="y", timeout=0.5)(die)], backend=backend)
            with pytest.raises(error):
                pipeline.map(inputs={"x": [x]}, map_over="x")
            assert capsys.readouterr().out == "".join(f"last {number}\n" for number in range(2000))


def test_what_an_abandoned_worker_said(tmp_path, capsys):
    begun = str(tmp_path / "begun")

    def fail_or_wait(x):
        if x:
            print("here I wait")
            open(begun, "w").close()
            time.sleep(60)
        while not os.path.exists(begun):
            time.sleep(0.001)
        raise LookupError

    with LocalBackend(*ITEMS, max_workers=2) as backend, pytest.raises(LookupError):
        Pipeline(nodes=[node(output_name="y")(fail_or_wait)], backend=backend).map({"x": [0, 1]}, map_over="x")
    assert capsys.readouterr().out == "here I wait\n"


# -- what a node may notice -------------------------------------------------------------------------------------------


class Odd(io.StringIO):
    encoding = "ascii"
    errors = "strict"

    def isatty(self):
        return True


def test_a_stream_looks_like_the_callers(backends, monkeypatch):
    def look(x):
        try:
            print("é")
        except UnicodeEncodeError:
            return sys.stdout.encoding, sys.stdout.isatty(), sys.stdout.fileno()

    monkeypatch.setattr(sys, "stdout", Odd())
    assert mapped(backends, look, [1]) == [("ascii", True, 1)]


def test_without_a_stream(backends, monkeypatch):
    def look(x):
        print("to nobody")
        return sys.stdout is None

    monkeypatch.setattr(sys, "stdout", None)
    assert mapped(backends, look, [1]) == [True]
    monkeypatch.undo()
    assert mapped(backends, look, [1]) == [False]


def test_a_stream_that_can_only_write(backends, monkeypatch):
    class Texts(list):
        write = list.append

    monkeypatch.setattr(sys, "stdout", Texts())
    for text in ("a line\n", "no line"):
        assert mapped(backends, lambda x: print(x, end=""), [text]) == [None]
    assert "".join(sys.stdout) == "a line\nno line"


def test_a_stream_that_breaks_fails_the_node(backends, monkeypatch):
    class Broken(io.StringIO):
        def write(self, text):
            raise BrokenPipeError("nobody reads")

    monkeypatch.setattr(sys, "stdout", Broken())
    with pytest.raises(BrokenPipeError, match="nobody reads"):
        mapped(backends, speak, [1])
    monkeypatch.undo()
    assert mapped(backends, speak, [1]) == [1]


def test_an_alarm_and_a_fork_in_the_middle(backends, capfd):
    """Nothing is half written, whatever interrupts it, and nobody waits for a lock."""

    class Late(Exception):
        pass

    def interrupted(x):
        def ring(number, frame):
            print("rung", x)
            raise Late

        before = signal.signal(signal.SIGALRM, ring)
        for _ in range(20):
            signal.setitimer(signal.ITIMER_REAL, 0.002)
            with contextlib.suppress(Late):
                while True:
                    print("a line of its own" * 300)
        signal.signal(signal.SIGALRM, before)
        print()
        if not os.fork():
            print("child")
            os._exit(0)
        os.wait()
        print("over", x)
        return x

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads
        assert mapped(backends, interrupted, [1]) == [1]
    text = capfd.readouterr().out
    assert text.count("rung 1") == 20
    assert text.endswith("child\nover 1\n")


def test_a_program_that_a_node_starts(capfd):
    """It inherits the descriptors, which are the caller's as the worker was started."""

    def start(x):
        import subprocess

        return subprocess.run(["echo", "from outside"], check=True, stdout=sys.stdout).returncode

    with LocalBackend("parallel", max_workers=1) as backend:
        Pipeline(nodes=[node(output_name="y")(start)], backend=backend).run(inputs={"x": 1})
    assert capfd.readouterr().out == "from outside\n"


def test_workers_of_workers(capsys):
    def outer(x):
        with LocalBackend("parallel", max_workers=1) as backend:
            return Pipeline(nodes=[node(output_name="y")(speak)], backend=backend).run(inputs={"x": x})["y"]

    with LocalBackend("parallel", max_workers=1) as backend:
        Pipeline(nodes=[node(output_name="z")(outer)], backend=backend).run(inputs={"x": 7})
    assert capsys.readouterr().out == "to stdout 7\nno end 7bytes\n"


# -- logging and warnings ---------------------------------------------------------------------------------------------


class Loud:
    def __str__(self):
        return "loud"


class Never:
    def __str__(self):
        raise AssertionError("nobody wants to know")


def log(x):
    logger.info("item %d", x, extra={"plain": 1, "other": Loud()})
    logger.debug("%s", Never())
    logger.warning("%s", Loud())
    try:
        raise LookupError("no such thing")
    except LookupError:
        logger.exception("it went wrong")
    logging.error("of root")
    return logger.isEnabledFor(logging.DEBUG), logger.getEffectiveLevel()


@pytest.mark.parametrize("pair", [NODES, ITEMS])
def test_records_go_to_the_handlers_of_the_caller(backends, pair, caplog):
    caplog.set_level(logging.INFO, "tests.telling")
    pipeline = Pipeline(nodes=[node(output_name="y")(log)], backend=backends(pair))
    assert pipeline.map(inputs={"x": [3]}, map_over="x")["y"] == [(False, logging.INFO)]
    assert [record.getMessage() for record in caplog.records] == ["item 3", "loud", "it went wrong", "of root"]
    first, _, failed, root = caplog.records
    assert (first.msg, first.args, first.levelname, first.name) == ("item %d", (3,), "INFO", "tests.telling")
    assert (first.funcName, first.plain, type(first.other).__name__) == ("log", 1, "Loud")
    assert first.process != os.getpid()
    assert root.name == "root"
    assert "LookupError: no such thing" in caplog.text
    assert isinstance(failed.exc_info[1], LookupError)


def test_levels_are_those_of_the_run(backends, caplog):
    """Also when the caller has changed them since a worker was started, and back again."""
    for level in (logging.ERROR, logging.DEBUG, logging.NOTSET):
        logger.setLevel(level)
        try:
            assert mapped(backends, lambda x: logger.level, [1]) == [level]
        finally:
            logger.setLevel(logging.NOTSET)
    logging.disable(logging.CRITICAL)
    try:
        assert mapped(backends, lambda x: logger.isEnabledFor(logging.CRITICAL), [1]) == [False]
    finally:
        logging.disable(logging.NOTSET)
    assert mapped(backends, lambda x: logger.isEnabledFor(logging.CRITICAL), [1]) == [True]


def test_a_handler_that_a_node_adds(backends, caplog):
    """It gets the record as well, as it does without workers."""

    def capture(x):
        kept = io.StringIO()
        handler = logging.StreamHandler(kept)
        logger.addHandler(handler)
        try:
            logger.warning("item %d", x)
        finally:
            logger.removeHandler(handler)
        return kept.getvalue()

    assert mapped(backends, capture, [1]) == ["item 1\n"]
    assert caplog.messages == ["item 1"]


def test_a_handler_that_a_module_adds_is_asked_once(tmp_path):
    (tmp_path / "noisy.py").write_text(
        "import logging, sys\n"
        "log = logging.getLogger('noisy')\n"
        "log.addHandler(logging.StreamHandler())\n"
        "log.addHandler(logging.FileHandler('noisy.log', delay=True))\n"
        "logging.basicConfig(level=logging.INFO, stream=sys.stdout, format='%(levelname)s %(name)s %(message)s')\n"
        "def work(x):\n"
        "    log.info('item %d', x)\n"
        "    return x\n",
        encoding="utf-8",
    )
    process = run_script(
        tmp_path,
        """
        from hypernodes import LocalBackend, Pipeline, node
        import noisy

        with LocalBackend("parallel", max_workers=1) as backend:
            Pipeline(nodes=[node(output_name="y")(noisy.work)], backend=backend).run(inputs={"x": 1})
        """,
    )
    assert process.communicate(timeout=60) == ("INFO noisy item 1\n", "item 1\n")
    assert (tmp_path / "noisy.log").read_text() == "item 1\n"


class Careful(UserWarning):
    """A warning that is raised in workers, and shown here."""


def warn(x):
    warnings.warn(f"item {x}", Careful, stacklevel=1)
    return x


def test_warnings_are_shown_as_the_caller_shows_them(backends):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", Careful)
        mapped(backends, warn, [1])
    assert [(each.category, str(each.message), each.filename) for each in caught] == [(Careful, "item 1", __file__)]
    with pytest.raises(Careful):  # warnings are errors in these tests
        mapped(backends, warn, [1])


# -- the pipe ---------------------------------------------------------------------------------------------------------


def test_pieces_of_several_tellers():
    """A message that an exception ended in the middle is told as far as it went."""
    heard, output = os.pipe()
    ear = Ear(heard)

    def piece(kind, flags, text, thread):
        return HEAD.pack(kind, flags, len(text), 1, thread) + text

    os.write(output, piece(OUT, FIRST, b"one ", 1) + piece(ERR, FIRST | LAST, b"two", 2))
    assert ear.hear() == [(ERR, b"two", False)]
    rest = piece(OUT, FIRST | LAST | FLUSH, b"three", 1)
    os.write(output, rest[:10])
    assert ear.hear() == []
    os.write(output, rest[10:])
    assert ear.hear() == [(OUT, b"one ", False), (OUT, b"three", True)]
    os.close(output)
    assert ear.hear() == []
    assert ear.fileno() == -1
