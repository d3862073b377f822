"""The base of every exception of the package: facts of a fault in, one readable message out.

Each error holds its facts as fields (tests match those) and words them once, in `__str__` (people read that). They
are attrs classes because an attrs exception survives pickling, so it can leave a worker process. Each also derives from
the built-in exception that a caller who has never heard of hypernodes would catch: `ValueError`, `TypeError`, ...
"""

from __future__ import annotations

import difflib
from typing import Iterable


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'tokens'?"`` for the nearest known name, or an empty string when none is near."""
    # Case is what people mix up most, and all that a short name may have in common with the right one.
    names = {name.casefold(): name for name in reversed(list(known))}
    close = difflib.get_close_matches(given.casefold(), list(names), n=1)
    return f"; did you mean {names[close[0]]!r}?" if close else ""


def listed(names: Iterable[str]) -> str:
    """Return the names quoted and joined by commas, or the word nothing."""
    return ", ".join(repr(name) for name in names) or "nothing"


class HyperNodesError(Exception):
    """Base of everything this package raises on purpose."""
