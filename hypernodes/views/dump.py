"""A plan in, the same plan as JSON out, and back: a versioned schema for tools, with no function or value in it.

A `PlanDump` has all that `print(plan)` shows. Equal plans give equal bytes: fields come in the order they are declared
here, types and defaults as address-free text, functions as ``module:qualname``. ::

    Plan ──dump_plan──▶ PlanDump ──encode_plan──▶ str ──decode_plan──▶ PlanDump
"""

from __future__ import annotations

from functools import partial
from typing import Any, Optional, Tuple, Union

import msgspec

from hypernodes.errors import PlanVersionError
from hypernodes.ir.graph import REQUIRED, Policy
from hypernodes.ir.text import default_text
from hypernodes.ir.types import UNKNOWN, show
from hypernodes.lowering.plan import Bundle, Hosted, MapStep, Options, Plan, PlanStep, Step

VERSION = 1
"""Raised when a field changes its meaning or goes; a new field with a default does not need it."""


class SlotDump(msgspec.Struct, frozen=True):
    """A numbered place; `type` is null when unknown, `freed_by`, its last reader, for what is asked for."""

    number: int
    name: str
    type: Optional[str]
    freed_by: Optional[int]


class ArgumentDump(msgspec.Struct, frozen=True):
    """A parameter and the slot it is passed, by keyword or by position."""

    parameter: str
    slot: int
    keyword: bool


class PolicyDump(msgspec.Struct, frozen=True):
    """When a call is made again, and when it is ended; times in seconds, exception classes as ``module:qualname``."""

    retries: int
    retry_on: Tuple[str, ...]
    backoff: float
    jitter: float
    timeout: Optional[float]


class CallDump(msgspec.Struct, frozen=True, tag="call"):
    """One call of `function`; `scope` are the nested pipelines it was inlined from, outermost first."""

    name: str
    function: str
    arguments: Tuple[ArgumentDump, ...]
    results: Tuple[int, ...]
    frees: Tuple[int, ...]
    scope: Tuple[str, ...]
    coroutine: bool
    unpack: bool
    policy: Optional[PolicyDump] = None


class AxisDump(msgspec.Struct, frozen=True):
    """Items of `slot` go into `body_slot` of each frame; null for an axis whose items are mappings."""

    parameter: str
    slot: int
    body_slot: Optional[int]


class SharedDump(msgspec.Struct, frozen=True):
    """The value in `slot` is in `body_slot` of every frame."""

    slot: int
    body_slot: int


class SpreadDump(msgspec.Struct, frozen=True):
    """What each item of a mapping axis carries under `name`; `default` is text, null where an item must have it."""

    name: str
    body_slot: int
    default: Optional[str]


class WidthDump(msgspec.Struct, frozen=True):
    """The most items in flight at once, and where that number comes from."""

    limit: int
    rule: str


class MapDump(msgspec.Struct, frozen=True, tag="map"):
    """One frame of `body` per item."""

    name: str
    mode: str
    axes: Tuple[AxisDump, ...]
    shared: Tuple[SharedDump, ...]
    spread: Tuple[SpreadDump, ...]
    width: WidthDump
    results: Tuple[int, ...]
    frees: Tuple[int, ...]
    scope: Tuple[str, ...]
    body: FrameDump


class HostedDump(msgspec.Struct, frozen=True, tag="hosted"):
    """A whole frame that a worker process runs by a schedule of its own."""

    name: str
    results: Tuple[int, ...]
    frees: Tuple[int, ...]
    body: FrameDump


StepDump = Union[CallDump, MapDump, HostedDump]


class BundleDump(msgspec.Struct, frozen=True):
    """Steps that one worker runs; `payload` is the size in bytes of what is sent to a process, null elsewhere."""

    index: int
    placement: str
    reason: str
    wave: int
    rank: int
    waits: int
    releases: Tuple[int, ...]
    imports: Tuple[int, ...]
    exports: Tuple[int, ...]
    frees: Tuple[int, ...]
    shared_frees: Tuple[int, ...]
    payload: Optional[int]
    steps: Tuple[StepDump, ...]


class OptionsDump(msgspec.Struct, frozen=True):
    """What the backend was asked for."""

    nodes: str
    items: str
    max_workers: int


class FrameDump(msgspec.Struct, frozen=True):
    """What one run, or one item of a map, executes; `depth` is the number of maps around it."""

    name: str
    options: OptionsDump
    depth: int
    critical_path: int
    slots: Tuple[SlotDump, ...]
    inputs: Tuple[int, ...]
    outputs: Tuple[int, ...]
    waves: Tuple[Tuple[int, ...], ...]
    bundles: Tuple[BundleDump, ...]


