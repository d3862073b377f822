"""What does a node cost before anything runs, and does that grow with the graph? Four sizes in one table say.

Construction is `Pipeline(nodes=...)`: wiring, types, verification. Decoration (`@node` reads the signature) is shown
beside it. Lowering is what the first run adds: inline, prune, bundles, waves, slots. `plan` is lowering and linking.
"""

from __future__ import annotations

import gc
import time
from contextlib import contextmanager
from functools import lru_cache, partial
from typing import Any, Callable, Iterator, Sequence, Tuple

import pytest

from bench.duel import Reading
from bench.shapes import layered
from hypernodes import LocalBackend, Pipeline, collection
from hypernodes.lowering import lower, specialise

SIZES = (100, 1_000, 10_000, 100_000)
MODES = {"sequential": LocalBackend(), "threaded": LocalBackend("threaded", max_workers=8)}


def decoration(count: int, annotated: bool) -> Callable[[], object]:
    return layered(count, annotated).nodes


@lru_cache(maxsize=None)
def nodes(count: int, annotated: bool = False) -> Sequence[Any]:
    return layered(count, annotated).nodes()


@lru_cache(maxsize=None)
def pipeline(count: int) -> Pipeline:
    return Pipeline(nodes=nodes(count))


def construction(count: int, annotated: bool) -> Callable[[], object]:
    made = nodes(count, annotated)
    return lambda: Pipeline(nodes=made)


def lowering(count: int, mode: str) -> Callable[[], object]:
    graph = pipeline(count).graph
    options = MODES[mode].options

    @collection.paused()  # as the first run of a pipeline does
    def lowered() -> object:
        return lower(specialise(graph, frozenset({"x"}), graph.output_names), options)

    return lowered


def planning(count: int, mode: str) -> Callable[[], object]:
    made = pipeline(count)
    return lambda: made.plan(backend=MODES[mode])


WORK = {
    "construction, no annotations": (partial(construction, annotated=False), 10.0),
    "construction, annotated": (partial(construction, annotated=True), 10.0),
    "decoration, no annotations": (partial(decoration, annotated=False), 3.0),
    "decoration, annotated": (partial(decoration, annotated=True), 3.0),
    "lowering, sequential": (partial(lowering, mode="sequential"), 10.0),
    "lowering, threaded": (partial(lowering, mode="threaded"), 10.0),
    "lowering and linking, threaded": (partial(planning, mode="threaded"), float("inf")),
}


def microseconds_per_node(work: Callable[[], object], count: int) -> float:
    """Return the fastest of a few calls, in processor time."""
    best = float("inf")
    for _ in range(max(2, min(30, 20_000 // count))):
        gc.collect()
        started = time.process_time()
        work()
        best = min(best, time.process_time() - started)
    return best / count * 1e6


@contextmanager
def cost(what: str, count: int) -> Iterator[Reading]:
    make, limit = WORK[what]
    work = make(count)
    yield Reading(f"{what}, {count:,} nodes", lambda: microseconds_per_node(work, count), limit, "µs each", 1)


QUESTIONS: Tuple[Any, ...] = (
    *[partial(cost, what, count) for what in WORK for count in (SIZES if WORK[what][1] == 10.0 else SIZES[1:2])],
)


@pytest.mark.parametrize("count", SIZES)
@pytest.mark.parametrize("what", WORK, ids=lambda what: what.replace(", ", "-").replace(" ", "_"))
def bench_build(benchmark: Any, what: str, count: int) -> None:
    if benchmark.disabled and count > 1_000:
        count = 1_000  # a smoke run asks whether it works
    make, limit = WORK[what]
    work = make(count)
    benchmark.group = what
    benchmark.extra_info["target"] = f"{limit:g} µs per node"
    benchmark(work)
    if benchmark.stats is not None:
        benchmark.extra_info["µs per node"] = benchmark.stats.stats.min / count * 1e6
