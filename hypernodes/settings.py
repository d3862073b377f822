"""What a user may change on a pipeline at any time in; who runs it and who listens to it, inheritance included, out."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Callable, Dict, Optional, Sequence, Tuple

from hypernodes.backends.base import Backend
from hypernodes.errors import OptionError
from hypernodes.events.callbacks import PipelineCallback
from hypernodes.events.hooks import Listeners, Path
from hypernodes.ir.graph import Call, Graph

Told = Callable[[], None]


class Settings:
    """What a user may change on a pipeline at any time; nested pipelines without their own take their parent's."""

    __slots__ = ("_told", "backend", "cache", "callbacks")

    def __init__(
        self,
        backend: Optional[Backend] = None,
        cache: object = None,
        callbacks: Optional[Tuple[PipelineCallback, ...]] = None,
    ) -> None:
        self.backend = backend
        self.cache = cache
        self.callbacks = callbacks
        # Whom a change concerns, by id: a table without a lock, which another thread might hold when a node forks.
        self._told: Dict[int, weakref.WeakMethod[Told]] = {}

    def changed(self) -> None:
        """Tell whom the last change concerns."""
        for told in list(self._told.values()):
            call = told()
            if call is not None:
                call()

    def tell(self, call: Told) -> None:
        """Call this method at each change, as long as its object lives."""
        told, number = self._told, id(call.__self__)  # type: ignore[attr-defined]
        told[number] = weakref.WeakMethod(call, lambda _: told.pop(number, None))

    def __reduce__(self) -> Tuple[object, ...]:
        # In another process only the options mean something; listeners and caches stay where they are.
        return Settings, (self.backend,)


class Adjustable:
    """What has settings, and lets them be read and set."""

    _settings: Settings

    @property
    def backend(self) -> Optional[Backend]:
        """How it runs; None inherits. May be set at any time."""
        return self._settings.backend

    @backend.setter
    def backend(self, backend: Optional[Backend]) -> None:
        self._settings.backend = checked_backend(backend)
        self._settings.changed()

    @property
    def cache(self) -> object:
        """Where results will be kept; None inherits. This version keeps nothing yet."""
        return self._settings.cache

    @cache.setter
    def cache(self, cache: object) -> None:
        self._settings.cache = cache
        self._settings.changed()

    @property
    def callbacks(self) -> Optional[Tuple[PipelineCallback, ...]]:
        """Who is told what happens; None inherits. Set a new sequence to change it."""
        return self._settings.callbacks

    @callbacks.setter
    def callbacks(self, callbacks: Optional[Sequence[PipelineCallback]]) -> None:
        self._settings.callbacks = checked_callbacks(callbacks)
        self._settings.changed()


def checked_backend(backend: object) -> Optional[Backend]:
    """Return `backend`, or raise an `OptionError` when it is none."""
    if backend is None or isinstance(backend, Backend):
        return backend
    raise OptionError("backend", repr(backend), "pass a LocalBackend(...), or None to inherit")


def checked_callbacks(callbacks: object) -> Optional[Tuple[PipelineCallback, ...]]:
    """Return the callbacks as a tuple, or raise an `OptionError` when one is none."""
    if callbacks is None:
        return None
    if isinstance(callbacks, PipelineCallback):
        raise OptionError("callbacks", repr(callbacks), "pass a list: callbacks=[...]")
    if not isinstance(callbacks, Iterable):
        raise OptionError("callbacks", repr(callbacks), "pass a list: callbacks=[...]")
    found = tuple(callbacks)
    for callback in found:
        if not isinstance(callback, PipelineCallback):
            made = isinstance(callback, type) and issubclass(callback, PipelineCallback)
            fix = f"pass an object: {callback.__name__}()" if made else "derive your class from PipelineCallback"
            raise OptionError("callbacks", repr(callback), fix)
    return found


def tell(call: Told, graph: Graph, settings: Settings) -> None:
    """Call this method when the settings of a pipeline change, or of one that its graph has within."""
    settings.tell(call)
    for operation in graph.operations:
        if not isinstance(operation, Call) and isinstance(operation.owner, Settings):
            tell(call, operation.graph, operation.owner)


def listeners(graph: Graph, name: str, callbacks: Optional[Sequence[PipelineCallback]]) -> Optional[Listeners]:
    """Return who listens to which pipeline, or None when nobody listens anywhere."""
    found: Dict[Path, Sequence[PipelineCallback]] = {}
    _collect(graph, (name,), callbacks or (), found)
    return Listeners(found, found[(name,)]) if any(found.values()) else None


def _collect(
    graph: Graph, path: Path, inherited: Sequence[PipelineCallback], found: Dict[Path, Sequence[PipelineCallback]]
) -> None:
    """Find who listens to which pipeline: its own callbacks, or those of the one around it."""
    found[path] = inherited
    for operation in graph.operations:
        if not isinstance(operation, Call):
            own = getattr(operation.owner, "callbacks", None)
            _collect(operation.graph, (*path, operation.name), inherited if own is None else own, found)
