"""A callable in, the named parameters that a call of it really has out.

A plain function says so in its code. Of the others, what counts is what the callable itself takes: ``__wrapped__``,
which any decorator sets, is followed only through what is open in it, its ``*args`` and ``**kwargs``::

    callable ─┬─ plain function ───────────────────────────────────────────▶ its code
              ├─ explicit __signature__ ───────────────────────────────────▶ that
              ├─ method, partial, class, callable object ─▶ what they call ─▶ without what is bound already
              └─ wrapper ─▶ its own named ones ─▶ and where it is open, the rest of what it wraps
"""

from __future__ import annotations

import functools
import inspect
import sys
from inspect import Parameter as Read
from types import FunctionType, MethodType
from typing import Any, Callable, List, Mapping, Optional, Set, Tuple

from hypernodes.errors import NodeDefinitionError
from hypernodes.ir.graph import REQUIRED
from hypernodes.records import ByCompared

_LAYERS = 32
"""How many wrappers around one function are looked through; more is a cycle."""

_BY_POSITION = (Read.POSITIONAL_ONLY, Read.POSITIONAL_OR_KEYWORD)
_VARIADIC = (Read.VAR_POSITIONAL, Read.VAR_KEYWORD)
_OPEN = inspect.CO_VARARGS | inspect.CO_VARKEYWORDS
_SPECIAL = frozenset(("__wrapped__", "__signature__", "__partialmethod__", "_partialmethod"))
"""Attributes of a function that is not simply called with what its code says."""

Reads = List[Read]


class Parameter(ByCompared, frozen=True):
    """One named parameter of a node's function."""

    name: str
    default: object = REQUIRED
    keyword: bool = False
    positional: bool = False

    @property
    def _compared(self) -> Tuple[object, ...]:
        return self.name, self.keyword, self.positional

    @property
    def optional(self) -> bool:
        """Whether it has a default."""
        return self.default is not REQUIRED


def parameters_of(fn: Callable[..., object], label: str) -> Tuple[Parameter, ...]:
    """Return what of a callable is wired by name, in the order of its signature.

    Raises
    ------
    NodeDefinitionError
        When the parameters cannot be known, or have no names.
    """
    if _is_plain(fn):
        named = _of_code(fn)
        variadic = fn.__code__.co_flags & _OPEN > 0
    else:
        try:
            found = _read(fn, _LAYERS)
        except (TypeError, ValueError):
            raise NodeDefinitionError(
                label,
                "its parameters cannot be read (a builtin without a signature)",
                f"wrap it: def {label}(x): return ...",
            ) from None
        named = tuple(
            [
                Parameter(
                    p.name,
                    REQUIRED if p.default is Read.empty else p.default,
                    p.kind is Read.KEYWORD_ONLY,
                    p.kind is Read.POSITIONAL_ONLY,
                )
                for p in found
                if p.kind not in _VARIADIC
            ]
        )
        variadic = len(named) < len(found)
    if variadic and not named:
        raise NodeDefinitionError(
            label,
            "takes only *args or **kwargs, so there is no name to wire",
            "name its parameters (a decorator that wraps it should use functools.wraps)",
        )
    return named


def signature_of(fn: Callable[..., object]) -> inspect.Signature:
    """Return the signature that `parameters_of` reads, with annotations, for people and tools to look at."""
    shown = inspect.signature(fn)
    if _is_plain(fn):
        return shown
    try:
        return shown.replace(parameters=_read(fn, _LAYERS))
    except (TypeError, ValueError):  # an order that no `def` could have
        return shown


def _is_plain(fn: object) -> bool:
    return type(fn) is FunctionType and (not fn.__dict__ or _SPECIAL.isdisjoint(fn.__dict__))


@functools.lru_cache(maxsize=1024)
def _required(names: Tuple[str, ...]) -> Tuple[Parameter, ...]:
    return tuple(map(Parameter, names))


def _of_code(fn: Any) -> Tuple[Parameter, ...]:
    """Return the parameters of a plain function, without the detour over `inspect`, which costs ten times as much."""
    code = fn.__code__
    names, count, only = code.co_varnames, code.co_argcount, code.co_posonlyargcount
    defaults = fn.__defaults__ or ()
    if not (defaults or only or code.co_kwonlyargcount):
        return _required(names[:count])
    required = count - len(defaults)
    found = [
        Parameter(name, REQUIRED if index < required else defaults[index - required], False, index < only)
        for index, name in enumerate(names[:count])
    ]
    if code.co_kwonlyargcount:
        given = fn.__kwdefaults__ or {}
        by_name = names[count : count + code.co_kwonlyargcount]
        found += [Parameter(name, given.get(name, REQUIRED), True) for name in by_name]
    return tuple(found)


def _read(fn: Any, layers: int) -> Reads:
    """Return the parameters of any callable; TypeError or ValueError when nothing says what they are."""
    if not layers:
        raise ValueError("it wraps itself")
    if getattr(fn, "__signature__", None) is not None:
        return list(inspect.signature(fn).parameters.values())
    if isinstance(fn, functools.partial):
        return _partial(fn, _read(fn.func, layers - 1))
    if type(fn) is MethodType:
        return _bound(_read(fn.__func__, layers - 1))
    own, wrapped = _own(fn, layers), _wrapped(fn)
    if wrapped is None:
        if own is None:
            raise ValueError("a builtin without a signature")
        return own
    if own is None:
        return _read(wrapped, layers - 1)
    if not any(p.kind in _VARIADIC for p in own):
        return own
    inner = _read(wrapped, layers - 1)
    if _dispatches_methods(fn):
        inner = _bound(inner)
    patchings = _facts(fn).get("patchings")
    if patchings and "patchings" not in _facts(wrapped):  # `wraps` copies them onto whatever is put around
        inner = _patched(patchings, inner)
    return _through(own, inner)


