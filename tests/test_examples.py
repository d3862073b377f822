"""Every file in examples/ runs as a user runs it: in its own process, which says something and complains of nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = sorted(path for path in (ROOT / "examples").glob("*.py") if not path.name.startswith("_"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs(path, tmp_path):
    """``--smoke`` asks an example for its smallest real run."""
    done = subprocess.run(
        [sys.executable, str(path), "--smoke"],
        cwd=str(tmp_path),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=100,
        check=False,
    )
    said = f"{path.relative_to(ROOT)} --smoke: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert done.returncode == 0, said
    assert not done.stderr, said
    assert done.stdout.strip(), said
