"""What the caller set around a run holds in its nodes, in every mode, in warm workers too."""

from __future__ import annotations

import contextlib
import decimal
import json
import locale
import os
import subprocess
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
from scripts import ROOT, run_script

from hypernodes import LocalBackend, Pipeline, node

MODES = ("sequential", "async", "threaded", "parallel")
PAIRS = [(mode, "sequential") for mode in MODES] + [("sequential", mode) for mode in MODES[1:]]


class Unusual(UserWarning):
    """A warning that no installed module has."""


@node(output_name="seen")
def look(x):
    try:
        warnings.warn("look", Unusual, stacklevel=1)
        warned = "shown"
    except Unusual:
        warned = "raised"
    return {
        "price": str(decimal.Decimal("2.665").quantize(decimal.Decimal("0.01"))),
        "precision": decimal.getcontext().prec,
        "recursion": sys.getrecursionlimit(),
        "digits": getattr(sys, "get_int_max_str_digits", lambda: 0)(),
        "warned": warned,
        "locale": locale.setlocale(locale.LC_ALL),
        "zone": time.tzname,
        "seed": os.environ.get("PYTHONHASHSEED"),
    }


@contextlib.contextmanager
def altered():
    """Set what a node can see of its environment."""
    limit, before = sys.getrecursionlimit(), locale.setlocale(locale.LC_ALL)
    zone = os.environ.get("TZ")
    digits = getattr(sys, "get_int_max_str_digits", lambda: 0)()
    with decimal.localcontext() as context, warnings.catch_warnings():
        warnings.simplefilter("error", (Unusual, (BytesWarning,)))  # which is asked for with issubclass
        context.rounding, context.prec = decimal.ROUND_HALF_UP, 7
        sys.setrecursionlimit(limit + 500)
        if digits:
            sys.set_int_max_str_digits(digits + 100)
        os.environ["TZ"] = "America/New_York"
        time.tzset()
        with contextlib.suppress(locale.Error):
            locale.setlocale(locale.LC_NUMERIC, "C.UTF-8")
        try:
            yield
        finally:
            locale.setlocale(locale.LC_ALL, before)
            if digits:
                sys.set_int_max_str_digits(digits)
            sys.setrecursionlimit(limit)
            if zone is None:
                del os.environ["TZ"]
            else:
                os.environ["TZ"] = zone
            time.tzset()


@pytest.mark.parametrize("pair", PAIRS)
def test_a_node_sees_what_the_caller_set(backends, pair):
    """A warm worker gets what the run it works for has, and the next run's after."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Unusual)
        pipeline = Pipeline(nodes=[look], backend=backends(pair))
        plain = look.fn(0)

        def seen():
            return pipeline.run(inputs={"x": 0})["seen"], *pipeline.map(inputs={"x": [1, 2]}, map_over="x")["seen"]

        assert seen() == (plain,) * 3
        with altered():
            changed = look.fn(0)
            assert changed["price"] == "2.67"
            assert changed["warned"] == "raised"
            assert seen() == (changed,) * 3
        assert seen() == (plain,) * 3


def test_a_stream_has_them_too(backends):
    pipeline = Pipeline(nodes=[look], backend=backends(("sequential", "parallel")))
    with altered():
        assert [row["seen"] for _, row in pipeline.stream(inputs={"x": [1, 2]}, map_over="x")] == [look.fn(0)] * 2


@pytest.mark.parametrize("pair", PAIRS)
def test_numpys_error_state(backends, pair):
    numpy = pytest.importorskip("numpy")

    @node(output_name="state")
    def state(x):
        return numpy.geterr()["divide"], numpy.getbufsize()

    @node(output_name="later")
    async def later(x):
        return numpy.geterr()["divide"], numpy.getbufsize()

    pipeline = Pipeline(nodes=[state, later], backend=backends(pair))

    def states():
        result = pipeline.map(inputs={"x": [1, 2]}, map_over="x")
        return {*result["state"], *result["later"]}

    assert states() == {("warn", 8192)}
    with numpy.errstate(divide="raise"):
        before = numpy.setbufsize(16000)
        try:
            assert states() == {("raise", 16000)}
        finally:
            numpy.setbufsize(before)
    assert states() == {("warn", 8192)}


def test_threads_of_an_executor_get_back_what_was_theirs():
    """Numpy before 2.0 keeps its error state for each thread."""
    numpy = pytest.importorskip("numpy")

    @node(output_name="state")
    def state(x):
        return numpy.geterr()["divide"]

    with ThreadPoolExecutor(1) as executor:
        backend = LocalBackend(map_execution="threaded", max_workers=2, executor=executor)
        with numpy.errstate(divide="raise"):
            states = Pipeline(nodes=[state], backend=backend).map(inputs={"x": [1, 2]}, map_over="x")["state"]
        assert set(states) == {"raise"}
        assert executor.submit(numpy.geterr).result()["divide"] == "warn"


SCRIPT = """
    import json, os, sys
    from hypernodes import LocalBackend, Pipeline, node

    @node(output_name="seen")
    def look(x):
        own = [name for name in os.environ if name.startswith("PYTHON") and name not in FROM]
        return __debug__, sys.flags.optimize, hash("text"), " ".join({"a", "b", "c", "d"}), own

    FROM = list(os.environ)
    backends = [LocalBackend(map_execution="parallel", max_workers=2) for _ in range(2)]
    seen = [look.fn(0)]
    for backend in backends:
        seen += Pipeline(nodes=[look], backend=backend).map(inputs={"x": list(range(4))}, map_over="x")["seen"]
    print(json.dumps(seen))
"""


def started(tmp_path, *flags, **environment):
    path = tmp_path / "script.py"
    path.write_text("\n".join(line[4:] for line in SCRIPT.splitlines()), encoding="utf-8")
    env = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    out = subprocess.run(
        [sys.executable, *flags, str(path)], env=env, stdout=subprocess.PIPE, check=True, timeout=60
    ).stdout
    return json.loads(out)


def test_workers_are_started_as_the_program_was(tmp_path):
    """With -O a function that goes by value and a module that is imported have no assertions."""
    here, *workers = started(tmp_path, "-O", PYTHONHASHSEED="random")
    assert here[:2] == [False, 1]
    assert {tuple(seen[:2]) for seen in workers} == {(False, 1)}
    # One seed for all of them, and nothing of it to be seen.
    assert len({tuple(seen[2:4]) for seen in workers}) == 1
    assert all(seen[4] == [] for seen in workers)


def test_a_seed_of_the_program_is_the_workers_too(tmp_path):
    here, *workers = started(tmp_path, PYTHONHASHSEED="7")
    assert all(seen == here for seen in workers)


def test_workers_of_workers_have_the_same_seed(tmp_path):
    process = run_script(
        tmp_path,
        """
        from hypernodes import LocalBackend, Pipeline, node

        @node(output_name="inner")
        def inner(x):
            return hash("text")

        @node(output_name="outer")
        def outer(x):
            with LocalBackend("parallel", max_workers=1) as backend:
                return hash("text"), Pipeline(nodes=[inner], backend=backend).run(inputs={"x": x})["inner"]

        with LocalBackend("parallel", max_workers=1) as backend:
            seen = Pipeline(nodes=[outer], backend=backend).run(inputs={"x": 1})["outer"]
        print(seen[0] == seen[1])
        """,
    )
    assert process.communicate(timeout=60) == ("True\n", "")
