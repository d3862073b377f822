"""The names a caller gives in; the same names, known to fit the graph, out, or an error that says which does not."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping as AnyMapping
from typing import Any, Dict, Mapping, Optional, Sequence, Tuple, Union

from hypernodes.errors import MapInputError, OptionError, UnknownNameError, did_you_mean
from hypernodes.ir.graph import Graph

Names = Union[str, Sequence[str]]


def names_of(names: Names, option: str = "map_over") -> Tuple[str, ...]:
    """Return one name, or several, as a tuple."""
    if isinstance(names, str):
        return (normal(names),)
    try:
        return tuple(map(normal, names))
    except TypeError:
        raise OptionError(option, repr(names), f"pass a name, {option}='...', or a list of names") from None


def check_names(names: Sequence[object], option: str) -> None:
    """Refuse what is no name, and a name that stands twice."""
    for name in names:
        if not isinstance(name, str):
            raise OptionError(option, repr(list(names)), f"{name!r} is no name; pass a name or a list of names")
    if len(set(names)) < len(names):
        raise OptionError(option, repr(list(names)), "name each once")


def given_inputs(inputs: object) -> Mapping[str, Any]:
    """Return the inputs of a run as a mapping; what is like one, such as a DataFrame, becomes one."""
    if inputs is None:
        return {}
    if isinstance(inputs, AnyMapping):
        return inputs
    if hasattr(inputs, "keys") and hasattr(inputs, "__getitem__") and not isinstance(inputs, type):
        return {name: inputs[name] for name in inputs.keys()}  # noqa: SIM118
    raise OptionError("inputs", repr(inputs), "pass a dict of input name → value: inputs={'...': ...}")


def normal(name: Any) -> Any:
    """Return a name as Python has it where it is that of a parameter: the micro sign is the Greek letter."""
    return name if not isinstance(name, str) or name.isascii() else unicodedata.normalize("NFKC", name)


def named(inputs: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return inputs by their `normal` names."""
    return {name: inputs[given] for name, given in spellings(inputs).items()} if any(map(_other, inputs)) else inputs


def spellings(names: Union[Mapping[str, Any], Sequence[str]]) -> Dict[str, str]:
    """Return `normal` name → the name that was given."""
    spelled: Dict[str, str] = {}
    for given in names:
        before = spelled.setdefault(normal(given), given)
        if before != given:
            raise OptionError("inputs", f"{{{before!r}: ..., {given!r}: ...}}", "Python takes them for one name")
    return spelled


def _other(name: object) -> bool:
    return bool(normal(name) != name)


def asked_outputs(graph: Graph, output_name: Optional[Names], provided: Sequence[str]) -> Tuple[str, ...]:
    """Return the outputs to hand back: those asked for, or all that are not provided."""
    outputs = graph.output_names
    if output_name is None:
        given = set(provided)
        return tuple([name for name in outputs if name not in given]) if given.intersection(outputs) else outputs
    asked = names_of(output_name, "output_name")
    for name in asked:
        if not isinstance(name, str):
            raise OptionError("output_name", repr(output_name), "pass a name, or a list of names")
        if name not in outputs:
            raise UnknownNameError(graph.name, "output", name, outputs)
    return asked


def check_inputs(graph: Graph, names: Sequence[str]) -> None:
    """Refuse a name that is neither an input nor an output to override."""
    known = {*graph.input_names, *graph.output_names}
    for name in names:
        if name not in known:
            raise UnknownNameError(graph.name, "input", str(name), graph.input_names)


def collects(error_policy: str) -> bool:
    """Return whether errors are collected, or refuse a policy that there is not."""
    if error_policy not in ("raise", "collect"):
        hint = did_you_mean(str(error_policy), ("raise", "collect"))
        raise OptionError("error_policy", repr(error_policy), f"use 'raise' or 'collect'{hint}")
    return error_policy == "collect"


def check_mode(map_mode: str) -> None:
    """Refuse a way to combine axes that there is not."""
    if map_mode not in ("zip", "product"):
        hint = did_you_mean(str(map_mode), ("zip", "product"))
        raise OptionError("map_mode", repr(map_mode), f"use 'zip' or 'product'{hint}")


def check_map(graph: Graph, names: Sequence[str], axes: Sequence[str], map_mode: str) -> None:
    """Refuse axes that are not among the inputs in `names`; both are names."""
    check_mode(map_mode)
    if not axes:
        raise OptionError("map_over", "()", "name at least one input, or use run()")
    known = {*graph.input_names, *graph.output_names}
    for axis in axes:
        if axis not in known:
            raise UnknownNameError(graph.name, "input to map over", str(axis), graph.input_names)
    absent = [axis for axis in axes if axis not in names]
    if absent:
        fix = f"pass inputs={{{', '.join(f'{axis!r}: [...]' for axis in absent)}}}"
        raise MapInputError(graph.name, absent[0], "not among the inputs", fix)
