"""A function in, one worker process and the pipe to it out; later its exit status.

    start(target) ─▶ Worker ══ send, receive ══ the process         (messages: channel.py; who gets a worker: pool.py)
                       │
                       └─ end of file ─▶ waitpid ─▶ WorkerGone(exitcode)

Processes start clean, find modules where the parent does, and never import the parent's `__main__`; `boot` says how.
The parent keeps three descriptors for each (pipe, lifeline, ear), and waits for a process id exactly once. They are
not in the table of `multiprocessing`, whose children any thread that starts another waits for (and so takes the exit
status), which the interpreter joins when it exits, and which a daemonic process may not add to.
"""

from __future__ import annotations

import _socket as socket
import contextlib
import errno
import os
import signal
import sys
import threading
import time
from typing import Any, Iterable, Iterator, List, Optional, Sequence, Set, Tuple

import cloudpickle

from hypernodes.errors import ClosedError, WorkerStartError
from hypernodes.runtime.processes import boot, channel, environment, role
from hypernodes.runtime.processes.hearing import Ear
from hypernodes.runtime.processes.python_state import variables

_REMEMBERED = 4096  # digests: as many as a worker keeps
POLL = 0.001  # seconds between two looks at a process that is ending
BEGINNING = 60.0  # seconds until the first word of a process; an interpreter needs 0.02
_MOST = 10_240 if sys.platform == "darwin" else sys.maxsize  # descriptors that posix_spawn knows there, at the most
_EXITING = 5.0  # seconds from end of file, which the kernel makes while it ends a process, to its status: rarely 1 ms


class WorkerGone(Exception):
    """A worker process that ended, found while talking to it; the caller knows what it was doing.

    `exitcode` is its exit status, negative for a signal, None when somebody else's `os.wait` took it. `unstarted` is
    the error of one that ended before its target began.
    """

    def __init__(self, exitcode: Optional[int], unstarted: Optional[WorkerStartError] = None) -> None:
        super().__init__(exitcode)
        self.exitcode = exitcode
        self.unstarted = unstarted


