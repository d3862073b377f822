"""A context variable in, what names it in another process out: where a module holds it, or a token.

`contextvars.ContextVar` refuses to be pickled, so a function of a script or a notebook that reads one could not be
sent. A variable that an importable module holds is that module's attribute over there too. Any other gets a token, and
the process that reads the token makes a variable of its own, the same one each time.
"""

from __future__ import annotations

import contextvars
import importlib
import sys
import uuid
from typing import Any, Callable, Dict, Optional, Tuple, cast

_tokens: Dict[contextvars.ContextVar[Any], str] = {}
_made: Dict[str, contextvars.ContextVar[Any]] = {}
_homes: Dict[contextvars.ContextVar[Any], Optional[Tuple[str, str]]] = {}


def reduced(variable: contextvars.ContextVar[Any], importable: Callable[[str], bool]) -> Tuple[object, ...]:
    """Return what `__reduce__` of a context variable would; `importable` says whether a child finds a module."""
    if variable not in _homes:
        _homes[variable] = _home(variable, importable)
    home = _homes[variable]
    if home is not None:
        return _attribute, home
    token = _tokens.get(variable)
    if token is None:
        token = _tokens[variable] = uuid.uuid4().hex
        _made[token] = variable
    try:
        default: Tuple[Any, ...] = (contextvars.Context().run(variable.get),)
    except LookupError:
        default = ()
    return _variable, (token, variable.name, default)


def _home(variable: contextvars.ContextVar[Any], importable: Callable[[str], bool]) -> Optional[Tuple[str, str]]:
    for name, module in list(sys.modules.items()):
        if name in ("__main__", "__mp_main__"):
            continue
        for attribute, value in list(_content(module).items()):
            if value is variable and importable(name):
                return name, attribute
    return None


def _content(module: object) -> Dict[str, object]:
    """Return what is in a module, without asking a lazy one to load."""
    try:
        return cast("Dict[str, object]", object.__getattribute__(module, "__dict__"))
    except Exception:  # what is in `sys.modules` may be anything
        return {}


def _attribute(module: str, attribute: str) -> object:
    """Import a module's variable; pickles name this function, so it keeps its name."""
    return getattr(importlib.import_module(module), attribute)


def _variable(token: str, name: str, default: Tuple[Any, ...]) -> contextvars.ContextVar[Any]:
    """Return this process's variable for a token; pickles name this function, so it keeps its name."""
    found = _made.get(token)
    if found is None:
        found = contextvars.ContextVar(name, default=default[0]) if default else contextvars.ContextVar(name)
        _made[token] = found
        _tokens[found] = token
    return found
