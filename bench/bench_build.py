"""What does a node cost before anything runs, and does that grow with the graph?

Construction is `Pipeline(nodes=...)`: wiring, types, verification. Decoration (`@node` reads the signature) is shown
beside it. Lowering is what the first run adds: inline, prune, bundles, waves, slots. `plan` is lowering and linking.
"""

from __future__ import annotations

import gc
import time
from contextlib import contextmanager
from functools import partial
from typing import Any, Callable, Iterator, Tuple

import pytest

from bench.duel import Reading
from bench.shapes import layered
from hypernodes import LocalBackend, Pipeline
from hypernodes.lowering import lower, specialise

SIZES = (100, 1_000, 10_000, 100_000)
MODES = {"sequential": LocalBackend(), "threaded": LocalBackend("threaded", max_workers=8)}


def decoration(count: int, annotated: bool) -> Callable[[], object]:
    return layered(count, annotated).nodes


def construction(count: int, annotated: bool) -> Callable[[], object]:
    nodes = layered(count, annotated).nodes()
    return lambda: Pipeline(nodes=nodes)


def lowering(count: int, mode: str) -> Callable[[], object]:
    graph = Pipeline(nodes=layered(count).nodes()).graph
    options = MODES[mode].options
    return lambda: lower(specialise(graph, frozenset({"x"}), graph.output_names), options)


def planning(count: int, mode: str) -> Callable[[], object]:
    pipeline = Pipeline(nodes=layered(count).nodes())
    return lambda: pipeline.plan(backend=MODES[mode])


WORK = {
    "construction, no annotations": (partial(construction, annotated=False), 10.0),
    "construction, annotated": (partial(construction, annotated=True), 10.0),
    "decoration, no annotations": (partial(decoration, annotated=False), float("inf")),
    "decoration, annotated": (partial(decoration, annotated=True), float("inf")),
    "lowering, sequential": (partial(lowering, mode="sequential"), 10.0),
    "lowering, threaded": (partial(lowering, mode="threaded"), 10.0),
    "lowering and linking, threaded": (partial(planning, mode="threaded"), float("inf")),
}


def microseconds_per_node(work: Callable[[], object], count: int) -> float:
    """Return the fastest of a few calls, in processor time: a hundred thousand nodes are one call, a hundred are many."""
    best = float("inf")
    for _ in range(max(3, min(50, 20_000 // count))):
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


@contextmanager
def growth(what: str) -> Iterator[Reading]:
    """Per node at 100,000 over per node at 1,000: 1 is linear, 100 quadratic. Caches of the processor take their share."""
    make, _ = WORK[what]
    small, large = make(1_000), make(100_000)
    yield Reading(
        f"{what}, growth of 1,000 to 100,000",
        lambda: microseconds_per_node(large, 100_000) / microseconds_per_node(small, 1_000),
        2.0,
        turns=1,
    )


QUESTIONS: Tuple[Any, ...] = (
    *[partial(cost, what, count) for what in WORK for count in SIZES],
    *[partial(growth, what) for what in WORK if WORK[what][1] == 10.0],
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


