"""Every promise of docs/reliability.md names a test that is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMED = re.findall(
    r"`(tests/[\w/]+\.py)(?:::(\w+))?` \|", (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
)


def test_the_table_is_found():
    assert len(NAMED) > 10


@pytest.mark.parametrize(("path", "name"), NAMED)
def test_a_promise_names_a_test(path, name):
    source = (ROOT / path).read_text(encoding="utf-8")
    assert f"def {name or 'test_'}" in source
