"""What stands behind an exception (causes, contexts, the line that raised it) is the same wherever the node ran."""

from __future__ import annotations

import linecache
import pickle
import sys
import traceback

import pytest
from scripts import run_script

from hypernodes import LocalBackend, Pipeline, node
from hypernodes.pickling.exceptions import RemoteError, RemoteTraceback, portable, received

PAIRS = [
    ("sequential", "sequential"),
    ("async", "async"),
    ("threaded", "threaded"),
    ("parallel", "sequential"),
    ("sequential", "parallel"),
    ("threaded", "parallel"),
]
groups = pytest.mark.skipif(sys.version_info < (3, 11), reason="exception groups came with Python 3.11")


class Wrapped(Exception):
    """Raised from another."""


class Lasting(Exception):
    """Does not pickle."""

    def __reduce__(self):
        raise TypeError("cannot leave")


class Locked(Exception):
    """Cannot even be taken apart."""

    def __init__(self):
        super().__init__("locked")

    def __getattribute__(self, name):
        if name == "__dict__":
            raise RuntimeError(name)
        return super().__getattribute__(name)


def raised_from():
    try:
        {}["key"]
    except KeyError as error:
        raise Wrapped("from") from error


def raised_within():
    try:
        {}["key"]
    except KeyError:
        raise Wrapped("within")  # noqa: B904


def raised_from_none():
    try:
        {}["key"]
    except KeyError:
        raise Wrapped("from none") from None


def raised_from_what_does_not_pickle():
    raise Wrapped("from") from Lasting("told")


def raised_in_a_ring():
    first, second = Wrapped("first"), Wrapped("second")
    first.__cause__, second.__cause__ = second, first
    raise first


def raised_with_two():
    error = Wrapped("two")
    error.__context__ = KeyError("context")
    error.__cause__ = ValueError("cause")
    error.__cause__.__context__ = OSError("deeper")
    raise error


def raised_in_groups():
    try:
        raise_one()
    except Wrapped as error:
        inner = ExceptionGroup("inner", [error])  # noqa: F821
        raise ExceptionGroup("outer", [inner, ValueError("beside")]) from LookupError("why")  # noqa: F821


def raise_one():
    raise Wrapped("member") from KeyError("of the member")


def shape(error, seen=()):
    """Return all that stands behind an exception, without remote tracebacks."""
    if error is None or isinstance(error, RemoteTraceback):
        return None
    if id(error) in seen:
        return "again"
    seen = (*seen, id(error))
    return (
        type(error),
        str(error),
        error.__suppress_context__,
        shape(error.__cause__, seen),
        shape(error.__context__, seen),
        [shape(each, seen) for each in getattr(error, "exceptions", ())],
    )


WAYS = [
    raised_from,
    raised_within,
    raised_from_none,
    raised_from_what_does_not_pickle,
    raised_in_a_ring,
    raised_with_two,
]


@pytest.mark.parametrize("pair", PAIRS)
def test_what_stands_behind_is_the_same_in_every_mode(backends, pair):
    ways = [*WAYS, raised_in_groups] if sys.version_info >= (3, 11) else WAYS
    for fail in ways:

        def work(x, fail=fail):
            fail()

        pipeline = Pipeline(nodes=[node(output_name="y")(work)], backend=backends(pair))
        with pytest.raises(Exception) as expected:
            fail()
        with pytest.raises(type(expected.value)) as caught:
            pipeline.map(inputs={"x": [1], "fail": fail}, map_over="x")
        assert shape(caught.value) == shape(expected.value), fail
        # A loop that goes round is not followed for ever.
        "".join(traceback.format_exception(type(caught.value), caught.value, None))


def test_collected_failures_have_it_as_well(backends):
    def work(x):
        raised_from()

    pipeline = Pipeline(nodes=[node(output_name="y")(work)], backend=backends(("sequential", "parallel")))
    (failure,) = pipeline.map(inputs={"x": [1]}, map_over="x", error_policy="collect").failures
    assert isinstance(failure.exception.__cause__, KeyError)
    again = pickle.loads(pickle.dumps(failure))
    assert isinstance(again.exception.__cause__, KeyError)


