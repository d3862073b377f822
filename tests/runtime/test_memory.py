"""Large buffers arrive as they were sent, are copied once, and leave no memory, descriptor or file behind.

`Block` stands for an array where numpy is not installed: an object whose data pickles as one buffer.
"""

from __future__ import annotations

import concurrent.futures
import gc
import mmap
import os
import pickle
import re
import socket
import sys
import threading

import pytest
from observing import notes_of

from hypernodes import LocalBackend, Pipeline, node
from hypernodes.pickling import loads
from hypernodes.runtime.processes import channel, memory
from hypernodes.runtime.processes.memory import LARGE, MAPPED_FROM, Segment, lifted, pack, take
from hypernodes.runtime.processes.wire import RequestHeader, decode_response, encode

try:
    import numpy as np
except ImportError:
    np = None
try:
    import pandas as pd
except ImportError:
    pd = None

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no socket pairs")
needs_numpy = pytest.mark.skipif(np is None, reason="needs numpy")
needs_proc = pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc")

SIZES = [LARGE, MAPPED_FROM, MAPPED_FROM + 1]


class Block:
    """Data that pickles as one buffer, and the buffer it was made of."""

    def __init__(self, data):
        self.data = data

    def __reduce_ex__(self, protocol):
        return Block, (pickle.PickleBuffer(self.data),)

    def __eq__(self, other):
        return isinstance(other, Block) and bytes(self.data) == bytes(other.data)

    __hash__ = None


def block(size=MAPPED_FROM, value=7):
    return Block(bytearray([value]) * size)


@pytest.fixture(scope="module")
def backend():
    with LocalBackend(map_execution="parallel", max_workers=2) as backend:
        yield backend


@pytest.fixture
def descriptors():
    """Count the descriptors of this process, once garbage has let go of its own."""

    def count():
        gc.collect()
        return len(os.listdir("/proc/self/fd"))

    return count


def mapped_file(data):
    """Return the permissions and the inode of the mapping in which the buffer of some data lies."""
    import ctypes

    view = memoryview(data)
    address = (
        np.frombuffer(view, np.uint8).ctypes.data
        if view.readonly and np is not None
        else ctypes.addressof(ctypes.c_char.from_buffer(view))
    )
    with open("/proc/self/maps") as maps:
        for line in maps:
            start, end, permissions, inode = re.match(r"(\w+)-(\w+) (\S+) \w+ \S+ (\d+)", line).groups()
            if int(start, 16) <= address < int(end, 16):
                return permissions, int(inode)
    raise AssertionError("in no mapping")


def run(fn, backend, **inputs):
    pipeline = Pipeline(nodes=[node(output_name="y")(fn)], backend=backend)
    return pipeline.map(inputs=inputs, map_over="x")["y"]


# ── one process ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("way", ["shared", "private"])
def test_buffers_come_out_as_they_went_in(size, way):
    value = [block(size, 1), b"small", block(size + 3, 2), block(10, 3)]
    packed = pack(value, "a test")
    assert packed.memory.sizes == [size, size + 3], "the small one stays in the pickle"
    assert len(packed.data) < 1000
    assert loads(packed.data, getattr(packed.memory, way)()) == value


def test_only_the_private_way_can_be_written_and_nobody_else_sees_it():
    packed = pack([block(value=1)], "a test")
    for _ in range(2):
        (copy,) = loads(packed.data, packed.memory.private())
        assert copy.data[0] == 1
        copy.data[0] = 2
    (shared,) = loads(packed.data, packed.memory.shared())
    with pytest.raises(TypeError, match="read-only"):
        shared.data[0] = 3


def test_nothing_large_makes_no_memory():
    assert pack([block(LARGE - 1), b"x" * LARGE, list(range(1000))], "a test").memory is None


def test_memory_is_read_when_many_mappings_are_held(monkeypatch):
    monkeypatch.setattr(memory, "MAPPINGS", 0)
    packed = pack(block(), "a test")
    (buffer,) = packed.memory.private()
    assert type(buffer) is bytearray
    assert loads(packed.data, [buffer]) == block()


def test_memory_is_read_when_no_more_can_be_mapped(monkeypatch):
    def refuse(*args, **options):
        raise OSError("no descriptor left")

    packed = pack(block(), "a test")
    monkeypatch.setattr(mmap, "mmap", refuse)
    assert loads(packed.data, packed.memory.private()) == block()


def test_memory_that_is_too_short_is_an_error():
    segment = Segment.filled([memoryview(b"x" * LARGE)])
    segment.sizes = [LARGE + 1]
    with pytest.raises(EOFError, match="shorter"):
        segment.private()


