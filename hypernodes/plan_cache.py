"""A request in, the `Prepared` that runs it out: made for the first such request, and kept.

A call finds what it needs by one look-up, under what it was called with; only a call of a new kind is made a `Request`
of, which another call may have made before. A change of settings forgets what is kept by the pipelines it concerns. ::

    call ─▶ (output_name, names, …) ─known──────────────────────▶ Prepared
                     └─unknown─▶ Request ─known or prepared─▶──────┘
"""

from __future__ import annotations

from typing import Any, Dict, Mapping, Optional, Tuple

from hypernodes.asking import Names, asked_outputs, check_inputs, check_map, check_names, spellings
from hypernodes.backends.local import LocalBackend
from hypernodes.backends.prepared import Prepared, prepare
from hypernodes.backends.subrun import isolate
from hypernodes.ir.build import mapped
from hypernodes.ir.graph import GIVEN, Graph
from hypernodes.request import Request
from hypernodes.settings import Settings, listeners, tell

_DEFAULT_BACKEND = LocalBackend()

KEPT = 128
"""Kinds of runs that a pipeline keeps; beyond, the one that was looked up longest ago is prepared anew."""


class PlanCache:
    """What each kind of run of one pipeline needs; forgotten when its settings change, or those of one nested in it."""

    def __init__(self, graph: Graph, settings: Settings) -> None:
        self._graph = graph
        self._settings = settings
        self.forget()
        tell(self.forget, graph, settings)

    def forget(self) -> None:
        """Let the next run of each kind be prepared anew."""
        # New tables: what is being prepared meanwhile, with the settings as they were, goes into the old ones.
        self._by_call: Dict[Tuple[Any, ...], Prepared] = {}
        self._by_request: Dict[Request, Prepared] = {}

    def of_run(self, inputs: Mapping[str, Any], output_name: Optional[Names], error_policy: str) -> Prepared:
        """Return what runs once."""
        if type(output_name) is list:
            output_name = tuple(output_name)
        try:
            return self._by_call[(output_name, tuple(inputs), error_policy)]
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
        if type(output_name) is list:
            output_name = tuple(output_name)
        try:
            return self._by_call[(output_name, tuple(inputs), error_policy, axes, map_mode, fed)]
        except (KeyError, TypeError):
            return self._keep(inputs, output_name, error_policy, axes, map_mode, fed)

    def _keep(
        self, inputs: Mapping[str, Any], output_name: Optional[Names], error_policy: str, *shape: Any
    ) -> Prepared:
        by_call, by_request = self._by_call, self._by_request
        request = Request.of(inputs, output_name, error_policy, *shape)
        prepared = by_request.pop(request, None) or self.prepared(request)
        by_request[request] = prepared
        while len(by_request) > KEPT:
            by_request.pop(next(iter(by_request)), None)
            by_call.clear()
        if output_name is None or type(output_name) in (str, tuple):
            if len(by_call) >= 4 * KEPT:  # in how many ways one may ask for the same has no bound
                by_call.clear()
            key = (output_name, tuple(inputs), error_policy, *shape)
            by_call[key] = prepared
        return prepared

    def prepared(self, request: Request, backend: Optional[LocalBackend] = None) -> Prepared:
        """Check the names and prepare what is asked for, with the pipeline's backend or another."""
        axes = request.axes
        check_names(axes or (), "map_over")
        graph, spelled = self._graph, spellings(request.names)
        names = tuple(spelled)
        asked = asked_outputs(graph, request.asked, names)
        check_inputs(graph, names)
        if axes is not None:
            check_map(graph, names, axes, request.map_mode)
        heard = listeners(graph, graph.name, self._settings.callbacks)
        own = backend or self._settings.backend or _DEFAULT_BACKEND
        graph = isolate(graph, own)
        if axes is not None:
            overrides = [name for name in names if name not in graph.input_names and name not in axes]
            returned = [name for name in asked if name in axes or name in overrides]
            graph = mapped(graph, axes, request.map_mode, overrides=overrides, fed=request.fed, returned=returned)
            spelled = {GIVEN + name if name in returned else name: given for name, given in spelled.items()}
        return prepare(graph, spelled, asked, own, heard, request.collects)
