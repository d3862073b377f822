"""What does it cost to be heard? Empty hooks: of nodes, of items in three modes, and of the run alone."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import Any, Dict, Iterator

import pytest

from bench.duel import OURS, Duel, Side, microseconds_more, name_of, play
from bench.shapes import chain
from hypernodes import LocalBackend, Pipeline, PipelineCallback

NODES = 1_000
ITEMS = 20_000


class Nodes(PipelineCallback):
    def on_node_start(self, *told: Any) -> None: ...

    def on_node_end(self, *told: Any) -> None: ...


class Items(PipelineCallback):
    def on_map_item_end(self, *told: Any) -> None: ...


class Runs(PipelineCallback):
    def on_pipeline_end(self, *told: Any) -> None: ...


def run_sides(callback: PipelineCallback) -> Dict[str, Side]:
    """Return runs of one chain that nobody listens to, and that a callback does."""
    made = chain(NODES)
    unheard, heard = Pipeline(nodes=made.nodes()), Pipeline(nodes=made.nodes(), callbacks=[callback])
    return {"nobody listens": lambda: unheard.run(inputs={"x": 1}), OURS: lambda: heard.run(inputs={"x": 1})}


@contextmanager
def events() -> Iterator[Duel]:
    yield Duel("an event of a node", run_sides(Nodes()), 1.0, microseconds_more(2 * NODES), "µs", one_thread=True)


@contextmanager
def items(mode: str) -> Iterator[Duel]:
    made = chain(1)
    with LocalBackend(map_execution=mode, max_workers=2) as backend:
        unheard = Pipeline(nodes=made.nodes(), backend=backend)
        heard = Pipeline(nodes=made.nodes(), backend=backend, callbacks=[Items()])
        inputs = {"x": list(range(ITEMS))}
        sides = {"nobody listens": lambda: unheard.map(inputs, "x"), OURS: lambda: heard.map(inputs, "x")}
        yield Duel(f"a hook of items, more per item, {mode}", sides, 3.0, microseconds_more(ITEMS), "µs", turns=5)


@contextmanager
def runs() -> Iterator[Duel]:
    yield Duel(f"hooks of the run alone, {NODES:,} nodes", run_sides(Runs()), 1.2, one_thread=True)


QUESTIONS = [events, *[partial(items, mode) for mode in ("sequential", "threaded", "parallel")], runs]


@pytest.mark.parametrize("side", ["nobody listens", OURS])
@pytest.mark.parametrize("question", QUESTIONS, ids=name_of)
def bench_events(benchmark: Any, question: Any, side: str) -> None:
    play(benchmark, question, side)
