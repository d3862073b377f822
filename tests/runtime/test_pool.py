"""The pool hands out live workers, says how one ended, and leaves nothing: no process, descriptor or word on stderr.

What a program does to its workers when it forks, is interrupted or dies is seen from outside: those tests run a script.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import struct
import subprocess
import sys
import textwrap
import threading
import time
from multiprocessing.connection import wait
from pathlib import Path

import pytest
from runtime import pool_targets
from runtime.pool_targets import echo, obey

from hypernodes.errors import ClosedError
from hypernodes.runtime.processes import channel, fair_share, process
from hypernodes.runtime.processes.pool import WorkerGone, WorkerPool

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no socket pairs")


@pytest.fixture
def pool():
    pool = WorkerPool(2, obey)
    yield pool
    pool.close()


def alive(pid: int) -> bool:
    """Whether the process exists; one that has ended and that nobody waited for counts as gone."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (ProcessLookupError, FileNotFoundError):
        return sys.platform != "linux" and _exists(pid)


def _exists(pid: int) -> bool:
    done = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], stdout=subprocess.PIPE, check=False)
    return done.stdout.strip()[:1] not in (b"", b"Z")


def wait_gone(pids, seconds: float = 2.0) -> None:
    end = time.monotonic() + seconds
    while any(alive(pid) for pid in pids):
        assert time.monotonic() < end, f"still there after {seconds} s: {[pid for pid in pids if alive(pid)]}"
        time.sleep(0.01)


def ask(worker, *parts):
    worker.send(*parts)
    return worker.receive()


# ── messages ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "parts",
    [[], [b""], [b"one"], [b"", b"two", b""], [b"x" * 70_000], [b"", b"y" * 300_000, b"z"], [b"n"] * 3000],
    ids=["no part", "empty part", "one", "some empty", "two reads", "large among small", "more than IOV_MAX"],
)
@pytest.mark.parametrize("at_once", [channel._AT_ONCE, 1000], ids=["", "short system calls"])
def test_a_message_arrives_as_it_was_sent(parts, at_once, monkeypatch):
    monkeypatch.setattr(channel, "_AT_ONCE", at_once)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        writer = threading.Thread(target=channel.send, args=(ours, parts))
        writer.start()
        assert channel.receive(theirs) == parts
        writer.join()


@pytest.mark.parametrize("part", [bytearray(b"abc"), memoryview(b"abc"), memoryview(b"abcd").cast("H")])
def test_any_buffer_can_be_sent(part):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        channel.send(ours, [part, b"after"])
        assert channel.receive(theirs) == [bytes(part), b"after"]


@pytest.mark.parametrize("cut", [0, 3, 16, 20, 30, 100_000])
def test_a_message_cut_short_is_the_end(cut):
    whole = b"".join([struct.pack("<QQQQ", 2, 16 + 200_001, 1, 200_000), b"a", b"b" * 200_000])
    ours, theirs = socket.socketpair()
    with theirs:
        with ours:
            ours.send(whole[:cut])
        assert channel.receive(theirs) is None


def test_round_trip_through_a_worker(pool):
    worker = pool.acquire()
    assert ask(worker, b"say", b"a", b"", b"c") == [b"a", b"", b"c"]
    worker.send(b"say", b"again")
    assert wait([worker], 10) == [worker]
    assert worker.receive() == [b"again"]
    assert worker.known == set()


def test_large_message(pool):
    large = os.urandom(1 << 16) * (1 << 10)
    assert ask(pool.acquire(), b"say", b"small", large) == [b"small", large]


def test_default_socket_timeout_does_not_matter(pool):
    socket.setdefaulttimeout(0.05)
    try:
        assert ask(pool.acquire(), b"sleep", b"0.3") == [b"slept"]
    finally:
        socket.setdefaulttimeout(None)


