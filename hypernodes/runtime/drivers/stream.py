"""A linked plan and rows to feed its map in, the outputs of items out as they finish: `pipeline.stream`.

The consumer's own thread pulls rows, and only inside ``next()``; the coordinator of the run is a thread beside it, so
that lanes and workers go on with what is in the window while the consumer is busy elsewhere. Nodes that run in the
caller's thread need neither: their stream is a loop. ::

    consumer ──next()──▶ rows ─push─▶ Run ◀─coordinator, lanes, workers     the window bounds what was pulled
       ▲                               │                             and not yet yielded
       └────yield──── ready ◀─deliver──┘

However the stream ends, everything that was started for it has ended before the consumer goes on.
"""

from __future__ import annotations

import atexit
import contextlib
import contextvars
import queue
import threading
import weakref
from typing import Any, Callable, Generator, Iterator, List, Optional

from hypernodes.lowering.plan import INLINE
from hypernodes.runtime.bundle.cancellation import enclosing, within
from hypernodes.runtime.bundle.interpreter import Slots, StepFailed, execute
from hypernodes.runtime.bundle.layers import Layers
from hypernodes.runtime.bundle.linked import LinkedPlan
from hypernodes.runtime.bundle.maps import frame_slots
from hypernodes.runtime.drivers.coordinator import Coordinator
from hypernodes.runtime.drivers.libraries import alike
from hypernodes.runtime.drivers.run import Resources, Run
from hypernodes.runtime.drivers.services import Services
from hypernodes.runtime.drivers.sources import Rows
from hypernodes.runtime.drivers.waits import waiting
from hypernodes.runtime.schedule.feed import Feed
from hypernodes.runtime.schedule.schedule import Failures
from hypernodes.runtime.schedule.sink import Delivery
from hypernodes.runtime.schedule.source import Row

Items = Generator[Delivery, None, None]
Conclude = Callable[[Failures], None]
"""Raises what the failures of a run amount to, and otherwise says that it has ended."""


def stream_plan(
    linked: LinkedPlan,
    slots: Slots,
    resources: Resources,
    rows: Rows[Iterator[Row]],
    ordered: bool,
    conclude: Conclude,
) -> Items:
    """Return a generator of the items of the map that `linked` is; nothing is started before its first ``next()``."""
    if linked.placements_used <= {INLINE}:
        items = _in_turn(linked, slots, resources.layers, rows, conclude)
    else:
        items = _beside(linked, slots, resources, rows, ordered, conclude)
    _open.add(items)
    return items


_open: weakref.WeakSet[Items] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    # Later than this, threads do not run any more, and whoever waits for one waits for ever.
    for items in list(_open):
        with contextlib.suppress(ValueError):
            # Raised for one that runs in a daemon thread at this moment, which goes no further.
            items.close()


def _in_turn(
    linked: LinkedPlan,
    slots: Slots,
    layers: Optional[Layers],
    rows: Rows[Iterator[Row]],
    conclude: Conclude,
) -> Items:
    """Pull a row, run it here, hand it over."""
    services = slots[0] = Services()
    names = linked.plan.output_names
    failures: Failures = []
    services.apart = enclosing() is not None
    with contextlib.closing(services), within(services.stop):
        if not linked.count:
            # Every output was given: nothing runs, and there is nothing to know of an item but that it is there.
            yield from ((index, {}) for index, row in enumerate(rows.reader))
            conclude(failures)
            return
        step, body = linked.map_steps[0], linked.bodies[0]
        template = frame_slots(step, slots)
        results = [body.outputs[step.outputs.index(name)] for name in names]
        if layers is not None:
            layers.map_started(step, slots, template, rows.total)
        for index, row in enumerate(rows.reader):
            own = template.copy()
            body.fill(own, row, index)
            try:
                if layers is not None:
                    layers.item_started(own, index)
                for code in body.codes:
                    execute(code, own)
                if layers is not None:
                    layers.item_ended(own)
            except StepFailed as failed:
                failed.trail.append((step, index, own))
                failures.append((None, failed))
                break
            yield index, dict(zip(names, [own[slot] for slot in results]))
        else:
            if layers is not None:
                layers.map_ended(step, slots)
    conclude(failures)


def _beside(
    linked: LinkedPlan,
    slots: Slots,
    resources: Resources,
    rows: Rows[Iterator[Row]],
    ordered: bool,
    conclude: Conclude,
) -> Items:
    """Pull rows while the window has room, hand over what lanes beside this thread deliver."""
    services = slots[0] = Services()
    # What is delivered, and None when the run has ended.
    ready: Any = queue.SimpleQueue()
    feed = Feed(linked.map_steps[0], linked.plan.output_names, ready.put, ordered, rows.total)
    run = Run(linked, slots, resources, services, feed)
    beside = _Beside(run, lambda: ready.put(None))
    failures = run.schedule.failures
    pulling, fault = True, None
    pulled = yielded = 0
    try:
        beside.start()
        while True:
            if not run.schedule.wants_rows:
                pulling = False
            room = pulling and pulled - yielded < run.window()
            if room:
                try:
                    row = next(rows.reader)
                except StopIteration:
                    pulling = False
                except Exception as error:
                    # The rows before it are good: it is raised in its turn, as it would be without an engine.
                    pulling, fault = False, error
                else:
                    run.push(row)
                    pulled += 1
                if not pulling:
                    run.end_feed()
                elif ready.empty():
                    continue
            with waiting():
                delivery = ready.get()
            if delivery is None:
                break
            yielded += 1
            yield delivery
    finally:
        beside.end()
    if fault is not None:
        failures.append((None, fault))
    conclude(failures)
    run.subscriber.close()
    if run.subscriber.error is not None:
        conclude([(None, run.subscriber.error)])


class _Beside:
    """The thread of the coordinator, and how to come to its end."""

    def __init__(self, run: Run, over: Callable[[], None]) -> None:
        self._run = run
        self._over = over
        context = contextvars.copy_context()
        work = alike(self._work)
        self._thread = threading.Thread(target=context.run, args=(work,), name="hypernodes-coordinator", daemon=True)

    def start(self) -> None:
        try:
            self._thread.start()
        except RuntimeError:
            # No thread to be had. What the run already has, such as a pipe, it gives back by working to its end.
            self._run.stop()
            self._work()
            raise

    def _work(self) -> None:
        try:
            Coordinator(self._run).work()
            self._run.services.close()
        finally:
            self._run.subscriber.close(self._run.hurries)
            self._over()

    def end(self) -> None:
        """Stop the run if it still goes on, and wait until it has ended."""
        thread, run = threading.current_thread(), self._run
        served = thread is not run.caller and (thread is self._thread or run.serves(thread))
        if served or run.entered():
            # The garbage collector may close a forgotten stream anywhere, in the middle of this very run too.
            threading.Thread(target=self._stop, name="hypernodes-end", daemon=True).start()
        elif self._thread.ident is not None:
            self._stop()

    def _stop(self) -> None:
        self._run.stop()
        interrupts: List[KeyboardInterrupt] = []
        while self._thread.is_alive():
            try:
                self._thread.join()
            except KeyboardInterrupt as interrupt:
                # Passed on when nothing is left that it could leave behind.
                interrupts.append(interrupt)
        if interrupts:
            raise interrupts[0]
