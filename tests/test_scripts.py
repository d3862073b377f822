"""The tests themselves leave nothing behind when they are ended, and run where Ctrl-C is ignored."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from scripts import Program, linux, members, wait_until

HERE = Path(__file__).resolve().parent

pytestmark = linux


def test_programs_end_with_the_tests_that_started_them(tmp_path):
    text = """
        import os, pathlib, signal, time
        from scripts import Program

        text = "import os, time; os.fork(); os.write(1, b'x'); time.sleep(600)"
        program = Program(pathlib.Path("inner").resolve(), text)
        program.hear(b"xx")
        with open("pid", "w") as file:
            file.write(str(program.pid))
        os.kill(os.getpid(), signal.SIGKILL)
    """
    (tmp_path / "inner").mkdir()
    with Program(tmp_path, text, path=[HERE]) as program:
        assert program.finish()[0] == -signal.SIGKILL
    inner = int((tmp_path / "pid").read_text())
    wait_until(lambda: not members(inner), "a program outlives the tests")


def test_ctrl_c_is_taken_back():
    code = "import signal, conftest; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
    found = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE.parent), str(HERE)])},
        stdout=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
        check=True,
    )
    assert found.stdout == b"True\n"