class Worker:
    """One process and the pipe to it. One thread at a time sends and receives; any may kill it.

    Attributes
    ----------
    pid : int
        Of the process.
    fresh : bool
        Whether it has not answered yet.
    known : set of str
        Digests of what this worker already holds, as far as is remembered; empty for a new process.
    spare : int
        Bytes that can be sent while the worker is at work, once: the pipe takes them whether or not somebody reads.
    ear : Ear
        Hears what nodes print and log there, also after it has ended.
    up : bool
        Whether it has said that its target runs.
    """

    def __init__(self, pid: int, pipe: channel.Pipe, lifeline: int, ear: Ear, command: Tuple[str, ...] = ()) -> None:
        self.pid = pid
        self.ear = ear
        self.fresh = True
        self.up = False
        self._said = b""  # before it was up
        self._command = command
        self._beginning = time.monotonic() + BEGINNING
        self.known: Set[str] = set()
        # A quarter: systems count what they need themselves, too.
        self.spare = pipe.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) // 4
        self._pipe = pipe
        self._lifeline: Optional[int] = lifeline
        # Guards the process id, which may be another process's once it was waited for. Reentrant: a garbage collection
        # within may run the end of the pool.
        self._reaping = threading.RLock()
        self._ended = False
        self._exitcode: Optional[int] = None
        self._torn = False  # a message is half sent or half read; stays when an exception left it so
        self._revoked = ""  # what was closed, when it was closed under its user

    def learn(self, digests: Iterable[str]) -> None:
        """Note what the worker holds from now on."""
        if len(self.known) > _REMEMBERED:
            self.known.clear()  # it does not hold so many either; what it still has is sent once more
        self.known.update(digests)

    def __repr__(self) -> str:
        return f"<Worker {self.pid}{', ended' if self._ended else ''}>"

    def fileno(self) -> int:
        """Return the descriptor that is readable when an answer is there or the process is gone."""
        return self._pipe.fileno()

    def send(self, *parts: channel.Buffer, fds: Sequence[int] = ()) -> None:
        """Send one message, with duplicates of the descriptors `fds`.

        The worker has to be waiting for one, else both sides may write and neither read; unless it is a message of at
        most `spare` bytes, alone.

        Raises
        ------
        WorkerGone
            When the process has ended.
        ClosedError
            When it was ended by `revoke`.
        """
        if not self.up and sum([memoryview(part).nbytes for part in parts]) > self.spare:
            self.attend()  # what is no worker may never read, and what would hold us here is in its hands then
        self._torn = True
        try:
            channel.send(self._pipe, parts, fds)
        except OSError:
            raise self._gone() from None
        self._torn = False

    def receive(self, fds: Optional[List[int]] = None) -> List[bytes]:
        """Wait for one message and return its parts; its descriptors are appended to `fds`, for the caller to close.

        Raises
        ------
        WorkerGone, ClosedError
            As in `send`.
        """
        while not self.up:
            self.attend()
        self._torn = True
        try:
            parts = channel.receive(self._pipe, fds)
        except OSError:  # the pipe was closed on this side
            parts = None
        if parts is None:
            raise self._gone()
        self._torn = False
        return parts

    def attend(self) -> None:
        """Wait for the next word of a process that starts: that it has begun, then that it is up.

        Raises
        ------
        WorkerGone, ClosedError
            As in `send`; also for one that has not begun in time.
        """
        left = self._beginning - time.monotonic()
        try:
            if self._said or channel.ready([self._pipe.fileno()], left):
                self._hear(0)
                return
            self._said = boot.BEGUN + boot.FAILED + f"it did not begin within {BEGINNING:.0f} s".encode()
            self.kill()
        except (OSError, ValueError):  # it has ended, or was dropped
            pass
        raise self._gone()

    def is_overdue(self) -> bool:
        """Whether a process should have begun by now, and has said nothing."""
        return not self._said and time.monotonic() >= self._beginning

    def _hear(self, flags: int) -> None:
        word = self._pipe.recv(1, flags)
        if word not in (boot.BEGUN, boot.UP):
            self._said += word
            raise ConnectionError
        self._said += word
        self.up = word == boot.UP

    def kill(self) -> None:
        """End the process with SIGKILL and wait until it is gone."""
        self.send_signal(signal.SIGKILL)
        while not self.has_ended():
            time.sleep(POLL)

    def send_signal(self, number: int) -> None:
        """Send a signal, unless the process has ended."""
        with self._reaping:
            if not self._ended:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.pid, number)

    def ask_to_end(self) -> None:
        """Let the process read end of file; without waiting for it."""
        # Not close: a process forked by user code may hold a copy of this end, and closing ours would go unnoticed.
        with contextlib.suppress(OSError):
            self._pipe.shutdown(socket.SHUT_RDWR)

    def has_ended(self) -> bool:
        """Whether the process has ended; takes its exit status if so."""
        with self._reaping:
            if not self._ended:
                try:
                    pid, status = os.waitpid(self.pid, os.WNOHANG)
                except ChildProcessError:  # the program ignores SIGCHLD, or waits for any child
                    self._ended = True
                else:
                    self._ended = pid == self.pid
                    if self._ended:
                        self._exitcode = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
            return self._ended

    def is_quiet(self) -> bool:
        """Whether the process lives and nothing it said is unread, as far as one look at the pipe can tell."""
        if not self._torn:
            try:
                while not self.up:
                    self._hear(socket.MSG_DONTWAIT)
                self._pipe.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
            except BlockingIOError:
                return True
            except OSError:
                pass
        return False

    def revoke(self, what: str) -> None:
        """Kill a worker that somebody else uses, who is told that `what` is closed."""
        self._revoked = what
        self.kill()
        self._drop_lifeline()  # not the pipe: its number must not be reused while its user may be reading from it

    def drop(self) -> None:
        """Close this side of all pipes."""
        self._pipe.close()
        self.ear.close()
        self._drop_lifeline()

    def disown(self) -> None:
        """In a forked child: forget the process, which goes on serving the parent."""
        self._reaping = threading.RLock()  # another thread of the parent may have held it
        self._ended = True
        self.drop()

    def _gone(self) -> Exception:
        """Collect what is left of the process and return the exception that says how it went."""
        deadline = time.monotonic() + _EXITING
        while not self.has_ended() and time.monotonic() < deadline:
            time.sleep(POLL)
        exitcode = self._exitcode  # None for a process that closed its pipe and lives on: that it ends now is our doing
        self.kill()
        if self._revoked:
            return ClosedError(self._revoked)
        return WorkerGone(exitcode, None if self._was_up() else self._unstarted(exitcode))

    def _was_up(self) -> bool:
        """Whether it came as far as its target, by all that it has said until its end."""
        with contextlib.suppress(OSError):
            while not self.up:
                more = self._pipe.recv(1 << 16, socket.MSG_DONTWAIT)
                if not more:
                    break
                self._said += more
                self.up = self._said.startswith(boot.BEGUN + boot.UP)
        return self.up

    def _unstarted(self, exitcode: Optional[int]) -> WorkerStartError:
        reason = self._said[len(boot.BEGUN + boot.FAILED) :].decode(errors="replace")
        if not self._said:
            reason = f"{self._command[0]} ended and was no worker process: it is no Python, or cannot start as one"
        return WorkerStartError(self._command, exitcode, reason)

    def _drop_lifeline(self) -> None:
        lifeline, self._lifeline = self._lifeline, None
        if lifeline is not None:
            os.close(lifeline)


