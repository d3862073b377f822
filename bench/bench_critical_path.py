"""Does a graph take as long as its critical path, and no longer? Sleeping nodes, with workers enough for all.

The 1.0 is a loop that sleeps the critical path, so that what the operating system adds to a sleep is in both.
"""

from __future__ import annotations

import random
import time
from contextlib import contextmanager
from functools import partial
from typing import Any, Dict, Iterator, List, Tuple

import pytest

from bench.duel import OURS, Duel, name_of, play
from hypernodes import LocalBackend, Pipeline, node

WORKERS = 16

Sleeps = List[Tuple[str, Tuple[str, ...], float]]
"""Name, names it reads, seconds; in order."""


def unbalanced() -> Sleeps:
    """Chains that are slow at different places, and a join: wave by wave, each would wait for the slowest."""
    sleeps: Sleeps = []
    for branch, seconds in enumerate(((0.1, 0.1, 0.1), (0.02, 0.2, 0.02), (0.2, 0.02, 0.02), (0.02, 0.02, 0.2))):
        for place, amount in enumerate(seconds):
            sleeps.append((f"b{branch}_{place}", (f"b{branch}_{place - 1}",) if place else ("x",), amount))
    sleeps.append(("joined", tuple([f"b{branch}_2" for branch in range(4)]), 0.02))
    return sleeps


def layered() -> Sleeps:
    """Five layers of six, each node reads two of the layer before, all durations differ."""
    rng = random.Random(3)
    sleeps: Sleeps = []
    for layer in range(5):
        for place in range(6):
            reads = tuple([f"l{layer - 1}_{other}" for other in sorted(rng.sample(range(6), 2))]) if layer else ("x",)
            sleeps.append((f"l{layer}_{place}", reads, rng.choice((0.01, 0.02, 0.04, 0.08))))
    return sleeps


def critical_path(sleeps: Sleeps) -> List[float]:
    """Return the seconds of each node on the longest path."""
    longest: Dict[str, List[float]] = {"x": []}
    for name, reads, seconds in sleeps:
        longest[name] = [*max([longest[read] for read in reads], key=sum), seconds]
    return max(longest.values(), key=sum)


def sleeper(name: str, reads: Tuple[str, ...], seconds: float, coroutine: bool) -> Any:
    scope: Dict[str, Any] = {}
    head, call = ("async def", "await asyncio.sleep") if coroutine else ("def", "time.sleep")
    exec(f"import asyncio, time\n{head} {name}({', '.join(reads)}):\n    {call}({seconds})\n    return 1", scope)
    return node(output_name=name)(scope[name])


@contextmanager
def graph(shape: str, mode: str) -> Iterator[Duel]:
    sleeps = {"unbalanced": unbalanced, "layered": layered}[shape]()
    path = critical_path(sleeps)
    nodes = [sleeper(*entry, coroutine=mode == "async") for entry in sleeps]
    with LocalBackend(mode, max_workers=WORKERS) as backend:
        pipeline = Pipeline(nodes=nodes, backend=backend)
        sides = {
            "critical path": lambda: [time.sleep(seconds) for seconds in path],
            OURS: lambda: pipeline.run(inputs={"x": 1}),
        }
        yield Duel(f"critical path of {1000 * sum(path):.0f} ms, {shape}, {mode}", sides, 1.03, turns=10)


QUESTIONS = [
    partial(graph, shape, mode) for shape in ("unbalanced", "layered") for mode in ("threaded", "async", "parallel")
]


@pytest.mark.parametrize("side", ["critical path", OURS])
@pytest.mark.parametrize("question", QUESTIONS, ids=name_of)
def bench_critical_path(benchmark: Any, question: Any, side: str) -> None:
    play(benchmark, question, side)
