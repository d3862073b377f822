"""Requests in, answers out: what runs in a worker process, and nowhere else.

A worker keeps the parts it was sent (linked programs, shared values, environment) under their digests, the most
recently used ones, so that a second request of a run carries nothing but its rows. Of parts with large buffers it keeps
the latest one, and lets go of that too before it is idle. The same code answers for a worker of our own, which hears
from its pipe, and for a process executor of the user's, which calls `answer_for` each time.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import gc
import sys
import threading
import time
from collections import OrderedDict
from typing import Any, Callable, Iterator, List, Optional, Sequence, Tuple, cast

from hypernodes.errors import NotPicklableError
from hypernodes.lowering.plan import Plan
from hypernodes.pickling import loads, namespaces
from hypernodes.pickling.classes import noted, renew
from hypernodes.pickling.exceptions import portable
from hypernodes.runtime.bundle.evaluate import Evaluation, LinkedProgram, Values, evaluate
from hypernodes.runtime.bundle.interpreter import Slots
from hypernodes.runtime.bundle.layers import layers_of
from hypernodes.runtime.bundle.linked import LinkedPlan
from hypernodes.runtime.bundle.locate import EXPLANATIONS
from hypernodes.runtime.drivers import libraries
from hypernodes.runtime.drivers.coordinator import Coordinator
from hypernodes.runtime.drivers.initializer import Initializer
from hypernodes.runtime.drivers.run import Resources, Run
from hypernodes.runtime.drivers.services import Services
from hypernodes.runtime.drivers.thread_pool import ThreadPool
from hypernodes.runtime.processes import environment, role, telling
from hypernodes.runtime.processes.channel import Connection
from hypernodes.runtime.processes.memory import Segment, count_mapped, take
from hypernodes.runtime.processes.parts import Parts
from hypernodes.runtime.processes.read_only import explain_read_only
from hypernodes.runtime.processes.responses import packed_events, packed_results
from hypernodes.runtime.processes.wire import Notice, RequestHeader, ResponseHeader, decode_request, encode
from hypernodes.runtime.schedule.locations import in_items

FRAMES = 64
"""Plans of whole frames that a worker keeps linked."""

_on_the_way: List[Segment] = []


class _WorkerServices(Services):
    """Services in a worker process, whose parent can kill it and gives it whole frames to run."""

    __slots__ = ("_hosted", "connection")

    connection: Connection

    def __init__(self) -> None:
        super().__init__()
        self._hosted: OrderedDict[Tuple[int, int], LinkedPlan] = OrderedDict()

    @contextlib.contextmanager
    def watch(self, call: str, seconds: float) -> Iterator[None]:
        self.connection.send(encode(Notice(call, seconds)))
        failed = True
        try:
            yield
            failed = False
        finally:
            self.connection.send(encode(Notice(call, 0.0, failed)))

    def host(self, plan: Plan, slots: Slots) -> None:
        """Run a whole frame by a schedule of its own, in this thread and lanes beside it."""
        layers = slots[-1].layers if slots[-1] is not None else None
        key = (id(plan), id(layers))
        linked = self._hosted.get(key)
        if linked is None:
            linked = self._hosted[key] = LinkedPlan(plan, layers)
            while len(self._hosted) > FRAMES:
                self._hosted.popitem(last=False)
        self._hosted.move_to_end(key)
        width = plan.options.max_workers
        run = Run(linked, slots, Resources(width, ThreadPool(width), layers=layers), self)
        Coordinator(run).work()
        self.apart, self.stopped, self._paused = False, False, None
        for task, error in run.schedule.failures:
            raise error if task is None else in_items(task, error)


class _Worker:
    """What a worker has between two requests."""

    def __init__(self) -> None:
        self.services = _WorkerServices()
        self.parts = Parts()
        self.environment: List[Any] = []
        self.initializer: Optional[bytes] = None
        """To be called before the first node."""

    def look_like(self, header: RequestHeader) -> None:
        """Let this process look like the one that a request is from."""
        of_environment = header.owners[0]
        if self.environment[:1] != [of_environment]:
            # Another run, or a node of this process, may have left it looking otherwise.
            data = self.parts.use(header.environment).data
            self.environment.clear()
            self.environment[:] = [of_environment, *environment.adopt(data)]
            self.services.catch_up()

    def initialize(self) -> None:
        """Call the initializer, if there is one, unless it has been called and has not failed."""
        if self.initializer is not None:
            with role.reading(), namespaces.read() as spaces:
                initializer = cast(Initializer, loads(self.initializer))
            with namespaces.kept(spaces):
                initializer()
            self.initializer = None


_own = _Worker()
_guests = threading.local()
"""A `worker` for each thread of an executor of the user's that has had a request."""

EXPLANATIONS.append(explain_read_only)


def server(workers: int, initializer: Optional[bytes] = None) -> Callable[[Connection], None]:
    """Return the target of a pool of `workers` processes, each of which first calls a pickled `Initializer`."""
    return functools.partial(serve, siblings=role.together(workers), initializer=initializer)


def prepare(siblings: int, initializer: Optional[bytes]) -> None:
    """Make this process a worker beside so many, itself included; called before it answers anything."""
    role.among(siblings)
    _own.initializer = initializer


def serve(connection: Connection, siblings: int = 1, initializer: Optional[bytes] = None) -> None:
    """Answer requests until the pipe closes."""
    prepare(siblings, initializer)
    _own.services.connection = connection
    telling.install(connection.output)
    while _serve_one(connection):
        # By now nothing here refers to what came or went: large values are not kept while a worker waits.
        pass
    telling.uninstall()


