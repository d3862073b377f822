"""Word statistics of a folder of text files, in any pair of modes: a folder in, a plan, a report and a throughput out.

python text_stats.py                                   the installed standard library's sources
python text_stats.py FOLDER --pattern "*.md"           any other folder
python text_stats.py --nodes threaded --items parallel --workers 4
python text_stats.py --all-modes                       all sixteen pairs, which have to agree

find_files ─▶ text_stats, once per file ─▶ longest_files, frequent_words, troubled_files, totals
              load_text ─▶ tokenize ─▶ count_words, word_frequencies
                        └▶ count_lines
"""

from __future__ import annotations

import argparse
import fnmatch
import heapq
import os
import re
import sysconfig
import time
from collections import Counter
from pathlib import Path

from hypernodes import LocalBackend, Pipeline, node

MODES = ("sequential", "async", "threaded", "parallel")
WORD = re.compile(r"[^\W\d]\w*")
SKIPPED = {"site-packages", "dist-packages", "__pycache__", "test", "tests", "idle_test"}

# ---- one file --------------------------------------------------------------------------------------------------------


@node(output_name=("text", "size", "trouble"))
def load_text(file_path: Path) -> tuple[str, int, str]:
    """Read a file; what cannot be read or decoded is counted as far as possible, and says so."""
    try:
        data = file_path.read_bytes()
    except OSError as error:
        return "", 0, f"cannot be read: {error.strerror}"
    if b"\0" in data:
        return "", len(data), "is binary"
    try:
        return data.decode("utf-8-sig"), len(data), ""
    except UnicodeDecodeError as error:
        return data.decode("utf-8", "replace"), len(data), f"is not UTF-8 from byte {error.start:,} on"


@node(output_name="tokens")
def tokenize(text: str, lower: bool = False) -> list[str]:
    return WORD.findall(text.lower() if lower else text)


@node(output_name="word_count")
def count_words(tokens: list[str]) -> int:
    return len(tokens)


@node(output_name="line_count")
def count_lines(text: str) -> int:
    return text.count("\n")


@node(output_name="frequencies")
def word_frequencies(tokens: list[str]) -> Counter[str]:
    return Counter(tokens)


text_stats = Pipeline(nodes=[load_text, tokenize, count_words, count_lines, word_frequencies], name="text_stats")

# ---- all files -------------------------------------------------------------------------------------------------------


@node(output_name="files")
def find_files(folder: Path, pattern: str = "*.py", limit: int = 0) -> list[Path]:
    """List the files below a folder, without caches, tests and installed packages; `limit` 0 means all of them."""
    found: list[Path] = []
    for parent, folders, names in os.walk(folder):
        folders[:] = set(folders) - SKIPPED
        found += [path for path in (Path(parent, name) for name in fnmatch.filter(names, pattern)) if path.is_file()]
    found.sort()
    return found[:limit] if limit else found


@node(output_name="longest")
def longest_files(files: list[Path], word_counts: list[int], line_counts: list[int]) -> list[tuple[int, int, Path]]:
    return heapq.nlargest(5, zip(word_counts, line_counts, files))


@node(output_name="frequent")
def frequent_words(frequencies: list[Counter[str]]) -> list[tuple[str, int]]:
    total: Counter[str] = Counter()
    for counter in frequencies:
        total.update(counter)
    # Sorted by count, then by word: equal counts have no order of their own that all modes would share.
    return heapq.nsmallest(10, total.items(), key=lambda entry: (-entry[1], entry[0]))


@node(output_name="troubled")
def troubled_files(files: list[Path], troubles: list[str]) -> list[tuple[Path, str]]:
    return [(path, trouble) for path, trouble in zip(files, troubles) if trouble]


@node(output_name="totals")
def add_up(sizes: list[int], word_counts: list[int], line_counts: list[int]) -> dict[str, int]:
    return {"files": len(sizes), "bytes": sum(sizes), "lines": sum(line_counts), "words": sum(word_counts)}


per_file = text_stats.as_node(
    input_mapping={"files": "file_path"},
    output_mapping={"size": "sizes", "trouble": "troubles", "word_count": "word_counts", "line_count": "line_counts"},
    map_over="files",
)
corpus = Pipeline(nodes=[find_files, per_file, longest_files, frequent_words, troubled_files, add_up], name="corpus")

