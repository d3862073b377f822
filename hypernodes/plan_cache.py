"""A request in, the `Executable` that runs it out: compiled for the first such request, and kept.

A call finds what it needs by one look-up, under what it was called with; only a call of a new kind is made a `Request`
of, which another call may have made before. A change of settings forgets what is kept by the pipelines it concerns. ::

    call ─▶ (output_name, names, …) ─known──────────────────────▶ Executable
                     └─unknown─▶ Request ─known or compiled─▶──────┘
"""

from __future__ import annotations

from typing import Any, Dict, Mapping, Optional, Tuple

from hypernodes.asking import Names
from hypernodes.backends import DEFAULT
from hypernodes.backends.base import Backend, Executable
from hypernodes.ir.graph import Graph
from hypernodes.request import Request
from hypernodes.settings import Settings, listeners, tell

KEPT = 128
"""Kinds of runs that a pipeline keeps; beyond, the one that was looked up longest ago is compiled anew."""


class PlanCache:
    """What each kind of run of one pipeline needs; forgotten when its settings change, or those of one nested in it."""

    def __init__(self, graph: Graph, settings: Settings) -> None:
        self._graph = graph
        self._settings = settings
        self.forget()
        tell(self.forget, graph, settings)

    def forget(self) -> None:
        """Let the next run of each kind be compiled anew."""
        # New tables: what is being compiled meanwhile, with the settings as they were, goes into the old ones.
        self._by_call: Dict[Tuple[Any, ...], Executable] = {}
        self._by_request: Dict[Request, Executable] = {}

    def of_run(self, inputs: Mapping[str, Any], output_name: Optional[Names], error_policy: str) -> Executable:
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
    ) -> Executable:
        """Return what runs once per item; `fed` for a stream, whose rows come while it runs."""
        if type(output_name) is list:
            output_name = tuple(output_name)
        try:
            return self._by_call[(output_name, tuple(inputs), error_policy, axes, map_mode, fed)]
        except (KeyError, TypeError):
            return self._keep(inputs, output_name, error_policy, axes, map_mode, fed)

    def _keep(
        self, inputs: Mapping[str, Any], output_name: Optional[Names], error_policy: str, *shape: Any
    ) -> Executable:
        by_call, by_request = self._by_call, self._by_request
        request = Request.of(inputs, output_name, error_policy, *shape)
        found = by_request.pop(request, None) or self.compiled(request)
        by_request[request] = found
        while len(by_request) > KEPT:
            by_request.pop(next(iter(by_request)), None)
            by_call.clear()
        if output_name is None or type(output_name) in (str, tuple):
            if len(by_call) >= 4 * KEPT:  # in how many ways one may ask for the same has no bound
                by_call.clear()
            key = (output_name, tuple(inputs), error_policy, *shape)
            by_call[key] = found
        return found

    def compiled(self, request: Request, backend: Optional[Backend] = None) -> Executable:
        """Compile what is asked for, with the pipeline's backend or another."""
        heard = listeners(self._graph, self._graph.name, self._settings.callbacks)
        return (backend or self._settings.backend or DEFAULT).compile(self._graph, request, heard)
