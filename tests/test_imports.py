"""Who may import whom: the contracts of `.importlinter` hold, by import-linter and by a small reader of our own.

import-linter needs a recent Python. The reader here understands what our contracts use of its language (layers in a
container, exhaustive, optional, `:` and `|`; forbidden) and needs nothing, so that the rules hold on Python 3.8 too.
Both follow chains: a module may not reach by way of another what it may not import itself.
"""

from __future__ import annotations

import ast
import configparser
import os
import subprocess
import sys
from collections import deque
from pathlib import Path
from typing import Dict, Iterable, List, Mapping, NamedTuple, Optional, Set, Tuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
CONTRACTS = ROOT / ".importlinter"

Imports = Dict[str, Dict[str, int]]  # module -> what it imports -> line


class Contract(NamedTuple):
    """One section of the file; list-valued options are split into lines."""

    name: str
    type: str
    options: Mapping[str, List[str]]


def read_contracts(text: str) -> Tuple[str, List[Contract]]:
    """Return the root package and the contracts."""
    parser = configparser.ConfigParser()
    parser.read_string(text)
    contracts = []
    for section in parser.sections():
        if section.startswith("importlinter:contract:"):
            options = {key: value.split("\n") for key, value in parser[section].items()}
            lists = {key: [line.strip() for line in lines if line.strip()] for key, lines in options.items()}
            contracts.append(Contract(lists.pop("name")[0], lists.pop("type")[0], lists))
    return parser["importlinter"]["root_package"], contracts


