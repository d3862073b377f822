"""A value that does not pickle in, the path to the part of it that is to blame out.

A failing value is taken apart into what its pickler would save: closure variables, globals, attributes, items. The
parts that fail alone are searched next, nearest first; the first failing value without a failing part is the culprit.
Each try is a real pickling, so the answer is a fact and no guess. It costs a few times what pickling the value costs,
and only a value that has failed pays it.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import reprlib
import sys
import types
from collections import deque
from typing import Any, Callable, Deque, Dict, FrozenSet, Iterable, Iterator, List, NamedTuple, Optional, Tuple

Part = Tuple[str, object]  # the step to it, worded for a person, and the part itself
_PRINTED = frozenset((str, bytes, int, float, bool, type(None)))  # the keys that are shown by their repr

# Enough for any structure a person wrote; a generated one with more trouble spots gets one of them, or a shorter path.
MAX_TRIES = 2000  # picklings in one search
MAX_DEPTH = 40  # steps in a path
MAX_BRANCHES = 8  # failing parts of one value that are searched further


class Found(NamedTuple):
    """The path to a culprit, and the fault of pickling just that; no fault when everything pickles."""

    path: Tuple[str, ...]
    fault: Optional[BaseException]


class _Nowhere:
    """A file for a pickle that nobody reads: a search must not hold a large value a second time."""

    def write(self, data: Any) -> None: ...


class _Suspect(NamedTuple):
    """A value that fails, the way to it, and the types of the parts on that way."""

    path: Tuple[str, ...]
    value: object
    fault: BaseException
    types: FrozenSet[type]


def find(value: object, new_pickler: Callable[..., Any]) -> Found:
    """Search `value` for the nearest part that does not pickle.

    Parameters
    ----------
    value : object
        What failed. It is pickled, in parts, and not changed.
    new_pickler : callable
        Makes the pickler that refused it, a subclass of `cloudpickle.Pickler`, from a file and a protocol.

    Returns
    -------
    Found
        With an empty path when `value` pickles, or when the search itself failed (it never raises).
    """
    try:
        return _Search(new_pickler).nearest(value)
    except KeyboardInterrupt:
        raise
    except BaseException:  # the objects searched run code of their own, and a report must not hide the first failure
        return Found((), None)


class _Search:
    """One search: how to pickle, and how many tries are left."""

    def __init__(self, new_pickler: Callable[..., Any]) -> None:
        self.new_pickler = new_pickler
        self.tries = MAX_TRIES

    def nearest(self, value: object) -> Found:
        fault = self.fault(value)
        if fault is None:
            return Found((), None)
        queue: Deque[_Suspect] = deque([_Suspect((), value, fault, frozenset())])
        seen: Dict[int, object] = {id(value): value}  # the values are kept, so that an id stays that of one object
        while queue:
            suspect = queue.popleft()
            failing = [
                _Suspect((*suspect.path, step), part, fault, suspect.types | {type(part)})
                for step, part, fault in itertools.islice(self.failing(self.parts(suspect.value)), MAX_BRANCHES)
                # Too deep a structure is to blame where it begins, so a path does not follow it from link to link.
                if not (is_recursion(fault) and type(part) in suspect.types)
            ]
            if not failing and self.tries > 0:
                return Found(_ending(suspect), suspect.fault)
            for next_suspect in failing:
                if id(next_suspect.value) not in seen and len(next_suspect.path) <= MAX_DEPTH:
                    seen[id(next_suspect.value)] = next_suspect.value
                    queue.append(next_suspect)
        return Found(_ending(suspect), suspect.fault)  # out of tries, or a ring in which each fails with the others

    def fault(self, value: object) -> Optional[BaseException]:
        """Pickle `value`, and return what was raised."""
        self.tries -= 1
        try:
            self.new_pickler(_Nowhere(), 5).dump(value)
        except KeyboardInterrupt:
            raise
        except BaseException as fault:  # SystemExit, of an object's own __reduce__
            return fault
        return None

    def failing(self, parts: List[Part]) -> Iterator[Tuple[str, object, BaseException]]:
        """Yield the parts that fail alone, by halving: a million items that are fine are not tried one by one."""
        if not parts or self.tries <= 0:
            return
        if len(parts) == 1:
            step, part = parts[0]
            fault = self.fault(part)
            if fault is not None:
                yield step, part, fault
        elif self.fault([part for _, part in parts]) is not None:
            half = len(parts) // 2
            yield from self.failing(parts[:half])
            yield from self.failing(parts[half:])

    def parts(self, value: object) -> List[Part]:
        """Return what the pickler would save of `value`, or nothing when taking it apart is what fails."""
        try:
            rule = _RULES.get(type(value))
            if rule is not None:
                return list(rule(value))
            numpy = sys.modules.get("numpy")
            if numpy is not None and type(value) is numpy.ndarray:
                return [(f"item {index[0] if len(index) == 1 else index}", v) for index, v in numpy.ndenumerate(value)]
            return list(_reduced_parts(value, self.reduced(value)))
        except Exception:
            return []

    def reduced(self, value: Any) -> Any:
        """Reduce `value` the way the pickler does; a string stands for something saved by its name."""
        pickler = self.new_pickler(_Nowhere(), 5)
        reduced = pickler.reducer_override(value)
        if reduced is not NotImplemented:
            return reduced
        if issubclass(type(value), (type, types.FunctionType)):
            return value.__qualname__
        reducer = pickler.dispatch_table.get(type(value))
        return reducer(value) if reducer is not None else value.__reduce_ex__(5)


def is_recursion(fault: BaseException) -> bool:
    """Say whether `fault` is a RecursionError, or the PicklingError that cloudpickle makes of one."""
    return isinstance(fault, RecursionError) or isinstance(fault.__cause__, RecursionError)


def _ending(suspect: _Suspect) -> Tuple[str, ...]:
    """Return the path, its last step saying what is there: ``"attribute '_lock' (_thread.lock)"``."""
    kind = _kind(suspect.value)
    return (*suspect.path[:-1], f"{suspect.path[-1]} ({kind})") if suspect.path else (kind,)


def _kind(value: Any) -> str:
    kind = type(value)
    if issubclass(kind, type):
        return f"class {value.__qualname__}"
    known = kind.__module__ in ("builtins", "__main__")
    return kind.__qualname__ if known else f"{kind.__module__}.{kind.__qualname__}"


def _key(key: Any) -> str:
    """Return a short text for a key; the `repr` of a user's class may be long, raise, or hold an address."""
    if type(key) in _PRINTED or (type(key) is tuple and _PRINTED.issuperset(map(type, key))):
        with contextlib.suppress(ValueError):  # an integer of more digits than Python prints
            return reprlib.repr(key)
    return f"a {_kind(key)}"


