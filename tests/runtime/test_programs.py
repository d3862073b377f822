"""What functions refer to is, in worker processes too, what it is when a run starts."""

from __future__ import annotations

import functools
import os
import types
import weakref

import pytest
from scripts import Script

from hypernodes import LocalBackend, Pipeline, node
from hypernodes.errors import NotPicklableError
from hypernodes.pickling import dumps, loads
from hypernodes.runtime.processes.process import Worker


@pytest.fixture(scope="module")
def warm():
    with LocalBackend(map_execution="parallel", max_workers=1) as backend:
        yield backend


@pytest.fixture(scope="module")
def warm_nodes():
    with LocalBackend(node_execution="parallel", max_workers=1) as backend:
        yield backend


# What a function refers to, and how it comes to be something else; each returns the function.


def a_global():
    script = Script("K = 1\ndef fn(x): return x + K")
    yield script["fn"]
    script.run("K = 20")
    yield script["fn"]


def a_helper():
    script = Script("def helper(x): return x + 1\ndef fn(x): return helper(x)")
    yield script["fn"]
    script.run("def helper(x): return x - 1")
    yield script["fn"]


def a_dict_changed_in_place():
    script = Script("D = {'by': [1]}\ndef fn(x): return x + D['by'][0]")
    yield script["fn"]
    script["D"]["by"][0] = 30
    yield script["fn"]
    del script["D"]["by"]
    script["D"]["by"] = (7,)
    yield script["fn"]


def a_model_fitted_again():
    class Model:
        weight = 0

        def fit(self, weight):
            self.weight = weight
            return self

        def predict(self, x):
            return x * self.weight

    model = Model()
    for weight in (1, 5):
        yield model.fit(weight).predict


def a_closure():
    by = 1

    def fn(x):
        return x + by

    yield fn
    by = 50
    yield fn


def class_attributes():
    script = Script(
        "class C:\n  k = 1\n  extra = 5\n  @classmethod\n  def add(cls, x): return x + cls.k, hasattr(cls, 'extra')"
    )
    script.run("def fn(x): return C.add(x)")
    yield script["fn"]
    script["C"].k = 60
    yield script["fn"]
    del script["C"].extra
    yield script["fn"]
    script["C"].add = classmethod(lambda cls, x: -x)
    yield script["fn"]


def a_class_that_becomes_what_it_was():
    script = Script("class C:\n  k = 1\n  def add(self, x): return x + self.k\ndef fn(x): return C().add(x)")
    for k in (1, 2, 1, 2):
        script["C"].k = k
        yield script["fn"]


def arguments_of_a_partial():
    options = {"by": 1}
    fn = functools.update_wrapper(functools.partial(lambda options, x: x + options["by"], options), lambda x: x)
    yield fn
    options["by"] = 70
    yield fn


def a_default():
    options = {"by": 1}

    def fn(x, options=options):
        return x + options["by"]

    yield fn
    options["by"] = 80
    yield fn


def an_attribute_of_the_function():
    def fn(x):
        return x + fn.by

    for by in (1, 90):
        fn.by = by
        yield fn


def the_function_of_a_decorator():
    script = Script(
        "def logged(f):\n  def inner(x): return f(x)\n  return inner\n@logged\ndef fn(x): return x + K\nK = 1"
    )
    yield script["fn"]
    script.run("K = 9")
    yield script["fn"]


def a_cached_function():
    script = Script("import functools\nK = 1\n@functools.lru_cache(maxsize=None)\ndef cached(x): return x + K")
    script.run("def fn(x): return cached(x)")
    yield script["fn"]
    script.run("K = 11")
    script["cached"].cache_clear()
    yield script["fn"]


def an_array_changed_in_place():
    numpy = pytest.importorskip("numpy")
    script = Script("def fn(x): return float(x + A[0] + A[-1])")
    script.space["A"] = numpy.zeros(100_000)
    yield script["fn"]
    script["A"][-1] = 3
    yield script["fn"]
    script["A"][0] = 4
    yield script["fn"]


CHANGES = [
    a_global,
    a_helper,
    a_dict_changed_in_place,
    a_model_fitted_again,
    a_closure,
    class_attributes,
    a_class_that_becomes_what_it_was,
    arguments_of_a_partial,
    a_default,
    an_attribute_of_the_function,
    the_function_of_a_decorator,
    a_cached_function,
    an_array_changed_in_place,
]


