"""How every test runs: hypothesis draws the same examples on every machine, so a red run can be repeated.

``HYPOTHESIS_PROFILE=explore python -m pytest`` draws new ones, more of them, and prints how to get a failing one back.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from hypernodes import LocalBackend

# Jobs in the background of a shell ignore Ctrl-C from the start, and so would every program that the tests run.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A deadline would be an assertion on time; a shared machine makes slow data generation no fault of ours.
settings.register_profile(
    "repeatable",
    derandomize=True,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("explore", settings.get_profile("repeatable"), derandomize=False, max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))


def pytest_addoption(parser):
    parser.addoption(
        "--update-golden", action="store_true", help="write tests/golden/ anew instead of comparing with it"
    )


@pytest.fixture(scope="module")
def backends():
    """Return the one backend of a module for a pair of modes, so that worker processes are started once."""
    made = {}

    def backend(pair):
        if pair not in made:
            made[pair] = LocalBackend(*pair, max_workers=2)
        return made[pair]

    yield backend
    for each in made.values():
        each.close()


@pytest.fixture
def golden(request):
    """Compare a text with ``tests/golden/<name>``; ``--update-golden`` writes it, to be read as a diff."""

    def check(name, text):
        path = Path(__file__).parent / "golden" / name
        if request.config.getoption("--update-golden"):
            path.write_text(text + "\n", encoding="utf-8")
        assert path.read_text(encoding="utf-8") == text + "\n", f"{path}: run with --update-golden and read the diff"

    return check


def pytest_collection_modifyitems(config, items):
    """Leave the sweeps out unless a marker expression names them."""
    if "sweep" in (config.option.markexpr or ""):
        return
    left_out = [item for item in items if item.get_closest_marker("sweep")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not item.get_closest_marker("sweep")]
