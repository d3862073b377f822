"""Targets *async* and *threaded*: a frame in, a bundle for each linear chain of plain functions out.

A coroutine function is a bundle of its own: between two awaits the loop can do something else, so fusing gains nothing.
"""

from __future__ import annotations

from typing import List, Sequence

from hypernodes.lowering.fuse import Group, Placed, chains
from hypernodes.lowering.plan import THREAD


def group(placed: Sequence[Placed]) -> List[Group]:
    """Return linear chains of functions that run in threads; everything else stands alone."""
    return chains(placed, fusible=(THREAD,))
