"""The user's own modules in workers: as this program has them, whatever became of their files."""

from __future__ import annotations

import contextvars
import enum
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
import types
import zipfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from hypernodes import LocalBackend, Pipeline, node
from hypernodes.errors import ChangedModuleError, NotPicklableError
from hypernodes.pickling import dumps
from hypernodes.pickling.modules import goes_by_value, look


@pytest.fixture(scope="module")
def warm():
    """Return a backend whose workers are as warm as the tests before have left them."""
    with LocalBackend(map_execution="parallel", max_workers=2) as backend:
        yield backend


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write a module that this process and its workers can import, and return it, imported."""
    monkeypatch.syspath_prepend(str(tmp_path))
    # Or a module edited within a second would be read from the bytecode of the one before.
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")

    def written(name, text):
        (tmp_path / f"{name}.py").write_text(text)
        importlib.invalidate_caches()
        return importlib.import_module(name)

    yield written
    for path in tmp_path.glob("*.py"):
        sys.modules.pop(path.stem, None)
    look()


def results(fn, backend, items=6):
    """Map `fn` over numbers with a backend; the same has to come out as sequentially."""
    pipeline = Pipeline(nodes=[node(output_name="y")(fn)])
    parallel = Pipeline(nodes=[node(output_name="y")(fn)], backend=backend)
    inputs = {"x": list(range(items))}
    expected = pipeline.map(inputs=inputs, map_over="x")["y"]
    found = parallel.map(inputs=inputs, map_over="x")["y"]
    assert found == expected
    return found


def test_a_module_that_was_reloaded_is_new_in_warm_workers(write, warm, tmp_path):
    module = write("reloaded_one", "K = 1\n\ndef add(x):\n    return x + K\n")
    assert results(module.add, warm)[0] == 1
    (tmp_path / "reloaded_one.py").write_text("K = 20\n\ndef add(x):\n    return x + K\n")
    importlib.reload(module)
    assert results(module.add, warm)[0] == 20
    assert not goes_by_value("reloaded_one")


def test_a_function_by_value_that_refers_to_a_reloaded_module(write, warm, tmp_path):
    module = write("reloaded_two", "def add(x):\n    return x + 1\n")
    assert results(lambda x: module.add(x), warm)[0] == 1
    (tmp_path / "reloaded_two.py").write_text("def add(x):\n    return x + 300\n")
    importlib.reload(module)
    add = module.add
    assert results(lambda x: module.add(x), warm)[0] == 300
    assert results(lambda x: add(x), warm)[0] == 300


def test_a_module_that_was_edited_and_not_reloaded_is_what_the_program_has(write, warm, tmp_path):
    module = write("edited_one", "K = 1\n\ndef helper(x):\n    return x + K\n\ndef add(x):\n    return helper(x)\n")
    assert results(module.add, warm)[0] == 1
    (tmp_path / "edited_one.py").write_text(
        "K = 500\n\ndef helper(x):\n    return x + K\n\ndef add(x): return helper(x)"
    )
    assert results(module.add, warm)[0] == 1
    with LocalBackend(map_execution="parallel", max_workers=1) as fresh:
        assert results(module.add, fresh)[0] == 1
    importlib.reload(module)
    assert results(module.add, warm)[0] == 500


@pytest.mark.parametrize(
    "edit", ["K = 7\n\ndef add(x):\n    return x + K\n", "K = 1\n\ndef add(x):\n    return x - K\n"]
)
def test_an_edit_before_the_first_parallel_run_is_seen_as_well(write, warm, tmp_path, edit):
    module = write("edited_early", "K = 1\n\ndef add(x):\n    return x + K\n")
    (tmp_path / "edited_early.py").write_text(edit)
    assert results(module.add, warm)[0] == 1


def test_an_edit_that_was_put_into_a_module_in_place(write, warm, tmp_path):
    """As newer versions of `%autoreload` do, which give functions other code and load nothing again."""
    lines = "import threading\nLOCK = threading.Lock()\n\ndef add(x):\n    with LOCK:\n        return x"
    module = write("patched_here", f"{lines} + 1\n")
    assert results(module.add, warm)[0] == 1
    (tmp_path / "patched_here.py").write_text(f"{lines} + 900\n")
    space = {}
    exec(compile(f"{lines} + 900\n", module.__file__, "exec", dont_inherit=True), space)
    look()
    assert goes_by_value("patched_here")
    module.add.__code__ = space["add"].__code__
    assert results(module.add, warm)[0] == 900
    assert not goes_by_value("patched_here")


WRITTEN = {
    "a_dataclass": "import dataclasses\n@dataclasses.dataclass\nclass C:\n  x: int = 1\n",
    "attrs_class": "import attrs\n@attrs.define\nclass C:\n  x: int = 1\n",
    "a_named_tuple": "import typing\nclass C(typing.NamedTuple):\n  x: int = 1\n  def twice(self): return 2 * self.x\n",
    "an_enum": "import enum\nclass C(enum.IntFlag):\n  A = 1\n  def twice(self): return 2\n",
    "a_context_manager": "import contextlib\n@contextlib.contextmanager\ndef opened():\n  yield\n",
    "a_wrapper": "import functools\ndef w(f):\n  @functools.wraps(f)\n  def i(): f()\n  return i\n@w\ndef g(): 1\n",
    "a_generic": "import functools\n@functools.singledispatch\ndef g(x): 1\n@g.register\ndef _(x: int): 2\n",
    "a_branch": "import sys\nif sys.platform == 'nowhere':\n  K = 1\nstep = 1\ndel step\n",
    "lambdas": "f = lambda x: x in {'a', 'b', 'c'}\ng = [lambda: 1, lambda: 2]\n",
    "made_by_exec": "exec('def made(): pass')\n",
}


@pytest.mark.parametrize("name", WRITTEN)
def test_a_module_that_was_written_while_the_program_ran_goes_by_name(write, tmp_path, name):
    module = write(f"written_{name}", WRITTEN[name] + "def add(x): return x\n")
    look()
    assert not goes_by_value(module.__name__)
    (tmp_path / f"{module.__name__}.py").write_text(WRITTEN[name] + "def add(x): return -x\n")
    look()
    assert goes_by_value(module.__name__)


def test_a_module_in_an_archive_goes_by_name(warm, tmp_path, monkeypatch):
    archive = tmp_path / "app.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("zipped_late.py", "BY = 1\n")
        lock = "import threading\nLOCK = threading.Lock()\n"
        file.writestr(
            "zipped.py", f"{lock}def add(x):\n  with LOCK:\n    import zipped_late\n    return x + zipped_late.BY\n"
        )
    monkeypatch.syspath_prepend(str(archive))
    module, _ = importlib.import_module("zipped"), importlib.import_module("zipped_late")
    assert results(module.add, warm)[0] == 1
    assert not goes_by_value("zipped")
    del sys.modules["zipped"], sys.modules["zipped_late"]


class Touchy:
    """Not even a module, and nothing may be asked of it."""

    def __getattr__(self, name):
        raise RuntimeError(f"asked for {name}")


def test_what_is_in_the_table_of_modules_is_not_asked_to_load(warm, tmp_path, monkeypatch):
    (tmp_path / "lazy_here.py").write_text("raise RuntimeError('loaded')")
    spec = importlib.util.spec_from_file_location("lazy_here", str(tmp_path / "lazy_here.py"))
    spec.loader = importlib.util.LazyLoader(spec.loader)
    lazy = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(lazy)
    for name, module in [("lazy_here", lazy), ("touchy", Touchy()), ("not_wanted", None)]:
        monkeypatch.setitem(sys.modules, name, module)
    variable = contextvars.ContextVar("variable", default=1)
    assert results(lambda x: x + variable.get(), warm)[0] == 1


def test_a_module_of_an_editable_install_goes_by_name(tmp_path, monkeypatch):
    """Its finder is put in place by a .pth file, in each process."""
    (tmp_path / "edited_in_place.py").write_text("def add(x): return x\n")

    class Finder(importlib.abc.MetaPathFinder):
        __module__ = "_editable_impl_project"

        def find_spec(self, name, path, target=None):
            if name == "edited_in_place":
                return importlib.util.spec_from_file_location(name, str(tmp_path / f"{name}.py"))
            return None

    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Finder()])
    importlib.import_module("edited_in_place")
    look()
    assert not goes_by_value("edited_in_place")
    del sys.modules["edited_in_place"]


def test_what_imports_an_edited_module_goes_with_it(write, warm, tmp_path):
    write("deepest", "BASE = 1\n")
    write("middle", "from deepest import BASE\n\ndef twice():\n    return 2 * BASE\n")
    top = write("topmost", "import middle\n\ndef add(x):\n    return x + middle.twice()\n")
    apart = write("bystander", "def add(x):\n    return x\n")
    assert results(top.add, warm)[0] == 2
    (tmp_path / "deepest.py").write_text("BASE = 1000\n")
    assert results(top.add, warm)[0] == 2
    with LocalBackend(map_execution="parallel", max_workers=1) as fresh:
        assert results(top.add, fresh)[0] == 2
        assert results(apart.add, fresh)[0] == 0
    assert [goes_by_value(name) for name in ("deepest", "middle", "topmost", "bystander")] == [True, True, True, False]


def test_a_module_that_is_imported_within_a_node_is_not_taken_from_an_edited_file(write, tmp_path):
    write("late_one", "def base():\n    return 1\n")
    top = write("late_user", "def add(x):\n    import late_one\n    return x + late_one.base()\n")
    (tmp_path / "late_one.py").write_text("def base():\n    return 1000\n")
    pipeline = Pipeline(nodes=[node(output_name="y")(top.add)])
    with LocalBackend(map_execution="parallel", max_workers=1) as fresh:
        pipeline.backend = fresh
        with pytest.raises(ImportError, match="'late_one' was edited after"):
            pipeline.map(inputs={"x": [1]}, map_over="x")
        importlib.reload(sys.modules["late_one"])
        assert pipeline.map(inputs={"x": [1]}, map_over="x")["y"] == [1001]


def test_touching_a_file_changes_nothing(write, tmp_path):
    module = write("touched", "def add(x):\n    return x\n")
    look()
    (tmp_path / "touched.py").write_text("def add(x):\n    return x\n")
    look()
    assert not goes_by_value("touched")
    assert len(dumps(module.add, "add")) < 60


def test_objects_of_an_edited_module_come_back_as_their_own_class(write, warm, tmp_path):
    module = write("shapes_here", "class Point:\n    side = 1\n    def __init__(self, x):\n        self.x = x\n")
    (tmp_path / "shapes_here.py").write_text("class Point:\n    side = 1\n")
    pipeline = Pipeline(nodes=[node(output_name="y")(lambda x: module.Point(x))], backend=warm)
    point = pipeline.map(inputs={"x": [3]}, map_over="x")["y"][0]
    assert type(point) is module.Point
    assert point.x == 3


def test_what_an_edited_module_cannot_send_is_refused_by_name(write, warm, tmp_path):
    module = write(
        "with_lock", "import threading\nLOCK = threading.Lock()\n\ndef add(x):\n    with LOCK:\n        return x\n"
    )
    assert results(module.add, warm) == list(range(6))
    (tmp_path / "with_lock.py").write_text("import threading\nLOCK = threading.Lock()\n\ndef add(x): return x\n")
    pipeline = Pipeline(nodes=[node(output_name="y")(module.add)], backend=warm)
    with pytest.raises(NotPicklableError, match=r"node 'add'.*LOCK") as raised:
        pipeline.map(inputs={"x": [1]}, map_over="x")
    assert "'with_lock'" in raised.value.fix
    assert "reload" in raised.value.fix
    importlib.reload(module)
    assert results(module.add, warm) == list(range(6))  # new pipelines, which nothing has looked at modules for


def test_processes_of_an_executor_that_have_an_older_module_are_refused(write, tmp_path):
    module = write("in_executor", "def add(x):\n    return x + 1\n")
    with ProcessPoolExecutor(1) as executor:
        backend = LocalBackend(map_execution="parallel", max_workers=1, executor=executor)
        assert results(module.add, backend)[0] == 1
        (tmp_path / "in_executor.py").write_text("def add(x):\n    return x + 900\n")
        importlib.reload(module)
        with pytest.raises(ChangedModuleError) as raised:
            results(module.add, backend)
        assert raised.value.modules == ("in_executor",)


# Modules that nobody else would find.

PLUGIN = """
import enum
import functools
import threading

