"""Which hooks the callbacks of a pipeline override, as bits: what nobody overrides is neither told nor captured."""

from __future__ import annotations

from typing import Callable, Dict, Iterable, Mapping, Sequence, Tuple

from hypernodes.events.callbacks import PipelineCallback

Path = Tuple[str, ...]
Calls = Mapping[str, Sequence[Callable[..., None]]]
"""The name of each hook → the methods that override it."""

NODE_STARTS, NODE_ENDS, NODE_ERRORS, INPUTS, OUTPUTS, NESTED, MAPS, ITEM_STARTS, ITEM_ENDS = (1 << n for n in range(9))
"""Starts, ends and errors of nodes, with their inputs, with their outputs; starts and ends of nested pipelines, of maps
and of items."""

NODES = NODE_STARTS | NODE_ENDS | NODE_ERRORS
ITEMS = ITEM_STARTS | ITEM_ENDS

_MADE_OF: Dict[str, int] = {
    "on_node_start": NODE_STARTS | INPUTS,
    "on_node_end": NODE_ENDS | OUTPUTS,
    "on_error": NODE_ERRORS,
    # An inlined pipeline has no step of its own: its nodes and maps are counted.
    "on_nested_pipeline_start": NESTED | NODE_STARTS | NODE_ENDS | MAPS,
    "on_nested_pipeline_end": NESTED | NODE_STARTS | NODE_ENDS | MAPS,
    "on_map_start": MAPS,
    "on_map_end": MAPS,
    "on_map_item_start": ITEM_STARTS,
    "on_map_item_end": ITEM_ENDS,
}

HOOKS = ("on_pipeline_start", "on_pipeline_end", *_MADE_OF)


def overrides(callback: PipelineCallback, hook: str) -> bool:
    """Return whether a callback does anything in a hook."""
    return getattr(getattr(callback, hook), "__func__", None) is not getattr(PipelineCallback, hook)


def heard_by(callbacks: Iterable[PipelineCallback]) -> int:
    """Return what has to be told so that these callbacks hear all they override."""
    heard = 0
    for callback in callbacks:
        for hook, bits in _MADE_OF.items():
            if overrides(callback, hook):
                heard |= bits
    return heard


class Listeners:
    """Who listens to which pipeline.

    Parameters
    ----------
    callbacks : mapping of tuple of str to sequence of PipelineCallback
        Pipeline path to the callbacks that listen to it.
    others : sequence of PipelineCallback
        Those that listen to pipelines which are not in it.

    Attributes
    ----------
    heard : int
        What has to be told, as bits.
    """

    def __init__(
        self, callbacks: Mapping[Path, Sequence[PipelineCallback]], others: Sequence[PipelineCallback]
    ) -> None:
        self._callbacks = callbacks
        self._others = others
        self.heard = heard_by([*others, *[each for found in callbacks.values() for each in found]])
        self._calls: Dict[Path, Calls] = {}

    def of(self, path: Path) -> Calls:
        """Return what to call when something happens in a pipeline."""
        found = self._calls.get(path)
        if found is None:
            callbacks = self._callbacks.get(path, self._others)
            found = self._calls[path] = {
                hook: [getattr(each, hook) for each in callbacks if overrides(each, hook)] for hook in HOOKS
            }
        return found
