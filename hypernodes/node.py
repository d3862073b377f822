"""A function in, a Node out: its parameters, its output names, and how it is declared to the graph.

`@node` inspects the signature once, here; a run never does. A Node stays callable like its function.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import inspect
import sys
from types import BuiltinFunctionType, FunctionType, MethodDescriptorType, WrapperDescriptorType
from typing import TYPE_CHECKING, Any, Callable, Generic, NoReturn, Optional, Sequence, Tuple, Type, TypeVar, Union

import attrs

from hypernodes.asking import normal
from hypernodes.errors import NodeDefinitionError
from hypernodes.ir.graph import DEFAULT_POLICY, Call, Policy, Use, Value
from hypernodes.ir.types import UNKNOWN, awaited, hints, or_none, show, tuple_elements
from hypernodes.parameters import Parameter, parameters_of, signature_of
from hypernodes.policy import policy

if TYPE_CHECKING:
    if sys.version_info >= (3, 10):
        from typing import ParamSpec
    else:
        from typing_extensions import ParamSpec
    P = ParamSpec("P")
else:
    # Generic[P, R] with a real ParamSpec needs Python 3.10; at run time any type variable serves.
    P = TypeVar("P")

R = TypeVar("R")

OutputName = Union[str, Tuple[str, ...]]

_COMPILED = getattr(asyncio.coroutines, "_is_coroutine", functools)
"""What asyncio has compilers mark their coroutine functions with; the objects these make are of no type known here."""

_CO_COROUTINE = inspect.CO_COROUTINE  # a name in this module is found in half the time

# Not bound by standing in a class: as in Python, but for partials, which Python 3.14 binds and older ones do not.
_UNBOUND = (functools.partial, BuiltinFunctionType, MethodDescriptorType, WrapperDescriptorType)


@attrs.frozen(eq=False, repr=False, slots=False, init=False)
class Node(Generic[P, R]):
    """A function with named outputs; made by `node`.

    Attributes
    ----------
    fn : callable
        The function itself.
    name : str
        What plans, errors and callbacks call it.
    output_name : str or tuple of str
        A tuple means that the function returns a tuple of that length.
    parameters : tuple of Parameter
        What is wired by name, in the order of the signature; ``*args`` and ``**kwargs`` are not in it and stay empty.
    """

    fn: Callable[P, R]
    name: str
    output_name: OutputName
    parameters: Tuple[Parameter, ...]
    is_coroutine: bool
    policy: Policy = DEFAULT_POLICY

    def __init__(
        self,
        fn: Callable[P, R],
        name: str,
        output_name: OutputName,
        parameters: Tuple[Parameter, ...],
        is_coroutine: bool,
        policy: Policy = DEFAULT_POLICY,
    ) -> None:
        facts = self.__dict__
        facts["fn"] = facts["__wrapped__"] = fn
        facts["name"], facts["output_name"] = name, output_name
        facts["parameters"], facts["is_coroutine"], facts["policy"] = parameters, is_coroutine, policy
        # What tools expect of a wrapper; the instance has a __dict__ for exactly these.
        if type(fn) is FunctionType:
            facts["__module__"], facts["__doc__"] = fn.__module__, fn.__doc__
            facts["__qualname__"], facts["__name__"] = fn.__qualname__, fn.__name__
            return
        for attribute in ("__module__", "__doc__", "__qualname__"):
            facts[attribute] = getattr(fn, attribute, None)
        facts["__name__"] = getattr(fn, "__name__", name)

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function."""
        return self.fn(*args, **kwargs)

    def __get__(self, instance: object, owner: Optional[type] = None) -> Node[..., R]:
        """Bind a node declared in a class body to an object, as a method is bound."""
        fn = self.fn
        bind = getattr(type(fn), "__get__", None)
        if instance is None or bind is None or isinstance(fn, _UNBOUND):
            return self
        bound = bind(fn, instance, owner)
        if bound is fn:  # a method that is bound to another object
            return self
        first = self.parameters[:1]
        rest = self.parameters if first and first[0].keyword else self.parameters[1:]
        return Node(bound, self.name, self.output_name, rest, self.is_coroutine, self.policy)

    @property
    def __signature__(self) -> inspect.Signature:
        return signature_of(self.fn)

    @property
    def output_names(self) -> Tuple[str, ...]:
        """The names this node defines: one, or as many as the tuple it returns has."""
        return (self.output_name,) if isinstance(self.output_name, str) else self.output_name

    def declare(self) -> Call:
        """Return this node as an operation whose reads are still only names."""
        types = hints(self.fn)
        uses = tuple([_use(p, types.get(p.name, UNKNOWN)) for p in self.parameters])
        returned = awaited(types.get("return", UNKNOWN))
        unpack = not isinstance(self.output_name, str)
        results: Tuple[Value, ...]
        if unpack:
            names = self.output_names
            elements = tuple_elements(returned, len(names))
            if elements is None:
                raise NodeDefinitionError(
                    self.name,
                    f"defines {len(names)} outputs ({', '.join(names)}) and is annotated to return {show(returned)}",
                    f"annotate a tuple of {len(names)}, or give as many output names as the tuple has elements",
                )
            results = tuple([Value(name, tp) for name, tp in zip(names, elements)])
        else:
            results = (Value(self.output_name, returned),)  # type: ignore[arg-type]
        return Call(self.name, self.fn, uses, results, unpack, self.is_coroutine, self.policy)

    def __repr__(self) -> str:
        try:
            signature = str(self.__signature__)
        except (TypeError, ValueError):
            signature = f"({', '.join(p.name for p in self.parameters)})"
        return f"<Node {self.name}{signature} as {', '.join(self.output_names)}>"

    def __reduce__(self) -> Tuple[object, ...]:
        # By reference where the decorated name can be imported; the function alone cannot be, as this node shadows it.
        module, qualname = getattr(self.fn, "__module__", None), getattr(self.fn, "__qualname__", "<locals>")
        if module and module != "__main__" and "<" not in qualname and _lookup(module, qualname) is self:
            return _lookup, (module, qualname)
        return Node, (self.fn, self.name, self.output_name, self.parameters, self.is_coroutine, self.policy)


