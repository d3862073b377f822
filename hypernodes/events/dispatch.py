"""Events of one run in, callbacks called out: each event once, one at a time, parents around their children.

Inlined pipelines have no step of their own, so their start and end are found here: a nested pipeline starts before the
first of its steps in a frame and ends after the last, by counts taken from the plan.
"""

from __future__ import annotations

import threading
import time
from typing import Any, Callable, Dict, Mapping, Optional, Tuple

import attrs

from hypernodes.events.callbacks import CallbackContext
from hypernodes.events.event import (
    ITEM_END,
    ITEM_START,
    MAP_END,
    MAP_START,
    NESTED_END,
    NESTED_START,
    NODE_END,
    NODE_ERROR,
    NODE_OVER,
    NODE_START,
    SEVERAL,
    Event,
    FrameKey,
)
from hypernodes.events.hooks import NESTED, Calls, Listeners, Path

MapPath = Tuple[str, ...]
StepCounts = Mapping[MapPath, Mapping[Path, int]]
"""For the frames of each map (by the maps' first results, outermost first): inlined pipeline → steps in it."""

_RUN: Tuple[FrameKey, Path, str] = ((), (), "")


class _Place:
    """Where the events of one step, or one item, are: what to call for them, and with which context."""

    __slots__ = ("calls", "context", "frame", "path", "scope")

    def __init__(self, event: Event, calls: Calls, context: CallbackContext) -> None:
        self.path, self.scope, self.frame = event.path, event.scope, event.frame
        self.calls = calls
        self.context = context


@attrs.define
class _Nested:
    """An inlined pipeline in progress in one frame."""

    left: int
    started: float


