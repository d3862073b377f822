"""Programs in a session of their own: a script in, what it says, how it ends and what it leaves behind out.

A script has no ``__main__`` guard, so a worker that imported it would start workers without end. Everything it starts
is in its session, unless it asks for another, and can be found there after it has ended.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Sequence, Tuple

import pytest

from hypernodes.runtime.processes import boot

ROOT = Path(__file__).resolve().parents[1]
PATIENCE = 60.0  # seconds until something that never comes is a failure

linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


def run_script(tmp_path: Path, text: str, **options: Any) -> subprocess.Popen[str]:
    """Start a script that ends by itself; `options` are those of `subprocess.Popen`."""
    path = tmp_path / "script.py"
    Program.write(path, text)
    with _leash() as (lent, hold):
        program = subprocess.Popen(
            [sys.executable, "-W", "error", str(path)],
            cwd=str(tmp_path),
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            pass_fds=lent,
            **options,
        )
        hold(program.pid)
    return program


_life, _held = os.pipe()  # the write end closes when this process is gone


@contextlib.contextmanager
def _leash() -> Iterator[Tuple[Sequence[int], Callable[[int], Any]]]:
    """Let the kernel end a program with the tests, however they end: a descriptor to inherit, and what ties it."""
    if sys.platform != "linux":
        yield (), lambda pid: None
        return
    lent = os.open(f"/proc/self/fd/{_life}", os.O_RDONLY)  # not a duplicate: each program is tied by one of its own
    try:
        yield (lent,), lambda pid: boot.arm(lent, pid)
    finally:
        os.close(lent)


class Program:
    """A running script; a context manager that leaves nothing of it behind."""

    def __init__(self, tmp_path: Path, *texts: str, path: Sequence[Path] = ()) -> None:
        script = tmp_path / "script.py"
        self.write(script, *texts)
        self.folder = tmp_path
        with _leash() as (lent, hold):
            self._popen = subprocess.Popen(
                [sys.executable, "-W", "error", str(script)],
                cwd=str(tmp_path),
                env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, [*path, ROOT]))},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
                pass_fds=lent,
            )
            hold(-self._popen.pid)  # its group
        self.pid = self._popen.pid

    @staticmethod
    def write(path: Path, *texts: str) -> None:
        """Write a script, or a module beside it."""
        path.write_text("".join(map(textwrap.dedent, texts)), encoding="utf-8")

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *exc: object) -> None:
        for pid in members(self.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._popen.kill()
        self._popen.communicate()

    def hear(self, wanted: bytes, last: bool = False) -> None:
        """Read what the program says up to `wanted`, a line or a byte; or, with `last`, up to its end."""
        assert self._popen.stdout is not None
        heard = b""
        while not heard.endswith(wanted):
            byte = os.read(self._popen.stdout.fileno(), 1)
            if last and not byte:
                return
            assert byte, f"ended after {heard!r}: {self._popen.communicate()[1].decode()}"
            heard += byte

    def signal(self, number: int, group: bool = False) -> None:
        """Send a signal to the program alone, or as a terminal does to its group."""
        with contextlib.suppress(ProcessLookupError):
            (os.killpg if group else os.kill)(self.pid, number)

    def finish(self):
        """Return exit status, stdout and stderr, once everybody who could write to them is gone."""
        try:
            out, err = self._popen.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            self.__exit__()
            raise AssertionError("hangs") from None
        return self._popen.returncode, out.decode(), err.decode()


def members(session: int) -> List[int]:
    """Return the processes of a session that have not ended."""
    return [pid for pid, fields in _processes().items() if int(fields[3]) == session and fields[0] != "Z"]


def children(parent: int) -> List[int]:
    """Return the processes that a process has started, at any depth, and that have not ended."""
    found = [parent]
    processes = _processes()
    for one in found:
        found += [pid for pid, fields in processes.items() if int(fields[1]) == one and fields[0] != "Z"]
    return found[1:]


def _processes() -> Dict[int, List[str]]:
    """Return process id → state, parent, group, session and so on."""
    processes: Dict[int, List[str]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file:
                processes[int(name)] = file.read().rpartition(")")[2].split()
    return processes


def wait_until(condition, what: str) -> None:
    """Wait for what has to come; there is nobody to tell when it does."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.005)


def assert_nothing_left(session: int) -> None:
    """The session has nobody in it any more, and no shared memory or semaphore is named after it."""
    wait_until(lambda: not members(session), f"processes are left of session {session}")
    if os.path.isdir("/dev/shm"):
        assert [name for name in os.listdir("/dev/shm") if str(session) in name] == []


class Script:
    """A module of which nothing is known but what is in it, as a notebook is."""

    def __init__(self, text):
        self.space = {"__name__": "__main__"}
        self.run(text)

    def run(self, text):
        exec(text, self.space)

    def __getitem__(self, name):
        return self.space[name]
