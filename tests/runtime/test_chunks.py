"""Sizes of chunks on a virtual clock: workers take a chunk, are busy for what its items cost, and take the next.

And what workers give back because it takes them too long: here, by a budget of no time, all but one item of each chunk.
"""

from __future__ import annotations

import heapq
import random

import pytest
from observing import notes_of

from hypernodes import LocalBackend, Pipeline, PipelineCallback, node
from hypernodes.runtime.processes import chunks

TRIP = 0.0003  # seconds between the end of a chunk and the begin of the next


def played(costs, workers):
    """Return the sizes of all chunks, as they were sent, and when each worker is done."""
    pace, out, sizes = (0.0, 0), {}, []
    waiting = [(0, len(costs))]  # ranges of items that nobody has
    free = [(0.0, worker) for worker in range(workers)]
    ends = dict.fromkeys(range(workers), 0.0)
    while waiting or out:
        now, worker = heapq.heappop(free)
        done = out.pop(worker, None)
        if done is not None:
            first, count, _, completed, seconds = done
            pace = (seconds / completed, completed)
            if completed < count:
                waiting.append((first + completed, first + count))
        if not waiting:
            # Somebody's chunk may come back unfinished: look again when the next one is done.
            if out:
                heapq.heappush(free, (min([entry for entry in free if entry[1] in out])[0] + 1e-9, worker))
            continue
        first, last = waiting.pop()
        left = last - first + sum([end - begin for begin, end in waiting])
        unfinished = sum([chunks.unfinished(count, now - sent, pace[0]) for _, count, sent, _, _ in out.values()])
        size = min(last - first, chunks.of_closed(workers, left, unfinished, chunks.worth(pace, 0), pace[0]))
        assert size >= 1
        if size < last - first:
            waiting.append((first + size, last))
        completed, seconds = 0, 0.0
        budget = chunks.budget(size, pace[0])
        while completed < size and seconds <= budget:
            seconds += costs[first + completed]
            completed += 1
        sizes.append(size)
        out[worker] = (first, size, now, completed, seconds)
        ends[worker] = now + TRIP + seconds
        heapq.heappush(free, (ends[worker], worker))
    return sizes, sorted(ends.values())


@pytest.mark.parametrize("workers", [1, 2, 7, 32])
def test_many_quick_items_go_in_few_chunks_and_all_workers_end_together(workers):
    sizes, ends = played([20e-6] * 20_000, workers)
    assert len(sizes) < 12 * workers + 8
    assert max(sizes) <= chunks.TARGET_SECONDS / 20e-6 * 1.01
    assert ends[-1] - ends[0] < 2 * chunks.LEAST_SECONDS
    assert ends[-1] < 1.02 * 0.4 / workers + 2 * chunks.LEAST_SECONDS


def test_slow_items_go_one_by_one():
    sizes, ends = played([10.0] * 10, 2)
    assert sizes == [1] * 10
    assert ends[-1] == pytest.approx(50, abs=0.01)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("workers", [2, 8])
def test_uneven_items_leave_nobody_idle_for_long(seed, workers):
    """No order of items takes much longer than their even division and the longest of them."""
    draw = random.Random(seed)
    costs = [draw.choice([20e-6, 1e-3, 0.05]) * draw.lognormvariate(0, 1) for _ in range(3000)]
    _, ends = played(costs, workers)
    assert ends[-1] < 1.1 * sum(costs) / workers + max(costs) + chunks.TARGET_SECONDS


@pytest.mark.parametrize("quick", [1, 5, 200])
def test_slow_items_behind_quick_ones_are_still_shared_out(quick):
    costs = [20e-6] * quick + [1.0] * 400
    _, ends = played(costs, 4)
    assert ends[-1] < sum(costs) / 4 + 2


