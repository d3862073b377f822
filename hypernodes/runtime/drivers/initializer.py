"""A function of the user's and its arguments in, what a worker calls before its first node out."""

from __future__ import annotations

from typing import Any, Callable, Tuple

import attrs

from hypernodes.errors import InitializerError
from hypernodes.errors.notes import said


@attrs.frozen
class Initializer:
    """Called once in each thread of a backend's own, and once in each of its processes.

    Attributes
    ----------
    function : callable
        Of the user's.
    args : tuple
        What it is called with, by position.
    """

    function: Callable[..., object]
    args: Tuple[Any, ...] = ()

    @property
    def name(self) -> str:
        """What the function is called."""
        return getattr(self.function, "__qualname__", type(self.function).__name__)

    def __call__(self) -> None:
        """Call it.

        Raises
        ------
        InitializerError
            From whatever it raises.
        """
        try:
            self.function(*self.args)
        except BaseException as error:
            reason = f"{type(error).__name__}: {said(error)}".rstrip(": ")
            raise InitializerError(self.name, reason) from error