# How to take apart what pickles natively, or what its reduction would name poorly.


def _sequence(value: Any) -> Iterable[Part]:
    return ((f"item {index}", item) for index, item in enumerate(value))


def _set(value: Any) -> Iterable[Part]:
    return (("an element", item) for item in value)


def _mapping(value: Any) -> Iterable[Part]:
    for key, item in value.items():
        yield f"key {_key(key)}", key
        yield f"value of {_key(key)}", item


def _partial(value: Any) -> Iterable[Part]:
    yield "function", value.func
    yield from ((f"argument {index}", item) for index, item in enumerate(value.args))
    yield from ((f"keyword {name!r}", item) for name, item in value.keywords.items())
    yield from _attributes(value.__dict__)


def _method(value: Any) -> Iterable[Part]:
    yield "bound object", value.__self__
    yield "function", value.__func__


def _property(value: Any) -> Iterable[Part]:
    yield "getter", value.fget
    yield "setter", value.fset
    yield "deleter", value.fdel


def _wrapped(value: Any) -> Iterable[Part]:
    yield "function", value.__func__


def _cached_property(value: Any) -> Iterable[Part]:
    yield "getter", value.func


def _cached(value: Any) -> Iterable[Part]:
    yield "cached function", value.__wrapped__


_RULES: Dict[type, Callable[[Any], Iterable[Part]]] = {
    list: _sequence,
    tuple: _sequence,
    set: _set,
    frozenset: _set,
    dict: _mapping,
    functools.partial: _partial,
    functools.cached_property: _cached_property,
    types.MethodType: _method,
    property: _property,
    staticmethod: _wrapped,
    classmethod: _wrapped,
    type(functools.lru_cache()(len)): _cached,
}


