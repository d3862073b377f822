"""A pipeline's graph and one kind of run in (which inputs, which outputs, mapped over what), a `Prepared` out.

Each kind is prepared at its first run and kept; a change of any pipeline's settings lets all of them look again.
"""

from __future__ import annotations

from typing import Any, Dict, Mapping, Optional, Sequence, Tuple, Union

from hypernodes.asking import Names, asked_outputs, check_inputs, check_map, check_names, names_of, spellings
from hypernodes.backends.local import LocalBackend
from hypernodes.backends.prepared import Prepared, prepare
from hypernodes.backends.subrun import isolate
from hypernodes.collecting import collects
from hypernodes.ir.build import mapped
from hypernodes.ir.graph import GIVEN, Graph
from hypernodes.settings import VERSION, Settings, listeners

_DEFAULT_BACKEND = LocalBackend()


class Preparations:
    """What each kind of run of one pipeline needs."""

    def __init__(self, graph: Graph, settings: Settings) -> None:
        self._graph = graph
        self._settings = settings
        self._kept: Dict[Tuple[Any, ...], Prepared] = {}

    def of_run(self, inputs: Mapping[str, Any], output_name: Optional[Names], error_policy: str) -> Prepared:
        """Return what runs once."""
        try:
            return self._kept[(VERSION[0], output_name, tuple(inputs), error_policy)]
        except (KeyError, TypeError):
            return self._keep(inputs, output_name, error_policy)

    def of_map(
        self,
        inputs: Mapping[str, Any],
        output_name: Optional[Names],
        error_policy: str,
        axes: Tuple[str, ...],
        map_mode: str,
        fed: bool = False,
    ) -> Prepared:
        """Return what runs once per item; `fed` for a stream, whose rows come while it runs."""
        try:
            return self._kept[(VERSION[0], output_name, tuple(inputs), error_policy, axes, map_mode, fed)]
        except (KeyError, TypeError):
            return self._keep(inputs, output_name, error_policy, axes, map_mode, fed)

    def _keep(
        self, inputs: Mapping[str, Any], output_name: Optional[Names], error_policy: str, *shape: Any
    ) -> Prepared:
        hashable = output_name if output_name is None else names_of(output_name, "output_name")
        prepared = self.fresh(inputs, hashable, error_policy, *shape)
        if any(key[0] != VERSION[0] for key in list(self._kept)):
            self._kept.clear()
        key = (
            VERSION[0],
            output_name if isinstance(output_name, str) else hashable,
            tuple(inputs),
            error_policy,
            *shape,
        )
        self._kept[key] = prepared
        return prepared

    def fresh(
        self,
        inputs: Union[Mapping[str, Any], Sequence[str]],
        output_name: Optional[Names],
        error_policy: str = "raise",
        axes: Optional[Tuple[str, ...]] = None,
        map_mode: str = "zip",
        fed: bool = False,
        backend: Optional[LocalBackend] = None,
    ) -> Prepared:
        """Check the names and prepare a run, or with `axes` a map, with the pipeline's backend or another."""
        collecting = collects(error_policy)
        check_names(axes or (), "map_over")
        graph, spelled = self._graph, spellings(inputs)
        names = tuple(spelled)
        asked = asked_outputs(graph, output_name, names)
        check_inputs(graph, names)
        if axes is not None:
            check_map(graph, names, axes, map_mode)
        callbacks = listeners(graph, graph.name, self._settings.callbacks)
        own = backend or self._settings.backend or _DEFAULT_BACKEND
        graph = isolate(graph, own)
        if axes is not None:
            overrides = [name for name in names if name not in graph.input_names and name not in axes]
            returned = [name for name in asked if name in axes or name in overrides]
            graph = mapped(graph, axes, map_mode, overrides=overrides, fed=fed, returned=returned)
            spelled = {GIVEN + name if name in returned else name: given for name, given in spelled.items()}
        return prepare(graph, spelled, asked, own, callbacks, axes is not None, collecting)
