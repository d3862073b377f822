"""What a mode makes of a graph: slots, steps, bundles and waves, frozen, ready to print and to link.

::

    Graph ──lower──▶ Plan ─┬─ slots      numbered places for values; slot 0 belongs to the runtime
                           ├─ bundles    steps that run one after another on one worker: the unit of dispatch
                           └─ waves      bundles whose inputs are ready together (no barrier: bundles carry the counts)

A plan is about one *frame*: one run of one graph. A `MapStep` holds the plan of its items' frames. Slots, arguments,
steps and bundles are msgspec Structs because they are made by the hundred thousand, and a frozen attrs class costs six
times as much to make.
"""

from __future__ import annotations

from typing import Callable, Iterator, Optional, Sequence, Tuple, Union

import attrs
import msgspec

from hypernodes.ir.graph import DEFAULT_POLICY, PLACEMENTS, Policy, Scope
from hypernodes.lowering.widths import Width

INLINE, LOOP, THREAD, PROCESS = PLACEMENTS
FRAMES = "frames"
"""The placement of a map whose items are scheduled as frames of their own: the schedule itself."""


@attrs.frozen
class Options:
    """What a backend was asked for: a mode for nodes, a mode for items, and the number of workers."""

    nodes: str
    items: str
    max_workers: int


class Slot(msgspec.Struct, frozen=True):
    """A numbered place for one value; nobody reads it after bundle `freed_by`, None for what is asked for."""

    name: str
    type: object
    freed_by: Optional[int] = None

    def __eq__(self, other: object) -> bool:
        # A type is for printing, and is not sent.
        return type(other) is Slot and (self.name, self.freed_by) == (other.name, other.freed_by)

    def __hash__(self) -> int:
        return hash((self.name, self.freed_by))

    def __reduce__(self) -> Tuple[object, ...]:
        # A type is for printing; it need not be importable, or even picklable, where the plan is run.
        return Slot, (self.name, None, self.freed_by)


class Argument(msgspec.Struct, frozen=True):
    """What a parameter is passed: the value in `slot`, by position or by `keyword`."""

    parameter: str
    slot: int
    keyword: bool = False


class Step(msgspec.Struct, frozen=True):
    """One call: reads slots, defines slots, and frees those that no later step of the frame reads.

    A stream of items in a result of `read_again` has several readers, or a map reads it to its end: it is listed. One
    that `runs_plan` is the call of a nested pipeline which another backend runs.
    """

    name: str
    fn: Callable[..., object]
    arguments: Tuple[Argument, ...]
    results: Tuple[int, ...]
    outputs: Tuple[str, ...]
    unpack: bool = False
    is_coroutine: bool = False
    policy: Policy = DEFAULT_POLICY
    scope: Optional[Scope] = None
    frees: Tuple[int, ...] = ()
    read_again: Tuple[int, ...] = ()
    runs_plan: bool = False

    def __repr__(self) -> str:
        return _shown(self, hidden=("policy", "scope"))


@attrs.frozen
class Axis:
    """Items come from `slot` and go, one a frame, into `body_slot`; 0 for a spread axis, whose items are mappings."""

    parameter: str
    slot: int
    body_slot: int


@attrs.frozen
class SpreadInput:
    """An input of the body that each item of a spread map carries under `name`."""

    name: str
    slot: int
    default: object = attrs.field(eq=False)


@attrs.frozen
class MapStep:
    """A map: one frame of `body` per item.

    `shared` pairs a slot of the body with a slot here, the same value for all items. ``results[i]`` is the list of what
    the frames leave in ``body.outputs[i]``. One that is `around` a pipeline is no nested pipeline of its own.
    """

    name: str
    body: Plan
    axes: Tuple[Axis, ...]
    shared: Tuple[Tuple[int, int], ...]
    results: Tuple[int, ...]
    outputs: Tuple[str, ...]
    mode: str
    width: Width
    spread: Tuple[SpreadInput, ...] = ()
    scope: Optional[Scope] = attrs.field(default=None, repr=False)
    frees: Tuple[int, ...] = ()
    around: bool = False

    @property
    def items_read_again(self) -> Tuple[str, ...]:
        """What carries items that have several readers: axes, or with spread items names within them."""
        again = self.body.read_again
        if self.spreads:
            return tuple(dict.fromkeys([entry.name for entry in self.spread if entry.slot in again]))
        combined = self.mode == "product" and len(self.axes) > 1
        return tuple([axis.parameter for axis in self.axes if combined or axis.body_slot in again])

    @property
    def spreads(self) -> bool:
        """Whether items are mappings; `spread` itself is empty when the body has no inputs to take from them."""
        return not self.axes[0].body_slot


@attrs.frozen
class Hosted:
    """A whole frame that a worker process runs by a schedule of its own."""

    name: str
    plan: Plan
    results: Tuple[int, ...] = ()
    frees: Tuple[int, ...] = ()

    @property
    def outputs(self) -> Tuple[str, ...]:
        return self.plan.output_names


PlanStep = Union[Step, MapStep, Hosted]


@attrs.frozen
class Program:
    """A bundle as a worker process gets it: steps over `size` slots, values in by `imports` and out by `exports`."""

    steps: Tuple[PlanStep, ...]
    size: int
    imports: Tuple[int, ...]
    exports: Tuple[int, ...]


@attrs.frozen(eq=False)
class Sealed:
    """A program ready to be sent: the pickle of its steps without what is `apart`.

    These are the functions, and the classes of errors to try again on: what they refer to may change, so they are
    pickled for each run.
    """

    outline: bytes
    apart: Tuple[object, ...]


