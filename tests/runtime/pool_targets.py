"""What worker processes run in the tests of the pool; a module of its own because a worker imports it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from typing import Callable, Dict, List

from hypernodes.runtime.processes.channel import Connection

Reply = List[bytes]


def echo(connection: Connection) -> None:
    while True:
        message = connection.receive()
        if message is None:
            return
        connection.send(*message)


def obey(connection: Connection) -> None:
    """The first part of a message names one of the functions below, the others are its arguments."""
    while True:
        message = connection.receive()
        if message is None:
            return
        command, *arguments = message
        connection.send(*COMMANDS[command](*arguments))


def say(*parts: bytes) -> Reply:
    return list(parts)


def sleep(seconds: bytes) -> Reply:
    time.sleep(float(seconds))
    return [b"slept"]


def spin(seconds: bytes) -> Reply:
    end = time.monotonic() + float(seconds)
    while time.monotonic() < end:
        pass
    return [b"span"]


def hold_gil() -> Reply:
    """Minutes in one C call."""
    re.match(r"(a+)+$", "a" * 60 + "b")
    return [b"held"]


def leave(code: bytes) -> Reply:
    os._exit(int(code))


def fork_and_die() -> Reply:
    """A process of the node's outlives the worker."""
    if os.fork() == 0:
        time.sleep(4)
        os._exit(0)
    os.kill(os.getpid(), signal.SIGKILL)
    return []


def spawn_and_die() -> Reply:
    """So does a program that the node started, and it inherits whatever may be inherited."""
    program = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(4)"], close_fds=False)
    program.returncode = 0  # no ResourceWarning
    os.kill(os.getpid(), signal.SIGKILL)
    return []


def handles_sigint() -> Reply:
    blocked = signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, [])
    program = [sys.executable, "-c", "import signal; print(signal.getsignal(signal.SIGINT) is signal.SIG_IGN)"]
    ignored = subprocess.run(program, stdout=subprocess.PIPE, check=True).stdout.strip()
    return [str(blocked).encode(), ignored]


def threads() -> Reply:
    import threading

    return [thread.name.encode() for thread in threading.enumerate()]


COMMANDS: Dict[bytes, Callable[..., Reply]] = {
    function.__name__.encode(): function
    for function in (say, sleep, spin, hold_gil, leave, fork_and_die, spawn_and_die, handles_sigint, threads)
}


def raises(connection: Connection) -> None:
    sys.exit(7)


def stubborn(connection: Connection) -> None:
    """Not impressed by the end of the pipe."""
    while True:
        message = connection.receive()
        if message is None:
            time.sleep(60)
        else:
            connection.send(*message)


def leave_a_note(connection: Connection) -> None:
    """Writes to the file it was told of, once it is asked to end."""
    (path,) = connection.receive() or []
    connection.send(b"noted")
    assert connection.receive() is None
    with open(os.fsdecode(path), "w") as note:
        note.write("ended")
