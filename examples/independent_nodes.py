"""Independent nodes of one run: a diamond in, the time of each node mode out.

    load_data ─▶ compute_stats_a ─▶ combine
              └▶ compute_stats_b ─┘

Each of the first three nodes waits, as a query or a request would. One after another they take three waits; where the
two in the middle overlap, two.
"""

from __future__ import annotations

import argparse
import time

from hypernodes import LocalBackend, Pipeline, node

parser = argparse.ArgumentParser(description="Time a diamond of waiting nodes in each node mode.")
parser.add_argument("--wait", type=float, default=0.5, help="seconds that a node waits (default: %(default)s)")
parser.add_argument("--workers", type=int, default=4, help="max_workers (default: %(default)s)")
parser.add_argument("--smoke", action="store_true", help="wait for a moment only, to see that it works")
options = parser.parse_args()
wait = 0.02 if options.smoke else options.wait


@node(output_name="data")
def load_data(wait: float) -> list[int]:
    time.sleep(wait)
    return [1, 2, 3, 4, 5]


@node(output_name="stats_a")
def compute_stats_a(data: list[int], wait: float) -> int:
    """Independent computation A."""
    time.sleep(wait)
    return sum(data)


@node(output_name="stats_b")
def compute_stats_b(data: list[int], wait: float) -> int:
    """Independent computation B: overlaps with A."""
    time.sleep(wait)
    return max(data)


@node(output_name="result")
def combine(stats_a: int, stats_b: int) -> dict[str, int]:
    """Depends on both A and B."""
    return {"sum": stats_a, "max": stats_b}


pipeline = Pipeline(nodes=[load_data, compute_stats_a, compute_stats_b, combine], name="diamond")
print(pipeline.plan(backend=LocalBackend(node_execution="threaded", max_workers=options.workers)))
print(f"\nnodes       seconds  waits  result      ({wait} s a wait)")
for mode in ("sequential", "async", "threaded", "parallel"):
    with LocalBackend(node_execution=mode, max_workers=options.workers) as backend:
        pipeline.backend = backend
        pipeline.run(inputs={"wait": 0.0})  # starts the workers, once
        start = time.perf_counter()
        result = pipeline(wait=wait)["result"]
        seconds = time.perf_counter() - start
    print(f"{mode:<11} {seconds:>7.3f} {seconds / wait:>6.1f}  {result}")
