"""A seed in; a random pipeline, inputs that fit it, and what it has to return out.

`Spec` describes a pipeline as plain data. `build` makes the pipeline that the engine runs, `evaluate` is the meaning of
the same data in plain Python: values on demand, by name, one after another. The two share the node functions and
nothing else, so that they can disagree.

Every value has a *kind*, which says what can read it: anything reads an ``int``, a map needs a list of known length.
"""

from __future__ import annotations

import asyncio
import inspect
import itertools
import random
import zlib
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple, Union

import attrs

from hypernodes import LocalBackend, Pipeline, node

MODES = ("sequential", "async", "threaded", "parallel")
PAIRS = tuple(itertools.product(MODES, MODES))
PARALLEL_PAIRS = tuple(pair for pair in PAIRS if "parallel" in pair)
LOCAL_PAIRS = tuple(pair for pair in PAIRS if "parallel" not in pair)
ids = "-".join
"""Names a pair of modes as a parameter of a test."""


@attrs.frozen
class Listing:
    """The kind of a list of `length` values of kind `of`."""

    length: int
    of: object = int


@attrs.frozen
class Rows:
    """The kind of a list of mappings, each with a value for the fields (name, kind); some leave an optional one out."""

    length: int
    fields: Tuple[Tuple[str, object, bool], ...]


Kind = object


def value(kind: Kind, seed: int) -> Any:
    """Return the value of a kind that belongs to a seed; always the same one."""
    if isinstance(kind, Listing):
        return [value(kind.of, stir(seed, number)) for number in range(kind.length)]
    if isinstance(kind, Rows):
        return [
            {
                name: value(of, stir(seed, number, name))
                for name, of, optional in kind.fields
                if not optional or stir(seed, number, name, "?") % 2
            }
            for number in range(kind.length)
        ]
    return seed % 1000 if seed % 5 else None if seed % 2 else f"s{seed % 100}"


def stir(*parts: object) -> int:
    """Return a number that depends on every part, and on nothing else."""
    return zlib.crc32(repr(parts).encode())


# -- what the data says -----------------------------------------------------------------------------------------------


@attrs.frozen
class Parameter:
    """A parameter and the name it reads, which is its own."""

    name: str
    default: object = inspect.Parameter.empty
    keyword: bool = False

    @property
    def optional(self) -> bool:
        return self.default is not inspect.Parameter.empty


@attrs.frozen
class NodeSpec:
    """A node: `form` is a function made here, or an object with ``__call__`` of an importable class."""

    name: str
    tag: int
    parameters: Tuple[Parameter, ...]
    outputs: Tuple[Tuple[str, Kind], ...]
    coroutine: bool = False
    form: str = "function"


@attrs.frozen
class NestedSpec:
    """A nested pipeline: `feeds` are (outer, inner) names of inputs, `exports` (inner, outer) names of outputs."""

    name: str
    pipeline: Spec
    feeds: Tuple[Tuple[str, str], ...]
    exports: Tuple[Tuple[str, str], ...]
    axes: Tuple[str, ...] = ()
    mode: str = "zip"
    spread: str = ""


@attrs.frozen
class Spec:
    """A pipeline: its members in any order, the kinds of its inputs and of its outputs."""

    name: str
    members: Tuple[Union[NodeSpec, NestedSpec], ...]
    inputs: Tuple[Tuple[str, Kind, bool], ...]
    outputs: Tuple[Tuple[str, Kind], ...]


def compute(tag: int, kinds: Sequence[Kind], arguments: Mapping[str, Any]) -> Any:
    """Return what a node returns: pure, and different for different arguments."""
    seed = stir(tag, sorted(arguments.items()))
    found = tuple(value(kind, stir(seed, number)) for number, kind in enumerate(kinds))
    return found if len(found) > 1 else found[0]


class Work:
    """A node's function as an object of an importable class."""

    def __init__(self, tag: int, kinds: Tuple[Kind, ...], signature: inspect.Signature) -> None:
        self.tag = tag
        self.kinds = kinds
        self.__signature__ = signature

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        bound = self.__signature__.bind(*args, **kwargs)
        bound.apply_defaults()
        return compute(self.tag, self.kinds, bound.arguments)


# -- data to pipeline -------------------------------------------------------------------------------------------------


