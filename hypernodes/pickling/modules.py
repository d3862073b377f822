"""Which of the user's own modules a fresh process would import just as this program has them.

A module goes to a worker as its name when the worker finds it, and finds in it what this program has loaded. One that
nobody else can find (made at run time, loaded by a plugin loader or an import hook) goes by value, and so does one
whose file was edited and not reloaded: the program goes on with what it has, in every mode. ::

    sys.modules ─▶ the user's own ─▶ digest of the source as loaded ─▶ the same as the file now?  by name : by value
                                     (a worker that has loaded another is replaced before it computes,
                                      and one that would load another refuses to)

The standard library, installed distributions and hypernodes itself always go by name. The table of sources is of this
process; `look` refreshes it when a run starts, by one `os.stat` for each of the user's own modules.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.machinery
import operator
import os
import site
import sys
import sysconfig
import time
import types
from typing import Any, Dict, FrozenSet, Iterable, Iterator, List, Optional, Sequence, Set, Tuple

import attrs

from hypernodes.pickling.loaded import codes, imports, matches

_MAINS = ("__main__", "__mp_main__")
_FINDERS = (
    importlib.machinery.BuiltinImporter,
    importlib.machinery.FrozenImporter,
    importlib.machinery.PathFinder,
)
_UNSETTLED = 2_000_000_000  # nanoseconds: an edit so soon after another may leave the file's time as it was

Sources = Tuple[Dict[str, Optional[str]], List[str]]
Stamp = Tuple[int, int, int]  # time of the last change in nanoseconds, bytes, inode


@attrs.define(eq=False)
class _Source:
    """One of the user's own modules.

    `spec` is what it was loaded by, and another after a reload; `loaded` and `current` are digests of the file when it
    was loaded and now, None where they are not known; `stamp` tells whether the file has to be read again, once it is
    `settled`. `codes` are of the functions that the module had when that was looked at.
    """

    spec: object
    path: str
    loaded: Optional[str] = None
    current: Optional[str] = None
    stamp: Optional[Stamp] = None
    settled: bool = False
    codes: Sequence[types.CodeType] = ()
    _imports: Optional[Set[str]] = None

    def imports(self, name: str) -> Set[str]:
        """Return the modules that the file imports, which is module `name`."""
        if self._imports is None:
            self._imports = imports(name, self.path)
        return self._imports

    def look(self) -> None:
        """Read the file again if it was changed."""
        stamp = _stamp(self.path)
        if stamp is None or stamp != self.stamp or not self.settled:
            self.settled = stamp is not None and time.time_ns() - stamp[0] > _UNSETTLED
            self.current = None if stamp is None else _digest(self.path)
            self.stamp = stamp
            self._imports = None

    def compare(self, module: types.ModuleType) -> None:
        """Find out whether `module` is what the file is now."""
        self.codes = codes(module, self.path)
        if matches(module, self.path):
            self.loaded = self.current

    def is_patched(self, module: types.ModuleType) -> bool:
        """Say whether functions of `module` have become others since it was compared."""
        now = codes(module, self.path)
        return len(now) != len(self.codes) or any(map(operator.is_not, now, self.codes))


_sources: Dict[str, _Source] = {}
_listed: Tuple[object, List[str]] = (None, [])
_edited: FrozenSet[str] = frozenset()


def look() -> Sources:
    """Look at the files of the user's own modules; from now on `goes_by_value` knows which were edited since.

    Returns
    -------
    dict of str to str
        Module name to the digest of the source that this process has loaded, None where that is not known.
    list of str
        Of these, the ones that a fresh process would load from something else.
    """
    global _edited
    loaded: Dict[str, Optional[str]] = {}
    changed: Set[str] = set()
    for name, source in _looked_at():
        loaded[name] = source.loaded
        if source.loaded is None or source.loaded != source.current:
            changed.add(name)
    if changed or _edited:
        _edited = frozenset(_with_dependents(changed))
    return loaded, sorted(changed)


def stale(loaded: Dict[str, Optional[str]]) -> List[str]:
    """Return which modules this process has loaded from another source than another process, whose `look` this is.

    Of those that the other one does not have, they are the ones whose files were edited since: a fresh process would
    load something else.
    """
    return [name for name, source in _looked_at() if source.loaded != loaded.get(name, source.current)]


class Guard:
    """A finder that refuses modules whose files are not what another process, which this one works for, has loaded."""

    def __init__(self) -> None:
        self._names: FrozenSet[str] = frozenset()

    def watch(self, names: Iterable[str]) -> None:
        """Refuse these from now on, and no others."""
        self._names = frozenset(names)
        if self._names and self not in sys.meta_path:
            sys.meta_path.insert(0, self)
        elif not self._names and self in sys.meta_path:
            sys.meta_path.remove(self)

    def find_spec(self, name: str, path: Any, target: Any = None) -> None:
        """Return None, as one that has not found anything."""
        if name in self._names:
            raise ImportError(
                f"module {name!r} was edited after the program had imported it, and a worker process would import "
                "something else: reload it, or restart the program",
                name=name,
            )


def edited() -> FrozenSet[str]:
    """Return the modules whose files were edited after they were loaded, and the modules that use those."""
    return _edited


def goes_by_value(name: object) -> bool:
    """Return whether what module `name` holds goes to another process by value."""
    if type(name) is not str or name in _MAINS:
        return False  # cloudpickle's business
    return name in _edited or not (_is_installed(name) or would_be_found(name))


def would_be_found(name: str) -> bool:
    """Say whether importing module `name` afresh, as a child process does, would load it from where it is from.

    A module may be in `sys.modules` and have a file and yet be nowhere on the path: `spec_from_file_location` makes
    such, as plugin loaders and pytest's importlib mode do. One made by hand has no spec.
    """
    spec = _spec(name)
    return spec is not None and _is_on_the_path(name, getattr(spec, "origin", None), tuple(sys.path))


@functools.lru_cache(maxsize=1024)  # reads directories
def _is_on_the_path(name: str, origin: Optional[str], path: Tuple[str, ...]) -> bool:
    parent = name.rpartition(".")[0]
    if parent:
        if not would_be_found(parent):
            return False
        within = getattr(sys.modules[parent], "__path__", None)
        if within is None:
            return False
    else:
        within = None
    for finder in _finders():
        try:
            spec = finder.find_spec(name, within, None)
        except RecursionError:
            raise
        except Exception:  # a broken path hook, or an editable install that is gone
            continue
        if spec is not None:
            return bool(spec.origin == origin)
    return False


def _finders() -> Iterator[Any]:
    """Yield what finds modules in any process, editable installs included; other hooks are this program's own."""
    for finder in sys.meta_path:
        kind = finder if isinstance(finder, type) else type(finder)
        if finder in _FINDERS or "editable" in kind.__module__:
            yield finder