def start(target: channel.Target, name: str) -> Worker:
    """Start a process that runs `target`; it is not up yet on return, and a message sent now waits in the pipe.

    Raises
    ------
    WorkerStartError
        When there is nothing to start.
    """
    from multiprocessing import process

    authkey = bytes(process.current_process().authkey)
    to_run: bytes = cloudpickle.dumps(target)  # ours, so there is nothing that has to be worded for a user
    argv = [*map(str, getattr(sys, "argv", ()))]  # a program that embeds Python may have none
    told = boot.Told(argv, name, os.getpid(), role.depth + 1, authkey, to_run)
    executable = _executable()
    ours, theirs = channel.pair()
    lifeline, held = channel.one_way()
    heard, output = channel.one_way()
    try:
        command, pid = _spawn(executable, theirs.fileno(), lifeline, output, _tracker())
        worker = Worker(pid, ours, held, Ear(heard), command)
        with contextlib.suppress(OSError):  # it has ended, which is found out when it is asked for something
            ours.sendall(boot.message(boot.arm(lifeline, pid), environment.module_path(), told), channel.NO_SIGPIPE)
    except BaseException:
        ours.close()
        os.close(held)
        os.close(heard)
        raise
    finally:
        theirs.close()
        os.close(lifeline)
        os.close(output)
    return worker


def _executable() -> str:
    """Return the path of the Python to start, as multiprocessing has it."""
    from multiprocessing import spawn

    given = spawn.get_executable()
    executable = os.fsdecode(given) if given else ""
    if not executable:
        raise WorkerStartError(("",), None, "this program does not know its Python")
    if getattr(sys, "frozen", False) and executable == sys.executable:
        # It would be this program once more, and run from the start.
        raise WorkerStartError((executable,), None, "this is a frozen program, and no Python")
    return executable


def _tracker() -> int:
    """Return the descriptor of multiprocessing's resource tracker, which is the same for all processes."""
    from multiprocessing import resource_tracker

    tracker: Any = resource_tracker._resource_tracker
    if tracker._fd is None:  # else it was started, and if it has ended since, who needs it starts another and says so
        tracker.ensure_running()
    number: int = tracker._fd
    return number


def _spawn(executable: str, *inherited: int) -> Tuple[Tuple[str, ...], int]:
    """Start an interpreter that has the descriptors `inherited` and the standard streams; return its command and id."""
    import fcntl
    from subprocess import _args_from_interpreter_flags  # type: ignore[attr-defined]

    numbers: List[int] = []
    try:
        for number in inherited:
            # To be inherited under a number that nothing here has, so that no other child of this process gets it.
            numbers.append(fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, 3))
        actions: List[Any] = [(os.POSIX_SPAWN_DUP2, *numbers_) for numbers_ in zip(inherited, numbers)]
        actions += [(os.POSIX_SPAWN_CLOSE, number) for number in _inheritable()]
        # Nodes do not read what is typed for the program; and where it has closed its other streams, what a node opens
        # or prints must not go in their place.
        closed = [number for number in (1, 2) if not _is_inheritable(number)]
        actions += [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in (0, *closed)]
        # What the environment says beside it is ours, and has to be heard.
        flags = [{"-I": "-s"}.get(flag, flag) for flag in _args_from_interpreter_flags() if flag != "-E"]
        command = (executable, *flags, "-c", boot.FIRST, role.TOKEN, *map(str, numbers))
        return command, os.posix_spawn(executable, command, {**os.environ, **variables()}, file_actions=actions)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE):
            raise
        raise WorkerStartError((executable,), None, f"{executable}: {os.strerror(error.errno or 0)}") from error
    finally:
        for number in numbers:
            os.close(number)


def _inheritable() -> List[int]:
    """Return the descriptors that a program started now would inherit and can be told to close, but for the streams."""
    try:
        names = os.listdir("/proc/self/fd" if sys.platform == "linux" else "/dev/fd")
    except OSError:
        return []
    # What was opened before the limit was lowered, here or by the shell, stands above it, and posix_spawn refuses it.
    most = os.sysconf("SC_OPEN_MAX")
    below = min(number for number in (most, _MOST) if number > 0)
    return [number for number in map(int, names) if 2 < number < below and _is_inheritable(number)]


def _is_inheritable(number: int) -> bool:
    try:
        return os.get_inheritable(number)
    except OSError:
        return False


@contextlib.contextmanager
def sigint_held() -> Iterator[None]:
    """Keep Ctrl-C waiting in this thread, and in a process started meanwhile until that one is ready for it."""
    if sys.platform != "win32":
        _executable()  # before the tracker starts, which needs one as well
        # It starts with the first process, and on older Pythons that unblocks SIGINT: have it behind us.
        _tracker()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
    else:
        yield