def function(spec: NodeSpec) -> Callable[..., Any]:
    """Return the function of a node."""
    kinds = tuple(kind for _, kind in spec.outputs)
    signature = inspect.Signature(
        [
            inspect.Parameter(
                p.name,
                inspect.Parameter.KEYWORD_ONLY if p.keyword else inspect.Parameter.POSITIONAL_OR_KEYWORD,
                default=p.default,
            )
            for p in spec.parameters
        ]
    )
    if spec.form == "object" and not spec.coroutine:
        return Work(spec.tag, kinds, signature)
    arguments = "{" + ", ".join(f"{p.name!r}: {p.name}" for p in spec.parameters) + "}"
    lines = [
        f"{'async ' if spec.coroutine else ''}def {spec.name}{signature}:",
        *(["    await sleep(0)"] if spec.coroutine and spec.tag % 2 else []),
        f"    return compute({spec.tag}, kinds, {arguments})",
    ]
    namespace: Dict[str, Any] = {"compute": compute, "kinds": kinds, "sleep": asyncio.sleep, "__name__": "made_up"}
    exec("\n".join(lines), namespace)
    return namespace[spec.name]


def build(spec: Spec, backends: Optional[random.Random] = None, **options: Any) -> Pipeline:
    """Return the pipeline of a spec; with `backends`, some nested pipelines get one of their own."""
    members: List[Any] = []
    for member in spec.members:
        if isinstance(member, NodeSpec):
            names = tuple(name for name, _ in member.outputs)
            output_name = names if len(names) > 1 else names[0]
            members.append(node(output_name=output_name, name=member.name)(function(member)))
            continue
        own = None
        if backends is not None and backends.random() < 0.5:
            pair = backends.choice(LOCAL_PAIRS)
            own = LocalBackend(*pair, max_workers=backends.choice((1, 2, 8)))
        inner = build(member.pipeline, backends, backend=own)
        members.append(
            inner.as_node(
                input_mapping={outer: inner for outer, inner in member.feeds if outer != inner},
                output_mapping={inner: outer for inner, outer in member.exports if inner != outer},
                map_over=member.spread or member.axes or None,
                map_mode=member.mode,
                name=member.name,
            )
        )
    return Pipeline(nodes=members, name=spec.name, **options)


# -- data to meaning --------------------------------------------------------------------------------------------------


def evaluate(spec: Spec, provided: Mapping[str, Any], asked: Optional[Sequence[str]] = None) -> Dict[str, Any]:
    """Return what a run of `spec` returns: the outputs of its members, or those asked for; not what was provided."""
    known = dict(provided)
    producer = {name: member for member in spec.members for name in _outputs_of(member)}

    def available(name: str) -> bool:
        if name in known:
            return True
        if name not in producer:
            return False
        for output, found in _evaluate_member(producer[name], available, known).items():
            known.setdefault(output, found)
        return True

    names = [name for member in spec.members for name in _outputs_of(member)]
    wanted = [name for name in names if name not in provided] if asked is None else asked
    return {name: known[name] for name in wanted if available(name)}


def evaluate_map(
    spec: Spec, inputs: Mapping[str, Any], axes: Sequence[str], mode: str, asked: Optional[Sequence[str]] = None
) -> Dict[str, List[Any]]:
    """Return what a map of `spec` returns."""
    names = [name for name, _ in spec.outputs if name not in inputs] if asked is None else asked
    combine = itertools.product if mode == "product" else zip
    rows = [
        evaluate(spec, {**inputs, **dict(zip(axes, row))}, names) for row in combine(*[inputs[axis] for axis in axes])
    ]
    return {name: [row[name] for row in rows] for name in names}


def _outputs_of(member: Union[NodeSpec, NestedSpec]) -> Tuple[str, ...]:
    if isinstance(member, NodeSpec):
        return tuple(name for name, _ in member.outputs)
    return tuple(outer for _, outer in member.exports)


def _evaluate_member(
    member: Union[NodeSpec, NestedSpec], available: Callable[[str], bool], known: Dict[str, Any]
) -> Dict[str, Any]:
    if isinstance(member, NodeSpec):
        arguments = {p.name: known[p.name] if available(p.name) else p.default for p in member.parameters}
        found = compute(member.tag, [kind for _, kind in member.outputs], arguments)
        names = _outputs_of(member)
        return dict(zip(names, found)) if len(names) > 1 else {names[0]: found}
    inner = member.pipeline
    if member.spread:
        assert available(member.spread)
        results = [evaluate(inner, item) for item in known[member.spread]]
        return {outer: [row[name] for row in results] for name, outer in member.exports}
    given = {name: known[outer] for outer, name in member.feeds if available(outer)}
    if not member.axes:
        found = evaluate(inner, given)
        return {outer: found[name] for name, outer in member.exports}
    inner_of = dict(member.feeds)
    columns = evaluate_map(inner, given, [inner_of[axis] for axis in member.axes], member.mode)
    return {outer: columns[name] for name, outer in member.exports}


# -- seed to data -----------------------------------------------------------------------------------------------------

SHARED = {f"x{number}": number * 11 for number in range(4)}
"""Inputs that pipelines of one tree have in common, with the default that a reader may declare."""


