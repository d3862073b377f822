"""Records are frozen, compare and hash by what matters, read well, and travel."""

from __future__ import annotations

import pickle
from typing import Any

import attrs
import msgspec
import pytest

from hypernodes.ir.graph import REQUIRED, Call, Input, Use, Value
from hypernodes.lowering.plan import INLINE, Argument, Bundle, Slot, Step
from hypernodes.records import evolve

X = Value("x", int)
STEP = Step("len", len, (Argument("obj", 1),), (2,), ("n",))
RECORDS = [
    X,
    Use("obj", X),
    Call("len", len, (Use("obj", X),), (Value("n"),)),
    Slot("x", int, 3),
    Argument("obj", 1),
    STEP,
    Bundle(0, (STEP,), INLINE, "why", (1,), (2,), payload=1),
]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_a_record_is_frozen_hashable_and_pickles(record: Any) -> None:
    first = record.__struct_fields__[0]
    with pytest.raises(AttributeError):
        setattr(record, first, None)
    copy = pickle.loads(pickle.dumps(record))
    assert copy == record
    assert hash(copy) == hash(record)
    assert evolve(record) == record
    changed = evolve(record, **{first: "else"})
    assert changed != record
    assert type(changed) is type(record)
    assert record != 1


def test_what_is_not_compared() -> None:
    """A default need not be comparable or hashable; a type is for printing, a payload for sending."""
    assert Use("x", X, default=[1]) == Use("x", X, default=REQUIRED)
    assert hash(Use("x", X, default=[1])) == hash(Use("x", X))
    assert Slot("x", int) == Slot("x", [str])
    assert hash(Slot("x", int)) == hash(Slot("x", [str]))
    assert evolve(RECORDS[-1], payload=None) == RECORDS[-1]
    assert hash(evolve(RECORDS[-1], payload=None)) == hash(RECORDS[-1])
    assert len({*RECORDS, evolve(RECORDS[-1], payload=None)}) == len(RECORDS)


def test_a_repr_leaves_out_what_nobody_reads() -> None:
    assert repr(Argument("obj", 1)) == "Argument(parameter='obj', slot=1, keyword=False)"
    assert "payload" not in repr(RECORDS[-1])
    assert "policy" not in repr(STEP)
    assert repr(STEP).startswith("Step(name='len', fn=<built-in function len>, arguments=(Argument(")


def test_evolve_takes_either_kind() -> None:
    assert evolve(Input(X), default=1) == Input(X)
    assert evolve(Input(X), default=1).default == 1
    assert isinstance(X, msgspec.Struct)
    assert attrs.has(Input)