class Dispatcher:
    """Calls the callbacks of one run.

    Parameters
    ----------
    listeners : Listeners
        Who listens to which pipeline.
    counts : mapping
        Steps per inlined pipeline, for the frames of each map.
    """

    def __init__(self, listeners: Listeners, counts: StepCounts) -> None:
        self._calls_of = listeners.of
        self._nests = bool(listeners.heard & NESTED)
        self._counts = dict(counts)
        # Reentrant, since a hook may itself run something that this run observes.
        self._lock = threading.RLock()
        self._store: Dict[str, Any] = {}
        self._place: Optional[_Place] = None
        self._handlers = {kind: handler.__get__(self) for kind, handler in _HANDLERS.items()}
        self._nested: Dict[Tuple[FrameKey, Path], _Nested] = {}
        self._times: Dict[Tuple[FrameKey, Path, str], float] = {}

    def pipeline_started(self, name: str, inputs: Mapping[str, Any]) -> None:
        """Open the run."""
        with self._lock:
            self._times[_RUN] = time.perf_counter()
            self._call((name,), (), "on_pipeline_start", name, inputs)

    def pipeline_ended(self, name: str, outputs: Mapping[str, Any]) -> None:
        """Close the run."""
        with self._lock:
            duration = time.perf_counter() - self._times[_RUN]
            self._call((name,), (), "on_pipeline_end", name, outputs, duration)

    def receive(self, event: Event) -> None:
        """Call the hooks of one event."""
        with self._lock:
            self._handlers[event.kind](event)

    def _several(self, event: Event) -> None:
        handlers = self._handlers
        for each in event.payload:
            handlers[each.kind](each)

    # -- one handler per kind -----------------------------------------------------------------------------------------

    def _node_start(self, event: Event) -> None:
        if self._nests:
            self._enter(event)
        place = self._at(event)
        for call in place.calls["on_node_start"]:
            call(event.name, event.payload, place.context)

    def _node_end(self, event: Event) -> None:
        place = self._at(event)
        for call in place.calls["on_node_end"]:
            call(event.name, event.payload, event.time - event.began, place.context)
        if self._nests:
            self._leave(event)

    def _node_error(self, event: Event) -> None:
        self._call(event.path + event.scope, event.items, "on_error", event.name, event.payload)

    def _node_over(self, event: Event) -> None:
        self._enter(event)
        self._leave(event)

    def _map_start(self, event: Event) -> None:
        self._enter(event)
        parent = event.path + event.scope
        self._times[event.key] = event.time
        total, root = event.payload
        if not root:
            self._call(parent, event.items, "on_nested_pipeline_start", parent[-1], event.name)
        self._call(parent if root else (*parent, event.name), event.items, "on_map_start", total)

    def _map_end(self, event: Event) -> None:
        parent = event.path + event.scope
        duration = event.time - self._times.pop(event.key, event.time)
        root = event.payload
        self._call(parent if root else (*parent, event.name), event.items, "on_map_end", duration)
        if not root:
            self._call(parent, event.items, "on_nested_pipeline_end", parent[-1], event.name, duration)
        self._leave(event)

    def _nested_start(self, event: Event) -> None:
        self._enter(event)
        key, counts = event.payload
        maps = (*[name for name, _ in event.frame], key)
        self._counts.update({maps + inner: found for inner, found in counts.items()})
        parent = event.path + event.scope
        self._times[event.key] = event.time
        self._call(parent, event.items, "on_nested_pipeline_start", parent[-1], event.name)

    def _nested_end(self, event: Event) -> None:
        parent = event.path + event.scope
        duration = event.time - self._times.pop(event.key, event.time)
        self._call(parent, event.items, "on_nested_pipeline_end", parent[-1], event.name, duration)
        self._leave(event)

    def _item_start(self, event: Event) -> None:
        place = self._at(event)
        for call in place.calls["on_map_item_start"]:
            call(event.frame[-1][1], place.context)

    def _item_end(self, event: Event) -> None:
        place = self._at(event)
        for call in place.calls["on_map_item_end"]:
            call(event.frame[-1][1], event.time - event.began, place.context)

    # -- inlined pipelines --------------------------------------------------------------------------------------------

    def _enter(self, event: Event) -> None:
        if not self._nests:
            return
        for length in range(1, len(event.scope) + 1):
            scope = event.scope[:length]
            key = (event.frame, scope)
            if key not in self._nested:
                maps = tuple([name for name, _ in event.frame])
                self._nested[key] = _Nested(self._counts[maps][scope], event.time)
                parent = event.path + scope[:-1]
                self._call(parent, event.items, "on_nested_pipeline_start", parent[-1], scope[-1])

    def _leave(self, event: Event) -> None:
        if not self._nests:
            return
        for length in range(len(event.scope), 0, -1):
            scope = event.scope[:length]
            nested = self._nested[(event.frame, scope)]
            nested.left -= 1
            if not nested.left:
                parent = event.path + scope[:-1]
                duration = event.time - nested.started
                self._call(parent, event.items, "on_nested_pipeline_end", parent[-1], scope[-1], duration)
                del self._nested[(event.frame, scope)]

    def _call(self, path: Path, items: Tuple[int, ...], hook: str, *arguments: Any) -> None:
        calls = self._calls_of(path)[hook]
        if calls:
            context = CallbackContext(path, items, self._store)
            for call in calls:
                call(*arguments, context)

    def _at(self, event: Event) -> _Place:
        """Return the place of an event: most often that of the one before, or of another item beside it."""
        place = self._place
        if place is None or place.scope is not event.scope or place.path is not event.path:
            path = event.path + event.scope
            context = CallbackContext(path, event.items, self._store)
            place = self._place = _Place(event, self._calls_of(path), context)
        elif place.frame is not event.frame:
            place.frame = event.frame
            place.context = CallbackContext(place.context.pipeline_path, event.items, self._store)
        return place


_HANDLERS: Dict[str, Callable[[Dispatcher, Event], None]] = {
    NODE_START: Dispatcher._node_start,
    NODE_END: Dispatcher._node_end,
    NODE_ERROR: Dispatcher._node_error,
    NODE_OVER: Dispatcher._node_over,
    MAP_START: Dispatcher._map_start,
    MAP_END: Dispatcher._map_end,
    NESTED_START: Dispatcher._nested_start,
    NESTED_END: Dispatcher._nested_end,
    ITEM_START: Dispatcher._item_start,
    ITEM_END: Dispatcher._item_end,
    SEVERAL: Dispatcher._several,
}
