"""Plain functions in, a typed dataflow graph, a plan you can read and its results out.

>>> from hypernodes import Pipeline, node
"""

from __future__ import annotations

from hypernodes._version import __version__
from hypernodes.backends.local import LocalBackend
from hypernodes.backends.plans import ExecutionPlan
from hypernodes.errors import HyperNodesError
from hypernodes.events.callbacks import CallbackContext, PipelineCallback
from hypernodes.node import Node, node
from hypernodes.pipeline import Pipeline, PipelineNode
from hypernodes.results import MapResult

__all__ = [
    "CallbackContext",
    "ExecutionPlan",
    "HyperNodesError",
    "LocalBackend",
    "MapResult",
    "Node",
    "Pipeline",
    "PipelineCallback",
    "PipelineNode",
    "__version__",
    "node",
]
