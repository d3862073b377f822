"""Target *sequential*: a frame in, as few bundles as placements allow out, each waiting for the one before it.

Where every function has one placement the whole frame is one bundle; a map that is scheduled by frames, a change of
placement (a coroutine among plain functions) or a cut ends a bundle.
"""

from __future__ import annotations

from typing import List, Sequence

from hypernodes.lowering.fuse import Group, Placed


def group(placed: Sequence[Placed]) -> List[Group]:
    """Return runs of neighbouring operations with one placement, in order."""
    groups: List[Group] = []
    for index, (_, placement, reason, _) in enumerate(placed):
        if groups and groups[-1].placement == placement and placement != "frames" and not placed[index - 1].cut:
            groups[-1].members.append(index)
        else:
            groups.append(Group(placement, reason, [index]))
    return groups
