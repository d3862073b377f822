"""What a node raises arrives as itself or as the nearest thing that can; whatever it is, the run ends and says where.

The first half raises in worker processes what has trouble to leave them. The second half raises what means something
to Python itself (the end of a program, of a generator, of a task) everywhere a node can run.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import re
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import pytest
from graphs import PAIRS, PARALLEL_PAIRS, ids
from observing import notes_of

from hypernodes import LocalBackend, Pipeline, PipelineCallback, node
from hypernodes.errors import NotPicklableError
from hypernodes.pickling.exceptions import RemoteError, RemoteTraceback

groups = pytest.mark.skipif(sys.version_info < (3, 11), reason="exception groups came with Python 3.11")


# The ways an exception leaves a worker: of a bundle, of a chunk of items, of a frame with threads of its own.
WAYS = [("parallel", "sequential"), ("sequential", "parallel"), ("threaded", "parallel")]


def remote_of(error):
    """Return what stands at the end of a chain, as Python prints it."""
    while error.__cause__ or (error.__context__ and not error.__suppress_context__):
        error = error.__cause__ or error.__context__
    return error


def raised(backend, fn, match=None):
    """Return what comes out of a map whose second item runs `fn`; the run after it works, in the same processes."""

    def work(x):
        return fn() if x else os.getpid()

    pipeline = Pipeline(nodes=[node("y", name="fragile")(work)], name="p", backend=backend)
    with pytest.raises(BaseException) as caught:
        pipeline.map({"x": [0, 1]}, "x")
    error = caught.value
    assert isinstance(remote_of(error), RemoteTraceback)
    assert notes_of(error)[-1 - bool(match)] == "node 'fragile' of pipeline 'p', item 1, inputs x=1"
    assert pipeline.map({"x": [0]}, "x")["y"] != [os.getpid()]
    return error


# -- as itself --------------------------------------------------------------------------------------------------------


class Plain(Exception):
    pass


def raise_from():
    try:
        raise KeyError("the first")
    except KeyError as error:
        raise Plain("the second", 2) from error


@pytest.mark.parametrize("way", WAYS, ids=ids)
def test_the_remote_traceback_is_at_the_end_of_the_chain(way, backends):
    error = raised(backends(way), raise_from)
    assert type(error) is Plain
    assert error.args == ("the second", 2)
    assert type(error.__cause__) is KeyError
    assert error.__cause__.__cause__ is remote_of(error)
    text = str(remote_of(error))
    assert "KeyError: 'the first'" in text
    assert "direct cause" in text
    assert "in raise_from" in text


def raise_noted():
    error = Plain("noted")
    error.__notes__ = ["by the node", "twice"]
    error.extra = {"and": "more"}
    raise error


@pytest.mark.parametrize("way", WAYS, ids=ids)
def test_notes_and_attributes_travel(way, backends):
    error = raised(backends(way), raise_noted)
    assert type(error) is Plain
    assert notes_of(error)[:2] == ["by the node", "twice"]
    assert len(notes_of(error)) == 3
    assert error.extra == {"and": "more"}


def raise_huge():
    raise Plain("x" * 5_000_000)


def test_a_huge_message_arrives_whole(backends):
    assert len(str(raised(backends(WAYS[1]), raise_huge))) == 5_000_000


@pytest.mark.parametrize("way", WAYS, ids=ids)
def test_a_class_made_in_a_function_is_the_same_class_here(way, backends):
    class Local(Exception):
        def __init__(self, code, *, why):
            super().__init__(f"{code}: {why}")
            self.code = code

        def __reduce__(self):
            return _local, (type(self), self.code)

    def fail():
        raise Local(3, why="local")

    error = raised(backends(way), fail)
    assert type(error) is Local
    assert error.code == 3


def _local(kind, code):
    return kind(code, why="read back")


def test_a_class_of_main_is_the_same_class_there(run_script):
    out, err, status = run_script(
        """
        from hypernodes import LocalBackend, Pipeline, PipelineCallback, node

        class Mine(Exception):
            def __init__(self, a, b):
                super().__init__(a)
                self.b = b

        def fail(x):
            raise Mine(x, 2)

        for pair in [("parallel", "sequential"), ("threaded", "parallel")]:
            with LocalBackend(*pair, max_workers=1) as backend:
                try:
                    Pipeline(nodes=[node("y")(fail)], backend=backend).map({"x": [1]}, "x")
                except Mine as error:
                    print(error, error.b)
        """
    )
    assert (out, err, status) == ("1 2\n1 2\n", "", 0)


@pytest.fixture
def run_script(tmp_path):
    def run(text):
        path = tmp_path / "script.py"
        path.write_text(textwrap.dedent(text))
        done = subprocess.run(
            [sys.executable, "-W", "error", str(path)],
            env={**os.environ, "PYTHONPATH": os.getcwd()},
            capture_output=True,
            encoding="utf-8",
            timeout=60,
        )
        return done.stdout, done.stderr, done.returncode

    return run


# -- as the nearest thing that can ------------------------------------------------------------------------------------


class NeedsTwo(ValueError):
    """Unpickling calls it with its one argument."""

    def __init__(self, code, message):
        super().__init__(f"{code}: {message}")
        self.code = code


class NeedsTwoOfSystem(OSError):
    """So does this one; the base class keeps its fields where no attribute dictionary shows them."""

    def __init__(self, number, text, path, *, host):
        super().__init__(number, text, path)
        self.host = host


class HasSlots(Exception):
    __slots__ = ("code", "gone")

    def __init__(self, code, *, gone):
        super().__init__("slots")
        self.code = code
        self.gone = gone


class ReduceRaises(Exception):
    def __reduce__(self):
        raise RuntimeError("no")


class ReduceExits(Exception):
    def __reduce__(self):
        raise SystemExit("no")


class ReadsBackAsText(Exception):
    def __reduce__(self):
        return str, ("not an exception",)


class ReadingExits(Exception):
    def __reduce__(self):
        return sys.exit, (3,)


def fails_with(make):
    def fail():
        raise make()

    return fail


@pytest.mark.parametrize("way", WAYS, ids=ids)
@pytest.mark.parametrize(
    "make",
    [
        lambda: ReduceRaises("told", 1),
        lambda: ReduceExits("told", 1),
        lambda: ReadsBackAsText("told", 1),
        lambda: ReadingExits("told", 1),
    ],
    ids=["reduce raises", "reduce exits", "reads back as text", "reading back exits"],
)
def test_an_exception_that_spoils_its_pickling_is_made_again_from_its_parts(way, make, backends):
    error = raised(backends(way), fails_with(make))
    assert type(error) is type(make())
    assert error.args == ("told", 1)


@pytest.mark.parametrize("way", WAYS, ids=ids)
def test_an_init_that_breaks_unpickling(way, backends):
    error = raised(backends(way), fails_with(lambda: NeedsTwo(404, "not there")))
    assert type(error) is NeedsTwo
    assert (str(error), error.code) == ("404: not there", 404)
    error = raised(backends(way), fails_with(lambda: NeedsTwoOfSystem(2, "no such file", "a.txt", host="h")))
    assert type(error) is NeedsTwoOfSystem
    assert (error.errno, error.strerror, error.host) == (2, "no such file", "h")


@pytest.mark.parametrize("way", WAYS, ids=ids)
def test_attributes_that_do_not_pickle_stay_behind(way, backends):
    def fail():
        error = Plain("told", threading.Lock())
        error.code = 7
        error.lock = threading.Lock()
        raise error

    error = raised(backends(way), fail, "left")
    assert type(error) is Plain
    assert (error.args[0], error.code, hasattr(error, "lock")) == ("told", 7, False)
    assert "lock" in error.args[1]
    assert notes_of(error)[-1] == "what could not leave the worker process: attribute 'lock'"


def test_slots_are_attributes_too(backends):
    error = raised(backends(WAYS[1]), fails_with(lambda: HasSlots(7, gone=threading.Lock())), "left")
    assert type(error) is HasSlots
    assert (error.code, hasattr(error, "gone")) == (7, False)


class NeedsItsLock(Exception):
    """Without the attribute that does not pickle it cannot even be shown."""

    def __init__(self):
        super().__init__("hidden")
        self.lock = threading.Lock()

    def __str__(self):
        return f"the lock is {self.lock.locked()}"


class CannotBeShown(Exception):
    def __reduce__(self):
        raise RuntimeError("no")

    def __str__(self):
        raise RuntimeError("not shown either")


@pytest.mark.parametrize("way", WAYS, ids=ids)
@pytest.mark.parametrize(
    ("kind", "text"), [(NeedsItsLock, "the lock is False"), (CannotBeShown, "(its text cannot be made)")]
)
def test_what_cannot_be_made_again_is_told(way, kind, text, backends):
    error = raised(backends(way), fails_with(kind))
    assert type(error) is RemoteError
    assert (error.kind, error.text) == (f"{kind.__module__}.{kind.__name__}", text)
    assert type(pickle.loads(pickle.dumps(error))) is RemoteError


class Marked(str):
    """What a template engine hands out; `str` leaves it as it is."""

    def __str__(self):
        return self

    def __reduce__(self):
        raise RuntimeError("no")


def test_text_of_a_kind_of_its_own_arrives_as_text(backends):
    class SaysMarked(NeedsItsLock):
        def __str__(self):
            if self.lock is None:
                raise RuntimeError
            return Marked("marked")

    error = raised(backends(WAYS[0]), fails_with(SaysMarked))
    assert (type(error), error.text, type(error.text)) == (RemoteError, "marked", str)


def test_an_exception_that_raises_when_shown_travels_as_itself(backends):
    class Shy(Exception):
        def __str__(self):
            raise RuntimeError

    error = raised(backends(WAYS[0]), fails_with(Shy))
    assert type(error) is Shy


@pytest.fixture
def only_there(tmp_path):
    """A folder with a module that this process does not find, and a function that imports it."""
    (tmp_path / "only_there.py").write_text(
        textwrap.dedent(
            """
            class Foreign(ValueError):
                pass

            class Thing:
                pass
            """
        )
    )
    folder = str(tmp_path)

    def find(name):
        sys.path.insert(0, folder)
        try:
            import only_there
        finally:
            sys.path.remove(folder)
        # What travels by reference has to be found by name, and a worker's path is the parent's at the next run only.
        sys.path.append(folder)
        return getattr(only_there, name)

    return find


@pytest.mark.parametrize("way", WAYS, ids=ids)
def test_a_class_that_only_the_worker_can_import(way, only_there):
    def fail():
        raise only_there("Foreign")("told")

    with LocalBackend(*way, max_workers=2) as backend:
        error = raised(backend, fail)
    assert type(error) is RemoteError
    assert (error.kind, error.text) == ("only_there.Foreign", "told")
    assert "only_there.Foreign: told" in str(remote_of(error))


@pytest.mark.parametrize("way", WAYS, ids=ids)
def test_an_attribute_of_a_class_that_only_the_worker_can_import(way, only_there):
    def fail():
        error = Plain("told")
        error.code, error.thing = 7, only_there("Thing")()
        raise error

    with LocalBackend(*way, max_workers=2) as backend:
        error = raised(backend, fail, "left")
    assert type(error) is Plain
    assert (error.args, error.code, hasattr(error, "thing")) == (("told",), 7, False)


@groups
@pytest.mark.parametrize("way", WAYS, ids=ids)
def test_groups(way, backends):
    def fail():
        left = KeyError("first")
        left.__notes__ = ["of the first"]
        raise ExceptionGroup("several", [left, ExceptionGroup("inner", [ValueError(2)])])  # noqa: F821

    error = raised(backends(way), fail)
    assert type(error) is ExceptionGroup  # noqa: F821
    first, inner = error.exceptions
    assert (error.message, first.args, notes_of(first)) == ("several", ("first",), ["of the first"])
    assert inner.exceptions[0].args == (2,)
    assert "KeyError: 'first'" in str(remote_of(error))


@groups
@pytest.mark.parametrize("way", WAYS, ids=ids)
def test_groups_of_what_does_not_pickle(way, only_there):
    """Each of the inner exceptions arrives as near as it can come, whatever the others do."""

    def fail():
        locked = Plain("locked")
        locked.lock = threading.Lock()
        inner = [ValueError("easy"), locked, NeedsTwo(404, "not there"), only_there("Foreign")("told")]
        raise BaseExceptionGroup("several", [*inner, KeyboardInterrupt("stop"), ExceptionGroup("in", inner)])  # noqa: F821

    with LocalBackend(*way, max_workers=2) as backend:
        error = raised(backend, fail)
    *flat, stop, inner = error.exceptions
    assert type(error) is BaseExceptionGroup  # noqa: F821
    assert type(stop) is KeyboardInterrupt
    for found in (flat, inner.exceptions):
        assert [type(each) for each in found] == [ValueError, Plain, NeedsTwo, RemoteError]
        assert found[2].code == 404
        assert found[3].text == "told"


@groups
@pytest.mark.parametrize("pair", PAIRS, ids=ids)
def test_a_group_can_be_split_in_every_mode(pair, backends):
    """``except*`` goes by `split`."""

    def fail(x):
        raise ExceptionGroup("several", [KeyError("k"), ValueError("v")])  # noqa: F821

    pipeline = Pipeline(nodes=[node("y", name="fragile")(fail)], name="p", backend=backends(pair))
    with pytest.raises(ExceptionGroup) as caught:  # noqa: F821
        pipeline.map({"x": [0]}, "x")
    keys, values = caught.value.split(KeyError)
    assert (str(keys.exceptions[0]), str(values.exceptions[0])) == ("'k'", "v")
    assert notes_of(caught.value) == ["node 'fragile' of pipeline 'p', item 0, inputs x=0"]


def test_through_a_users_executor():
    with ProcessPoolExecutor(1) as executor:
        backend = LocalBackend("parallel", max_workers=1, executor=executor)
        error = raised(backend, fails_with(lambda: NeedsTwo(404, "not there")))
        assert (type(error), error.code) == (NeedsTwo, 404)
        assert type(raised(backend, fails_with(NeedsItsLock))) is RemoteError
        assert type(raised(backend, fails_with(SystemExit))) is SystemExit


# -- results ----------------------------------------------------------------------------------------------------------


class WrittenOnly:
    """Pickles, and cannot be read."""

    def __reduce__(self):
        return int, ("not a number",)


OPEN = []


def results(kind, x):
    if kind == "generator":
        return (number for number in range(x))
    if kind == "lock":
        return {"deep": [threading.Lock()]}
    if kind == "file":
        OPEN.append(open(os.devnull, "rb"))  # noqa: SIM115
        return OPEN[-1]
    return WrittenOnly()


@pytest.mark.parametrize("way", WAYS, ids=ids)
@pytest.mark.parametrize(
    ("kind", "path"),
    [
        ("generator", ("generator",)),
        ("lock", ("value of 'deep'", "item 0 (_thread.lock)")),
        ("file", ("_io.BufferedReader",)),
        ("written", ()),
    ],
)
def test_a_result_that_does_not_cross_names_node_and_output(way, kind, path, backends):
    def make(x):
        return results(kind, x) if x == 3 else x

    nodes = [node("fine")(lambda x: x), node("y", name="make")(make)]
    pipeline = Pipeline(nodes=nodes, name="p", backend=backends(way))
    if way[0] == "parallel":
        with pytest.raises(NotPicklableError) as caught:
            pipeline.run({"x": 3})
        assert (caught.value.subject, caught.value.path) == ("output 'y' of node 'make'", path)
    with pytest.raises(NotPicklableError) as caught:
        pipeline.map({"x": range(6)}, "x", output_name="y")
    assert caught.value.subject.startswith("output 'y' of node 'make'")
    # What a worker could write and we cannot read is known by its chunk; else the worker knows which item it was.
    first, last = re.search(r"items? (\d)(?: to (\d))?", caught.value.subject).groups()
    assert int(first) <= 3 <= int(last or first)
    assert last is None or kind == "written"
    assert caught.value.path == path
    assert pipeline.map({"x": [1]}, "x") == {"fine": [1], "y": [1]}


def test_one_of_a_chunk_of_many(backends):
    """The first thousand items teach it to send large chunks; one item of such a chunk does not pickle."""
    items = [*range(20_000), -1, *range(20_000)]
    pipeline = Pipeline(
        nodes=[node("y", name="make")(lambda x: threading.Lock() if x < 0 else x)], backend=backends(WAYS[1])
    )
    with pytest.raises(NotPicklableError) as caught:
        pipeline.map({"x": items}, "x")
    assert caught.value.subject == "output 'y' of node 'make', item 20000"


def test_an_item_of_a_nested_map_names_both_indices(backends):
    inner = Pipeline(nodes=[node("y", name="make")(lambda x: threading.Lock() if x == 3 else x)], name="inner")
    outer = Pipeline(nodes=[inner.as_node(map_over="x")], name="outer", backend=backends(("parallel", "parallel")))
    with pytest.raises(NotPicklableError) as caught:
        outer.map({"x": [[0], [1, 3]]}, "x")
    assert caught.value.subject == "output 'y' of node 'make', item 1.1"


def test_functions_as_results_are_fine(backends):
    for way in WAYS:
        pipeline = Pipeline(nodes=[node("y")(lambda x: lambda z: x + z)], backend=backends(way))
        (adder,) = pipeline.map({"x": [1]}, "x")["y"]
        assert adder(2) == 3


@pytest.mark.parametrize("way", WAYS, ids=ids)
def test_a_result_of_a_class_that_only_the_worker_can_import(way, only_there):
    def make(x):
        return only_there("Thing")()

    with LocalBackend(*way, max_workers=2) as backend:
        pipeline = Pipeline(nodes=[node("y", name="make")(make)], backend=backend)
        with pytest.raises(NotPicklableError) as caught:
            pipeline.map({"x": [1]}, "x")
    assert "output 'y' of node 'make'" in caught.value.subject
    assert "No module named 'only_there'" in caught.value.cause


# -- what means something to Python itself ----------------------------------------------------------------------------


class Own(BaseException):
    pass


def forever(depth=0):
    return forever(depth + 1)


UNUSUAL = [
    SystemExit,
    KeyboardInterrupt,
    GeneratorExit,
    Own,
    asyncio.CancelledError,
    StopIteration,
    StopAsyncIteration,
    MemoryError,
    RecursionError,
]


def node_raising(error, coroutine):
    def work(x):
        if x and error is RecursionError:
            forever()
        if x:
            raise error("from a node")
        return os.getpid()

    async def awork(x):
        await asyncio.sleep(0)
        return work(x)

    return awork if coroutine else work


def unusual():
    """Every exception from a plain and a coroutine node; by default those out of coroutines that asyncio knows."""
    for error in UNUSUAL:
        for coroutine in (False, True):
            usual = not coroutine or error in (SystemExit, KeyboardInterrupt, asyncio.CancelledError, StopIteration)
            marks = [] if usual else [pytest.mark.sweep]
            yield pytest.param(error, coroutine, marks=marks, id=error.__name__ + "-coroutine" * coroutine)


@pytest.mark.parametrize(("error", "coroutine"), list(unusual()))
@pytest.mark.parametrize("pair", PAIRS, ids=ids)
def test_unusual_exceptions_are_failures_like_any_other(pair, error, coroutine, backends):
    """Raised as themselves, with the note; and the next run works.

    PEP 479 has it that a StopIteration never leaves a coroutine: there it is the cause of a RuntimeError.
    """
    fn = node_raising(error, coroutine)
    pipeline = Pipeline(nodes=[node("y", name="fragile")(fn)], name="p", backend=backends(pair))
    stops = error is StopIteration

    async def awaited(start):
        try:
            await start()
        except BaseException as caught:
            return caught

    for start, at in [
        (lambda: pipeline.run({"x": 1}), ""),
        (lambda: pipeline.map({"x": [0, 1, 0]}, "x"), ", item 1"),
    ]:
        with pytest.raises(RuntimeError if stops and coroutine else error) as caught:
            start()
        assert notes_of(caught.value) == [f"node 'fragile' of pipeline 'p'{at}, inputs x=1"]
    for start, at in [
        (lambda: pipeline.arun({"x": 1}), ""),
        (lambda: pipeline.amap({"x": [0, 1, 0]}, "x"), ", item 1"),
    ]:
        failure = asyncio.run(awaited(start))
        assert type(failure) is (RuntimeError if stops else error)
        assert notes_of(failure) == [f"node 'fragile' of pipeline 'p'{at}, inputs x=1"]
    assert len(pipeline.map({"x": [0] * 4}, "x")["y"]) == 4


@pytest.mark.parametrize("error", [StopIteration, StopAsyncIteration])
@pytest.mark.parametrize("pair", PAIRS[::5], ids=ids)
def test_the_end_of_a_generator_is_no_end_of_a_stream(pair, error, backends):
    """A stream would say "generator raised StopIteration", without a word of where."""
    pipeline = Pipeline(nodes=[node("y", name="fragile")(node_raising(error, False))], name="p", backend=backends(pair))

    async def read():
        return [item async for item in pipeline.astream({"x": [0, 1]}, "x")]

    note = ["node 'fragile' of pipeline 'p', item 1, inputs x=1"]
    with pytest.raises(RuntimeError if error is StopIteration else error) as caught:
        list(pipeline.stream({"x": [0, 1]}, "x"))
    assert notes_of(caught.value) == note
    with pytest.raises(RuntimeError) as caught:
        asyncio.run(read())
    assert notes_of(caught.value) == note
    assert type(caught.value.__cause__) is error


@pytest.mark.parametrize(
    "error",
    [SystemExit, asyncio.CancelledError, *[pytest.param(e, marks=pytest.mark.sweep) for e in (KeyboardInterrupt, Own)]],
)
@pytest.mark.parametrize("pair", [pair for pair in PAIRS if pair[1] != "sequential"], ids=ids)
def test_everything_else_is_wound_down(pair, error, backends, tmp_path):
    """One item waits for ever, on the loop or on a file, when the other raises."""
    folder = str(tmp_path)

    async def work(x, folder):
        try:
            open(os.path.join(folder, str(x)), "w").close()
            while len(os.listdir(folder)) < 2:
                await asyncio.sleep(0.001)
            if x:
                raise error("from a node")
            await asyncio.Event().wait()
        finally:
            if not x:
                open(os.path.join(folder, "ended"), "w").close()

    with LocalBackend(*pair, max_workers=2) as backend:
        pipeline = Pipeline(nodes=[node("y")(work)], backend=backend)
        with pytest.raises(error):
            pipeline.map({"x": [0, 1], "folder": folder}, "x")
    # A process is ended with what runs in it; elsewhere the coroutine is cancelled.
    assert ("ended" in os.listdir(folder)) == (pair not in PARALLEL_PAIRS)


@pytest.mark.parametrize("pair", PARALLEL_PAIRS, ids=ids)
def test_the_worker_survives_the_end_of_a_program(pair):
    """One item uses one worker; after SystemExit in it, the next answer comes from the same process."""
    with LocalBackend(*pair, max_workers=2) as backend:
        pipeline = Pipeline(nodes=[node("y")(node_raising(SystemExit, False))], backend=backend)
        before = pipeline.map({"x": [0]}, "x")
        with pytest.raises(SystemExit):
            pipeline.map({"x": [1]}, "x")
        assert pipeline.map({"x": [0]}, "x") == before


# -- exceptions that are hard to handle, and ends of programs where nobody waits for them ------------------------------


@dataclass(frozen=True)
class Frozen(Exception):
    code: int


class OddNotes(Exception):
    __notes__ = "no list"


class Silent(Exception):
    def __str__(self):
        raise RuntimeError("no text")


class Hostile(Exception):
    def __getattribute__(self, name):
        if name in ("__class__", "__cause__"):  # the others pytest asks for as well
            raise RuntimeError(name)
        return super().__getattribute__(name)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Frozen, OddNotes, Silent, Hostile])
@pytest.mark.parametrize("coroutine", [False, True])
@pytest.mark.parametrize("pair", [pair for pair in PAIRS if pair[0] == pair[1]] + [PARALLEL_PAIRS[0]], ids=ids)
def test_an_exception_that_takes_nothing_is_a_failure_of_its_item_alone(pair, coroutine, kind, backends):
    def fail(x):
        if x == 2:
            raise kind(7)
        return x

    async def fail_soon(x):
        return fail(x)

    pipeline = Pipeline(nodes=[node("y")(fail_soon if coroutine else fail)], backend=backends(pair))
    result = pipeline.map({"x": range(5)}, "x", error_policy="collect")
    assert [failure.item for failure in result.failures] == [2]
    assert repr(result.failures[0])
    with pytest.raises(Exception) as caught:
        pipeline.map({"x": range(5)}, "x")
    assert not issubclass(type(caught.value), (TypeError, AttributeError))
    if "parallel" not in pair:
        assert type(caught.value) is kind


@pytest.mark.parametrize("end", [SystemExit, KeyboardInterrupt])
@pytest.mark.parametrize("pair", PAIRS, ids=ids)
def test_the_end_of_a_program_in_a_task_of_a_node(pair, end, backends):
    async def quit():
        await asyncio.sleep(0)
        raise end

    async def work(x):
        await asyncio.gather(asyncio.ensure_future(quit()))

    pipeline = Pipeline(nodes=[node("y")(work)], backend=backends(pair))
    with pytest.raises(end):
        pipeline.map({"x": [1, 2]}, "x")


@pytest.mark.slow
@pytest.mark.parametrize("pair", PAIRS, ids=ids)
def test_a_node_that_stops_its_loop_goes_on(pair, backends):
    async def work(x):
        asyncio.get_running_loop().stop()
        await asyncio.sleep(0.01)
        return x

    pipeline = Pipeline(nodes=[node("y")(work)], backend=backends(pair))
    assert pipeline.map({"x": [1, 2]}, "x")["y"] == [1, 2]


@pytest.mark.parametrize("coroutine", [False, True])
@pytest.mark.parametrize("pair", PAIRS, ids=ids)
def test_the_end_of_a_program_in_a_callback(pair, coroutine, backends):
    class Quits(PipelineCallback):
        def on_map_item_end(self, index, duration, ctx):
            if index == 1:
                raise SystemExit(3)

    async def soon(x):
        await asyncio.sleep(0)
        return x

    fn = soon if coroutine else (lambda x: x)
    pipeline = Pipeline(nodes=[node("y")(fn)], backend=backends(pair), callbacks=[Quits()])
    with pytest.raises(SystemExit):
        pipeline.map({"x": range(30)}, "x")
