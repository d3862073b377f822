"""A new process in, a worker that runs its target out: what both sides do from its first instruction until then.

    parent                                       new process
    ──────                                       ───────────
    posix_spawn ───────────────────────────────▶ the interpreter starts, as far as it can without the parent's modules
    arm: the kernel kills it with the parent
    pipe ══ module path, argv, target… ════════▶ FIRST: finds modules where the parent does
    Worker.attend ◀══ "." begun, "+" up ═════════ prepare, then target(connection)
                  ◀══ "." begun, "-" and why ════ or it cannot

Nothing is looked up before the parent's module path is there, so no file that lies in the working directory can stand
in for a module of the standard library, unless it does so in the parent, too.
"""

from __future__ import annotations

import contextlib
import marshal
import os
import pickle
import signal
import sys
from typing import Any, Callable, List, NamedTuple

from hypernodes.pickling import reduced_alone
from hypernodes.runtime.processes import role
from hypernodes.runtime.processes.channel import Connection, Pipe, Target

BEGUN, UP, FAILED = b".", b"+", b"-"

FIRST = """\
# a worker process of hypernodes
import sys
if sys.path[:1] == [""]:
    del sys.path[0]
import _thread, marshal, posix  # all built in
pipe, lifeline, output, tracker = map(int, sys.argv[2:6])

def read(size):
    data = b""
    while len(data) < size:
        more = posix.read(pipe, size - len(data))
        if not more:
            posix._exit(1)
        data += more
    return data

def say(data):
    while data:
        data = data[posix.write(pipe, data):]

def wait_for_parent():
    posix.read(lifeline, 1)
    posix._exit(1)

try:
    say(b".")
    message = marshal.loads(read(int.from_bytes(read(8), "little")))
except OSError:
    posix._exit(1)
armed, sys.path[:], told = message
if not armed:
    _thread.start_new_thread(wait_for_parent, ())
try:
    from hypernodes.runtime.processes import boot
    run = boot.prepare(pipe, lifeline, output, tracker, told)
except BaseException as error:
    reason = type(error).__name__ + ": " + str(error)
    try:
        import traceback
        reason = traceback.format_exc()
    except BaseException:
        pass
    try:
        say(b"-" + reason[-20000:].encode("utf-8", "backslashreplace"))
    finally:
        posix._exit(1)
run()
"""


class Told(NamedTuple):
    """What a process learns before its target runs: plain data, which any Python reads."""

    argv: List[str]
    name: str
    parent: int
    depth: int
    authkey: bytes
    target: bytes


def message(armed: bool, path: List[str], told: Told) -> bytes:
    """Return what the parent sends first: whether the lifeline is armed, where modules are, and the rest."""
    data = marshal.dumps((armed, [entry for entry in path if isinstance(entry, str)], tuple(told)), 2)
    return len(data).to_bytes(8, "little") + data


def arm(lifeline: int, pid: int) -> bool:
    """Have the kernel kill process `pid` when the write end of `lifeline` closes, which happens however we end.

    The process has inherited the read end, and what is set here belongs to that, not to this process. It needs no GIL
    of the child, which a node in native code may hold for minutes, and no thread, which would make every fork in a node
    the fork of a multi-threaded process (a warning since Python 3.12). Without it (not on Linux, or in a sandbox that
    does not know F_SETSIG) the child waits for the end of file in a thread.
    """
    import fcntl

    try:
        fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)  # type: ignore[attr-defined,unused-ignore]  # Linux only
        fcntl.fcntl(lifeline, fcntl.F_SETOWN, pid)
        fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)
    except (AttributeError, OSError):
        return False
    return True


# -- in the new process -----------------------------------------------------------------------------------------------


def prepare(pipe: int, lifeline: int, output: int, tracker: int, told: Any) -> Callable[[], None]:
    """Make a new process a worker, deaf to Ctrl-C; return what runs its target."""
    # A terminal sends SIGINT to the workers too, and what it means is the parent's business. The parent started us with
    # it blocked, so that none could arrive before this line. A handler rather than SIG_IGN: programs that a node starts
    # would inherit SIG_IGN, and Ctrl-C would not reach them.
    signal.signal(signal.SIGINT, _do_nothing)
    signal.siginterrupt(signal.SIGINT, False)  # nor may native code see its system calls interrupted
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    for number in (pipe, lifeline, output, tracker):
        os.set_inheritable(number, False)  # programs that a node starts must not keep the pipe open when we die
    told = Told(*told)
    role.enter(told.depth)
    with role.reading():
        sys.argv[:] = told.argv
        _be_known_to_multiprocessing(told, lifeline, tracker)
        target: Target = pickle.loads(told.target)
    connection = Connection(Pipe(fileno=pipe), output)
    os.register_at_fork(after_in_child=connection.close)  # neither must processes that a node forks

    def run() -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the parent went as we answered: tell nobody
            connection.say(UP)
            target(connection)

    return run


def _be_known_to_multiprocessing(told: Told, lifeline: int, tracker: int) -> None:
    """Look to a node that uses multiprocessing as a process that multiprocessing has started."""
    from multiprocessing import process, reduction, resource_tracker

    current: Any = process.current_process()
    current.name = told.name
    current.authkey = told.authkey
    process._parent_process = process._ParentProcess("MainProcess", told.parent, lifeline)  # type: ignore[attr-defined]
    # One for all: one of our own would, when we end, unlink shared memory that the parent uses.
    resource_tracker._resource_tracker._fd = tracker  # type: ignore[attr-defined]
    # It sends functions and classes by name, and those of a script are not in the main module of a worker.
    pickler: Any = reduction.ForkingPickler
    pickler.reducer_override = lambda _, obj: reduced_alone(obj)


def _do_nothing(number: int, frame: object) -> None:
    pass
