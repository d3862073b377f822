"""A function in, one worker process and the pipe to it out; later its exit status.

    start(target) ─▶ Worker ══ send, receive ══ the process         (messages: channel.py; who gets a worker: pool.py)
                       │
                       └─ end of file ─▶ waitpid ─▶ WorkerGone(exitcode)

Processes are loky's: they start clean, find modules where the parent does, and never import the parent's `__main__`.
The parent keeps three descriptors for each (pipe, lifeline, ear), and waits for a process id exactly once.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from typing import Iterable, Iterator, List, Optional, Sequence, Set

from hypernodes.errors import ClosedError, OptionError
from hypernodes.runtime.processes import channel
from hypernodes.runtime.processes.hearing import Ear
from hypernodes.runtime.processes.interpreter import environment

_REMEMBERED = 1024  # digests: several times what a worker keeps
POLL = 0.001  # seconds between two looks at a process that is ending
_EXITING = 5.0  # seconds from end of file, which the kernel makes while it ends a process, to its status: rarely 1 ms


class WorkerGone(Exception):
    """A worker process that ended, found while talking to it; the caller knows what it was doing.

    `exitcode` is its exit status, negative for a signal, None when somebody else's `os.wait` took it.
    """

    def __init__(self, exitcode: Optional[int]) -> None:
        super().__init__(exitcode)
        self.exitcode = exitcode


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
    """

    def __init__(self, pid: int, pipe: channel.Pipe, lifeline: int, ear: Ear) -> None:
        self.pid = pid
        self.ear = ear
        self.fresh = True
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
        self._torn = True
        try:
            parts = channel.receive(self._pipe, fds)
        except OSError:  # the pipe was closed on this side
            parts = None
        if parts is None:
            raise self._gone()
        self._torn = False
        return parts

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
        return ClosedError(self._revoked) if self._revoked else WorkerGone(exitcode)

    def _drop_lifeline(self) -> None:
        lifeline, self._lifeline = self._lifeline, None
        if lifeline is not None:
            os.close(lifeline)


def start(target: channel.Target, name: str) -> Worker:
    """Start a process that runs `target`; it is not up yet on return, and a message sent now waits in the pipe."""
    # Imported for the first process: it costs 80 ms, which a program without parallel work need not pay.
    from loky.backend.context import get_context

    if sys.platform == "win32":
        raise OptionError("node_execution / map_execution", "'parallel'", "use 'threaded', or WSL")
    ours, theirs = (channel.Pipe(fileno=end.detach()) for end in socket.socketpair())
    lifeline, held = os.pipe()
    heard, output = os.pipe()
    try:
        inherited = [channel.Inherited(number) for number in (theirs.fileno(), lifeline, output)]
        process = get_context("loky").Process(
            target=channel.run_child, args=(target, *inherited), name=name, env=environment()
        )
        # Not process.start(): that also enters it in multiprocessing's table of children, which any thread that starts
        # another waits for (and so takes the exit status), which the interpreter joins when it exits, and which a
        # daemonic process may not add to.
        pid: int = process._Popen(process).pid
    except BaseException:
        ours.close()
        os.close(held)
        os.close(heard)
        raise
    finally:
        theirs.close()
        os.close(lifeline)
        os.close(output)
    return Worker(pid, ours, held, Ear(heard))


@contextlib.contextmanager
def sigint_held() -> Iterator[None]:
    """Keep Ctrl-C waiting in this thread, and in a process started meanwhile until that one is ready for it."""
    if sys.platform != "win32":
        from multiprocessing import resource_tracker

        from loky.backend import resource_tracker as loky_tracker

        # Both start with the first process, and on older Pythons starting one unblocks SIGINT: have that behind us.
        resource_tracker.ensure_running()
        loky_tracker.ensure_running()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
    else:
        yield
