"""Placed operations in, groups of them out: a linear chain becomes one group, so that its values need no dispatch.

Operation B joins the chain of A when A is the only operation B reads from and B is the only one that reads A.
"""

from __future__ import annotations

from typing import Dict, List, NamedTuple, Sequence

import attrs

from hypernodes.ir.graph import Operation


class Placed(NamedTuple):
    """An operation, its placement and the reason for it; a bundle ends behind one that is a `cut`."""

    operation: Operation
    placement: str
    reason: str
    cut: bool = False


@attrs.define
class Group:
    """What will be one bundle: a placement, why, and indices of operations in def-before-use order."""

    placement: str
    reason: str
    members: List[int]


def chains(placed: Sequence[Placed], fusible: Sequence[str]) -> List[Group]:
    """Group linear chains of equal placement, for the placements in `fusible`.

    Groups come in the order of their first operations. That order is topological: only the first operation of a chain
    reads from another group, so the group it reads from has started, and ended, before.
    """
    producer: Dict[str, int] = {}
    sources: List[List[int]] = []
    readers = [0] * len(placed)
    for index, (operation, *_) in enumerate(placed):
        found = set()
        for use in operation.uses:
            source = producer.get(use.value.name)
            if source is not None:
                found.add(source)
        for source in found:
            readers[source] += 1
        sources.append(list(found))
        for value in operation.results:
            producer[value.name] = index
    groups: List[Group] = []
    home: List[Group] = []
    for index, (_, placement, reason, _) in enumerate(placed):
        found_in = sources[index]
        joins = len(found_in) == 1 and placement in fusible and readers[found_in[0]] == 1
        if joins and not placed[found_in[0]].cut:
            before = home[found_in[0]]
            if before.placement == placement:
                before.members.append(index)
                home.append(before)
                continue
        fresh = Group(placement, reason, [index])
        groups.append(fresh)
        home.append(fresh)
    return groups