@pytest.mark.parametrize("changes", CHANGES)
def test_a_map_sees_the_state_of_its_run(changes, warm):
    steps = changes()
    made = node(output_name="y", name="made")(next(steps))
    pipeline, parallel = Pipeline(nodes=[made]), Pipeline(nodes=[made], backend=warm)
    seen = []
    inputs = {"x": [1, 2]}
    while True:
        seen.append(parallel.map(inputs=inputs, map_over="x")["y"])
        assert seen[-1] == pipeline.map(inputs=inputs, map_over="x")["y"]
        assert [outputs["y"] for _, outputs in parallel.stream(inputs=inputs, map_over="x", ordered=True)] == seen[-1]
        if next(steps, None) is None:
            break
    assert all(one != other for one, other in zip(seen, seen[1:]))


@pytest.mark.parametrize("changes", CHANGES)
def test_nodes_and_nested_maps_see_the_state_of_their_run(changes, warm_nodes):
    steps = changes()
    made = node(output_name="y", name="made")(next(steps))
    inner = Pipeline(nodes=[made], name="inner")
    nested = inner.as_node(input_mapping={"xs": "x"}, output_mapping={"y": "ys"}, map_over="xs")
    pipeline = Pipeline(nodes=[made, nested])
    parallel = Pipeline(nodes=[made, nested], backend=warm_nodes)
    inputs = {"x": 1, "xs": [1, 2]}
    while True:
        assert parallel.run(inputs=inputs) == pipeline.run(inputs=inputs)
        if next(steps, None) is None:
            break


def test_what_has_become_unpicklable_is_refused_by_name(warm):
    held = [1]
    pipeline = Pipeline(nodes=[node(output_name="y", name="reader")(lambda x: len(held))], backend=warm)
    assert pipeline.map(inputs={"x": [0]}, map_over="x")["y"] == [1]
    held.append(number for number in range(3))
    with pytest.raises(NotPicklableError, match=r"node 'reader' → closure variable 'held' → item 1"):
        pipeline.map(inputs={"x": [0]}, map_over="x")


# What did not change.


@pytest.fixture
def sent(monkeypatch):
    """Return the sizes of the messages to workers, in bytes."""
    sizes = []
    send = Worker.send

    def counted(worker, *parts, fds=()):
        sizes.append((sum(map(len, parts)), len(fds)))
        send(worker, *parts, fds=fds)

    monkeypatch.setattr(Worker, "send", counted)
    return sizes


def test_an_unchanged_function_is_not_sent_again_and_keeps_what_it_loaded(warm, sent):
    script = Script("LARGE = list(range(100_000))\nMODEL = None")
    script.run(
        "def load(x):\n  global MODEL\n  MODEL = MODEL or [0]\n  MODEL[0] += 1\n  return MODEL[0] + 0 * len(LARGE)"
    )
    pipeline = Pipeline(nodes=[node(output_name="y")(script["load"])], backend=warm)
    assert pipeline.map(inputs={"x": [0, 0]}, map_over="x")["y"] == [1, 2]
    first = max(sent)[0]
    sent.clear()
    assert pipeline.map(inputs={"x": [0, 0]}, map_over="x")["y"] == [3, 4]
    assert first > 100_000 > 10_000 > max(sent)[0]
    script["LARGE"].append(1)
    assert pipeline.map(inputs={"x": [0, 0]}, map_over="x")["y"] == [1, 2]


def test_an_unchanged_array_in_a_function_is_sent_once(warm, sent):
    numpy = pytest.importorskip("numpy")
    script = Script("def fn(x):\n  A[0] += 1\n  return float(A[0])")
    script.space["A"] = numpy.zeros(1_000_000)
    pipeline = Pipeline(nodes=[node(output_name="y")(script["fn"])], backend=warm)
    assert pipeline.map(inputs={"x": [0]}, map_over="x")["y"] == [1.0]  # it may write to its own copy
    assert sum(fds for _, fds in sent) == 1
    sent.clear()
    assert pipeline.map(inputs={"x": [0]}, map_over="x")["y"] == [2.0]
    assert sum(fds for _, fds in sent) == 0
    assert script["A"][0] == 0
    script["A"][-1] = 1
    assert pipeline.map(inputs={"x": [0]}, map_over="x")["y"] == [1.0]


