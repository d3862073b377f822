"""Why a node cannot write to a value in a worker process: it is memory that all workers read."""

from __future__ import annotations

import re
from typing import Any

from hypernodes.errors.notes import add_note, said
from hypernodes.lowering.plan import PlanStep, Step
from hypernodes.runtime.bundle.interpreter import Slots
from hypernodes.runtime.processes.memory import maps_shared

_READ_ONLY = re.compile("read-only|WRITEABLE")  # numpy's, pandas', Cython's and memoryview's words


def explain_read_only(error: BaseException, step: PlanStep, slots: Slots) -> None:
    """Add a note to an error of a step that wrote to what all items share."""
    if not maps_shared() or not isinstance(error, (ValueError, TypeError)) or not _READ_ONLY.search(said(error)):
        return
    arguments = step.arguments if isinstance(step, Step) else ()
    names = [each.parameter for each in arguments if _is_read_only(slots[each.slot])]
    what = " and ".join(map(repr, names)) or "a large value"
    example = names[0] if names else "value"
    add_note(
        error,
        f"{what} is the same for all items, and in a worker process a view of memory that all of them read, so "
        f"that nobody can write to it; change a copy ({example} = {example}.copy()), "
        f"or run this work with node_execution / map_execution = 'threaded'",
    )


def _is_read_only(value: Any) -> bool:
    try:
        return not value.flags.writeable
    except Exception:  # no array
        return False
