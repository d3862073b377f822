"""Groups with the slots they read and define in; after which step or bundle each slot is read no more, out.

Inputs are the caller's, and outputs are asked for, so neither is ever freed.
"""

from __future__ import annotations

from typing import Dict, List, Sequence, Set, Tuple

import attrs

from hypernodes.lowering.fuse import Group


@attrs.frozen
class Freed:
    """Where slots are freed.

    `by_step` is per operation, for values that never leave their bundle; `by_end` per bundle, for values it is the last
    to read; `shared` per bundle, for values that several bundles read in no fixed order: the last one to end frees it.
    `crossing` holds the slots that some other bundle than their own reads.
    """

    by_step: Dict[int, Tuple[int, ...]]
    by_end: Dict[int, List[int]]
    shared: Dict[int, List[int]]
    by_bundle: Dict[int, int]
    crossing: Set[int]


def last_uses(
    groups: Sequence[Group],
    reads: Sequence[Sequence[int]],
    results: Sequence[Sequence[int]],
    asked: Set[int],
    inputs: int,
    ordered: bool,
) -> Freed:
    """Find the last use of every slot that is neither an input (slots 1 to `inputs`) nor in `asked`."""
    home: Dict[int, int] = {}
    last_step: Dict[int, int] = {}
    readers: Dict[int, List[int]] = {}
    for number, group in enumerate(groups):
        for index in group.members:
            for slot in reads[index]:
                if slot <= inputs:
                    continue
                last_step[slot] = index
                found = readers[slot]
                if not found or found[-1] != number:
                    found.append(number)
            for slot in results[index]:
                home[slot] = number
                last_step[slot] = index
                readers[slot] = []
    by_step: Dict[int, List[int]] = {}
    freed = Freed({}, {}, {}, {}, set())
    for slot, born in home.items():
        found = readers[slot]
        outside = [number for number in found if number != born]
        if outside:
            freed.crossing.add(slot)
        if slot in asked:
            continue
        last = outside[-1] if outside else born
        freed.by_bundle[slot] = last
        if not outside:
            by_step.setdefault(last_step[slot], []).append(slot)
        elif len(outside) == 1 or ordered:
            freed.by_end.setdefault(last, []).append(slot)
        else:
            for number in outside:
                freed.shared.setdefault(number, []).append(slot)
    freed.by_step.update((index, tuple(slots)) for index, slots in by_step.items())
    return freed
