"""What a caller asks a pipeline for, as one frozen key: two calls that ask for the same are one request."""

from __future__ import annotations

from typing import Iterable, Optional, Tuple

import attrs

from hypernodes.asking import Names, collects, names_of


@attrs.frozen
class Request:
    """One kind of run of one pipeline.

    Attributes
    ----------
    names : tuple of str
        Names of the inputs that are given, spelled as the caller spells them, in any order: here sorted.
    asked : tuple of str or None
        Names of the outputs to hand back; None for all that are not given.
    collects : bool
        Whether a failure stands in for what fails, instead of ending the run.
    axes : tuple of str or None
        Inputs that are mapped over; None for a run of one.
    map_mode : str
        How the axes combine.
    fed : bool
        Whether rows come while the run goes on, as in a stream.
    """

    names: Tuple[str, ...]
    asked: Optional[Tuple[str, ...]] = None
    collects: bool = False
    axes: Optional[Tuple[str, ...]] = None
    map_mode: str = "zip"
    fed: bool = False

    @classmethod
    def of(
        cls,
        inputs: Iterable[str],
        output_name: Optional[Names],
        error_policy: str = "raise",
        axes: Optional[Tuple[str, ...]] = None,
        map_mode: str = "zip",
        fed: bool = False,
    ) -> Request:
        """Return the request of a call.

        Raises
        ------
        OptionError
            For an error policy there is not, or outputs that are no names.
        """
        asked = None if output_name is None else names_of(output_name, "output_name")
        return cls(tuple(sorted(inputs, key=str)), asked, collects(error_policy), axes, map_mode, fed)