def shared_files():
    """Return the files in shared memory, but for those of other libraries whose tests run at the same time."""
    found = os.listdir("/dev/shm") if os.path.isdir("/dev/shm") else []
    return {name for name in found if not name.startswith("sem.")}


def test_without_memfd_it_is_a_file_that_has_no_name(monkeypatch):
    monkeypatch.delattr(os, "memfd_create", raising=False)
    before = shared_files()
    packed = pack(block(), "a test")
    assert loads(packed.data, packed.memory.private()) == block()
    assert not os.get_inheritable(packed.memory.fd)
    assert shared_files() == before


@needs_proc
@pytest.mark.parametrize("what", ["pwrite", "_unnamed"])
def test_where_there_is_no_room_buffers_stay_in_the_pickle(what, monkeypatch, descriptors):
    def refuse(*args):
        raise OSError(28, "No space left on device")

    before = descriptors()
    monkeypatch.setattr(os if what == "pwrite" else memory, what, refuse)
    packed = pack([block()], "a test")
    assert packed.memory is None
    assert loads(packed.data) == [block()]
    assert descriptors() == before


def test_large_bytes_go_apart_and_come_back_as_bytes():
    large, small = b"x" * LARGE, b"y"
    values = [1, large, small, 2, large, bytearray(large)]
    packed = pack(lifted(values), "a test")
    assert packed.memory.sizes == [LARGE], "one object goes once; a bytearray stays"
    found = loads(packed.data, packed.memory.private())
    assert found == values
    assert type(found[1]) is bytes
    assert found[1] is found[4]
    assert loads(pack(lifted(values), "a test", apart=False).data) == values
    assert lifted([small]) == [small]