# ── leases ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_process_starts_with_the_first_lease_that_needs_it(pool):
    assert pool.size == 0
    first, second = pool.acquire(), pool.acquire()
    assert pool.acquire() is None
    assert (pool.size, pool.idle) == (2, 0)
    pool.release(first)
    pool.release(second)
    assert (pool.size, pool.idle) == (2, 2)
    assert pool.acquire() is second, "the most recently used first"


def test_a_discarded_worker_leaves_its_place(pool):
    worker, _ = pool.acquire(), pool.acquire()
    worker.send(b"sleep", b"60")
    pool.discard(worker)
    assert not alive(worker.pid)
    assert pool.size == 1
    assert ask(pool.acquire(), b"say", b"new") == [b"new"]
    with pytest.raises(WorkerGone):
        worker.send(b"say", b"old")


@pytest.mark.parametrize("when", ["leased", "idle"])
def test_a_dead_worker_is_never_handed_out(pool, when):
    worker = pool.acquire()
    assert ask(worker, b"say", b"up") == [b"up"]
    if when == "idle":
        pool.release(worker)
    os.kill(worker.pid, signal.SIGKILL)
    wait([worker], 10)
    if when == "leased":
        pool.release(worker)
        assert pool.size == 0
    other = pool.acquire()
    assert other.pid != worker.pid
    assert pool.size == 1
    assert ask(other, b"say", b"hi") == [b"hi"]


def test_a_worker_with_an_unread_answer_is_not_reused(pool):
    worker = pool.acquire()
    assert ask(worker, b"say", b"up") == [b"up"]
    worker.send(b"say", b"nobody reads this")
    wait([worker], 10)
    pool.release(worker)
    assert pool.size == 0


