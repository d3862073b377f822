"""Groups with the slots they read and define in; who waits for whom, in which wave, and how far from the end, out.

A wave is what a plan prints and starts with, not a barrier: a bundle starts the moment the count in `waits` reaches
zero.
"""

from __future__ import annotations

from typing import Dict, List, Sequence, Set, Tuple

import attrs

from hypernodes.lowering.fuse import Group


@attrs.frozen
class Flow:
    """Per group: how many it waits for, whom it releases, its wave, and the steps left on the longest path from it."""

    waits: List[int]
    releases: List[List[int]]
    levels: List[int]
    ranks: List[int]
    waves: Tuple[Tuple[int, ...], ...]


def flow(
    groups: Sequence[Group],
    reads: Sequence[Sequence[int]],
    results: Sequence[Sequence[int]],
    weights: Sequence[int],
    ordered: bool,
) -> Flow:
    """Count the dependences between groups, in time linear in the number of reads.

    `reads`, `results` and `weights` are per operation; a weight is what the operation adds to a path through it.
    """
    home: Dict[int, int] = {}
    waits: List[int] = []
    releases: List[List[int]] = [[] for _ in groups]
    levels: List[int] = []
    waves: List[List[int]] = []
    for number, group in enumerate(groups):
        before: Set[int] = set()
        for index in group.members:
            for slot in reads[index]:
                if slot in home:
                    before.add(home[slot])
        before.discard(number)
        if ordered and number:
            before.add(number - 1)
        for index in group.members:
            for slot in results[index]:
                home[slot] = number
        # Members are visited before their own results are known, so a chain's inner reads were never in `home`.
        level = 0
        for other in before:
            releases[other].append(number)
            if levels[other] >= level:
                level = levels[other] + 1
        levels.append(level)
        waits.append(len(before))
        if level == len(waves):
            waves.append([])
        waves[level].append(number)
    ranks = [0] * len(groups)
    for number in range(len(groups) - 1, -1, -1):
        behind = 0
        for other in releases[number]:
            if ranks[other] > behind:
                behind = ranks[other]
        for index in groups[number].members:
            behind += weights[index]
        ranks[number] = behind
    return Flow(waits, releases, levels, ranks, tuple([tuple(wave) for wave in waves]))
