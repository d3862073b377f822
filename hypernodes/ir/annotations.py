"""A callable in, the types it declares out: each annotation evaluated on its own, or UNKNOWN.

`hints` runs once per node at construction, so a function without annotations costs one attribute read, and one whose
annotations are objects already costs a loop. Only text (``from __future__ import annotations``) is evaluated::

    callable ──_carrier──▶ function, owner ──_declared──▶ {name: object or text} ──_resolved──▶ {name: object}

`typing.get_type_hints` is not used: one name that it cannot resolve loses all annotations of the function.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import functools
import inspect
import sys
import typing
from collections import ChainMap
from types import CodeType, FunctionType, MethodType
from typing import Any, Callable, Dict, ForwardRef, Mapping, Optional, Tuple

_LAYERS = 32
"""How many wrappers around one function, or quotes around one annotation, are looked through; more is a cycle."""

_BUILTINS = vars(builtins)

Scope = Tuple[Dict[str, Any], Mapping[str, object]]


class Unknown:
    """The type of a value that nobody annotated, or whose annotation does not resolve."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "?"

    def __reduce__(self) -> str:
        return "UNKNOWN"


UNKNOWN = Unknown()


def hints(fn: Callable[..., object]) -> Dict[str, object]:
    """Return the annotations of any callable, by parameter name and ``"return"``.

    Parameters
    ----------
    fn : callable
        A function, bound method, partial, decorated function (`__wrapped__` is followed), callable object, or a class:
        the hints of its constructor, which returns the class.

    Returns
    -------
    dict of str to object
        Without what is not annotated. A string that does not resolve is UNKNOWN; the others keep their types. The
        extras of a top-level ``Annotated`` are dropped. Never raises, whatever an annotation does when evaluated.
    """
    try:
        if type(fn) is FunctionType:
            function: Any = fn
            owner = made = None
        else:
            function, owner, made = _carrier(fn)
        raw = _declared(function)
        found = _resolved(raw, function, owner) if raw else {}
    except Exception:  # an object whose attributes misbehave declares nothing
        return {}
    if made is not None:
        found["return"] = made
    return found


def field_hints(cls: type) -> Dict[str, object]:
    """Return the resolved annotations of a class body: the fields of a NamedTuple or a TypedDict."""
    raw = _declared(cls)
    return _resolved(raw, cls, cls) if raw else {}


def is_class(tp: object) -> bool:
    """Tell a class from a subscripted one: ``list[int]`` claims to be a class on Python 3.9 and 3.10."""
    return issubclass(type(tp), type)


def is_annotated(tp: object) -> bool:
    """Tell ``Annotated[...]``, by typing or typing_extensions, from anything else."""
    return type(tp).__name__ == "_AnnotatedAlias"


def _carrier(fn: Any) -> Tuple[Any, Optional[type], Optional[type]]:
    """Return the function that carries the annotations, the class it belongs to, and the class it makes objects of."""
    owner = made = None
    for _ in range(_LAYERS):
        kind = type(fn)
        if kind is FunctionType:
            break
        if isinstance(fn, functools.partial):
            fn = fn.func
        elif kind is MethodType:
            owner = owner or (fn.__self__ if is_class(fn.__self__) else type(fn.__self__))
            fn = fn.__func__
        elif isinstance(fn, staticmethod):
            fn = fn.__func__
        elif is_class(fn):
            owner = made = fn
            fn = fn.__init__ if fn.__init__ is not object.__init__ else fn.__new__
        elif "__wrapped__" in getattr(fn, "__dict__", ()):  # functools.lru_cache and its kind
            fn = fn.__wrapped__
        elif type(kind.__call__) is FunctionType:
            owner, fn = kind, kind.__call__
        else:  # a built-in, or a compiled function that carries annotations as a plain one does
            break
    # `obj.__annotations__` of other objects may be that of their class: only what has globals is taken for a function.
    return (fn if hasattr(fn, "__globals__") else None), owner, made


def _declared(carrier: Any) -> Mapping[str, object]:
    """Return the annotations as they are stored; those of the outermost wrapper that has any."""
    for _ in range(_LAYERS):
        try:
            raw = getattr(carrier, "__annotations__", None)
        except KeyboardInterrupt:
            raise
        except BaseException:  # Python 3.14 evaluates only now, all of them or none
            raw = _as_text(carrier)
        if raw:
            return typing.cast(Mapping[str, object], raw)
        carrier = getattr(carrier, "__wrapped__", None)
        if carrier is None:
            break
    return {}


def _as_text(carrier: Any) -> Mapping[str, object]:
    """Return annotations that do not evaluate together as text, in which each stands for itself."""
    if sys.version_info >= (3, 14):
        import annotationlib

        return annotationlib.get_annotations(carrier, format=annotationlib.Format.STRING)
    return {}