class PlanDump(msgspec.Struct, frozen=True):
    """A plan; `items` is the number of items of its outermost map, null when nobody said."""

    frame: FrameDump
    items: Optional[int] = None
    version: int = VERSION


class _Header(msgspec.Struct):
    version: Any = None


def dump_plan(plan: Plan, items: Optional[int] = None) -> PlanDump:
    """Return `plan` as data that can leave the process."""
    return PlanDump(_frame(plan), items)


def encode_plan(dump: PlanDump, indent: int = 2) -> str:
    """Return a dump as JSON, indented by so many spaces, or on one line when `indent` is 0."""
    return msgspec.json.format(msgspec.json.encode(dump), indent=indent or -1).decode()


def decode_plan(text: Union[str, bytes]) -> PlanDump:
    """Return the dump that `encode_plan` was given.

    Raises
    ------
    PlanVersionError
        For a version of the schema that this package does not know.
    msgspec.DecodeError
        For text that is no JSON, or, as its `msgspec.ValidationError`, no plan.
    """
    version = msgspec.json.decode(text, type=_Header).version
    if type(version) is not int or version != VERSION:
        raise PlanVersionError(repr(version), VERSION)
    return msgspec.json.decode(text, type=PlanDump)


def reference(fn: object) -> str:
    """Return ``module:qualname`` of a function; an object that is called ends in ``()``."""
    if isinstance(fn, partial):
        return f"functools:partial({reference(fn.func)})"
    name = getattr(fn, "__qualname__", None)
    if isinstance(name, str):
        return f"{getattr(fn, '__module__', None) or 'builtins'}:{name}"
    return f"{type(fn).__module__}:{type(fn).__qualname__}()"


def _frame(plan: Plan) -> FrameDump:
    slots = [
        SlotDump(
            number, slot.name, None if slot.type is UNKNOWN or slot.type is None else show(slot.type), slot.freed_by
        )
        for number, slot in enumerate(plan.slots)
        if number
    ]
    return FrameDump(
        plan.name,
        _options(plan.options),
        plan.depth,
        plan.critical_path,
        tuple(slots),
        plan.inputs,
        plan.outputs,
        plan.waves,
        tuple([_bundle(bundle) for bundle in plan.bundles]),
    )


def _options(options: Options) -> OptionsDump:
    return OptionsDump(options.nodes, options.items, options.max_workers)


def _bundle(bundle: Bundle) -> BundleDump:
    return BundleDump(
        bundle.index,
        bundle.placement,
        bundle.reason,
        bundle.wave,
        bundle.rank,
        bundle.waits,
        bundle.releases,
        bundle.imports,
        bundle.exports,
        bundle.frees,
        bundle.shared_frees,
        bundle.payload,
        tuple([_step(step) for step in bundle.steps]),
    )


def _step(step: PlanStep) -> StepDump:
    if isinstance(step, Hosted):
        return HostedDump(step.name, step.results, step.frees, _frame(step.plan))
    scope = step.scope.path if step.scope else ()
    if isinstance(step, Step):
        return CallDump(
            step.name,
            reference(step.fn),
            tuple([ArgumentDump(use.parameter, use.slot, use.keyword) for use in step.arguments]),
            step.results,
            step.frees,
            scope,
            step.is_coroutine,
            step.unpack,
            _policy(step.policy) if step.policy.governs_calls else None,
        )
    return _map(step, scope)


def _policy(policy: Policy) -> PolicyDump:
    classes = tuple([reference(cls) for cls in policy.retry_on])
    return PolicyDump(policy.retries, classes, policy.backoff, policy.jitter, policy.timeout)


def _map(step: MapStep, scope: Tuple[str, ...]) -> MapDump:
    spread = [
        SpreadDump(entry.name, entry.slot, None if entry.default is REQUIRED else default_text(entry.default))
        for entry in step.spread
    ]
    return MapDump(
        step.name,
        step.mode,
        tuple([AxisDump(axis.parameter, axis.slot, axis.body_slot or None) for axis in step.axes]),
        tuple([SharedDump(outer, inner) for inner, outer in step.shared]),
        tuple(spread),
        WidthDump(step.width.limit, step.width.rule),
        step.results,
        step.frees,
        scope,
        _frame(step.body),
    )
