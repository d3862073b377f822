"""Two ways to do the same work in, one figure out: hand-written Python is the 1.0, measured turn by turn with ours.

A *question* is a context manager that yields a `Duel` (two or more sides, timed) or a `Reading` (one number that is
no time). pytest-benchmark shows the sides of a duel as one table; `report` plays them A B A B and takes the median of
the figures, so that other load on the machine falls on both::

    question ─enter─▶ Duel(sides) ─ one turn of each side ─▶ seconds ─ figure ─▶ median ─▶ verdict
"""

from __future__ import annotations

import statistics
import time
from typing import Any, Callable, ContextManager, Dict, List, Tuple, Union

import attrs
import pytest

OURS = "hypernodes"
FIRST = "the 1.0"
"""Stands for the first side of a duel where its name is only known when it begins."""

Side = Callable[[], object]
FigureOf = Callable[[float, float], float]


def ratio(ours: float, by_hand: float) -> float:
    return ours / by_hand


def microseconds_over(ours: float, by_hand: float) -> float:
    return (ours - by_hand) * 1e6


def microseconds_each(count: int) -> FigureOf:
    return lambda ours, by_hand: ours / count * 1e6


def microseconds_more(count: int) -> FigureOf:
    return lambda ours, base: (ours - base) / count * 1e6


def milliseconds(ours: float, by_hand: float) -> float:
    return ours * 1e3


@attrs.frozen
class Duel:
    """One question of speed.

    Attributes
    ----------
    name : str
        What is asked.
    sides : dict of str to callable
        The first is the 1.0; `OURS` is the engine; the others are peers.
    limit : float
        The target: the figure should be at most this.
    figure, unit
        What two times, ours and the first side's, make of each other, and in which unit.
    turns : int
        Turns of each side that `report` plays.
    one_thread : bool
        All work is in this thread: its processor time is measured, which other load on the machine does not add to.
    """

    name: str
    sides: Dict[str, Side]
    limit: float
    figure: FigureOf = ratio
    unit: str = "x"
    turns: int = 15
    one_thread: bool = False


@attrs.frozen
class Reading:
    """One question with a number for an answer that is not the time of a turn: memory, or how cost grows."""

    name: str
    read: Callable[[], float]
    limit: float
    unit: str = "x"
    turns: int = 3


Question = Callable[[], ContextManager[Union[Duel, Reading]]]


@attrs.frozen
class Answer:
    """A figure with its target; `best` is made of the fastest turns, `peers` are figures of other sides."""

    name: str
    limit: float
    unit: str
    median: float
    best: float
    seconds: Dict[str, float]
    peers: Dict[str, float]

    @property
    def met(self) -> bool:
        return self.median <= self.limit


def play(benchmark: Any, question: Question, side: str) -> None:
    """Time one side of a duel with pytest-benchmark, in a table of its own with the other sides."""
    with question() as duel:
        assert isinstance(duel, Duel)
        first = next(iter(duel.sides))
        side = first if side == FIRST else side
        if side not in duel.sides:
            pytest.skip(f"{side} is not part of this: not installed, or not asked")
        benchmark.group = duel.name
        benchmark.extra_info["target"] = f"{duel.limit:g} {duel.unit}"
        if not benchmark.disabled:
            duel.sides[side]()  # plans, links, warms up
        benchmark(duel.sides[side])
        if side == OURS and benchmark.stats is not None:
            by_hand = min([_timed(duel.sides[first], time.perf_counter, 1) for _ in range(5)])
            benchmark.extra_info["figure"] = duel.figure(benchmark.stats.stats.min, by_hand)


def answer(question: Question, quick: bool = True) -> Answer:
    """Play all sides turn by turn and return the median of the figures."""
    with question() as asked:
        if isinstance(asked, Reading):
            numbers = [asked.read() for _ in range(asked.turns if not quick else 1)]
            return Answer(asked.name, asked.limit, asked.unit, statistics.median(numbers), min(numbers), {}, {})
        clock = time.process_time if asked.one_thread else time.perf_counter
        loops = {name: _loops(side, clock) for name, side in asked.sides.items()}
        times: Dict[str, List[float]] = {name: [] for name in asked.sides}
        for _ in range(asked.turns if not quick else max(3, asked.turns // 2)):
            for name, side in asked.sides.items():
                times[name].append(_timed(side, clock, loops[name]))
    first = next(iter(asked.sides))

    def figures(name: str) -> List[float]:
        return [asked.figure(own, base) for own, base in zip(times[name], times[first])]

    return Answer(
        asked.name,
        asked.limit,
        asked.unit,
        statistics.median(figures(OURS)),
        asked.figure(min(times[OURS]), min(times[first])),
        {name: statistics.median(own) for name, own in times.items()},
        {name: statistics.median(figures(name)) for name in asked.sides if name not in (OURS, first)},
    )


def _timed(side: Side, clock: Callable[[], float], loops: int) -> float:
    started = clock()
    for _ in range(loops):
        side()
    return (clock() - started) / loops


def _loops(side: Side, clock: Callable[[], float]) -> int:
    """Return how many calls make a turn of 10 ms; the first call, which plans, links and warms up, is not counted."""
    side()
    return max(1, min(10_000, int(0.01 / max(1e-9, _timed(side, clock, 1)))))


def name_of(question: Question) -> str:
    keywords: Tuple[object, ...] = getattr(question, "args", ())
    function: Any = getattr(question, "func", question)
    return "-".join([function.__name__, *map(str, keywords)])