class Growing:
    """Adds to the dictionary that it is in while that is pickled, as another thread might, so many times."""

    def __init__(self, within, times):
        self.within, self.times = within, times

    def __reduce__(self):
        if self.times:
            self.times -= 1
            self.within[len(self.within)] = None
        return int, ()


def test_what_another_thread_changes_is_pickled_between_two_changes(warm):
    held = {}
    pipeline = Pipeline(nodes=[node(output_name="y")(lambda x: len(held))], backend=warm)
    held["first"], held["second"] = Growing(held, 5), 0
    assert pipeline.map(inputs={"x": [0]}, map_over="x")["y"] == [7]
    held["first"] = Growing(held, 1_000_000)
    with pytest.raises(NotPicklableError, match="changed size during iteration"):
        pipeline.map(inputs={"x": [0]}, map_over="x")


def test_a_worker_keeps_the_latest_state_only(warm):
    state = [0]

    def kept(x):
        from hypernodes.runtime.processes import worker

        return state[0], len(worker._own.parts)

    pipeline = Pipeline(nodes=[node(output_name="y")(kept)], backend=warm)
    seen = []
    for number in range(12):
        state[0] = number
        seen += pipeline.map(inputs={"x": [0]}, map_over="x")["y"]
    assert [number for number, _ in seen] == list(range(12))
    assert len({parts for _, parts in seen[4:]}) == 1


# Weak references, and functions that hold some.


def test_generic_functions_work_by_value(warm):
    @functools.singledispatch
    def kind(x):
        return "object"

    @kind.register(int)
    def of_int(x):
        return "int"

    kind(1)  # its cache of weak keys has an entry
    pipeline = Pipeline(nodes=[node(output_name="y")(lambda x: kind(x))], backend=warm)
    assert pipeline.map(inputs={"x": [1, "s"]}, map_over="x")["y"] == ["int", "object"]
    kind.register(str, lambda x: "str")
    assert pipeline.map(inputs={"x": [1, "s"]}, map_over="x")["y"] == ["int", "str"]


class Thing:
    def __init__(self, name):
        self.name = name

    def called(self):
        return self.name


def test_weak_references_lead_to_what_they_lead_to_here(warm):
    thing = Thing("here")
    one, dead = weakref.ref(thing), weakref.ref(Thing("gone"))
    keys, values, things = weakref.WeakKeyDictionary(), weakref.WeakValueDictionary(), weakref.WeakSet([thing])
    keys[thing], values["it"] = 1, thing

    def read(x):
        return one().name, dead(), values["it"].name, list(keys.values()), [each.name for each in things]

    pipeline = Pipeline(nodes=[node(output_name="y")(read)], backend=warm)
    assert pipeline.map(inputs={"x": [0]}, map_over="x")["y"] == [read(0)]


def test_weak_references_to_methods(warm):
    thing = Thing("here")
    method, dead = weakref.WeakMethod(thing.called), weakref.WeakMethod(Thing("gone").called)
    pipeline = Pipeline(nodes=[node(output_name="y")(lambda x: (method()(), dead()))], backend=warm)
    assert pipeline.map(inputs={"x": [0]}, map_over="x")["y"] == [("here", None)]
    copy = loads(dumps(loads(dumps([thing, method], "method")), "copy"))
    assert copy[1]().__self__ is copy[0]


def test_what_refers_weakly_to_itself_is_one_object():
    def fn():
        return one().name

    thing = Thing("self")
    thing.me = one = weakref.ref(thing)
    copy = loads(dumps(thing, "thing"))
    assert copy.me() is copy
    assert isinstance(copy.me, weakref.ref)
    assert loads(dumps(copy, "copy")).me().name == "self"


def test_a_module_made_by_hand_is_no_file(warm):
    module = types.ModuleType("by_hand")
    exec("def pid():\n    import os\n    return os.getpid()", vars(module))
    pipeline = Pipeline(nodes=[node(output_name="y")(lambda x: module.pid())], backend=warm)
    (pid,) = pipeline.map(inputs={"x": [0]}, map_over="x")["y"]
    assert pid != os.getpid()
