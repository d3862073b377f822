"""The hooks a user overrides, and the context each call gets."""

from __future__ import annotations

from typing import Any, Dict, Mapping, Optional, Tuple

import attrs


@attrs.define(eq=False)
class CallbackContext:
    """Where an event happened, and a store that all callbacks of one run share.

    Attributes
    ----------
    pipeline_path : tuple of str
        Names of the pipelines from the outermost to the one the event is about.
    items : tuple of int
        Indices of the enclosing map items, outermost first.
    """

    pipeline_path: Tuple[str, ...]
    items: Tuple[int, ...]
    _store: Dict[str, Any]

    @property
    def depth(self) -> int:
        """How many pipelines enclose the one the event is about; 0 for the outermost."""
        return len(self.pipeline_path) - 1

    @property
    def item_index(self) -> Optional[int]:
        """The index of the innermost enclosing item, None outside of any map."""
        return self.items[-1] if self.items else None

    def get(self, key: str, default: Any = None) -> Any:
        """Return what a callback of this run stored under `key`."""
        return self._store.get(key, default)

    def set(self, key: str, value: Any) -> None:
        """Store `value` under `key` for the callbacks of this run."""
        self._store[key] = value


class PipelineCallback:
    """Override what you want to hear of; every hook does nothing by default.

    Hooks are called one at a time, in causal order: starts before ends, a pipeline's events around those of its nodes.
    They are called in this process, in a thread of their own: a slow one holds up those behind it, and the end of the
    run. Where everything runs in the caller's thread they are called there. Durations are in seconds and measured where
    the work ran. A hook that raises fails the run. One that is not overridden costs nothing; which are is looked at
    when the first run of its kind is planned.
    """

    def on_pipeline_start(self, pipeline_id: str, inputs: Mapping[str, Any], ctx: CallbackContext) -> None:
        """Hear that a run or a map of the outermost pipeline starts."""

    def on_pipeline_end(
        self, pipeline_id: str, outputs: Mapping[str, Any], duration: float, ctx: CallbackContext
    ) -> None:
        """Hear that it ended without a failure."""

    def on_node_start(self, node_id: str, inputs: Mapping[str, Any], ctx: CallbackContext) -> None:
        """Hear that a node starts, with its arguments by parameter."""

    def on_node_end(self, node_id: str, outputs: Mapping[str, Any], duration: float, ctx: CallbackContext) -> None:
        """Hear that a node ended, with its outputs by name."""

    def on_node_cached(self, node_id: str, signature: str, ctx: CallbackContext) -> None:
        """Hear that a node's outputs came from the cache."""

    def on_error(self, node_id: str, error: BaseException, ctx: CallbackContext) -> None:
        """Hear that a node raised; no `on_node_end` follows."""

    def on_nested_pipeline_start(self, parent_id: str, child_id: str, ctx: CallbackContext) -> None:
        """Hear that a nested pipeline starts, before the first of its nodes."""

    def on_nested_pipeline_end(self, parent_id: str, child_id: str, duration: float, ctx: CallbackContext) -> None:
        """Hear that a nested pipeline ended, after the last of its nodes."""

    def on_map_start(self, total_items: Optional[int], ctx: CallbackContext) -> None:
        """Hear that a map starts; how many items it has is None for a stream of iterators, which nobody can know."""

    def on_map_item_start(self, index: int, ctx: CallbackContext) -> None:
        """Hear that an item starts."""

    def on_map_item_end(self, index: int, duration: float, ctx: CallbackContext) -> None:
        """Hear that an item ended."""

    def on_map_item_cached(self, index: int, signature: str, ctx: CallbackContext) -> None:
        """Hear that an item's outputs came from the cache."""

    def on_map_end(self, duration: float, ctx: CallbackContext) -> None:
        """Hear that a map ended."""
