"""Plain functions in, a typed dataflow graph, a plan you can read and its results out.

Names are imported when they are first asked for: a worker process imports this package too, and needs few of them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, List

from hypernodes._version import __version__

# At once, for the function shares its name with its module, which would be found in its place later.
from hypernodes.node import Node, node

if TYPE_CHECKING:
    from hypernodes.backends.local import LocalBackend
    from hypernodes.errors import HyperNodesError
    from hypernodes.events.callbacks import CallbackContext, PipelineCallback
    from hypernodes.nesting import PipelineNode
    from hypernodes.pipeline import Pipeline
    from hypernodes.results import MapResult, RunResult
    from hypernodes.runtime.bundle.failure import Failure
    from hypernodes.views.execution_plan import ExecutionPlan

_HOMES = {
    "CallbackContext": "hypernodes.events.callbacks",
    "ExecutionPlan": "hypernodes.views.execution_plan",
    "Failure": "hypernodes.runtime.bundle.failure",
    "HyperNodesError": "hypernodes.errors",
    "LocalBackend": "hypernodes.backends.local",
    "MapResult": "hypernodes.results",
    "Pipeline": "hypernodes.pipeline",
    "PipelineCallback": "hypernodes.events.callbacks",
    "PipelineNode": "hypernodes.nesting",
    "RunResult": "hypernodes.results",
}

__all__ = [
    "CallbackContext",
    "ExecutionPlan",
    "Failure",
    "HyperNodesError",
    "LocalBackend",
    "MapResult",
    "Node",
    "Pipeline",
    "PipelineCallback",
    "PipelineNode",
    "RunResult",
    "__version__",
    "node",
]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> List[str]:
    return sorted({*globals(), *__all__})