def read_imports(root: Path, package: str) -> Imports:
    """Return what each module below `package` imports, at any depth of its code."""
    files: Dict[str, Path] = {}
    for path in sorted((root / package).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    graph: Imports = {}
    for module, path in files.items():
        graph[module] = {}
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
            for imported in imported_by(node, module, path.name == "__init__.py", files):
                graph[module].setdefault(imported, node.lineno)  # type: ignore[attr-defined]
    return graph


def imported_by(node: ast.AST, module: str, is_package: bool, modules: Iterable[str]) -> Iterable[str]:
    """Name what one statement imports: our modules in full, others by their top-level package."""
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            above = module.split(".")[: len(module.split(".")) - node.level + is_package]
            base = ".".join([*above, base] if base else above)
        names = [f"{base}.{alias.name}" if f"{base}.{alias.name}" in modules else base for alias in node.names]
    else:
        names = []
    return [name if name in modules else name.split(".")[0] for name in names]


def inside(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def chain(graph: Imports, source: str, target: str) -> Optional[str]:
    """Return the shortest import chain from inside `source` to inside `target`, spelled out, or None."""
    origin: Dict[str, Optional[str]] = {module: None for module in sorted(graph) if inside(module, source)}
    queue = deque(origin)
    while queue:
        module = queue.popleft()
        if inside(module, target):
            path: List[str] = [module]
            while origin[path[0]] is not None:
                path.insert(0, str(origin[path[0]]))
            hops = [f"{a} (line {graph[a][b]})" for a, b in zip(path, path[1:])]
            return " → ".join([*hops, path[-1]])
        for imported in sorted(graph.get(module, ())):
            if imported not in origin:
                origin[imported] = module
                queue.append(imported)
    return None


def broken(contract: Contract, graph: Imports) -> List[str]:
    """Return one line for each breach of the contract."""
    pairs: List[Tuple[str, str]] = []
    lines: List[str] = []
    if contract.options.get("allow_indirect_imports") == ["True"]:
        for module, imported in sorted(graph.items()):
            if any(inside(module, source) for source in contract.options["source_modules"]):
                found_here = [
                    name for name in imported for each in contract.options["forbidden_modules"] if inside(name, each)
                ]
                lines += [f"{module} (line {imported[name]}) → {name}" for name in found_here]
    elif contract.type == "forbidden":
        pairs += [(a, b) for a in contract.options["source_modules"] for b in contract.options["forbidden_modules"]]
    elif contract.type == "layers":
        (container,) = contract.options["containers"]
        above: List[str] = []
        for row in contract.options["layers"]:
            tails = row.replace("|", ":").split(":")
            layer = [f"{container}.{tail.strip().strip('()')}" for tail in tails]
            pairs += [(low, high) for low in layer for high in above]
            if "|" in row:
                pairs += [(a, b) for a in layer for b in layer if a != b]
            above += layer
        if contract.options.get("exhaustive") == ["True"]:
            ignored = contract.options.get("exhaustive_ignores", [])
            placed: Set[str] = {*above, *(f"{container}.{tail}" for tail in ignored)}
            children = {m for m in graph if inside(m, container) and m.count(".") == container.count(".") + 1}
            lines += [f"{module} has no place in the layers" for module in sorted(children - placed)]
    else:
        raise ValueError(f"contract {contract.name!r}: no reader for type {contract.type!r} here; write one")
    found = {chain(graph, low, high) for low, high in pairs}
    return lines + sorted(line for line in found if line)


ROOT_PACKAGE, ALL_CONTRACTS = read_contracts(CONTRACTS.read_text(encoding="utf-8"))


@pytest.mark.parametrize("contract", ALL_CONTRACTS, ids=lambda contract: contract.name)
def test_contract_holds(contract):
    lines = broken(contract, read_imports(ROOT, ROOT_PACKAGE))
    assert not lines, "\n  ".join([f"broken: {contract.name}", *lines])


def test_import_linter_agrees():
    """The real tool reads the same file; what it prints names the imports at fault."""
    pytest.importorskip("importlinter", reason="import-linter is in the dev extra: pip install -e '.[dev]'")
    code = "import sys, importlinter.cli as c; sys.exit(c.lint_imports(sys.argv[1], no_cache=True))"
    done = subprocess.run(
        [sys.executable, "-c", code, str(CONTRACTS)],
        cwd=str(ROOT),
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stdout


TOY = """
[importlinter]
root_package = toy
[importlinter:contract:layers]
name = layers
type = layers
containers = toy
layers =
    (top)
    left | right
    bottom
exhaustive = True
[importlinter:contract:pure]
name = pure
type = forbidden
source_modules = toy.bottom
forbidden_modules = threading
[importlinter:contract:direct]
name = direct
type = forbidden
source_modules = toy.right
forbidden_modules = threading
allow_indirect_imports = True
"""


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"left.py": "from toy import bottom", "top.py": "import toy.left, threading"}, []),
        ({"bottom.py": "def f():\n    from . import top"}, ["toy.bottom (line 2) → toy.top"]),
        ({"left.py": "from .right import x"}, ["toy.left (line 1) → toy.right"]),
        ({"bottom/__init__.py": "from .a import b", "bottom/a.py": "import threading.local as t"},
         ["toy.bottom.a (line 1) → threading"]),
        ({"bottom/__init__.py": "from ..other import b", "other.py": "import os\nimport threading"},
         ["toy.other has no place in the layers", "toy.bottom (line 1) → toy.other (line 2) → threading"]),
        ({"right.py": "import threading", "left.py": "import threading"}, ["toy.right (line 1) → threading"]),
        ({"bottom.py": "from toy import Face", "__init__.py": "from .left import Face"},
         ["toy.bottom (line 1) → toy (line 1) → toy.left"]),
    ],
    ids=["kept", "upward", "sideways", "forbidden", "by way of another", "direct", "by way of the public face"],
)  # fmt: skip
def test_the_reader_sees_a_breach(tmp_path, files, expected):
    """A reader that finds nothing anywhere would pass every contract."""
    modules = {f"{name}.py": "" for name in ("__init__", "top", "left", "right", "bottom")}
    if "bottom/__init__.py" in files:
        del modules["bottom.py"]
    for name, text in {**modules, **files}.items():
        path = tmp_path / "toy" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    package, contracts = read_contracts(TOY)
    graph = read_imports(tmp_path, package)
    assert [line for contract in contracts for line in broken(contract, graph)] == expected
