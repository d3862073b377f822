"""Which values a run sees: items of a map are those at the call, and what can be read once is listed for several."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import itertools

import pytest
from graphs import LOCAL_PAIRS, PAIRS, ids
from observing import notes_of

from hypernodes import LocalBackend, Pipeline, node
from hypernodes.errors import MapInputError, NotPicklableError, ReadOnceError, RetryError

# -- the items of a map -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pair", LOCAL_PAIRS, ids=ids)
def test_items_are_those_at_the_call(pair, backends):
    for mode, awaited in (("zip", False), ("product", False), ("zip", True)):
        items = [1, 2, 3]

        @node("y")
        def grow(x):
            items.append(x)  # noqa: B023
            return x

        pipeline = Pipeline(nodes=[grow], backend=backends(pair))
        found = (
            asyncio.run(pipeline.amap({"x": items}, "x", mode)) if awaited else pipeline.map({"x": items}, "x", mode)
        )
        assert found == {"y": [1, 2, 3]}
        assert len(items) == 6


@pytest.mark.parametrize("pair", PAIRS, ids=ids)
def test_items_may_be_added_or_taken_away_while_a_map_is_awaited(pair, backends):
    pipeline = Pipeline(nodes=[node("y")(lambda x: x)], backend=backends(pair))

    async def main(change):
        items = list(range(20))
        task = asyncio.ensure_future(pipeline.amap({"x": items}, "x"))
        await asyncio.sleep(0)
        change(items)
        return await task

    for change in (lambda items: items.append(20), lambda items: items.clear()):
        assert asyncio.run(main(change)) == {"y": list(range(20))}


@pytest.mark.parametrize("pair", LOCAL_PAIRS, ids=ids)
def test_items_that_a_node_made_are_those_when_their_map_began(pair, backends):
    made = []

    @node("xs")
    def make(n):
        made[:] = range(n)
        return made

    @node("y")
    def shrink(x):
        made.pop()
        return x

    inner = Pipeline(nodes=[shrink], name="inner").as_node(input_mapping={"xs": "x"}, map_over="xs")
    assert Pipeline(nodes=[make, inner], backend=backends(pair)).run({"n": 4}, "y") == {"y": [0, 1, 2, 3]}


def test_a_stream_reads_as_it_goes():
    items = [1]

    @node("y")
    def grow(x):
        if x < 4:
            items.append(x + 1)
        return x

    assert [found["y"] for _, found in Pipeline(nodes=[grow]).stream({"x": items}, "x")] == [1, 2, 3, 4]


def test_arrays_are_not_copied():
    numpy = pytest.importorskip("numpy")
    array = numpy.arange(3)

    @node("y")
    def change(x):
        array[2] = 10
        return int(x)

    assert Pipeline(nodes=[change]).map({"x": array}, "x") == {"y": [0, 1, 10]}


# -- values that can be read once -------------------------------------------------------------------------------------


def generator(n):
    return (i for i in range(n))


STREAMS = {
    "generator": generator,
    "map": lambda n: map(int, range(n)),
    "filter": lambda n: filter(lambda i: True, range(n)),
    "zip": lambda n: zip(range(n)),
    "enumerate": lambda n: enumerate(range(n)),
    "reversed": lambda n: reversed(range(n)),
    "list": lambda n: iter(list(range(n))),
    "set": lambda n: iter(set(range(n))),
    "text": lambda n: iter("x" * n),
    "dict": lambda n: iter(dict.fromkeys(range(n))),
    "islice": lambda n: itertools.islice(itertools.count(), n),
    "chain": lambda n: itertools.chain(range(n)),
    "repeat": lambda n: itertools.repeat("x", n),
    "csv": lambda n: csv.reader(["a,b"] * n),
    "dicts": lambda n: csv.DictReader(["a,b"] + ["1,2"] * n),
    "calls": lambda n: iter(list(range(n + 1)).pop, 0),
}


def consumed(rows):
    return list(rows)


READERS = [node("a")(consumed), node("b")(lambda rows: [*rows]), node("c")(lambda a, b: (a, b))]


@pytest.mark.parametrize("make", STREAMS.values(), ids=STREAMS)
def test_a_stream_with_several_readers_is_listed(make):
    expected = list(make(3))
    assert len(expected) == 3
    assert Pipeline(nodes=READERS).run({"rows": make(3)}, "c") == {"c": (expected, expected)}
    source = node("rows")(make)
    assert Pipeline(nodes=[source, *READERS]).run({"n": 3}) == {
        "rows": expected,
        "a": expected,
        "b": expected,
        "c": (expected, expected),
    }


@pytest.mark.parametrize("pair", PAIRS, ids=ids)
def test_whoever_reads_it(pair, backends):
    """Two nodes, a node and the caller, two maps, a map and a node, all items, a nested pipeline."""
    backend = backends(pair)

    async def later(n):
        return generator(n)

    each = Pipeline(nodes=[node("y")(lambda x: x)], name="each")
    maps = [
        each.as_node(input_mapping={"rows": "x"}, output_mapping={"y": name}, map_over="rows", name=name)
        for name in "pq"
    ]
    shared = Pipeline(nodes=[node("s")(lambda k, rows: (k, list(rows)))], name="shared")
    inner = Pipeline(nodes=READERS, name="inner")
    own = Pipeline(nodes=READERS, name="own", backend=LocalBackend())
    rows = [0, 1, 2]
    for source in (node("rows")(generator), node("rows")(later), node("rows", placement="thread")(generator)):
        for nodes, asked, expected in [
            (READERS, "c", (rows, rows)),
            ([node("a")(consumed)], ("a", "rows"), (rows, rows)),
            (maps, ("p", "q"), (rows, rows)),
            ([maps[0], node("a")(consumed)], ("p", "a"), (rows, rows)),
            ([shared.as_node(map_over="k")], "s", [(1, rows), (2, rows)]),
            ([inner], "c", (rows, rows)),
            ([own], "c", (rows, rows)),
        ]:
            pipeline = Pipeline(nodes=[source, *nodes], backend=backend)
            inputs = {"n": 3, "k": [1, 2]} if asked == "s" else {"n": 3}
            for found in (pipeline.run(inputs, asked), asyncio.run(pipeline.arun(inputs, asked))):
                assert tuple(found.values()) == (expected if isinstance(asked, tuple) else (expected,))


@pytest.mark.parametrize("pair", PAIRS, ids=ids)
def test_inputs_and_items(pair, backends):
    backend = backends(pair)
    readers = Pipeline(nodes=READERS, backend=backend)
    items = Pipeline(nodes=[node("s")(lambda k, rows: (k, list(rows)))], backend=backend)
    rows = [0, 1, 2]

    async def awaited(stream):
        return [found async for _, found in stream]

    for policy in ("raise", "collect"):
        assert readers.run({"rows": generator(3)}, "c", error_policy=policy) == {"c": (rows, rows)}
        found = items.map({"k": [1, 2, 3], "rows": generator(3)}, "k", error_policy=policy)
        assert found == {"s": [(k, rows) for k in (1, 2, 3)]}
        found = items.map({"k": [1, 2], "rows": [generator(1), generator(2)]}, ["k", "rows"], "product", "s", policy)
        assert found == {"s": [(1, [0]), (1, [0, 1]), (2, [0]), (2, [0, 1])]}
        found = readers.map({"rows": [generator(1), generator(2)]}, "rows", "zip", "c", policy)
        assert found == {"c": [([0], [0]), ([0, 1], [0, 1])]}
        for mode, axes in (("zip", "k"), ("product", ["k", "rows"])):
            rows_of = (lambda: generator(3)) if mode == "zip" else (lambda: [generator(3)])
            arguments = [{"k": [1, 2], "rows": rows_of()}, axes, mode, "s", True, policy]
            assert [found["s"] for _, found in items.stream(*arguments)] == [(1, rows), (2, rows)]
            arguments[0]["rows"] = rows_of()
            assert [found["s"] for found in asyncio.run(awaited(items.astream(*arguments)))] == [(1, rows), (2, rows)]
        arguments = [{"rows": (generator(n) for n in (1, 2))}, "rows", "zip", "c", True, policy]
        assert [found["c"] for _, found in readers.stream(*arguments)] == [([0], [0]), ([0, 1], [0, 1])]


@pytest.mark.parametrize("pair", PAIRS, ids=ids)
def test_within_maps(pair, backends):
    """A cell that a nested map made and two read, an item that is a mapping, a default shared by two names."""
    inner = Pipeline(nodes=[node("rows")(generator)], name="inner").as_node(map_over="n")
    first = node("first")(lambda rows: [list(each) for each in rows])
    second = node("second")(lambda rows: [list(each) for each in rows])
    pipeline = Pipeline(nodes=[inner, first, second], backend=backends(pair))
    lists = [[0], [0, 1]]
    assert pipeline.run({"n": [1, 2]}) == {"rows": lists, "first": lists, "second": lists}
    spread = Pipeline(nodes=READERS, name="spread").as_node(map_over="items")
    pipeline = Pipeline(nodes=[spread], backend=backends(pair))
    assert pipeline.run({"items": [{"rows": generator(1)}, {"rows": [5]}]}, "c") == {"c": [([0], [0]), ([5], [5])]}
    one = node("one")(lambda rows=(): list(rows))
    two = node("two")(lambda rows=[]: list(rows))
    spread = Pipeline(nodes=[one, two], name="spread").as_node(map_over="items")
    pipeline = Pipeline(nodes=[spread], backend=backends(pair))
    found = pipeline.run({"items": [{"rows": generator(2)}, {}]})
    assert found == {"one": [[0, 1], []], "two": [[0, 1], []]}


@pytest.mark.parametrize("pair", PAIRS, ids=ids)
def test_one_of_several_outputs(pair, backends):
    split = node(("evens", "odds"))(lambda n: (iter(range(0, n, 2)), iter(range(1, n, 2))))
    last = node("last")(lambda evens: sum(evens))
    pipeline = Pipeline(nodes=[split, last], backend=backends(pair))
    found = pipeline.run({"n": 5}, ["evens", "last"])
    assert found == {"evens": [0, 2, 4], "last": 6}


@pytest.mark.parametrize("pair", LOCAL_PAIRS, ids=ids)
def test_a_single_reader_gets_it_as_it_is(pair, backends):
    kinds = []

    def read(rows):
        kinds.append(type(rows).__name__)
        return next(rows), list(rows)

    pipeline = Pipeline(nodes=[node("rows")(generator), node("y")(read)], backend=backends(pair))
    assert pipeline.run({"n": 3}, "y") == {"y": (0, [1, 2])}
    assert pipeline.map({"n": [3, 3]}, "n", output_name="y") == {"y": [(0, [1, 2])] * 2}
    reader = Pipeline(nodes=[node("y")(read)], backend=backends(pair))
    assert reader.run({"rows": generator(3)}) == {"y": (0, [1, 2])}
    assert reader.map({"rows": [generator(3)]}, "rows") == {"y": [(0, [1, 2])]}
    assert kinds == ["generator"] * 5
    endless = Pipeline(nodes=[node("y")(lambda rows: next(rows))], backend=backends(pair))
    assert endless.run({"rows": itertools.count(7)}) == {"y": 7}


def test_other_objects_that_give_items_are_values(tmp_path):
    (tmp_path / "text").write_text("a\nb\n")

    class Cursor:
        def __iter__(self):
            return self

        def __next__(self):
            raise StopIteration

    kinds = [node(name)(lambda source: type(source)) for name in "ab"]
    with (tmp_path / "text").open() as file:
        for source in (file, Cursor()):
            found = Pipeline(nodes=kinds).run({"source": source})
            assert found == {"a": type(source), "b": type(source)}


async def async_rows(n):
    for number in range(n):
        yield number


@pytest.mark.parametrize("pair", PAIRS, ids=ids)
def test_what_cannot_be_listed_is_refused_by_name(pair, backends):
    async def later(n):
        return async_rows(n)

    for make, given in [
        (lambda n: itertools.count(), "an endless count"),
        (lambda n: itertools.chain([n], itertools.count()), "an endless chain"),
        (lambda n: (2 * i for i in itertools.count(n)), "an endless generator"),
        (lambda n: itertools.cycle("ab"), "an endless cycle"),
        (lambda n: itertools.repeat(n), "an endless repeat"),
        (lambda n: zip(itertools.count(), map(str, itertools.count())), "an endless zip"),
        (async_rows, "an async generator"),
        (later, "an async generator"),
    ]:
        pipeline = Pipeline(nodes=[node("rows", name="make")(make), *READERS], backend=backends(pair))
        with pytest.raises(ReadOnceError, match=f"output 'rows' of node 'make' is {given}"):
            pipeline.run({"n": 1}, "c")
        with pytest.raises(ReadOnceError, match="output 'rows' of node 'make'") as caught:
            pipeline.map({"n": [1]}, "n", output_name="c")
        assert "item 0" in str(notes_of(caught.value))
        if make is not later:
            readers = Pipeline(nodes=READERS, name="readers", backend=backends(pair))
            with pytest.raises(ReadOnceError, match="input 'rows' of pipeline 'readers'"):
                readers.run({"rows": make(1)}, "c")
            with pytest.raises(ReadOnceError, match="item 0 of 'rows' in pipeline 'readers'"):
                readers.map({"rows": [make(1)]}, "rows", output_name="c")


ENDLESS = {
    "count": lambda: itertools.count(),
    "cycle": lambda: itertools.cycle("ab"),
    "chain": lambda: itertools.chain([0], itertools.count()),
    "from_iterable": lambda: itertools.chain.from_iterable([[0], map(str, itertools.count())]),
    "generator": lambda: (i for i in zip(itertools.count(), itertools.cycle("ab")) if i),
    "starmap": lambda: itertools.starmap(pow, map(divmod, itertools.count(), itertools.repeat(2))),
    "accumulate": lambda: itertools.accumulate(itertools.count()),
    "groupby": lambda: itertools.groupby(itertools.count()),
}
ENDING = {
    "zip": lambda: zip(range(3), itertools.count()),
    "takewhile": lambda: itertools.takewhile((3).__gt__, itertools.count()),
    "chain": lambda: itertools.chain([0], itertools.islice(itertools.count(), 2)),
    "repeat": lambda: itertools.repeat(0, 3),
    "generator": lambda: (i for i in map(int, range(3))),
    "function": lambda: three(),
}


def three():
    yield from range(3)


@pytest.mark.parametrize("make", ENDLESS.values(), ids=ENDLESS)
def test_a_map_over_what_has_no_end_is_refused(make):
    one = Pipeline(nodes=[node("y")(lambda x: x)], name="one")
    nested = one.as_node(input_mapping={"xs": "x"}, map_over="xs")
    for run in (
        lambda: one.map({"x": make()}, "x"),
        lambda: asyncio.run(one.amap({"x": make()}, "x", error_policy="collect")),
        lambda: one.stream({"x": make()}, "x", "product"),
        lambda: one.astream({"x": make()}, "x", "product"),
        lambda: Pipeline(nodes=[nested]).run({"xs": make()}),
    ):
        with pytest.raises(MapInputError, match=r"cannot map over 'xs?', which is an endless \w+\n  fix: cut it"):
            run()
    with pytest.raises(ReadOnceError, match="output 'xs' of node 'make' is an endless"):
        Pipeline(nodes=[node("xs", name="make")(make), nested]).run({}, "y")
    with contextlib.closing(one.stream({"x": make()}, "x")) as stream:
        assert next(stream)[0] == 0


@pytest.mark.parametrize("make", ENDING.values(), ids=ENDING)
def test_what_ends_is_read(make):
    assert len(Pipeline(nodes=[node("y")(lambda x: x)]).map({"x": make()}, "x")["y"]) == 3
    assert Pipeline(nodes=READERS).run({"rows": make()}, "c")["c"] == (list(make()), list(make()))


@pytest.mark.parametrize("pair", PAIRS, ids=ids)
def test_what_a_map_reads_is_listed_where_it_was_made(pair, backends):
    """No process has to be crossed with a generator, and none of its code runs while the run waits for it."""
    each = Pipeline(nodes=[node("y")(lambda x: 2 * x)], name="each").as_node(input_mapping={"xs": "x"}, map_over="xs")
    total = node("total")(lambda y: sum(y))
    pipeline = Pipeline(nodes=[node("xs", name="make")(generator), each, total], backend=backends(pair))
    assert pipeline.run({"n": 3}, "y") == {"y": [0, 2, 4]}
    assert pipeline.map({"n": [2, 3]}, "n", output_name="total") == {"total": [2, 6]}
    broken = Pipeline(nodes=[node("xs", name="make")(failing), each, total], name="p", backend=backends(pair))
    with pytest.raises(OSError, match="cut off") as caught:
        broken.run({"n": 3}, "total")
    assert notes_of(caught.value)[-1] == "node 'make' of pipeline 'p', inputs n=3"


@pytest.mark.parametrize("pair", [("parallel", "sequential"), ("sequential", "parallel")], ids=ids)
def test_what_cannot_cross_to_a_process_is_named(pair, backends):
    pinned = node("rows", placement="thread", name="make")(generator)
    pipeline = Pipeline(nodes=[pinned, node("a", name="read")(consumed)], backend=backends(pair))
    with pytest.raises(NotPicklableError, match="'rows', which node 'read' reads"):
        pipeline.run({"n": 1}, "a") if pair[0] == "parallel" else pipeline.map({"n": [1]}, "n", output_name="a")


def failing(n):
    yield from range(n)
    raise OSError("cut off")


@pytest.mark.parametrize("pair", PAIRS, ids=ids)
def test_a_stream_that_fails_while_it_is_listed(pair, backends):
    """It is the fault of the node that made it, or of its item alone."""
    pipeline = Pipeline(nodes=[node("rows", name="make")(failing), *READERS], backend=backends(pair))
    with pytest.raises(OSError, match="cut off") as caught:
        pipeline.run({"n": 1}, "c")
    assert "node 'make'" in str(notes_of(caught.value))
    readers = Pipeline(nodes=READERS, backend=backends(pair))
    found = readers.map({"rows": [generator(1), failing(1)]}, "rows", output_name="c", error_policy="collect")
    assert found["c"][0] == ([0], [0])
    assert str(found["c"][1].exception) == "cut off"
    assert found.failures[0].item == 1
    spread = Pipeline(nodes=[Pipeline(nodes=READERS, name="each").as_node(map_over="items")], backend=backends(pair))
    items = [{"rows": generator(1)}, {"rows": failing(1)}]
    found = spread.run({"items": items}, "c", error_policy="collect")
    assert found["c"][0] == ([0], [0])
    assert found.failures[0].item == 1


def test_a_node_is_not_tried_again_with_what_it_has_read():
    tries = []

    @node("y", retries=3)
    def read(rows):
        tries.append(next(rows))
        raise OSError("not yet")

    @node("y", retries=3)
    async def read_later(rows):
        tries.append(next(rows))
        raise OSError("not yet")

    for reader in (read, read_later):
        with pytest.raises(OSError, match="not yet") as caught:
            Pipeline(nodes=[reader]).run({"rows": generator(3)})
        assert "not tried again: 'rows' is a generator" in str(notes_of(caught.value))
    assert tries == [0, 0]
    del tries[:]
    pipeline = Pipeline(nodes=[node("y", retries=3)(lambda rows: tries.append(list(rows)) or 1 / 0)])
    with pytest.raises(ZeroDivisionError):
        pipeline.run({"rows": [0, 1]})
    assert tries == [[0, 1]] * 4


def test_a_result_is_not_run_again_with_what_was_read():
    fails = [True]

    def sometimes(rows):
        if fails[0]:
            raise OSError(next(iter(rows), None))
        return list(rows)

    one = Pipeline(nodes=[node("a")(sometimes)])
    run = one.run({"rows": generator(3)}, error_policy="collect")
    mapped = one.map({"rows": [generator(3)]}, "rows", error_policy="collect")
    for result, subject in ((run, "input 'rows'"), (mapped, "item 0 of 'rows'")):
        with pytest.raises(RetryError, match=f"{subject} is a generator"):
            result.retry()
    two = Pipeline(nodes=[node("a")(sometimes), node("b")(sometimes)])
    several = two.run({"rows": generator(3)}, error_policy="collect")
    each = Pipeline(nodes=[node("a")(lambda k, rows: sometimes(rows))])
    shared = each.map({"rows": generator(3), "k": [1, 2]}, "k", error_policy="collect")
    fails[0] = False
    assert several.retry() == {"a": [0, 1, 2], "b": [0, 1, 2]}
    assert shared.retry() == {"a": [[0, 1, 2]] * 2}
