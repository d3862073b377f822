"""What the code of a bundle asks of the run it is part of in, and from the driver's side whether that run goes on."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from typing import Any, ContextManager, Dict, List, Optional

from hypernodes.lowering.plan import Plan
from hypernodes.runtime.bundle.awaiting import once
from hypernodes.runtime.bundle.cancellation import Cancellation, enclose
from hypernodes.runtime.bundle.interpreter import Slots
from hypernodes.runtime.drivers.event_loop import home, lead_home
from hypernodes.runtime.drivers.loop import Waiting
from hypernodes.runtime.drivers.waits import waiting

_MAKING = threading.Lock()
"""Held while something is made that several lanes would make at once."""
_NONE: Dict[str, int] = {}


class Services(Cancellation):
    """What code of a bundle may ask of the run, through slot 0.

    An event loop to wait on, whether the run has been stopped, a pause that ends when it is, and, in a worker process,
    somebody who watches the clock and a frame run on the spot. `tried` has the attempts that calls, by output, have had
    in workers that were killed.
    """

    __slots__ = ("_home", "_loop", "_owns_home", "_paused", "_used", "_waiting", "tried")

    def __init__(self, loop: Optional[asyncio.AbstractEventLoop] = None) -> None:
        super().__init__()
        self._loop = loop
        self._waiting: List[Waiting] = []
        self._home, self._owns_home = home()
        self._used = False
        self._paused: Optional[threading.Event] = None
        self.tried = _NONE

    def surround(self, context: contextvars.Context) -> None:
        """Let runs that begin in `context`, and in copies of it, be within this one."""
        enclose(context, self)
        if self._owns_home:
            lead_home(context, self._home)

    def loop(self) -> asyncio.AbstractEventLoop:
        """Return the one loop of this run: the caller's under `arun`, else one in a thread of its own."""
        if self._loop is not None:
            return self._loop
        loop = self._home.loop()
        if not self._used:
            self._used = True
            self._home.catch_up()
        return loop

    @property
    def lends_loop(self) -> bool:
        """Whether that loop is no caller's, so that one may wait for it."""
        return self._loop is None

    def catch_up(self) -> None:
        """Let the thread of that loop follow this one, when it is used next, in what libraries keep for each."""
        self._used = False

    def wait_for(self, coroutine: Any) -> Any:
        """Return the result of a coroutine, from a thread that is not the loop's."""
        loop = self.loop()
        context = contextvars.copy_context()
        if self._owns_home:
            lead_home(context, self._home)
        awaited = Waiting(coroutine, loop, context)
        self._waiting.append(awaited)
        if self.stopped:
            awaited.cancel()
        try:
            return awaited.result()
        finally:
            self._waiting.remove(awaited)

    def settle(self, slots: Slots, coroutine: Any) -> Any:
        """Return the result of a coroutine that a plain function in the frame of `slots` has returned."""
        try:
            self.loop()
        except BaseException:
            coroutine.close()
            raise
        return self.wait_for(once(coroutine))

    def cancel(self) -> None:
        """Cancel the coroutines that are waited for, from any thread."""
        for each in list(self._waiting):
            each.cancel()

    def serves(self, thread: threading.Thread) -> bool:
        """Return whether a thread is that of the loop started for this run."""
        return self._loop is None and self._home.serves(thread)

    def pause(self, seconds: float) -> bool:
        """Wait, and return whether the run still goes on."""
        with _MAKING:
            paused = self._paused = self._paused or threading.Event()
        with waiting():
            return not (self.stopped or paused.wait(seconds))

    def stop(self) -> None:
        """Let no step of a chain begin, and end every pause and what is waited for."""
        super().stop()
        if self._paused is not None:
            self._paused.set()
        self.cancel()

    def watch(self, call: str, seconds: float) -> ContextManager[None]:
        """Return a block that ends with its process if it takes longer than `seconds`."""
        raise AssertionError("only a worker process can be ended")

    def host(self, plan: Plan, slots: Slots) -> None:
        """Run a whole frame by a schedule of its own, in this thread and lanes beside it."""
        raise AssertionError("only a worker process is given whole frames")

    def close(self) -> None:
        """End what was started for this run."""
        self.ended = True
        if self._owns_home:
            self._home.close()


class _Later:
    """Stands for services that are made when the first coroutine comes: a run of plain functions needs none."""

    __slots__ = ()

    apart = stopped = False

    def settle(self, slots: Slots, coroutine: Any) -> Any:
        services = slots[0] = Services()
        return services.settle(slots, coroutine)


LATER = _Later()
"""Slot 0 of a run that has a single frame and may not need services."""