LOCK = threading.Lock()

class Colour(enum.Enum):
    RED = 1
    BLUE = 2

class Odd(ValueError):
    pass

class Box:
    made = 0
    def __init__(self, content):
        self.content = content
    def __eq__(self, other):
        return type(other) is Box and other.content == self.content

@functools.lru_cache(maxsize=None)
def double(x):
    return 2 * x

def helper(x):
    if x == 99:
        raise Odd("no", x)
    return Box((double(x), Colour(1 + x % 2)))

def entry(x):
    return helper(x)

def colour(x):
    return Colour.BLUE
"""


class Hook(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """An import hook: its module has no file anywhere."""

    def find_spec(self, name, path, target=None):
        return importlib.util.spec_from_loader(name, self) if name == "from_a_hook" else None

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        exec(PLUGIN, vars(module))


def loaded_by_file(tmp_path, monkeypatch):
    path = tmp_path / "elsewhere" / "plugin_file.py"
    path.parent.mkdir()
    path.write_text(PLUGIN)
    spec = importlib.util.spec_from_file_location("plugin_file", str(path))
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "plugin_file", module)
    spec.loader.exec_module(module)
    return module


def made_at_run_time(tmp_path, monkeypatch):
    module = types.ModuleType("made_here")
    exec(PLUGIN, vars(module))
    monkeypatch.setitem(sys.modules, "made_here", module)
    return module


def from_a_hook(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "meta_path", [Hook(), *sys.meta_path])
    monkeypatch.delitem(sys.modules, "from_a_hook", raising=False)
    module = importlib.import_module("from_a_hook")
    monkeypatch.setitem(sys.modules, "from_a_hook", module)
    return module


def in_a_namespace(tmp_path, monkeypatch):
    """A package without a file, on a path that was only here for a moment."""
    folder = tmp_path / "portion" / "spread_out"
    folder.mkdir(parents=True)
    (folder / "part.py").write_text(PLUGIN)
    with monkeypatch.context() as patch:
        patch.syspath_prepend(str(tmp_path / "portion"))
        module = importlib.import_module("spread_out.part")
    for name in ("spread_out", "spread_out.part"):
        monkeypatch.setitem(sys.modules, name, sys.modules[name])
    return module


@pytest.mark.parametrize("make", [loaded_by_file, made_at_run_time, from_a_hook, in_a_namespace])
def test_a_module_that_nobody_else_finds_goes_by_value(make, warm, tmp_path, monkeypatch):
    module = make(tmp_path, monkeypatch)
    assert results(module.entry, warm)[1] == module.Box((2, module.Colour.BLUE))
    assert results(module.colour, warm)[0] is module.Colour.BLUE
    pipeline = Pipeline(nodes=[node(output_name="y")(module.entry)], backend=warm)
    with pytest.raises(module.Odd) as raised:
        pipeline.map(inputs={"x": [99]}, map_over="x")
    assert raised.value.args == ("no", 99)


def test_a_module_as_a_value_goes_with_what_pickles_of_it(warm, tmp_path, monkeypatch):
    module = loaded_by_file(tmp_path, monkeypatch)
    assert results(lambda x: module.double(x) + module.Box.made, warm)[2] == 4
    pipeline = Pipeline(nodes=[node(output_name="y")(lambda x: module.LOCK)], backend=warm)
    with pytest.raises(AttributeError, match="'LOCK' stayed behind: TypeError"):
        pipeline.map(inputs={"x": [1]}, map_over="x")


def test_a_namespace_package_on_the_path_goes_by_name(tmp_path, monkeypatch):
    folder = tmp_path / "spread_here"
    folder.mkdir()
    (folder / "part.py").write_text("def add(x):\n    return x\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    module = importlib.import_module("spread_here.part")
    look()
    assert not goes_by_value("spread_here.part")
    assert len(dumps(module.add, "add")) < 60
    del sys.modules["spread_here.part"], sys.modules["spread_here"]


def test_a_loader_that_compiles_what_it_makes_of_a_source_has_edited_nothing(tmp_path, monkeypatch):
    """As that of pytest, of which the asserts of a test module that was saved a moment ago are another code."""

    class Loader(importlib.machinery.SourceFileLoader):
        def source_to_code(self, data, path, **options):
            return compile(data.replace(b"assert x", b"return -x"), path, "exec")

    path = tmp_path / "rewritten.py"
    path.write_text("def add(x):\n    assert x\n")
    spec = importlib.util.spec_from_file_location("rewritten", str(path), loader=Loader("rewritten", str(path)))
    monkeypatch.setitem(sys.modules, "rewritten", importlib.util.module_from_spec(spec))
    spec.loader.exec_module(sys.modules["rewritten"])
    monkeypatch.syspath_prepend(str(tmp_path))
    assert sys.modules["rewritten"].add(1) == -1
    look()
    assert not goes_by_value("rewritten")


def test_python_and_installed_distributions_go_by_name():
    for module in (sys, enum, pytest, importlib.util, Path):
        assert not goes_by_value(getattr(module, "__module__", module.__name__))
    assert not goes_by_value(LocalBackend.__module__)
    assert not goes_by_value(pytest.Item.__module__)