def test_heavy_items_are_bounded_by_bytes():
    assert int(chunks.worth((1e-6, 1_000_000), chunks.CHUNK_BYTES // 10)) == 10
    assert chunks.of_closed(2, 1000, 0.0, chunks.worth((1e-6, 1_000_000), 2 * chunks.CHUNK_BYTES), 1e-6) == 1


def test_a_stream_holds_a_bounded_number_of_items_and_bytes():
    assert chunks.window(2, 1e6, 1) == chunks.WINDOW
    assert chunks.window(2, 10, 1) == 60
    assert chunks.window(2, 1e6, 1 << 20) == 64
    assert chunks.window(8, 1e6, 1 << 30) == 16


def test_nothing_goes_ahead_of_slow_items_or_near_the_end():
    assert chunks.may_go_ahead(2, 10_000, 20e-6)
    assert not chunks.may_go_ahead(2, 1_000, 20e-6)
    assert not chunks.may_go_ahead(2, 10_000, 1.0)


# ── what comes back unfinished ───────────────────────────────────────────────────────────────────────────────────────


@node(output_name="y")
def work(x, path, bad=None):
    if path:
        with open(path, "ab") as file:
            file.write(f"{x}\n".encode())
    if x == bad:
        raise ValueError(x)
    return x + 1


@node(output_name=("z", "half"))
def split(y):
    return -y, y / 2


class Ended(PipelineCallback):
    def __init__(self):
        self.nodes = []

    def on_node_end(self, node_id, outputs, duration, ctx):
        self.nodes.append((node_id, ctx.items))

    def on_map_item_end(self, index, duration, ctx):
        self.nodes.append(("item", (index,)))


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(chunks, "budget", lambda count, seconds: 0.0)


@pytest.fixture(scope="module")
def backend():
    with LocalBackend("sequential", "parallel", max_workers=2) as made:
        yield made


@pytest.fixture(params=["one call", "two calls"])
def pipeline(request, backend):
    return Pipeline(nodes=[work] if request.param == "one call" else [work, split], backend=backend)


def expected(count):
    return [x + 1 for x in range(count)]


@pytest.mark.usefixtures("impatient")
def test_what_comes_back_is_run_once_by_somebody(pipeline, tmp_path):
    path = str(tmp_path / "ran")
    result = pipeline.map({"x": range(500), "path": path}, "x")
    assert result["y"] == expected(500)
    if "z" in result:
        assert result["z"] == [-y for y in expected(500)]
        assert result["half"] == [y / 2 for y in expected(500)]
    with open(path) as file:
        assert sorted(map(int, file)) == list(range(500))


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("ordered", [True, False])
def test_a_stream_of_what_comes_back(pipeline, ordered):
    items = list(pipeline.stream({"x": iter(range(300)), "path": ""}, "x", output_name="y", ordered=ordered))
    assert sorted(items, key=lambda item: item[0]) == [(x, {"y": x + 1}) for x in range(300)]
    assert not ordered or [index for index, _ in items] == list(range(300))


@pytest.mark.usefixtures("impatient")
def test_a_failure_in_what_comes_back_names_its_item(pipeline):
    with pytest.raises(ValueError) as caught:
        pipeline.map({"x": range(200), "path": "", "bad": 150}, "x")
    assert any("item 150" in note for note in notes_of(caught.value))
    result = pipeline.map({"x": range(200), "path": "", "bad": 150}, "x", error_policy="collect")
    assert [failure.item for failure in result.failures] == [150]
    assert result.ok()["y"] == [y for y in expected(200) if y != 151]


@pytest.mark.usefixtures("impatient")
def test_callbacks_hear_once_of_what_comes_back(pipeline):
    listener = Ended()
    pipeline.callbacks = [listener]
    pipeline.map({"x": range(100), "path": ""}, "x")
    names = [*[member.name for member in pipeline.nodes], "item"]
    assert sorted(listener.nodes, key=repr) == sorted([(name, (x,)) for x in range(100) for name in names], key=repr)


@pytest.mark.usefixtures("impatient")
def test_maps_within_maps_get_back_what_is_theirs(backend):
    inner = Pipeline(nodes=[work], name="inner")
    outer = Pipeline(nodes=[inner.as_node(input_mapping={"xs": "x"}, map_over="xs")], backend=backend)
    rows = [list(range(start, start + 40)) for start in range(0, 200, 40)]
    assert outer.map({"xs": rows, "path": ""}, "xs")["y"] == [[x + 1 for x in row] for row in rows]