def _resolved(raw: Mapping[str, object], carrier: Any, owner: Optional[type]) -> Dict[str, object]:
    found: Dict[str, object] = {}
    scope: Optional[Scope] = None
    for name, annotation in raw.items():
        kind = type(annotation)
        if kind is str or kind is ForwardRef:
            scope = scope or _scope(carrier, owner)
            annotation = _evaluated(annotation, scope)
            kind = type(annotation)
        if kind is not type and is_annotated(annotation):
            annotation = annotation.__origin__  # type: ignore[attr-defined]
        found[name] = annotation
    return found


def _evaluated(annotation: object, scope: Scope) -> object:
    module, names = scope
    try:
        if annotation not in names:  # most annotations name a class, and a look-up costs a tenth of an evaluation
            named = module.get(annotation, _BUILTINS.get(annotation))  # type: ignore[call-overload]
            if type(named) is type:
                return named
        for _ in range(_LAYERS):
            if isinstance(annotation, ForwardRef):
                annotation = annotation.__forward_arg__
            if not isinstance(annotation, str):
                return annotation
            annotation = _value(annotation, scope)
    except KeyboardInterrupt:
        raise
    except BaseException:  # an annotation may call sys.exit(), or anything else
        pass
    return UNKNOWN


def _scope(carrier: Any, owner: Optional[type]) -> Scope:
    """Return the globals and the local names that the text of an annotation may mean."""
    function = inspect.unwrap(carrier) if hasattr(carrier, "__wrapped__") else carrier
    module = getattr(function, "__globals__", {})
    owner = owner or _defining_class(function, module)
    names: Dict[str, object] = {}
    if owner is not None:
        # Methods and properties are left out: in `-> list`, a method called list is not what anybody meant.
        names.update((key, value) for key, value in vars(owner).items() if not hasattr(type(value), "__get__"))
        names[owner.__name__] = owner
    # Closures of the evaluation itself hold what the annotations of Python 3.14 use and the function does not.
    for inner in (getattr(function, "__annotate__", None), function):
        for tp in getattr(inner, "__type_params__", ()):
            names[tp.__name__] = tp
        closure = getattr(inner, "__closure__", None)
        if closure:
            for name, cell in zip(inner.__code__.co_freevars, closure):  # type: ignore[union-attr]
                with contextlib.suppress(ValueError):  # a variable that is assigned later
                    names[name] = cell.cell_contents
    if owner is None:
        return module, names
    # Generated constructors (NamedTuple, attrs) have globals of their own, without the module or even the built-ins.
    home = vars(sys.modules[owner.__module__]) if owner.__module__ in sys.modules else {}
    return module, ChainMap(names, module, home, _BUILTINS)


def _defining_class(function: Any, module: Mapping[str, object]) -> Optional[type]:
    """Return the class whose body holds a plain function, as far as its qualified name leads there."""
    qualname = getattr(function, "__qualname__", "")
    if "." not in qualname or "<locals>" in qualname:
        return None
    path = qualname.split(".")[:-1]
    found: Any = module.get(path[0])
    for part in path[1:]:
        found = getattr(found, part, None)
    return found if is_class(found) else None


def _value(text: str, scope: Scope) -> object:
    module, names = scope
    if sys.version_info < (3, 10) and ("[" in text or "|" in text):  # list[str] needs 3.9, int | None 3.10
        older = {**names, "__subscript__": _subscript, "__union__": _union}
        return eval(_compiled(text, older=True), module, older)
    return eval(_compiled(text), module, names)


@functools.lru_cache(maxsize=1024)
def _compiled(text: str, older: bool = False) -> CodeType:
    """Compile the text of an annotation once: pipelines use few types, and compiling costs as much as ten look-ups."""
    tree = ast.parse(text.strip(), "<annotation>", "eval")
    if older:
        tree = ast.fix_missing_locations(_Older().visit(tree))
    return compile(tree, "<annotation>", "eval", dont_inherit=True)


class _Older(ast.NodeTransformer):
    """Rewrite ``list[str]`` and ``int | None`` into calls that a Python without that notation can make."""

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        self.generic_visit(node)
        index = getattr(node.slice, "value", node.slice) if type(node.slice).__name__ == "Index" else node.slice
        return ast.Call(ast.Name("__subscript__", ast.Load()), [node.value, index], [])

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        if not isinstance(node.op, ast.BitOr):
            return node
        return ast.Call(ast.Name("__union__", ast.Load()), [node.left, node.right], [])


def _subscript(generic: Any, index: Any) -> object:
    counterpart = _counterparts().get(generic)
    if counterpart is not None:
        return counterpart[index]
    try:
        return generic[index]
    except TypeError:
        if is_class(generic):
            return generic  # os.PathLike[str]: what is left of it still says something
        raise


def _union(left: Any, right: Any) -> object:
    try:
        return left | right
    except TypeError:
        return typing.Union[left, right]


@functools.lru_cache(maxsize=None)
def _counterparts() -> Dict[object, Any]:
    """Return typing's generic for each class that cannot be subscripted yet: list → typing.List."""
    aliases = [value for value in vars(typing).values() if is_class(getattr(value, "__origin__", None))]
    return {alias.__origin__: alias for alias in aliases}