# -- which modules are the user's own ---------------------------------------------------------------------------------


def _looked_at() -> Iterator[Tuple[str, _Source]]:
    for name in _own_modules():
        spec = _spec(name)
        if spec is None:
            continue
        source = _sources.get(name)
        if source is None or source.spec is not spec:
            source = _sources[name] = _Source(spec, spec.origin)
            source.look()
            source.compare(sys.modules[name])
        else:
            source.look()
            if source.loaded != source.current and source.is_patched(sys.modules[name]):
                source.compare(sys.modules[name])
        yield name, source


def _own_modules() -> List[str]:
    """Return the names of modules that have a file of the user's; listed anew when another was imported."""
    global _listed
    key = (len(sys.modules), next(reversed(sys.modules), None))
    if _listed[0] != key:
        _listed = (key, [name for name in list(sys.modules) if _has_source(name) and not _is_installed(name)])
    return _listed[1]


def _has_source(name: str) -> bool:
    spec = _spec(name)
    return name not in _MAINS and getattr(spec, "has_location", False) and isinstance(spec.origin, str)


def _is_installed(name: str) -> bool:
    """Say whether a module belongs to Python, to an installed distribution or to hypernodes."""
    top = name.partition(".")[0]
    if top == "hypernodes" or top in sys.builtin_module_names:
        return True
    places = tuple(_places(_spec(name))) or tuple(_places(_spec(top)))
    return any(map(_is_installed_at, places))


def _spec(name: str) -> Any:
    """Return what a module was found by, None where that cannot be told, without asking a lazy module to load."""
    try:
        return object.__getattribute__(sys.modules.get(name), "__spec__")
    except Exception:  # what is there may be anything
        return None


def _places(spec: Any) -> Iterable[str]:
    if spec is None:
        return ()
    if getattr(spec, "origin", None) is not None:
        return (str(spec.origin),)
    return map(str, getattr(spec, "submodule_search_locations", None) or ())


@functools.lru_cache(maxsize=4096)
def _is_installed_at(place: str) -> bool:
    if place in ("built-in", "frozen"):
        return True
    return place.startswith(_installed()) or not {"site-packages", "dist-packages"}.isdisjoint(place.split(os.sep))


@functools.lru_cache(maxsize=1)
def _installed() -> Tuple[str, ...]:
    paths = sysconfig.get_paths()
    folders = {paths[key] for key in ("stdlib", "platstdlib", "purelib", "platlib")} | {os.path.dirname(os.__file__)}
    with_user = {site.getusersitepackages()} if getattr(site, "ENABLE_USER_SITE", None) else set()
    return tuple([folder.rstrip(os.sep) + os.sep for folder in folders | with_user])


# -- files ------------------------------------------------------------------------------------------------------------


def _stamp(path: str) -> Optional[Stamp]:
    """Return what changes when a file does, or the archive that it is in; None for one that is gone."""
    try:
        found = os.stat(path)
    except NotADirectoryError:
        return _stamp(os.path.dirname(path))
    except (OSError, ValueError):
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _digest(path: str) -> Optional[str]:
    try:
        with open(path, "rb") as file:
            return hashlib.blake2b(file.read(), digest_size=16).hexdigest()
    except NotADirectoryError:  # within an archive, that may be large
        return repr(_stamp(path))
    except OSError:
        return None


# -- who uses an edited module ----------------------------------------------------------------------------------------


def _with_dependents(edited: Set[str]) -> Set[str]:
    """Return modules with all that import them: a worker that imported those would import these."""
    found = set(edited)
    while True:
        more = {name for name, source in list(_sources.items()) if name not in found and source.imports(name) & found}
        if not more:
            return found
        found |= more