def _own(fn: Any, layers: int) -> Optional[Reads]:
    """Return the parameters of a callable itself, whatever it wraps; None when it does not say."""
    if isinstance(fn, type):
        made_by = fn.__init__  # type: ignore[misc]
        usual: Any = type(fn).__call__ is type.__call__ and getattr(fn, "__new__", None) is object.__new__
        if usual and type(made_by) is FunctionType:
            return _bound(_read(made_by, layers - 1))
    elif type(fn) is not FunctionType and type(type(fn).__call__) is FunctionType:
        return _bound(_read(type(fn).__call__, layers - 1))
    try:
        return list(inspect.signature(fn, follow_wrapped=False).parameters.values())
    except (TypeError, ValueError):
        return None


def _facts(fn: object) -> Mapping[str, Any]:
    facts: Mapping[str, Any] = getattr(fn, "__dict__", {})
    return facts


def _wrapped(fn: Any) -> Any:
    facts = _facts(fn)
    if "__wrapped__" in facts:
        return facts["__wrapped__"]
    # A proxy keeps it in a slot; what its class wraps, as a class, is no concern of an object.
    slot = None if isinstance(fn, type) else getattr(type(fn), "__wrapped__", None)
    return fn.__wrapped__ if hasattr(type(slot), "__set__") else None


def _dispatches_methods(fn: object) -> bool:
    """Tell what `functools.singledispatchmethod` makes of a bound method: a callable around one that is not bound."""
    made_by = getattr(getattr(fn, "register", None), "__self__", None)
    return isinstance(made_by, functools.singledispatchmethod) and not isinstance(made_by.func, staticmethod)


def _bound(found: Reads) -> Reads:
    """Return parameters without the first, which is bound; ``*args`` takes that one as well."""
    return found[1:] if found and found[0].kind in _BY_POSITION else found


def _partial(fn: Any, found: Reads) -> Reads:
    """Return what a partial leaves open; what it gives by name may be given again, and so may only be given by name."""
    bound: Set[str] = set()
    later: Set[str] = set()
    by_position = [p for p in found if p.kind in _BY_POSITION]
    if len(fn.args) > len(by_position) and not any(p.kind is Read.VAR_POSITIONAL for p in found):
        raise ValueError("more arguments than parameters")
    for parameter, given in zip(by_position, fn.args):
        # From Python 3.14 on a place can be left open.
        (later if given is getattr(functools, "Placeholder", fn) else bound).add(parameter.name)
    opened: Reads = []
    by_name = False
    for parameter in found:
        name, kind = parameter.name, parameter.kind
        if name in bound:
            continue
        if name in later:
            parameter = parameter.replace(kind=Read.POSITIONAL_ONLY)
        elif name in fn.keywords and kind is not Read.POSITIONAL_ONLY and kind not in _VARIADIC:
            parameter, by_name = parameter.replace(kind=Read.KEYWORD_ONLY, default=fn.keywords[name]), True
        elif by_name and kind is Read.VAR_POSITIONAL:
            continue
        elif by_name and kind is Read.POSITIONAL_OR_KEYWORD:
            parameter = parameter.replace(kind=Read.KEYWORD_ONLY)
        opened.append(parameter)
    return opened


def _through(own: Reads, inner: Reads) -> Reads:
    """Return a wrapper's own parameters and, where it is open, the rest of those that the wrapped function has."""
    args = any(p.kind is Read.VAR_POSITIONAL for p in own)
    kwargs = any(p.kind is Read.VAR_KEYWORD for p in own)
    leading = [p.name for p in own if p.kind in _BY_POSITION]
    taken = {p.name for p in own if p.kind not in _VARIADIC}
    # Only what follows the wrapper's own parameters can follow them in `args`; the others can be given by name.
    places = [p.name for p in inner if p.kind in _BY_POSITION]
    repeated = [name for name in leading if name in places]
    in_order = args and places[: len(repeated)] == repeated
    by_position: Reads = []
    by_name: Reads = []
    for parameter in inner:
        if parameter.kind in _VARIADIC:
            continue
        if parameter.name in taken:
            in_order = in_order and parameter.name in leading
        elif parameter.kind in _BY_POSITION and in_order:
            by_position.append(parameter if kwargs else parameter.replace(kind=Read.POSITIONAL_ONLY))
        elif parameter.kind is not Read.POSITIONAL_ONLY and kwargs:
            by_name.append(parameter.replace(kind=Read.KEYWORD_ONLY))
    open_to = {p.kind for p in inner if p.kind in _VARIADIC}
    return [
        *[p for p in own if p.kind in _BY_POSITION],
        *by_position,
        *[p for p in own if p.kind is Read.VAR_POSITIONAL and p.kind in open_to],
        *[p for p in own if p.kind is Read.KEYWORD_ONLY],
        *by_name,
        *[p for p in own if p.kind is Read.VAR_KEYWORD and p.kind in open_to],
    ]


def _patched(patchings: List[Any], found: Reads) -> Reads:
    """Return parameters without those that ``mock.patch`` fills: the last by position, and some by name."""
    appended = 0
    named: Set[str] = set()
    for patching in patchings:
        made_up = getattr(sys.modules.get(type(patching).__module__), "DEFAULT", None)
        if patching.attribute_name is not None:
            parts = [patching, *patching.additional_patchers]
            named.update([part.attribute_name for part in parts if part.new is made_up])
        elif patching.new is made_up:
            appended += 1
    places = [p.name for p in found if p.kind in _BY_POSITION and p.name not in named]
    named.update(places[max(0, len(places) - appended) :])
    return [p for p in found if p.name not in named]