class Maker:
    """Draws one tree of pipelines."""

    def __init__(self, seed: int, depth: int = 3, coroutines: bool = True) -> None:
        self.rng = random.Random(seed)
        self.depth = depth
        self.coroutines = coroutines
        self._numbers = itertools.count()

    def spec(self, depth: Optional[int] = None) -> Spec:
        depth = self.depth if depth is None else depth
        rng = self.rng
        inputs: Dict[str, Tuple[Kind, bool]] = {}
        values: Dict[str, Kind] = {}
        members: List[Union[NodeSpec, NestedSpec]] = []
        name = f"p{next(self._numbers)}"
        for _ in range(rng.choice((1, 2, 2, 3, 4, 5))):
            if depth and rng.random() < 0.4:
                member: Union[NodeSpec, NestedSpec] = self._nested(self.spec(depth - 1), inputs, values)
            else:
                member = self._node(inputs, values)
            members.append(member)
        rng.shuffle(members)
        outputs = [(output, values[output]) for member in members for output in _outputs_of(member)]
        found = tuple((key, kind, optional) for key, (kind, optional) in inputs.items())
        return Spec(name, tuple(members), found, tuple(outputs))

    def _read_input(self, inputs: Dict[str, Tuple[Kind, bool]], name: str, kind: Kind, optional: bool) -> str:
        before = inputs.get(name)
        inputs[name] = (kind, optional and (before is None or before[1]))
        return name

    def _node(self, inputs: Dict[str, Tuple[Kind, bool]], values: Dict[str, Kind]) -> NodeSpec:
        rng = self.rng
        number = next(self._numbers)
        parameters: Dict[str, Parameter] = {}
        for _ in range(rng.choice((0, 1, 1, 2, 2, 3))):
            keyword = rng.random() < 0.2
            if values and rng.random() < 0.65:
                name = rng.choice(sorted(values))
                default = -1 if rng.random() < 0.2 else inspect.Parameter.empty
            else:
                name = rng.choice(sorted(SHARED))
                default = SHARED[name] if rng.random() < 0.5 else inspect.Parameter.empty
            parameters[name] = Parameter(name, default, keyword)
        for p in parameters.values():
            if p.name in SHARED:
                self._read_input(inputs, p.name, int, p.optional)
        # Keyword-only behind the others, and among the others those with a default last, as Python wants them.
        ordered = sorted(parameters.values(), key=lambda p: (p.keyword, p.optional and not p.keyword))
        outputs = []
        for index in range(rng.choice((1, 1, 1, 2, 3))):
            kind: Kind = int
            if rng.random() < 0.45:
                kind = Listing(rng.choice((0, 1, 2, 3)), Listing(2) if rng.random() < 0.2 else int)
            outputs.append((f"v{number}_{index}", kind))
        values.update(outputs)
        return NodeSpec(
            f"n{number}",
            number,
            tuple(ordered),
            tuple(outputs),
            self.coroutines and rng.random() < 0.3,
            rng.choice(("function", "function", "object")),
        )

    def _nested(self, inner: Spec, inputs: Dict[str, Tuple[Kind, bool]], values: Dict[str, Kind]) -> NestedSpec:
        rng = self.rng
        number = next(self._numbers)
        shape = rng.choice(("once", "once", "zip", "zip", "product", "spread"))
        axes: Tuple[str, ...] = ()
        spread = ""
        feeds: List[Tuple[str, str]] = []
        mapped: Dict[str, str] = {}
        length = 1
        if shape == "spread":
            spread = f"rows{number}"
            length = rng.choice((0, 1, 2, 3))
            self._read_input(inputs, spread, Rows(length, inner.inputs), False)
        elif shape != "once" and inner.inputs:
            chosen = rng.sample([name for name, _, _ in inner.inputs], min(len(inner.inputs), rng.choice((1, 1, 2))))
            length = rng.choice((0, 1, 2, 3))
            kinds = {name: kind for name, kind, _ in inner.inputs}
            total = 1
            for name in chosen:
                own = length if shape == "zip" else rng.choice((0, 1, 2, 3))
                total *= own
                mapped[name] = self._source(Listing(own, kinds[name]), inputs, values, f"xs{number}_{name}", False)
            length = length if shape == "zip" else total
            # One outer value may feed two axes only under two names; as_node knows each outer name once.
            if len(set(mapped.values())) < len(mapped):
                for index, name in enumerate(sorted(mapped)):
                    kind = values.get(mapped[name]) or inputs[mapped[name]][0]
                    mapped[name] = f"ys{number}_{index}"
                    self._read_input(inputs, mapped[name], kind, False)
            axes = tuple(mapped[name] for name in chosen)
        if not spread:
            taken = set(mapped.values())
            for name, kind, optional in inner.inputs:
                outer = mapped.get(name)
                if outer is None:
                    outer = self._source(kind, inputs, values, name, optional)
                    if outer in taken:
                        outer = self._read_input(inputs, f"z{number}_{name}", kind, optional)
                    taken.add(outer)
                feeds.append((outer, name))
        exports = []
        for name, kind in inner.outputs:
            outer = f"w{number}_{name}" if rng.random() < 0.4 else name
            values[outer] = Listing(length, kind) if axes or spread else kind
            exports.append((name, outer))
        mode = "product" if shape == "product" else "zip"
        return NestedSpec(f"m{number}", inner, tuple(feeds), tuple(exports), axes, mode, spread)

    def _source(
        self, kind: Kind, inputs: Dict[str, Tuple[Kind, bool]], values: Dict[str, Kind], name: str, optional: bool
    ) -> str:
        """Return a name to read a value of that kind from: one defined already, or an input."""
        fitting = sorted(output for output, found in values.items() if found == kind or kind is int)
        if fitting and self.rng.random() < 0.6:
            return self.rng.choice(fitting)
        return self._read_input(inputs, name, kind, optional)


