"""The types that the readers of one input declare in, the one type that a value for all of them has to be of out."""

from __future__ import annotations

from typing import Any, Iterable, List, Tuple

from hypernodes.ir.annotations import UNKNOWN
from hypernodes.ir.forms import AllOf, Anything, Instance, OneOf, Renamed, form_of, show
from hypernodes.ir.types import fits

_DEPTH = 8


def narrowest(types: Iterable[object]) -> object:
    """Return the narrowest of some types, whatever their order.

    Where several are narrowest, as `Sized` and `Closing` are, it is all of these at once, which prints as
    ``Closing & Sized``. UNKNOWN says nothing; of types that fit each other the one that says more is taken.
    """
    members: List[object] = []
    for tp in types:
        members.extend(tp.members if isinstance(tp, AllOf) else () if tp is UNKNOWN else (tp,))
    kept = [tp for tp in members if not any(_narrower(other, tp) for other in members)] or members
    distinct: List[object] = []
    for tp in sorted(kept, key=show):
        if not any(fits(tp, other) and fits(other, tp) for other in distinct):
            distinct.append(tp)
    if not distinct:
        return UNKNOWN
    return distinct[0] if len(distinct) == 1 else AllOf(tuple(distinct))


def _narrower(a: object, b: object) -> bool:
    """Tell whether `a` says more than `b`, which two types never do of each other."""
    if a is b or not fits(a, b):
        return False
    return not fits(b, a) or _rank(a) < _rank(b)


def _rank(tp: object) -> Tuple[int, str]:
    try:
        return _unknowns(tp, _DEPTH), show(tp)
    except Exception:  # an alias or a metaclass that raises when it is looked at
        return 1, show(tp)


def _unknowns(tp: Any, depth: int) -> int:
    """Count the parts of a type that nothing is known of."""
    form = form_of(tp)
    if isinstance(form, Anything) or depth == 0:
        return 1
    if isinstance(form, Renamed):
        return _unknowns(form.base, depth - 1)
    if isinstance(form, (OneOf, AllOf)):
        return sum(_unknowns(member, depth - 1) for member in form.members)
    if isinstance(form, Instance) and form.args:
        return sum(_unknowns(arg, depth - 1) for arg in form.args if arg is not Ellipsis and not isinstance(arg, list))
    return 0