@needs_proc
def test_descriptors_that_did_not_all_arrive_are_closed(descriptors):
    before = descriptors()
    with pytest.raises(OSError, match="no file descriptor is free"):
        take([os.open(os.devnull, os.O_RDONLY)], [5], [], [6])
    assert descriptors() == before
    first, second, third = take([os.open(os.devnull, os.O_RDONLY)], [], [6], [])
    assert (first, second.sizes, third) == (None, [6], None)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_holds_no_memory():
    packed = pack(block(), "a test")
    child = os.fork()
    if not child:
        os._exit(0 if packed.memory.fd == -1 else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert packed.memory.fd >= 0


# ── between two processes ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("parts", [[], [b"a", b""], [b"x" * 300_000], [b"n"] * 3000])
def test_descriptors_arrive_behind_a_message(parts):
    ours, theirs = socket.socketpair()
    segments = [Segment.filled([memoryview(bytes([n]) * LARGE)]) for n in range(3)]
    with ours, theirs:
        writer = threading.Thread(
            target=lambda: [channel.send(ours, parts, [s.fd for s in segments]), channel.send(ours, [b"next"])]
        )
        writer.start()
        fds = []
        assert channel.receive(theirs, fds) == parts
        assert len(fds) == 3
        assert not any(os.get_inheritable(fd) for fd in fds)
        assert [s.private()[0][0] for s in take(fds, *[[LARGE]] * 3)] == [0, 1, 2]
        assert channel.receive(theirs, fds) == [b"next"]
        assert len(fds) == 3
        writer.join()


@needs_proc
def test_descriptors_that_nobody_takes_are_gone(descriptors):
    before = descriptors()
    ours, theirs = socket.socketpair()
    with ours, theirs, open(os.devnull) as file:
        channel.send(ours, [b"one"], [file.fileno()])
        channel.send(ours, [b"two"], [file.fileno()])
        assert channel.receive(theirs) == [b"one"]
    assert descriptors() == before


def test_a_message_cut_short_before_its_descriptors_is_the_end():
    ours, theirs = socket.socketpair()
    with theirs:
        with ours:
            ours.send(channel._HEAD.pack(1 << 32, 0))
        assert channel.receive(theirs, []) is None


# ── runs ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def shapes():
    """Return all that may be in a row: a name, and a function that makes it."""
    yield "bytes", lambda: b"x" * MAPPED_FROM
    yield "bytearray", lambda: bytearray(b"x") * MAPPED_FROM
    yield "empty", lambda: b""
    yield "block", block
    if np is None:
        return
    numbers = np.arange(1 << 18, dtype=float)
    square = numbers.reshape(512, 512)
    yield "array", lambda: numbers.copy()
    yield "not above the limit", lambda: numbers[: LARGE // 8 - 1].copy()
    yield "at the limit", lambda: numbers[: LARGE // 8].copy()
    yield "Fortran order", lambda: np.asfortranarray(square)
    yield "transposed", lambda: square.T
    yield "not contiguous", lambda: square[::2, ::2]
    yield "negative strides", lambda: numbers[::-1]
    yield "zero size", lambda: np.empty((0, 5))
    yield "no dimension", lambda: np.array(3.5)
    yield "scalar", lambda: np.float32(3.5)
    yield "objects", lambda: np.array([{"a": numbers.copy()}, None, b"x" * LARGE], dtype=object)
    yield "structured", lambda: np.zeros(1 << 16, dtype=[("a", "i4"), ("b", "f8"), ("c", "S3")])
    yield "dates", lambda: numbers.astype("int64").view("M8[ns]")
    yield "big endian", lambda: numbers.astype(">f8")
    yield "read-only", lambda: np.frombuffer(bytes(MAPPED_FROM), np.uint8)
    yield "nested", lambda: {"a": [numbers.copy(), (square.copy(), b"x" * LARGE)]}
    yield "masked", lambda: np.ma.masked_array(numbers, numbers > 5)
    yield "two in a list", lambda: [numbers.astype("f4"), numbers.astype("f4")]
    if pd is not None:
        frame = pd.DataFrame({"a": numbers, "b": numbers.astype("int64"), "c": "text", "d": numbers + 1})
        yield "frame", frame.copy
        yield "series", lambda: pd.Series(numbers, name="s")
        yield "index", lambda: pd.Index(numbers)


def same(one, two):
    """Assert that two values are alike; strides may differ, as whatever is pickled arrives contiguous."""
    assert type(one) is type(two)
    if isinstance(one, (list, tuple)):
        assert len(one) == len(two)
        for first, second in zip(one, two):
            same(first, second)
    elif isinstance(one, dict):
        same([*one.items()], [*two.items()])
    elif pd is not None and isinstance(one, (pd.DataFrame, pd.Series, pd.Index)):
        assert one.equals(two)
        assert str(one) == str(two)
    elif np is not None and isinstance(one, np.ndarray):
        assert (one.dtype, one.shape) == (two.dtype, two.shape)
        same([*one], [*two]) if one.dtype == object else np.testing.assert_array_equal(one, two)
    else:
        assert one == two


def around(x, fixed):
    return [x, fixed, (x, fixed)]


SHAPES = dict(shapes())


@pytest.mark.parametrize("shape", SHAPES)
def test_all_shapes_agree_with_sequential(shape, backend):
    """In and out, as a row, as what all items share, and within other objects."""
    make = SHAPES[shape]
    inputs = {"x": [make(), 1, make()], "fixed": make()}
    same(run(around, backend, **inputs), run(around, LocalBackend(), **inputs))


def large_bytes(x, fixed):
    return bytes([x]) * len(fixed), len(fixed), type(fixed) is bytes


@pytest.mark.parametrize("executor", [False, True])
def test_large_bytes_agree_with_sequential(executor, backend):
    inputs = {"x": [1, 2, 3], "fixed": b"f" * MAPPED_FROM}
    expected = run(large_bytes, LocalBackend(), **inputs)
    if not executor:
        assert run(large_bytes, backend, **inputs) == expected
        return
    with concurrent.futures.ProcessPoolExecutor(2) as pool:
        theirs = LocalBackend(map_execution="parallel", max_workers=2, executor=pool)
        assert run(large_bytes, theirs, **inputs) == expected
        assert run(blocks_of, theirs, x=[1, 2], fixed=block()) == run(
            blocks_of, LocalBackend(), x=[1, 2], fixed=block()
        )


def blocks_of(x, fixed):
    return [block(value=x), fixed]


@pytest.mark.slow
@pytest.mark.parametrize("nodes", ["sequential", "async", "threaded", "parallel"])
@pytest.mark.parametrize("items", ["sequential", "async", "threaded", "parallel"])
def test_every_pair_of_modes_carries_large_values(nodes, items):
    def twice(x, fixed):
        return Block(bytes(x.data) + bytes(fixed.data))

    def length(y):
        return len(y.data), y

    pipeline = Pipeline(nodes=[node(output_name="y")(twice), node(output_name="z")(length)])
    inputs = {"x": [block(value=n) for n in range(3)], "fixed": block()}
    expected = pipeline.map(inputs=inputs, map_over="x")
    with LocalBackend(node_execution=nodes, map_execution=items, max_workers=2) as pipeline.backend:
        found = pipeline.map(inputs=inputs, map_over="x")
    assert dict(found) == dict(expected)


def where(x, fixed):
    return os.getpid(), mapped_file(fixed)


@pytest.fixture
def copies(monkeypatch):
    """The sizes of the segments that this process fills, in bytes."""
    made = []
    filled = Segment.filled

    def counted(cls, buffers):
        made.append(sum(buffer.nbytes for buffer in buffers))
        return filled(buffers)

    monkeypatch.setattr(Segment, "filled", classmethod(counted))
    return made


@needs_proc
@needs_numpy
def test_what_items_share_is_one_copy_that_all_workers_map(backend, copies):
    found = run(where, backend, x=list(range(40)), fixed=np.zeros(1 << 20))
    assert len(copies) == 1, "one copy, by the caller"
    assert len({file for _, file in found}) == 1
    assert found[0][1][0] == "r--s", "read-only, and shared with the caller"


@needs_proc
@needs_numpy
def test_items_that_run_bundle_by_bundle_share_one_copy_too(copies):
    def ends(x, fixed):
        return mapped_file(fixed)

    def other(x, fixed):
        return mapped_file(fixed)

    def join(end, more, fixed):
        return [end, more, mapped_file(fixed)]

    nodes = [node(output_name="end")(ends), node(output_name="more")(other), node(output_name="y")(join)]
    with LocalBackend(node_execution="parallel", map_execution="parallel", max_workers=2) as backend:
        pipeline = Pipeline(nodes=nodes, backend=backend)
        inputs = {"x": list(range(10)), "fixed": np.zeros(1 << 20)}
        found = pipeline.map(inputs=inputs, map_over="x")["y"]
    assert len(copies) == 1
    assert len({file for item in found for _, file in item}) == 1


@needs_numpy
@pytest.mark.parametrize("nodes", ["sequential", "parallel"])
def test_maps_within_maps_share_the_copy_of_the_outer_one(nodes, copies):
    """What is fixed in all of them is copied once; what is fixed for an outer item, once for that item."""

    def count(page, chapter, model):
        return page + len(chapter) + len(model)

    def total(counts):
        return sum(counts)

    model, chapters = np.zeros(1 << 18), [np.zeros(n << 17) for n in (1, 2, 3)]
    pages = Pipeline(nodes=[node(output_name="counts")(count)]).as_node(map_over="page")
    with LocalBackend(node_execution=nodes, map_execution="parallel", max_workers=2) as backend:
        book = Pipeline(nodes=[pages, node(output_name="sum")(total)], backend=backend)
        inputs = {"page": [1, 2, 3, 4], "chapter": chapters, "model": model}
        found = book.map(inputs=inputs, map_over="chapter")["sum"]
    assert found == [10 + 4 * (len(chapter) + len(model)) for chapter in chapters]
    assert sorted(copies) == sorted(array.nbytes for array in (model, *chapters))


@needs_numpy
def test_what_is_large_without_buffers_is_sent_once_per_worker(backend, copies):
    """Also among small values, each of which comes to its own parameter."""

    def look(x, words, factor, array, offset):
        return len(words) * factor + len(array) + offset + x

    inputs = {"words": {str(n): n for n in range(100_000)}, "factor": 2, "array": np.zeros(1 << 17), "offset": 3}
    found = run(look, backend, x=[0, 1, 2], **inputs)
    assert found == [200_003 + (1 << 17) + x for x in range(3)]
    assert len(copies) == 1


def overwrite(x, fixed):
    fixed[0] = x


@needs_numpy
def test_what_items_share_is_read_only_in_workers_and_says_so(backend):
    fixed = np.zeros(1 << 20)
    with pytest.raises(ValueError, match="read-only"):
        run(overwrite, backend, x=[1, 2], fixed=fixed)
    assert fixed[0] == 0


def overwrite_inside(x, view):
    view[0] = x


@needs_numpy
def test_the_note_says_why_and_what_to_do(backend):
    """Also where failures are collected, and where the node was given a view that another made of it."""
    fixed = np.zeros(1 << 20)
    with pytest.raises(ValueError, match="read-only") as caught:
        run(overwrite, backend, x=[1, 2], fixed=fixed)
    # The other item may have failed as well, which is said last.
    (note,) = [note for note in notes_of(caught.value) if note.startswith("'fixed' is the same for all items")]
    assert "fixed = fixed.copy()" in note

    def view(fixed):
        return fixed[10:]

    nodes = [node(output_name="view")(view), node(output_name="y")(overwrite_inside)]
    result = Pipeline(nodes=nodes, backend=backend).map(
        inputs={"x": [1], "fixed": fixed}, map_over="x", error_policy="collect"
    )
    assert "view = view.copy()" in notes_of(result.failures[0].exception)[-1]


@needs_numpy
def test_what_the_user_made_read_only_is_nothing_to_explain(backend):
    fixed = np.zeros(10)
    fixed.setflags(write=False)
    for mode in ("sequential", "threaded"):
        pipeline = Pipeline(nodes=[node(output_name="y")(overwrite)], backend=LocalBackend(map_execution=mode))
        with pytest.raises(ValueError, match="read-only") as caught:
            pipeline.map(inputs={"x": [1], "fixed": fixed}, map_over="x")
        assert len(notes_of(caught.value)) == 1


def add_in_place(x):
    x += 1
    return x


@needs_numpy
def test_rows_and_results_may_be_changed_in_place(backend):
    rows = [np.zeros(1 << 20), np.zeros(LARGE // 8)]
    results = run(add_in_place, backend, x=rows)
    assert [row.max() for row in rows] == [0, 0]
    for result in results:
        assert result.flags.writeable
        result *= 5
        assert (result == 5).all()


def identical(x, pair):
    return pair[0] is pair[1], x


@needs_numpy
def test_the_same_array_twice_goes_once(backend):
    array = np.zeros(1 << 20)
    assert [alike for alike, _ in run(identical, backend, x=[1, 2], pair=(array, array))] == [True, True]
    packed = pack([array, array, array[5:]], "a test")
    assert packed.memory.sizes == [array.nbytes, array.nbytes - 40]


def give_back(x, fixed):
    return fixed, fixed[x:]


@needs_numpy
def test_what_items_share_may_be_returned(backend):
    fixed = np.arange(1 << 20)
    for x, (whole, part) in enumerate(run(give_back, backend, x=[0, 1, 2], fixed=fixed)):
        np.testing.assert_array_equal(whole, fixed)
        np.testing.assert_array_equal(part, fixed[x:])


def test_the_memory_of_results_is_gone_with_them(backend):
    gc.collect()
    before = memory.count_mapped()
    results = run(blocks_of, backend, x=[1, 2], fixed=1)
    assert memory.count_mapped() > before
    del results
    assert memory.count_mapped() == before


# ── nothing is left ──────────────────────────────────────────────────────────────────────────────────────────────────


def fail_at_two(x, fixed):
    if x == 2:
        raise LookupError("two")
    return fixed


def die_at_two(x, fixed):
    if x == 2:
        os._exit(3)
    return fixed


def keep_going(x, fixed):
    return fixed


@pytest.mark.slow
@needs_proc
@pytest.mark.parametrize("fn", [keep_going, fail_at_two, die_at_two])
def test_a_run_leaves_no_descriptor_and_no_file(fn, descriptors):
    with LocalBackend(map_execution="parallel", max_workers=2) as backend:
        inputs = {"x": list(range(6)), "fixed": block()}
        run(keep_going, backend, **inputs)
        files = shared_files()
        mappings = memory.count_mapped()
        for _ in range(2):
            gc.disable()  # after a success nothing has to be collected; an exception keeps the frames it went through
            try:
                run(fn, backend, **inputs)
            except Exception:
                assert fn is not keep_going
            finally:
                gc.enable()
            if fn is not keep_going:
                gc.collect()
            assert [link for link in links() if "memfd:hypernodes" in link] == []
        run(keep_going, backend, **inputs)
        gc.collect()
        assert memory.count_mapped() == mappings
        assert shared_files() == files
    before = descriptors()
    with LocalBackend(map_execution="parallel", max_workers=2) as backend:
        try:
            run(fn, backend, **inputs)
        except Exception:
            assert fn is not keep_going
    assert descriptors() == before


def links(pid="self"):
    found = []
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            found.append(os.readlink(f"/proc/{pid}/fd/{name}"))
        except FileNotFoundError:
            continue
    return found


@needs_proc
@pytest.mark.parametrize("fn", [keep_going, fail_at_two])
def test_idle_workers_hold_nothing(fn):
    with LocalBackend(map_execution="parallel", max_workers=2) as backend:
        try:
            run(fn, backend, x=list(range(6)), fixed=block())
        except LookupError:
            assert fn is fail_at_two
        pool = backend._workers.pool
        workers = [pool.acquire() for _ in range(pool.idle)]
        assert workers
        for worker in workers:
            # An answer says that whatever was sent before has been read. This asks for a part that nobody has.
            worker.send(encode(RequestHeader("unknown", "", [], [], [0])), b"")
            assert decode_response(worker.receive()[0]).missing == ["unknown"]
            assert [link for link in links(worker.pid) if "memfd:hypernodes" in link] == []
            with open(f"/proc/{worker.pid}/maps") as maps:
                assert "memfd" not in maps.read()
            pool.release(worker)