def test_a_cause_that_cannot_travel_is_the_nearest_that_can():
    error = Wrapped("outer")
    error.__cause__ = Locked()
    error.__cause__.__cause__ = KeyError("behind")
    found = received(portable(error))
    assert isinstance(found.__cause__, (RemoteError, Locked))
    assert "locked" in str(found.__cause__)
    assert found.__cause__.__cause__.args == ("behind",)
    assert isinstance(found.__cause__.__cause__.__cause__, RemoteTraceback)


def test_the_remote_traceback_does_not_hide_a_context():
    error = Wrapped("plain")
    found = received(portable(error))
    assert isinstance(found.__cause__, RemoteTraceback)
    assert found.__suppress_context__ is False
    # On its way through further processes there is one of them, the first.
    again = received(portable(found))
    assert isinstance(again.__cause__, RemoteTraceback)
    assert (again.__cause__.text, again.__cause__.__cause__) == (found.__cause__.text, None)


def test_a_chain_without_end_is_cut():
    """Who tries again for ever has all the failures before behind the last one."""
    error = last = Wrapped("0")
    for number in range(1, 5000):
        last.__context__ = Wrapped(str(number))
        last = last.__context__
    found = received(portable(error))
    count = 0
    while found.__context__ is not None:
        found = found.__context__
        count += 1
    assert 32 <= count <= 256


@groups
def test_members_of_a_large_group_all_arrive():
    members = [ValueError(number) for number in range(500)]
    found = received(portable(ExceptionGroup("many", members)))  # noqa: F821
    assert [each.args for each in found.exceptions] == [each.args for each in members]


# -- the line that raised it ------------------------------------------------------------------------------------------


def remote_text(error):
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error)


@pytest.mark.parametrize("pair", [("parallel", "sequential"), ("sequential", "parallel")])
def test_lines_of_a_notebook(backends, pair):
    """No file has them; only this process knows what they are."""
    source = "def inner(x):\n    return 1 / x  # the line\n\ndef cell(x):\n    return inner(x)  # around it\n"
    file = "<cell 7>"
    linecache.cache[file] = (len(source), None, source.splitlines(True), file)
    namespace = {"__name__": "__main__"}
    exec(compile(source, file, "exec"), namespace)
    pipeline = Pipeline(nodes=[node(output_name="y")(namespace["cell"])], backend=backends(pair))
    with pytest.raises(ZeroDivisionError) as caught:
        pipeline.map(inputs={"x": [0]}, map_over="x")
    text = remote_text(caught.value)
    assert '  File "<cell 7>", line 2, in inner\n    return 1 / x  # the line\n' in text
    assert '  File "<cell 7>", line 5, in cell\n    return inner(x)  # around it\n' in text
    result = pipeline.map(inputs={"x": [0]}, map_over="x", error_policy="collect")
    assert "    return 1 / x  # the line\n" in result.failures[0].traceback


def test_lines_of_a_script(tmp_path):
    process = run_script(
        tmp_path,
        """
        import traceback
        from hypernodes import LocalBackend, Pipeline, node

        @node(output_name="y")
        def fails(x):
            return 1 / x  # the line

        with LocalBackend("parallel", max_workers=1) as backend:
            try:
                Pipeline(nodes=[fails], backend=backend).run(inputs={"x": 0})
            except ZeroDivisionError:
                traceback.print_exc()
        """,
    )
    _, err = process.communicate(timeout=60)
    assert f'File "{tmp_path / "script.py"}", line 7, in fails\n    return 1 / x  # the line\n' in err


def test_a_function_knows_its_file_in_a_worker():
    """`inspect` and debuggers ask for it."""

    def work(x):
        return work.__code__.co_filename

    with LocalBackend("parallel", max_workers=1) as backend:
        run = Pipeline(nodes=[node(output_name="y")(work)], backend=backend).run(inputs={"x": 1})
    assert run["y"] == __file__
