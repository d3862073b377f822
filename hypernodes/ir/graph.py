"""What a program is: operations over SSA values in, one frozen Graph to analyse and lower out.

Everything here is frozen and made of tuples, so a pass returns a new graph and never edits one, and a test can write
the graph it expects as a literal. `Value`, `Use` and `Call` are msgspec Structs because they are made by the hundred
thousand, and a frozen attrs class costs six times as much to make; the rest is `attrs.frozen`. A value is defined once,
by an input or by one operation, and read by name::

    Input ──▶ Value ──Use──▶ Call | Isolated | Invoke | MapOver ──▶ Value ──▶ outputs
"""

from __future__ import annotations

from typing import Callable, Dict, Optional, Tuple, Type, Union

import attrs
import msgspec

from hypernodes.ir.types import UNKNOWN
from hypernodes.records import ByCompared

DISCARD = "-"
"""Name of a result that nobody can read: no identifier, so no parameter and no output can be called that."""

GIVEN = "given "
"""Before the name of a mapped input that is asked for as well: what its items have is a value of its own."""


class Value(msgspec.Struct, frozen=True):
    """One SSA value: defined once, by an input or by an operation."""

    name: str
    type: object = UNKNOWN


class Required:
    """The default of an input that has none."""

    def __repr__(self) -> str:
        return "REQUIRED"

    def __reduce__(self) -> str:
        return "REQUIRED"


REQUIRED = Required()


@attrs.frozen
class Input:
    """A value the caller provides; with a default he may leave it out, and then no call receives it."""

    value: Value
    default: object = attrs.field(default=REQUIRED, eq=False)

    @property
    def optional(self) -> bool:
        return self.default is not REQUIRED


class Use(ByCompared, frozen=True):
    """One read: `parameter` of an operation takes `value`.

    `wanted` is the type the parameter declares. An `optional` parameter is left out of the call when nobody
    provides its value, so the function's own default applies. A `keyword` parameter is passed by name only, a
    `positional` one by position only.
    """

    parameter: str
    value: Value
    wanted: object = UNKNOWN
    optional: bool = False
    keyword: bool = False
    positional: bool = False
    default: object = REQUIRED

    @property
    def _compared(self) -> Tuple[object, ...]:
        return self.parameter, self.value, self.wanted, self.optional, self.keyword, self.positional


PLACEMENTS = ("inline", "loop", "thread", "process")
"""Where a function can run: the caller's own thread, the event loop, a worker thread, a worker process."""


@attrs.frozen
class Policy:
    """What the user asked of one node beyond calling it.

    A call that raises one of `retry_on` is tried up to `retries` times more, after `backoff` seconds that double each
    time and up to `jitter` more; each try ends after `timeout` seconds. `placement` is one of `PLACEMENTS`, None for
    what the mode says.
    """

    cache: Optional[bool] = None
    retries: int = 0
    retry_on: Tuple[Type[BaseException], ...] = (Exception,)
    backoff: float = 0.0
    jitter: float = 0.0
    timeout: Optional[float] = None
    placement: Optional[str] = None

    @property
    def governs_calls(self) -> bool:
        """Whether a call is more than a call: it may be repeated, or cut short."""
        return bool(self.retries) or self.timeout is not None


DEFAULT_POLICY = Policy()


@attrs.frozen(eq=False)
class Scope:
    """The nested pipeline an inlined operation came from; a chain of these leads out to the graph itself.

    `owner` is the pipeline's settings, opaque here; it stays in this process.
    """

    name: str
    parent: Optional[Scope] = None
    owner: object = None

    @property
    def path(self) -> Tuple[str, ...]:
        return (*(self.parent.path if self.parent else ()), self.name)

    def __reduce__(self) -> Tuple[object, ...]:
        return Scope, (self.name, self.parent)


class Call(msgspec.Struct, frozen=True):
    """A function, the values it reads and the values it defines; with `unpack` it returns a tuple, one for each."""

    name: str
    fn: Callable[..., object]
    uses: Tuple[Use, ...]
    results: Tuple[Value, ...]
    unpack: bool = False
    is_coroutine: bool = False
    policy: Policy = DEFAULT_POLICY
    scope: Optional[Scope] = None


class Isolated(Call, frozen=True, kw_only=True):
    """A nested graph that another backend runs: to this one a single call, by keyword, of `fn`, which has that done.

    A use's parameter is one of the inputs of `graph`, `yields[i]` the output behind `results[i]`.
    """

    graph: Graph
    yields: Tuple[str, ...]

    @property
    def overridable(self) -> Tuple[str, ...]:
        """Outputs of the nested graph that reach the operations in it when they are overridden; none of a map's do."""
        operations = self.graph.operations
        return () if len(operations) == 1 and isinstance(operations[0], MapOver) else self.yields


@attrs.frozen
class Invoke:
    """A nested graph run once: a use's parameter is one of its inputs, `yields[i]` the output behind `results[i]`."""

    name: str
    graph: Graph
    uses: Tuple[Use, ...]
    results: Tuple[Value, ...]
    yields: Tuple[str, ...]
    owner: object = attrs.field(default=None, eq=False, repr=False)
    scope: Optional[Scope] = None


@attrs.frozen
class MapOver:
    """A nested graph run once per item; results are lists in item order.

    `axes` are the parameters that carry items, `mode` says how several of them combine: ``"zip"`` or ``"product"``
    (last axis fastest). With `spread` there is one axis whose items are mappings from the graph's inputs to values.
    The items of one that is `fed` come while it runs, and its results are handed out as they finish. One that is
    `around` a whole pipeline is what mapping that pipeline means, and no nested pipeline of its own.
    """

    name: str
    graph: Graph
    uses: Tuple[Use, ...]
    results: Tuple[Value, ...]
    yields: Tuple[str, ...]
    axes: Tuple[str, ...]
    mode: str = "zip"
    spread: bool = False
    owner: object = attrs.field(default=None, eq=False, repr=False)
    scope: Optional[Scope] = None
    fed: bool = False
    around: bool = False


Operation = Union[Call, Invoke, MapOver]
Nested = Union[Isolated, Invoke, MapOver]
NESTED = (Isolated, Invoke, MapOver)
"""Operations with a graph of their own."""


@attrs.frozen
class Graph:
    """Inputs, operations in def-before-use order, and the values handed back."""

    name: str
    inputs: Tuple[Input, ...]
    operations: Tuple[Operation, ...]
    outputs: Tuple[Value, ...]

    def __str__(self) -> str:
        from hypernodes.ir.text import graph_text

        return graph_text(self)

    @property
    def input_names(self) -> Tuple[str, ...]:
        return tuple(entry.value.name for entry in self.inputs)

    @property
    def output_names(self) -> Tuple[str, ...]:
        return tuple(value.name for value in self.outputs)

    def defaults(self) -> Dict[str, object]:
        """Return input name → default, for the inputs that have one."""
        return {entry.value.name: entry.default for entry in self.inputs if entry.optional}
