"""A pipeline and the names it has outside in, a node of another pipeline out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Dict, Optional

from hypernodes.asking import Names, check_mode, names_of
from hypernodes.errors import UnknownNameError
from hypernodes.ir.build import declare_nested
from hypernodes.ir.graph import Operation

if TYPE_CHECKING:
    from hypernodes.pipeline import Pipeline


class PipelineNode:
    """A pipeline as a node of another; made by `Pipeline.as_node`."""

    def __init__(
        self,
        pipeline: Pipeline,
        input_mapping: Dict[str, str],
        output_mapping: Dict[str, str],
        map_over: Optional[Names],
        map_mode: str,
        name: str,
    ) -> None:
        self.pipeline = pipeline
        self.name = name
        self.map_over = () if map_over is None else names_of(map_over)
        self._input_mapping = input_mapping
        self._output_mapping = output_mapping
        self._map_mode = map_mode
        graph = pipeline.graph
        check_mode(map_mode)
        for inner in input_mapping.values():
            if inner not in graph.input_names:
                raise UnknownNameError(pipeline.name, "input (of input_mapping)", str(inner), graph.input_names)
        for inner in output_mapping:
            if inner not in graph.output_names:
                raise UnknownNameError(pipeline.name, "output (of output_mapping)", str(inner), graph.output_names)
        outer = {name: name for name in graph.input_names if name not in input_mapping.values()}
        outer.update(input_mapping)
        if len(self.map_over) > 1:
            for axis in self.map_over:
                if axis not in outer:
                    raise UnknownNameError(pipeline.name, "input to map over", str(axis), tuple(outer))

    def declare(self) -> Operation:
        """Return this node as an operation whose reads are still only names."""
        return declare_nested(
            self.pipeline.graph,
            self.name,
            self._input_mapping,
            self._output_mapping,
            self.map_over,
            self._map_mode,
            self.pipeline._settings,
        )

    def __repr__(self) -> str:
        over = f" mapped over {', '.join(self.map_over)}" if self.map_over else ""
        return f"<PipelineNode {self.name}{over} of {self.pipeline!r}>"
