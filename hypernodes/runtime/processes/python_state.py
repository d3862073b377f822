"""What the interpreter of this process keeps for the whole of it in, plain data out; and in another process back.

The caller may have changed any of it since a warm worker was started: the recursion limit, the filters of warnings,
the locale. How the interpreter itself was started (``-O``, the seed of `hash`) cannot be changed later; `variables`
has that for a worker that starts.
"""

from __future__ import annotations

import contextlib
import locale
import os
import random
import re
import sys
import time
import warnings
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple

_STARTED_WITH = {
    "optimize": "PYTHONOPTIMIZE",
    "dont_write_bytecode": "PYTHONDONTWRITEBYTECODE",
    "no_user_site": "PYTHONNOUSERSITE",
    "dev_mode": "PYTHONDEVMODE",
    "safe_path": "PYTHONSAFEPATH",
    "warn_default_encoding": "PYTHONWARNDEFAULTENCODING",
}
"""Flags of the command line, and the environment variables that say the same."""

Regex = Optional[Tuple[str, int]]
Filter = Tuple[str, Regex, Tuple[str, str], Regex, int]


class Kept(NamedTuple):
    """What is kept for a whole process; `filters` name the classes of warnings, which a worker may not know yet."""

    recursion: int
    digits: Optional[int]
    filters: List[Filter]
    locale: str


# -- in the parent ----------------------------------------------------------------------------------------------------


def kept() -> Kept:
    """Return what this process keeps."""
    digits = sys.get_int_max_str_digits() if hasattr(sys, "get_int_max_str_digits") else None
    # Python 3.14 may keep them in the context.
    filters = warnings._get_filters() if hasattr(warnings, "_get_filters") else warnings.filters
    return Kept(
        sys.getrecursionlimit(),
        digits,
        [
            (action, _regex(message), _named(kind), _regex(module), line)
            for action, message, kinds, module, line in filters
            for kind in _each(kinds)
        ],
        locale.setlocale(locale.LC_ALL),
    )


def _each(kinds: Any) -> Iterator[Any]:
    """Yield the classes of a filter, which may be a tuple as for `issubclass`."""
    if isinstance(kinds, tuple):
        for kind in kinds:
            yield from _each(kind)
    else:
        yield kinds


def _named(kind: Any) -> Tuple[str, str]:
    return kind.__module__, kind.__qualname__


def _regex(pattern: Any) -> Regex:
    # Those that the interpreter starts with are texts, to be met exactly.
    return None if pattern is None else (pattern, -1) if isinstance(pattern, str) else (pattern.pattern, pattern.flags)


def variables() -> Dict[str, str]:
    """Return what has to be added to the environment of a worker so that its interpreter starts as this one did."""
    found = {}
    if sys.flags.ignore_environment:
        found = {name: "" for name in os.environ if name.startswith("PYTHON")}  # empty is as good as not there
    for flag, variable in _STARTED_WITH.items():
        value = getattr(sys.flags, flag, 0)
        if value:
            found[variable] = str(int(value))
    found["PYTHONUTF8"] = str(sys.flags.utf8_mode)
    found["PYTHONHASHSEED"] = _SEED
    return found


def _seed() -> str:
    """Return the seed of `hash` for all workers: this process's own where it can be known."""
    if not sys.flags.hash_randomization:
        return "0"
    given = os.environ.get("PYTHONHASHSEED", "")
    if given.isdecimal() and int(given) < 1 << 32 and not sys.flags.ignore_environment:
        return given
    return str(random.SystemRandom().randrange(1, 1 << 32))


# Taken when this is imported: in a worker that is before it gets the caller's environment, where the seed of its own
# start is not, and the workers that it starts get that one.
_SEED = _seed()


# -- in the worker process --------------------------------------------------------------------------------------------


def keep(found: Kept) -> None:
    """Let this process keep what the one of `found` does."""
    if found.recursion != sys.getrecursionlimit():
        with contextlib.suppress(RecursionError):  # a limit so low that this very function is beyond it
            sys.setrecursionlimit(found.recursion)
    if found.digits is not None and hasattr(sys, "set_int_max_str_digits"):
        sys.set_int_max_str_digits(found.digits)
    if found.locale != locale.setlocale(locale.LC_ALL):
        with contextlib.suppress(locale.Error):
            locale.setlocale(locale.LC_ALL, found.locale)
    warnings.filters[:] = [  # type: ignore[index]
        (action, _compiled(message), _category(*named), _compiled(module), line)
        for action, message, named, module, line in found.filters
    ]
    changed: Any = getattr(warnings, "_filters_mutated", None) or getattr(
        warnings, "_filters_mutated_lock_held", lambda: None
    )
    changed()


def set_time_zone() -> None:
    """Let the C library follow the variable TZ."""
    if hasattr(time, "tzset"):
        time.tzset()


def _compiled(pattern: Regex) -> Any:
    return None if pattern is None else pattern[0] if pattern[1] < 0 else re.compile(*pattern)


class _ByName(type):
    """The class of stand-ins for classes of warnings: a subclass is what derives from one of that name.

    The module of a warning need not be imported here, as long as nobody raises it.
    """

    named: Tuple[str, str]

    def __subclasscheck__(cls, other: type) -> bool:
        return any((each.__module__, each.__qualname__) == cls.named for each in other.__mro__)


def _category(module: str, name: str) -> type:
    found = getattr(sys.modules.get(module), name, None)
    if isinstance(found, type) and module != "__main__":
        return found
    return _ByName(name, (Warning,), {"named": (module, name)})
