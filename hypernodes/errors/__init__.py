"""Every exception that this package raises on purpose; the exceptions of nodes are raised as they are."""

from hypernodes.errors.asking import (
    MapInputError,
    MapLengthError,
    MissingInputError,
    PlanInputsError,
    PlanVersionError,
    ReadOnceError,
    StreamLengthError,
    UnknownNameError,
)
from hypernodes.errors.base import HyperNodesError, did_you_mean, listed
from hypernodes.errors.defining import (
    CycleError,
    DuplicateOutputError,
    NodeDefinitionError,
    OptionError,
    PipelineDefinitionError,
    PlacementError,
    ReaderMismatchError,
    TypeMismatchError,
)
from hypernodes.errors.running import ClosedError, ExecutorError, NodeTimeoutError, OutputCountError, RetryError
from hypernodes.errors.workers import (
    ChangedModuleError,
    InitializerError,
    NestedWorkersError,
    NotPicklableError,
    WorkerDiedError,
    WorkerStartError,
)

__all__ = [
    "ChangedModuleError",
    "ClosedError",
    "CycleError",
    "DuplicateOutputError",
    "ExecutorError",
    "HyperNodesError",
    "InitializerError",
    "MapInputError",
    "MapLengthError",
    "MissingInputError",
    "NestedWorkersError",
    "NodeDefinitionError",
    "NodeTimeoutError",
    "NotPicklableError",
    "OptionError",
    "OutputCountError",
    "PipelineDefinitionError",
    "PlacementError",
    "PlanInputsError",
    "PlanVersionError",
    "ReadOnceError",
    "ReaderMismatchError",
    "RetryError",
    "StreamLengthError",
    "TypeMismatchError",
    "UnknownNameError",
    "WorkerDiedError",
    "WorkerStartError",
    "did_you_mean",
    "listed",
]

for _name in __all__:
    # As they are imported and as tracebacks should have them, whichever file they stand in.
    globals()[_name].__module__ = __name__