def _serve_one(connection: Connection) -> bool:
    fds: List[int] = []
    parts = connection.receive(fds)
    if parts is None:
        return False
    _on_the_way.clear()
    if not parts:
        _own.parts.let_go(())
        if count_mapped():  # an exception of a node may refer to itself, and to the values it met
            gc.collect()
        return True
    memory: List[Segment] = []
    answered = _answer(_own, parts, fds, memory)
    connection.send(*answered, fds=[segment.fd for segment in memory])
    if sys.platform == "darwin":  # which loses a descriptor on its way when the sender closes its own
        _on_the_way[:] = memory
    return True


def answer_alone(parts: List[bytes]) -> List[bytes]:
    """Run one request in an executor of ours."""
    return _answer(_own, parts)


def answer_for(workers: int, parts: List[bytes], number: str) -> List[bytes]:
    """Run one request in an executor of `workers` processes, which are the user's: they look as before when it ends.

    No two requests have the same `number`.
    """
    worker: Optional[_Worker] = getattr(_guests, "worker", None)
    if worker is None:
        worker = _guests.worker = _Worker()
    before = libraries.kept_by_thread(defaults=True)
    try:
        return _answer(worker, parts, workers=workers)
    finally:
        worker.environment.clear()  # it has to be adopted again
        libraries.put(before)


def _answer(
    worker: _Worker,
    parts: List[bytes],
    fds: Sequence[int] = (),
    memory: Optional[List[Segment]] = None,
    workers: int = 1,
) -> List[bytes]:
    """Run one request.

    Parameters
    ----------
    worker : _Worker
        What is here already.
    parts : list of bytes
        The header, the parts it says it carries, and the rows.
    fds : sequence of int, optional
        Descriptors that came with them; they are closed here.
    memory : list of Segment, optional
        Gets the memory of large buffers of the results. Without it these stay in the results.
    workers : int, optional
        How many processes may be at work beside this one, itself included, of an executor of the user's.

    Returns
    -------
    list of bytes
        A header and the results of the rows laid end to end, of all there was time for; or the header and the exception
        of the first that failed.
    """
    header = decode_request(parts[0])
    started, begun = time.perf_counter(), False
    done = Evaluation()
    segment: Optional[Segment] = None
    before: Optional[bytes] = None
    try:
        *memories, row_memory = take(fds, header.program_sizes, *header.shared_sizes, header.row_sizes)
        large = {digest: memory for digest, memory in zip((header.program, *header.shared), memories) if memory}
        if large:
            worker.parts.let_go((header.program, *header.shared))
        for digest, data in zip(header.carried, parts[1:-1]):
            worker.parts.add(digest, data, large.get(digest))
        missing = worker.parts.missing((header.environment, header.program, *header.shared))
        if missing:
            return [encode(ResponseHeader(0, False, missing=missing)), b""]
        with role.reading():
            worker.look_like(header)
        worker.initialize()
        if not header.program:
            return [encode(ResponseHeader(0, True, told=telling.settle())), b""]
        with role.reading():
            linked, shared, context = _unpacked(worker, header)
            if workers > 1:
                context.run(role.beside.set, workers)
            received: Any = loads(parts[-1], row_memory.private() if row_memory is not None else ())
        values = Values(shared, *received)
        worker.services.tried = header.tried
        if header.delay:
            time.sleep(header.delay)
        started, begun = time.perf_counter(), True
        done = evaluate(linked, values, worker.services, context.copy, header.budget)
        apart = memory is not None
        if done.failure is None:
            payload, segment = packed_results(done.results, linked.program, values.place, apart, header.collects)
        else:
            payload = portable(done.failure)
            if done.completed and values.place.first >= 0:
                with contextlib.suppress(NotPicklableError):
                    before, segment = packed_results(done.results, linked.program, values.place, apart, header.collects)
        ok = done.failure is None
    except environment.ChangedModules as changed:
        return [encode(ResponseHeader(0, False, changed=changed.names)), b""]
    except BaseException as error:
        payload, ok = portable(error), False
    sizes: Sequence[int] = ()
    if segment is not None and memory is not None:
        memory.append(segment)
        sizes = segment.sizes
    seconds = time.perf_counter() - started
    partial = before is not None
    header_back = ResponseHeader(
        done.completed, ok, seconds, bool(done.events), [], [*sizes], begun, partial, told=telling.settle()
    )
    answered = [encode(header_back), payload]
    if done.events:
        answered.append(packed_events(done.events))
    if before is not None:
        answered.append(before)
    return answered


def _unpacked(worker: _Worker, header: RequestHeader) -> Tuple[LinkedProgram, List[Any], contextvars.Context]:
    """Return what a request needs, unpickled and linked at its first use."""
    _, of_program, *owners = header.owners
    parts = worker.parts
    _, context, sources = worker.environment
    shared = [parts.use(digest).shared(owner) for digest, owner in zip(header.shared, owners)]
    held = parts.use(header.program)
    if held.value is None:
        with noted() as updates:
            found = held.program()
        environment.check_modules(sources)  # it may have imported some of them just now
        held.value = found, updates
    program, updates = held.value
    renew(updates)
    parts.replace(of_program, header.program)
    layers = layers_of(header.heard, header.collects)
    linked: Optional[LinkedProgram] = held.links.get(layers)
    if linked is None:
        linked = held.links[layers] = LinkedProgram(program, layers)
    if header.carried:
        parts.forget(2 + len(shared))
    return linked, shared, context