@attrs.frozen
class Case:
    """A spec, inputs for a run of it, and what is asked for (None: everything)."""

    seed: int
    spec: Spec
    inputs: Dict[str, Any]
    asked: Optional[Tuple[str, ...]]

    @property
    def expected(self) -> Dict[str, Any]:
        return evaluate(self.spec, self.inputs, self.asked)


@attrs.frozen
class MapCase:
    """A spec, inputs for a map of it, the axes and how they combine, and what is asked for (None: everything)."""

    seed: int
    spec: Spec
    inputs: Dict[str, Any]
    axes: Tuple[str, ...]
    mode: str
    asked: Optional[Tuple[str, ...]]

    @property
    def expected(self) -> Dict[str, List[Any]]:
        return evaluate_map(self.spec, self.inputs, self.axes, self.mode, self.asked)

    def run(self, pipeline: Pipeline) -> Dict[str, List[Any]]:
        return pipeline.map(self.inputs, self.axes, self.mode, self.asked)


def random_case(seed: int, depth: int = 3, coroutines: bool = True) -> Case:
    """Return the case of a seed: all required inputs and some others, some outputs overridden, some not asked for."""
    maker = Maker(seed, depth, coroutines)
    spec, rng = maker.spec(), maker.rng
    inputs = _inputs(spec, rng, seed)
    return Case(seed, spec, inputs, _asked(spec, rng, inputs))


def random_map(seed: int, depth: int = 2, coroutines: bool = True) -> MapCase:
    """Return the case of a seed; an axis is an input, or an output that each item overrides."""
    maker = Maker(seed, depth, coroutines)
    spec, rng = maker.spec(), maker.rng
    inputs = _inputs(spec, rng, seed)
    asked = _asked(spec, rng, inputs)
    kinds = {name: kind for name, kind, _ in spec.inputs}
    kinds.update((name, dict(spec.outputs)[name]) for name in overridable(spec) if not asked or name not in asked)
    candidates = sorted(kinds)
    axes = tuple(rng.sample(candidates, min(len(candidates), rng.choice((1, 1, 2)))))
    if not axes:
        return random_map(seed + 100_000, depth, coroutines)
    mode = rng.choice(("zip", "product"))
    length = rng.choice((0, 1, 2, 3, 7))
    for axis in axes:
        own = length if mode == "zip" else rng.choice((0, 1, 2, 3))
        inputs[axis] = value(Listing(own, kinds[axis]), stir(seed, axis, "axis"))
    return MapCase(seed, spec, inputs, axes, mode, asked)


def _inputs(spec: Spec, rng: random.Random, seed: int) -> Dict[str, Any]:
    inputs = {
        name: value(kind, stir(seed, name))
        for name, kind, optional in spec.inputs
        if not optional or rng.random() < 0.5
    }
    for name in overridable(spec):
        if rng.random() < 0.1:
            inputs[name] = value(dict(spec.outputs)[name], stir(seed, name))
    return inputs


def overridable(spec: Spec) -> List[str]:
    """Return the outputs a run may override: not those of a pipeline nested without a map, which reads them itself."""
    inlined = {
        name
        for member in spec.members
        if isinstance(member, NestedSpec) and not (member.axes or member.spread)
        for name in _outputs_of(member)
    }
    return [name for name, _ in spec.outputs if name not in inlined]


def _asked(spec: Spec, rng: random.Random, inputs: Mapping[str, Any]) -> Optional[Tuple[str, ...]]:
    names = [name for name, _ in spec.outputs if name not in inputs]
    if not names or rng.random() < 0.6:
        return None
    return tuple(rng.sample(names, rng.randint(1, len(names))))