def node(
    output_name: OutputName,
    *,
    name: Optional[str] = None,
    cache: Optional[bool] = None,
    retries: int = 0,
    retry_on: Union[Type[Exception], Sequence[Type[Exception]]] = Exception,
    backoff: float = 0.0,
    jitter: float = 0.0,
    timeout: Optional[float] = None,
    placement: Optional[str] = None,
) -> Callable[[Callable[P, R]], Node[P, R]]:
    """Decorate a function so that its parameters and its output can be wired by name.

    Parameters
    ----------
    output_name : str or tuple of str
        The name of what the function returns. With a tuple the function has to return a tuple of that length,
        and each element gets a name of its own.
    name : str, optional
        What plans, errors and callbacks call the node; the function's name by default.
    cache : bool, optional
        Whether results may be kept where the pipeline has a cache; by default whatever the pipeline says. This
        version keeps nothing yet.
    retries : int
        How often a call that failed is made again, with the same arguments.
    retry_on : exception class, or sequence of them
        Which failures are worth it; by default every `Exception`.
    backoff : float
        Seconds to wait before the first retry; twice as long before each further one.
    jitter : float
        Up to so many seconds more, at random, so that what failed together does not come back together.
    timeout : float, optional
        Seconds that one call may take. A coroutine function is then cancelled, and a function in a worker process
        ends with its process; each is a `NodeTimeoutError`, a TimeoutError that can be retried. A plain function in a
        thread cannot be stopped, so there a timeout is refused before anything runs; `placement="process"` helps.
    placement : {"inline", "loop", "thread", "process"}, optional
        Where the function runs, whatever the mode: in the thread that called `run`, on the event loop (coroutine
        functions only), in a worker thread or in a worker process. What cannot be pickled can so stay here in a
        pipeline whose other nodes run in processes.

    Returns
    -------
    callable
        A decorator that returns a `Node`. A Node can be called like the function.

    Raises
    ------
    NodeDefinitionError
        When an output name is no identifier or stands twice, the function's parameters cannot be known or wired, or
        an option makes no sense.

    Examples
    --------
    >>> @node(output_name="tokens")
    ... def tokenize(text: str, lower: bool = True) -> list:
    ...     return (text.lower() if lower else text).split()
    >>> tokenize("A b")
    ['a', 'b']
    """
    if callable(output_name):
        raise NodeDefinitionError(
            _name_of(output_name, ()), "was decorated with a bare @node", 'write @node(output_name="...")'
        )

    options = (cache, retries, retry_on, backoff, jitter, timeout, placement)

    def decorate(fn: Callable[P, R]) -> Node[P, R]:
        outputs = _checked_outputs(fn, output_name)
        label = name or _name_of(fn, (outputs,) if isinstance(outputs, str) else outputs)
        _check_callable(fn, label)
        is_coroutine = _is_coroutine(fn)
        return Node(
            fn,
            label,
            outputs,
            parameters_of(fn, label),
            is_coroutine,
            policy(label, is_coroutine, *options),
        )

    return decorate