def _reduced_parts(value: Any, reduced: Any) -> Iterator[Part]:
    """Take apart what `__reduce_ex__` or cloudpickle made of a function, a class or any other object."""
    if isinstance(reduced, str):
        return
    maker, args, state, items, pairs = (tuple(reduced) + (None,) * 3)[:5]
    kind = type(value)  # not isinstance, which asks the value for its __class__, and a lazy proxy may raise at that
    if kind is types.FunctionType:
        yield from _function(value, state)
    elif issubclass(kind, type):
        yield from _class(value, state)
    else:
        if issubclass(kind, tuple) and hasattr(value, "_fields"):
            yield from ((f"attribute {name!r}", item) for name, item in zip(value._fields, value))
        else:
            yield from _made_by(maker, args)
        yield from _state(state)
        yield from _sequence(items or ())
        yield from _mapping(dict(pairs or ()))


def _function(fn: types.FunctionType, state: Any) -> Iterator[Part]:
    if state is None:  # by reference
        return
    for name, cell in zip(fn.__code__.co_freevars, fn.__closure__ or ()):
        with contextlib.suppress(ValueError):  # not assigned yet
            yield f"closure variable {name!r}", cell.cell_contents
    attributes, slots = state
    # The globals that cloudpickle found this code, and the code nested in it, to read.
    yield from ((f"global {name!r}", value) for name, value in slots["__globals__"].items())
    defaults = fn.__defaults__ or ()
    positional = fn.__code__.co_varnames[: fn.__code__.co_argcount]
    yield from ((f"default of {name!r}", value) for name, value in zip(positional[-len(defaults) :], defaults))
    yield from ((f"default of {name!r}", value) for name, value in (fn.__kwdefaults__ or {}).items())
    yield from _attributes(attributes)
    # Not fn.__annotations__, which runs code on Python 3.14.
    yield from ((f"annotation of {name!r}", value) for name, value in (slots["__annotations__"] or {}).items())


def _class(cls: type, state: Any) -> Iterator[Part]:
    if state is None:  # by reference
        return
    attributes = dict(state[0])
    attributes.update((name, member.value) for name, member in getattr(cls, "__members__", {}).items())  # an enum's
    for name, value in attributes.items():
        is_method = isinstance(value, (types.FunctionType, staticmethod, classmethod))
        yield f"{'method' if is_method else 'class attribute'} {name!r}", value
    yield from ((f"base class {base.__name__!r}", base) for base in cls.__bases__)
    yield "metaclass", type(cls)


def _made_by(maker: Any, args: Tuple[Any, ...]) -> Iterator[Part]:
    """Take apart the call that makes an object anew; what `copyreg` calls leads with the object's class."""
    named = getattr(maker, "__name__", "")
    if named in ("__newobj__", "__newobj_ex__"):
        maker = args[0]
        args, keywords = (args[1], args[2]) if named == "__newobj_ex__" else (args[1:], {})
        yield from ((f"argument {name!r}", item) for name, item in keywords.items())
    yield from ((f"argument {index}", item) for index, item in enumerate(args))
    yield (f"class {maker.__name__!r}" if isinstance(maker, type) else "the function that remakes it"), maker


def _state(state: Any) -> Iterator[Part]:
    slotted = isinstance(state, tuple) and len(state) == 2 and all(isinstance(s, (dict, type(None))) for s in state)
    if isinstance(state, dict):
        yield from _attributes(state)
    elif slotted:
        for attributes in state:
            yield from _attributes(attributes or {})
    elif state is not None:
        yield "state", state


def _attributes(attributes: Dict[Any, Any]) -> Iterator[Part]:
    return ((f"attribute {_key(name)}", value) for name, value in attributes.items())