# Texts and tokens are no part of the report, so each is gone as soon as its file has been counted.
REPORT = ("totals", "longest", "frequent", "troubled")

# ---- the command -----------------------------------------------------------------------------------------------------


def main() -> None:
    options = parse()
    inputs = {"folder": options.folder, "pattern": options.pattern, "limit": options.limit, "lower": options.lower}
    chosen = [(options.nodes, options.items)]
    pairs = [(nodes, items) for nodes in MODES for items in MODES] if options.all_modes else chosen

    with LocalBackend(*chosen[0], max_workers=options.workers) as backend:
        print(corpus.plan(inputs, REPORT, backend=backend))
    print()

    reports, rows = [], []
    for nodes, items in pairs:
        with LocalBackend(nodes, items, max_workers=options.workers) as backend:
            corpus.backend = backend
            start = time.perf_counter()
            corpus.run({**inputs, "limit": 2 * backend.max_workers}, output_name=REPORT)
            warm = time.perf_counter()
            reports.append(corpus.run(inputs, output_name=REPORT))
            rows.append((nodes, items, backend.max_workers, warm - start, time.perf_counter() - warm))
    show_report(reports[0], options.folder)
    show_throughput(rows, reports[0]["totals"])
    if len(reports) > 1:
        agree = sum(report == reports[0] for report in reports)
        print(f"\n{agree} of {len(reports)} pairs of modes give this report")
        if agree < len(reports):
            raise SystemExit(1)


def parse() -> argparse.Namespace:
    standard_library = Path(sysconfig.get_path("stdlib"))
    parser = argparse.ArgumentParser(description="Word statistics of a folder of text files.")
    parser.add_argument("folder", nargs="?", type=Path, default=standard_library, help="default: the standard library")
    parser.add_argument("--pattern", default="*.py", help="which files to read (default: %(default)s)")
    parser.add_argument("--limit", type=int, default=0, help="read only the first LIMIT files")
    parser.add_argument("--lower", action="store_true", help="count words without their case")
    parser.add_argument("--nodes", choices=MODES, default="sequential", help="node_execution (default: %(default)s)")
    parser.add_argument("--items", choices=MODES, default="threaded", help="map_execution (default: %(default)s)")
    parser.add_argument("--workers", type=int, help="max_workers (default: what suits the modes)")
    parser.add_argument("--all-modes", action="store_true", help="run all sixteen pairs of modes and compare")
    parser.add_argument("--smoke", action="store_true", help="a few files only, to see that it works")
    options = parser.parse_args()
    if options.smoke:
        options.limit, options.workers = 25, 2
    if not options.folder.is_dir():
        parser.error(f"{options.folder} is no folder")
    return options


def show_report(report: dict, folder: Path) -> None:
    totals = report["totals"]
    print(folder)
    print(", ".join(f"{totals[key]:,} {key}" for key in ("files", "lines", "words", "bytes")))
    if not totals["files"]:
        print()
        return
    print("\n     words      lines  longest files")
    for words, lines, path in report["longest"]:
        print(f"{words:>10,} {lines:>10,}  {path.relative_to(folder)}")
    print("\n     times  most frequent words")
    for word, times in report["frequent"]:
        print(f"{times:>10,}  {word}")
    for path, trouble in report["troubled"][:5]:
        print(f"\nnote: {path.relative_to(folder)} {trouble}", end="")
    if len(report["troubled"]) > 5:
        print(f"\nnote: and {len(report['troubled']) - 5} more", end="")
    print("\n" if report["troubled"] else "")


def show_throughput(rows: list, totals: dict) -> None:
    print("nodes       items       workers  start-up  seconds    files/s     MB/s")
    for nodes, items, workers, started, seconds in rows:
        rates = f"{totals['files'] / seconds:>10,.0f} {totals['bytes'] / 1e6 / seconds:>8.1f}"
        print(f"{nodes:<11} {items:<11} {workers:>7} {started:>9.2f} {seconds:>8.2f} {rates}")
    print("start-up is a first run over a few files, which starts threads and processes")


main()