def _use(p: Parameter, declared: object) -> Use:
    wanted = or_none(declared) if p.default is None else declared
    return Use(p.name, Value(p.name), wanted, p.optional, p.keyword, p.positional, p.default)


def _check_callable(fn: object, label: str) -> None:
    if type(fn) is FunctionType:
        return
    if isinstance(fn, (classmethod, staticmethod)):
        kind = type(fn).__name__
        raise NodeDefinitionError(
            _name_of(fn.__func__, (label,)),
            f"is a {kind}, which only the class around it can bind",
            f"put @{kind} above @node",
        )
    if not callable(fn):
        raise NodeDefinitionError(label, f"{fn!r} is not callable", "decorate a function, a method or a class")
    if isinstance(fn, Node):
        raise NodeDefinitionError(label, "is a node already", f"decorate the function: {label}.fn")


def _checked_outputs(fn: object, output_name: object) -> OutputName:
    """Return the name, or the names, as they are wired."""
    if isinstance(output_name, str):
        only = normal(output_name)
        if not only.isidentifier():
            _refuse_output(fn, only)
        return str(only)
    names = tuple(map(normal, output_name)) if isinstance(output_name, (tuple, list)) else (output_name,)
    if not names:
        raise NodeDefinitionError(_name_of(fn, ()), "has an empty output_name", 'write @node(output_name="...")')
    for given in names:
        if not isinstance(given, str) or not given.isidentifier():
            _refuse_output(fn, given)
    if len(set(names)) < len(names):
        raise NodeDefinitionError(
            _name_of(fn, ()), f"output_name {names!r} names an output twice", "give each element its own name"
        )
    return names


def _refuse_output(fn: object, given: object) -> NoReturn:
    raise NodeDefinitionError(
        _name_of(fn, ()),
        f"output_name {given!r} is no identifier",
        "use a name that could be a parameter: letters, digits and underscores, not starting with a digit",
    )


def _name_of(fn: object, outputs: Sequence[str]) -> str:
    if type(fn) is FunctionType:
        name: Any = fn.__name__
    else:
        while isinstance(fn, functools.partial):
            fn = fn.func
        name = getattr(fn, "__name__", None) or type(fn).__name__
    return (outputs[0] if outputs else "lambda") if name == "<lambda>" else str(name)


def _is_coroutine(fn: Any) -> bool:
    """Return whether a call certainly makes a coroutine; what only may make one is seen when it has returned."""
    while type(fn) is not FunctionType and isinstance(fn, functools.partial):
        fn = fn.func
    if type(fn) is FunctionType and (not fn.__dict__ or "__wrapped__" in fn.__dict__):
        # A wrapper has the marks of what it wraps, and may run that to its end.
        return bool(fn.__code__.co_flags & _CO_COROUTINE)
    if inspect.iscoroutinefunction(fn) or getattr(fn, "_is_coroutine", None) is _COMPILED:
        return True
    plain = isinstance(fn, (FunctionType, BuiltinFunctionType, type)) or inspect.ismethod(fn)
    # Not whether it is callable is the question, but whether calling it makes a coroutine.
    return not plain and inspect.iscoroutinefunction(getattr(type(fn), "__call__", None))  # noqa: B004


def _lookup(module: str, qualname: str) -> object:
    """Return what stands at a module's dotted name, or None."""
    try:
        found: object = sys.modules.get(module) or importlib.import_module(module)
        for part in qualname.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError):
        return None
    return found
