"""One table: question, target, measured, verdict. Run it from the checkout::

    python -m bench.report                  # all questions, a few turns each: about two minutes
    python -m bench.report --full run map   # more turns, of bench_run.py and bench_map.py only
    taskset -c 0 python -m bench.report run # one core: steadier for what needs one thread

Both sides of a question take turns in this process, and the figure is the median over the turns; *best* is made of the
fastest turns. Nothing here asserts: a verdict is for a person who knows what else the machine was doing.
"""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import sys
import time
from typing import List

from bench.duel import OURS, Answer, answer, name_of

FILES = ("run", "build", "map", "stream", "threaded", "async", "critical_path", "nested", "parallel", "events")


def line(found: Answer) -> str:
    target = f"{found.limit:g}" if found.limit < float("inf") else "-"
    verdict = "" if target == "-" else "met" if found.met else "MISSED"
    first, *_ = [*found.seconds, ""]
    against = f"{first} {_short(found.seconds[first])}, ours {_short(found.seconds[OURS])}" if first else ""
    peers = "".join([f"; {name} {figure:.2f}" for name, figure in found.peers.items()])
    figures = f"{target:>6} {found.median:9.2f} {found.best:9.2f} {found.unit:8}"
    return f"{found.name:52} {figures} {verdict:7} {against}{peers}"


def _short(seconds: float) -> str:
    for factor, unit in ((1, "s"), (1e3, "ms"), (1e6, "µs")):
        if seconds * factor >= 1:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e9:.0f} ns"


def main(arguments: List[str]) -> int:
    parser = argparse.ArgumentParser("python -m bench.report", description="Measure every target of speed.")
    parser.add_argument("files", nargs="*", metavar="FILE", help=f"some of {', '.join(FILES)}; all by default")
    parser.add_argument("--full", action="store_true", help="more turns of each side")
    parser.add_argument("--only", default="", help="questions whose name has this in it")
    chosen = parser.parse_args(arguments)
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    print(f"{'question':52} {'target':>6} {'median':>9} {'best':>9} {'unit':8} verdict seconds of a turn; peers")
    started, missed = time.perf_counter(), 0
    for file in chosen.files or FILES:
        for question in importlib.import_module(f"bench.bench_{file}").QUESTIONS:
            if chosen.only in name_of(question):
                found = answer(question, quick=not chosen.full)
                missed += not found.met
                print(line(found), flush=True)
    print(f"{missed} missed, {time.perf_counter() - started:.0f} s, load {os.getloadavg()[0]:.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