_SENT = ("payload", "sealed")


class Bundle(msgspec.Struct, frozen=True):
    """Steps that run one after another on one worker without asking anybody.

    `waits` is the number of bundles it waits for, `releases` are those that wait for it, `rank` the number of steps on
    the longest path from its start to the end of the frame. It needs the slots in `imports` and hands back `exports`.
    `frees` are slots to empty when it has finished; a slot in `shared_frees` is emptied by the last of its readers.
    One that runs in a process is `sealed`, and had `payload` bytes to send when the plan was made.
    """

    index: int
    steps: Tuple[PlanStep, ...]
    placement: str
    reason: str
    imports: Tuple[int, ...]
    exports: Tuple[int, ...]
    waits: int = 0
    releases: Tuple[int, ...] = ()
    rank: int = 0
    wave: int = 0
    frees: Tuple[int, ...] = ()
    shared_frees: Tuple[int, ...] = ()
    payload: Optional[int] = None
    sealed: Optional[Sealed] = None

    def __eq__(self, other: object) -> bool:
        # What is sent follows from the rest, but for the number of bytes that pickle happens to write.
        return type(other) is Bundle and self._compared == other._compared

    def __hash__(self) -> int:
        return hash(self._compared)

    def __repr__(self) -> str:
        return _shown(self, hidden=_SENT)

    @property
    def _compared(self) -> Tuple[object, ...]:
        return tuple([getattr(self, name) for name in self.__struct_fields__ if name not in _SENT])


@attrs.frozen
class Plan:
    """What one frame runs: bundles over numbered slots.

    Attributes
    ----------
    name : str
        The pipeline's name.
    options : Options
        The modes and the number of workers it was lowered for.
    depth : int
        How many maps enclose this frame; 0 for the run itself.
    slots : tuple of Slot
        Slot 0 belongs to the runtime.
    inputs : tuple of int
        The slots the caller fills, in the order of the graph's inputs.
    bundles : tuple of Bundle
        In an order in which they could run one after another.
    waves : tuple of tuple of int
        Indices into `bundles`: those of wave ``k`` wait for something in wave ``k - 1``.
    outputs : tuple of int
        The slots handed back, in the order of the graph's outputs.
    read_again : tuple of int
        Inputs with several readers, for whom streams of items are listed.
    """

    name: str
    options: Options
    depth: int
    slots: Tuple[Slot, ...]
    inputs: Tuple[int, ...]
    bundles: Tuple[Bundle, ...]
    waves: Tuple[Tuple[int, ...], ...]
    outputs: Tuple[int, ...]
    read_again: Tuple[int, ...] = ()

    @property
    def input_names(self) -> Tuple[str, ...]:
        return tuple([self.slots[slot].name for slot in self.inputs])

    @property
    def output_names(self) -> Tuple[str, ...]:
        return tuple([self.slots[slot].name for slot in self.outputs])

    @property
    def straight(self) -> bool:
        """Whether a single worker runs the whole frame without asking anybody."""
        return len(self.bundles) == 1 and self.bundles[0].placement != FRAMES

    @property
    def critical_path(self) -> int:
        """Steps on the longest chain of bundles."""
        return max([bundle.rank for bundle in self.bundles], default=0)


def is_timed(bundle: Bundle) -> bool:
    """Return whether the process that runs a bundle may have to be killed for a timeout."""
    if bundle.placement != PROCESS:
        return False
    return any(step.policy.timeout is not None and not step.is_coroutine for step in calls_in(bundle.steps))


def timed_bundles(plan: Plan) -> Iterator[Bundle]:
    """Yield the bundles of a plan, and of the frames of its maps, for which `is_timed` holds."""
    for bundle in plan.bundles:
        if is_timed(bundle):
            yield bundle
        elif bundle.placement == FRAMES:
            for step in bundle.steps:
                if isinstance(step, MapStep):
                    yield from timed_bundles(step.body)


def calls_in(steps: Sequence[PlanStep]) -> Iterator[Step]:
    """Yield the calls among steps, those in the bodies of maps and of hosted frames included."""
    for step in steps:
        if isinstance(step, Step):
            yield step
        else:
            for bundle in (step.body if isinstance(step, MapStep) else step.plan).bundles:
                yield from calls_in(bundle.steps)


def reader_of(steps: Sequence[PlanStep], slot: int) -> Optional[Step]:
    """Return the first call among steps that reads a slot, also by way of a map; None when none does."""
    found: Optional[Step] = None
    for step in steps:
        if isinstance(step, Step):
            found = step if any(argument.slot == slot for argument in step.arguments) else None
        elif isinstance(step, MapStep):
            inner = [axis.body_slot for axis in step.axes if axis.slot == slot]
            inner += [body_slot for body_slot, outer in step.shared if outer == slot]
            body = [each for bundle in step.body.bundles for each in bundle.steps]
            found = next((reader for reader in (reader_of(body, each) for each in inner) if reader), None)
        else:
            found = reader_of([each for bundle in step.plan.bundles for each in bundle.steps], slot)
        if found is not None:
            return found
    return None


def output_path(step: Step) -> str:
    """Return what tells one call of a frame from the others: the path of its first output, names joined by dots."""
    return ".".join((*(step.scope.path if step.scope else ()), step.outputs[0]))


def _shown(record: msgspec.Struct, hidden: Tuple[str, ...]) -> str:
    fields = [name for name in record.__struct_fields__ if name not in hidden]
    return f"{type(record).__name__}({', '.join([f'{name}={getattr(record, name)!r}' for name in fields])})"
