"""A pipeline and the names it has outside in, a node of another pipeline out."""

from __future__ import annotations

from collections.abc import Mapping as AnyMapping
from typing import TYPE_CHECKING, Any, Dict, Mapping, Optional

from hypernodes.asking import Names, check_mode, check_names, names_of, normal
from hypernodes.errors import OptionError, UnknownNameError, did_you_mean
from hypernodes.ir.build import declare_nested
from hypernodes.ir.graph import Operation

if TYPE_CHECKING:
    from hypernodes.pipeline import Pipeline


class PipelineNode:
    """A pipeline as a node of another; made by `Pipeline.as_node`."""

    def __init__(
        self,
        pipeline: Pipeline,
        input_mapping: Optional[Mapping[str, Names]],
        output_mapping: Optional[Mapping[str, str]],
        map_over: Optional[Names],
        map_mode: str,
        name: str,
    ) -> None:
        self.pipeline = pipeline
        self.name = name
        self.map_over = () if map_over is None else names_of(map_over)
        if map_over is not None and not self.map_over:
            raise OptionError("map_over", "()", "name at least one input, or leave it out")
        self._map_mode = map_mode
        check_names(self.map_over, "map_over")
        check_mode(map_mode)
        self._outer_of = _outer_inputs(pipeline, _checked("input_mapping", input_mapping))
        self._output_mapping = _outer_outputs(pipeline, _checked("output_mapping", output_mapping))
        outer = tuple(dict.fromkeys(self._outer_of.values()))
        # A single name that is no input is spread; beside a mapping, which would say nothing then, it is a mistake.
        if len(self.map_over) > 1 or input_mapping:
            for axis in self.map_over:
                if axis not in outer:
                    raise UnknownNameError(pipeline.name, "input to map over", axis, outer)

    def declare(self) -> Operation:
        """Return this node as an operation whose reads are still only names."""
        return declare_nested(
            self.pipeline.graph,
            self.name,
            self._outer_of,
            self._output_mapping,
            self.map_over,
            self._map_mode,
            self.pipeline._settings,
            self.pipeline._type_check is not False,
        )

    def __repr__(self) -> str:
        over = f" mapped over {', '.join(self.map_over)}" if self.map_over else ""
        return f"<PipelineNode {self.name}{over} of {self.pipeline!r}>"


def _checked(option: str, mapping: Optional[Mapping[str, Any]]) -> Mapping[str, Any]:
    inside, outside = ("outer name", "input") if option == "input_mapping" else ("output", "outer name")
    if mapping is not None and not isinstance(mapping, AnyMapping):
        raise OptionError(option, repr(mapping), f"pass a dict of {inside} → {outside}")
    checked = {normal(key): normal(value) for key, value in (mapping or {}).items()}
    for name in checked if inside == "outer name" else checked.values():
        if not isinstance(name, str):
            raise OptionError(option, repr(mapping), f"{name!r} is no name; pass a dict of {inside} → {outside}")
    return checked


def _outer_inputs(pipeline: Pipeline, mapping: Mapping[str, Names]) -> Dict[str, str]:
    """Return input of the pipeline → outer name, for every input."""
    known = pipeline.graph.input_names
    found: Dict[str, str] = {}
    for outer, names in mapping.items():
        for inner in names_of(names, "input_mapping"):
            if inner not in known:
                raise UnknownNameError(pipeline.name, "input (of input_mapping)", str(inner), known)
            if inner in found and found[inner] != outer:
                free = [name for name in known if name not in found]
                raise OptionError(
                    "input_mapping",
                    repr(dict(mapping)),
                    f"{found[inner]!r} and {outer!r} both lead to the input {inner!r} of pipeline {pipeline.name!r}; "
                    f"leave one of them out, or let it lead to another{did_you_mean(str(outer), free)}",
                )
            found[inner] = outer
    return {name: found.get(name, name) for name in known}


def _outer_outputs(pipeline: Pipeline, mapping: Mapping[str, str]) -> Dict[str, str]:
    """Return output of the pipeline → outer name, for every output."""
    known = pipeline.graph.output_names
    for inner in mapping:
        if inner not in known:
            raise UnknownNameError(pipeline.name, "output (of output_mapping)", str(inner), known)
    outer_of = {name: mapping.get(name, name) for name in known}
    inner_of: Dict[str, str] = {}
    for inner, outer in outer_of.items():
        if inner_of.setdefault(outer, inner) != inner:
            raise OptionError(
                "output_mapping",
                repr(dict(mapping)),
                f"outputs {inner_of[outer]!r} and {inner!r} of pipeline {pipeline.name!r} would both be called "
                f"{outer!r}; give one of them another name",
            )
    return outer_of