def test_a_worker_with_half_a_message_is_not_reused(pool, monkeypatch):
    worker = pool.acquire()
    monkeypatch.setattr(channel, "receive", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        worker.receive()
    pool.release(worker)
    assert pool.size == 0


class Bell(threading.Event):
    """Somebody who asks for workers."""

    wake = threading.Event.set


def test_eight_threads_share_three_workers():
    pool, seen, wrong = WorkerPool(3, echo), set(), []

    def use(number: int) -> None:
        bell = Bell()
        for turn in range(40):
            worker = pool.acquire(bell)
            while worker is None:
                bell.wait(10)
                bell.clear()
                worker = pool.acquire(bell)
            seen.add(worker.pid)
            text = b"%d %d" % (number, turn)
            try:
                if ask(worker, text) != [text]:
                    wrong.append(text)
            except WorkerGone as gone:  # the others shall not wait for this lease
                wrong.append(gone)
            if (number, turn) == (3, 20):
                pool.discard(worker)
            else:
                pool.release(worker)

    threads = [threading.Thread(target=use, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not wrong
    assert pool.size <= 3
    assert len(seen) <= 4
    pool.close()
    wait_gone(seen)


@pytest.mark.parametrize("event", ["release", "discard"])
def test_first_come_first_served(event):
    pool = WorkerPool(1, echo)
    worker, holder, first, second = pool.acquire(), Bell(), Bell(), Bell()
    assert not pool.wanted(holder)
    assert pool.acquire(first) is None
    assert not pool.wanted(first)
    assert pool.acquire(second) is None
    assert pool.wanted(first)
    assert pool.wanted(holder)
    getattr(pool, event)(worker)
    assert first.is_set()
    assert not second.is_set()
    assert pool.acquire(second) is None, "it is the first one's"
    assert pool.acquire(holder) is None
    worker = pool.acquire(first)
    assert worker is not None
    assert pool.acquire(first) is None, "it has one, and is the last to get another"
    pool.leave(second)
    pool.release(worker)
    assert holder.is_set()
    assert not first.is_set() or pool.acquire(first) is None
    pool.close()


def test_who_does_not_come_loses_the_turn(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(fair_share.time, "monotonic", lambda: clock[0])
    order, absent, present = fair_share.FairShare(), Bell(), Bell()
    order.ask(absent)
    order.ask(present)
    clock[0] += 1000
    assert not order.may_take(present, 1), "nobody has called the other yet"
    order.call(1)
    assert not order.may_take(present, 1)
    assert order.may_take(present, 2)
    clock[0] += 1
    assert order.may_take(present, 1)
    assert not order.others(present)


# ── ends ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("command", "exitcode"),
    [
        ([b"leave", b"3"], 3),
        ([b"leave", b"0"], 0),
        ([b"fork_and_die"], -signal.SIGKILL),
        ([b"spawn_and_die"], -signal.SIGKILL),
    ],
)
def test_a_worker_that_ends_in_the_middle_says_how(pool, command, exitcode):
    worker = pool.acquire()
    assert ask(worker, b"say", b"up") == [b"up"]
    before = time.monotonic()
    with pytest.raises(WorkerGone) as gone:
        ask(worker, *command)
    assert gone.value.exitcode == exitcode
    assert time.monotonic() - before < 2, "its children hold nothing open"
    with pytest.raises(WorkerGone) as again:
        worker.send(b"say", b"x")
    assert again.value.exitcode == exitcode
    pool.release(worker)
    assert pool.size == 0


def test_kill_9_while_busy(pool):
    worker = pool.acquire()
    worker.send(b"spin", b"60")
    os.kill(worker.pid, signal.SIGKILL)
    with pytest.raises(WorkerGone) as gone:
        worker.receive()
    assert gone.value.exitcode == -9


def test_death_at_start_up_is_told():
    pool = WorkerPool(1, pool_targets.raises)
    with pytest.raises(WorkerGone) as gone:
        ask(pool.acquire(), b"x" * 10_000_000)  # more than the pipe holds: the writer has to be told too
    assert gone.value.exitcode == 7
    pool.close()


def test_a_target_that_cannot_be_imported_is_told(tmp_path, monkeypatch):
    (tmp_path / "vanishing.py").write_text("def target(connection): connection.receive()")
    monkeypatch.syspath_prepend(str(tmp_path))
    import vanishing

    pool = WorkerPool(1, vanishing.target)
    (tmp_path / "vanishing.py").unlink()
    with pytest.raises(WorkerGone) as gone:
        pool.acquire().receive()
    assert gone.value.exitcode == 1
    assert gone.value.unstarted.exitcode == 1
    assert "No module named 'vanishing'" in gone.value.unstarted.reason
    pool.close()


def test_a_target_that_cannot_be_pickled_leaves_the_pool_as_it_was():
    lock = threading.Lock()
    pool = WorkerPool(1, lambda connection: lock.acquire())
    with pytest.raises(TypeError, match="lock"):
        pool.acquire()  # the first start of a process leaves a resource tracker, for all that follow
    fds = open_descriptors()
    for _ in range(2):
        with pytest.raises(TypeError, match="lock"):
            pool.acquire()
    assert pool.size == 0
    assert open_descriptors() == fds
    pool.close()


def test_ctrl_c_while_a_worker_starts_loses_no_lease(pool, monkeypatch):
    started = []

    def start(*arguments):
        signal.raise_signal(signal.SIGINT)
        started.append(process_start(*arguments))
        return started[0]

    process_start = process.start
    monkeypatch.setattr(process, "start", start)
    with pytest.raises(KeyboardInterrupt):
        pool.acquire()
    assert pool.size == 0
    assert not alive(started[0].pid)


# ── close ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_close_ends_everything_and_may_be_repeated(pool):
    first, second = pool.acquire(), pool.acquire()
    assert ask(first, b"say", b"up") == [b"up"]
    pool.release(first)
    pool.close()
    pool.close()
    assert not alive(first.pid)
    assert not alive(second.pid)
    assert pool.size == 0
    with pytest.raises(ClosedError) as closed:
        pool.acquire()
    assert closed.value.what == "LocalBackend's worker pool"
    pool.release(second)


def test_close_under_a_lease_is_told_to_its_user(pool):
    worker, caught = pool.acquire(), []

    def use() -> None:
        try:
            ask(worker, b"sleep", b"60")
        except BaseException as error:
            caught.append(error)
        pool.release(worker)

    thread = threading.Thread(target=use)
    thread.start()
    time.sleep(0.3)
    pool.close()
    thread.join(10)
    assert [type(error) for error in caught] == [ClosedError]


def test_close_lets_idle_workers_finish(tmp_path):
    pool = WorkerPool(1, pool_targets.leave_a_note)
    worker = pool.acquire()
    ask(worker, os.fsencode(str(tmp_path / "note")))
    pool.release(worker)
    pool.close()
    assert (tmp_path / "note").read_text() == "ended"


def test_close_does_not_wait_for_the_stubborn():
    pool = WorkerPool(2, pool_targets.stubborn)
    workers = [pool.acquire(), pool.acquire()]
    for worker in workers:
        ask(worker, b"up")
        pool.release(worker)
    before = time.monotonic()
    pool.close()
    assert time.monotonic() - before < 2
    assert not any(alive(worker.pid) for worker in workers)


@pytest.mark.parametrize("leased", [False, True])
def test_a_forgotten_pool_is_closed(leased):
    pool = WorkerPool(1, echo)
    worker = pool.acquire()
    assert ask(worker, b"up") == [b"up"]
    if not leased:
        pool.release(worker)
    del pool
    gc.collect()
    assert not alive(worker.pid)
    worker.drop()


def open_descriptors():
    # What an earlier test left for the collector must not go in the middle of this one.
    gc.collect()
    return {name: os.readlink(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd") if name_is_open(name)}


def name_is_open(name: str) -> bool:
    try:
        os.fstat(int(name))
    except OSError:  # the one that listed them
        return False
    return True


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc")
def test_no_descriptor_is_left():
    def use() -> None:
        pool = WorkerPool(3, obey)
        one, two, three = pool.acquire(), pool.acquire(), pool.acquire()
        ask(one, b"say", b"up")
        pool.release(one)
        pool.discard(two)
        with pytest.raises(WorkerGone):
            ask(three, b"leave", b"1")
        pool.release(three)
        pool.close()

    use()  # the resource trackers start, and stay
    before = open_descriptors()
    use()
    assert open_descriptors() == before


# ── the program around the pool ──────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def script(tmp_path):
    """Start a program; it has no `__main__` guard, so a worker that imported it would start workers without end."""
    programs = []

    def start(body: str) -> subprocess.Popen[str]:
        path = tmp_path / "script.py"
        path.write_text(textwrap.dedent(HEAD) + textwrap.dedent(body))
        program = subprocess.Popen(
            [sys.executable, str(path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            env={
                **os.environ,
                "PYTHONWARNINGS": "error",
                "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
            },
            start_new_session=True,
        )
        programs.append(program)
        return program

    yield start
    for program in programs:
        if program.poll() is None:  # the test failed before it could finish the program
            os.killpg(program.pid, signal.SIGKILL)
            program.communicate()


HEAD = """
    import os, signal, subprocess, sys, threading, time
    from hypernodes.runtime.processes.pool import WorkerGone, WorkerPool
    from runtime.pool_targets import echo, obey

    def ask(worker, *parts):
        worker.send(*parts)
        return worker.receive()

    pool = WorkerPool(4, obey)
"""


def finish(program: subprocess.Popen[str], seconds: float = 20):
    """Return exit status, stdout and stderr, once everybody who could write to them is gone."""
    try:
        out, err = program.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(program.pid, signal.SIGKILL)
        out, err = program.communicate()
        raise AssertionError(f"hangs; stdout {out!r}, stderr {err!r}") from None
    return program.returncode, out, err


@pytest.mark.parametrize(
    ("ending", "status"),
    [
        ("pool.release(worker)", 0),
        ("worker.send(b'spin', b'60')", 0),
        ("pool.release(worker); pool.acquire(); pool.acquire()", 0),
        ("pool.close()", 0),
        ("sys.exit(3)", 3),
        ("os._exit(4)", 4),
        ("threading.Thread(target=ask, args=(worker, b'sleep', b'0.3')).start()", 0),
        ("import concurrent.futures as c, multiprocessing.pool as m; m.Pool; c.ProcessPoolExecutor", 0),
    ],
    ids=["idle", "busy", "starting", "closed", "sys.exit", "os._exit", "thread", "other pools"],
)
def test_a_program_ends_with_its_pool_open_in_silence(script, ending, status):
    code = f"worker = pool.acquire()\nprint(*ask(worker, b'say', b'up'), flush=True)\n{ending}\n"
    assert finish(script(code)) == (status, "b'up'\n", "")


def test_a_program_that_raises_ends_with_its_own_traceback_only(script):
    code = "worker = pool.acquire()\nask(worker, b'say', b'up')\nworker.send(b'spin', b'60')\n1 / 0\n"
    status, out, err = finish(script(code))
    assert (status, out) == (1, "")
    assert err.startswith("Traceback")
    assert err.rstrip().endswith("ZeroDivisionError: division by zero")
    assert err.count("Traceback") == 1


def test_interpreter_exit_is_quick(script):
    """From the last line to the end, with four idle workers; 0.3 s is the promise, a busy machine gets more."""
    code = """
        workers = [pool.acquire() for _ in range(4)]
        for worker in workers: ask(worker, b"say", b"up")
        for worker in workers: pool.release(worker)
        print(time.monotonic())
    """
    status, out, err = finish(script(code))
    assert (status, err) == (0, "")
    assert time.monotonic() - float(out) < 2


def test_a_forked_child_has_a_pool_of_its_own(script):
    code = """
        idle, leased = pool.acquire(), pool.acquire()
        ask(idle, b"say", b"up"), ask(leased, b"say", b"up")
        pool.release(idle)
        child = os.fork()
        if child == 0:
            assert (pool.size, pool.idle) == (0, 0)
            try:
                leased.send(b"say", b"from the child")
            except WorkerGone as gone:
                assert gone.exitcode is None
            leased.kill()
            pool.release(leased)
            worker = pool.acquire()
            assert worker.pid not in (idle.pid, leased.pid)
            assert ask(worker, b"say", b"mine") == [b"mine"]
            sys.exit(5)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 5 if sys.version_info >= (3, 9) else os.wait()
        assert ask(leased, b"say", b"still") == [b"still"]
        assert pool.acquire() is idle
        assert ask(idle, b"say", b"here") == [b"here"]
        print("done")
    """
    assert finish(script(code)) == (0, "done\n", "")


def test_multiprocessing_children_may_use_the_pool_of_their_parent(script):
    """Also daemonic ones, which multiprocessing forbids to start processes (Dask's workers are such)."""
    code = """
        import multiprocessing
        worker = pool.acquire()
        ask(worker, b"say", b"up")

        def use():
            print(*ask(pool.acquire(), b"say", b"mine"))

        child = multiprocessing.get_context("fork").Process(target=use, daemon=True)
        child.start()
        child.join()
        print(child.exitcode, *ask(worker, b"say", b"ours"))
    """
    assert finish(script(code)) == (0, "b'mine'\n0 b'ours'\n", "")


def test_workers_die_with_a_killed_parent(script):
    """Idle, asleep, in Python code, in C code with the GIL; and whatever the program forked or started meanwhile."""
    code = """
        workers = [pool.acquire() for _ in range(4)]
        for worker in workers: ask(worker, b"say", b"up")
        workers[1].send(b"sleep", b"60")
        workers[2].send(b"spin", b"60")
        workers[3].send(b"hold_gil")
        others = [os.fork()]
        if others[0] == 0:
            time.sleep(60)
        sleeper = subprocess.Popen(["sleep", "60"], close_fds=False)
        others += [sleeper.pid]
        time.sleep(0.2)
        print(*others, *(worker.pid for worker in workers), flush=True)
        time.sleep(60)
    """
    program = script(code)
    *others, a, b, c, d = map(int, program.stdout.readline().split())
    try:
        assert all(alive(pid) for pid in (*others, a, b, c, d))
        os.kill(program.pid, signal.SIGKILL)
        program.wait()
        wait_gone([a, b, c] if sys.platform != "linux" else [a, b, c, d])
    finally:
        for pid in (*others, d):
            if alive(pid):
                os.kill(pid, signal.SIGKILL)
    assert finish(program) == (-signal.SIGKILL, "", "")


def test_where_the_kernel_does_not_help_a_thread_watches_the_parent(script):
    code = """
        from hypernodes.runtime.processes import boot
        boot.arm = lambda lifeline, pid: False
        worker, starting = pool.acquire(), pool.acquire()
        assert ask(worker, b"say", b"up") == [b"up"]
        worker.send(b"spin", b"60")
        print("up", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    assert finish(script(code)) == (-signal.SIGKILL, "up\n", ""), "the workers hold the other end of stderr"


@pytest.mark.skipif(sys.platform != "linux", reason="F_SETSIG")
def test_workers_have_no_thread_of_ours(pool):
    assert ask(pool.acquire(), b"threads") == [b"MainThread"]


def test_ctrl_c_is_the_parents_alone(script):
    """SIGINT to the whole group, as a terminal sends it: to workers that idle, sleep, compute and have just started."""
    code = """
        workers = [pool.acquire() for _ in range(3)]
        for worker in workers: ask(worker, b"say", b"up")
        workers[1].send(b"sleep", b"0.5")
        workers[2].send(b"spin", b"0.5")
        workers.append(pool.acquire())
        try:
            print("ready", flush=True)
            time.sleep(20)
        except KeyboardInterrupt:
            print("interrupted")
        workers[0].send(b"say", b"idle")
        workers[3].send(b"say", b"new")
        for worker in workers: print(*worker.receive())
        print(*ask(workers[0], b"handles_sigint"))
    """
    program = script(code)
    assert program.stdout.readline() == "ready\n"
    os.killpg(program.pid, signal.SIGINT)
    out = "interrupted\nb'idle'\nb'slept'\nb'span'\nb'new'\nb'False' b'False'\n"
    assert finish(program) == (0, out, "")


def test_ctrl_c_at_any_time_of_a_start_is_the_parents_alone(script):
    code = """
        caught = []
        signal.signal(signal.SIGINT, lambda number, frame: caught.append(number))
        over = threading.Event()

        def interrupt():
            while not over.is_set():
                os.killpg(0, signal.SIGINT)
                time.sleep(0.002)

        nagger = threading.Thread(target=interrupt)
        nagger.start()
        workers = [pool.acquire() for _ in range(4)]
        for worker in workers: print(*ask(worker, b"say", b"up"))
        over.set()
        nagger.join()
        assert caught
    """
    assert finish(script(code)) == (0, "b'up'\n" * 4, "")


def test_a_program_that_ignores_its_children_loses_the_exit_status_only(script):
    code = """
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        worker, other = pool.acquire(), pool.acquire()
        try:
            ask(worker, b"leave", b"3")
        except WorkerGone as gone:
            print(gone.exitcode)
        ask(other, b"say", b"up")
        pool.release(other)
        pool.close()
    """
    assert finish(script(code)) == (0, "None\n", "")


def test_a_worker_may_have_a_pool(script):
    code = """
        def outer(connection):
            inner = WorkerPool(1, echo)
            worker = inner.acquire()
            connection.send(str(worker.pid).encode(), *ask(worker, b"from within"))
            connection.receive()
            time.sleep(60)

        nested = WorkerPool(1, outer)
        worker = nested.acquire()
        print(*worker.receive(), flush=True)
    """
    status, out, err = finish(script(code))
    pid, text = out.replace("b", "").replace("'", "").split(maxsplit=1)
    assert (status, text, err) == (0, "from within\n".replace("b", ""), "")
    wait_gone([int(pid)])
