"""What a worker was sent and keeps, by digest: pickles, and what was read from them.

A part is a program, the values that all items of a map share, or the environment of a run. The parent sends each once
and then only its digest; what a worker has let go of meanwhile it asks for again. A program is read once, whoever sends
it. Shared values are read anew for each owner, who may have changed them; those with large buffers are let go of before
a worker is idle.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Dict, List, Optional, Sequence

import attrs

from hypernodes.lowering.plan import Program
from hypernodes.pickling import loads
from hypernodes.runtime.processes.memory import Segment
from hypernodes.runtime.processes.programs import read_program

KEPT = 4096
KEPT_BYTES = 1 << 28
"""Parts a worker keeps, and bytes of their pickles; beyond, the one used longest ago goes, and would be sent again.
What is read from a pickle may take several times its bytes."""


@attrs.define(eq=False)
class Held:
    """One part: its pickle, of `nbytes` with its large buffers, and the `value` that was read from it for `owner`."""

    data: bytes
    memory: Optional[Segment]
    nbytes: int
    owner: Optional[int] = None
    value: Any = None
    links: Dict[Any, Any] = attrs.Factory(dict)

    def shared(self, owner: int) -> Any:
        """Return the values in it, as they were sent to `owner`."""
        if self.owner != owner:
            self.value = loads(self.data, self.memory.shared() if self.memory is not None else ())
            self.owner = owner
        return self.value

    def program(self) -> Program:
        """Return the program in it, to be kept by the caller as `value`: the pickle is gone with this."""
        # Private: a function may write to an array that it reads as a global.
        found = read_program(self.data, self.memory.private() if self.memory is not None else ())
        self.data = b""
        self.close()
        return found

    def close(self) -> None:
        """Give the descriptor of large buffers back."""
        memory, self.memory = self.memory, None
        if memory is not None:
            memory.close()


class Parts:
    """The parts of one worker, the one used last at the end."""

    def __init__(self) -> None:
        self._held: OrderedDict[str, Held] = OrderedDict()
        self._nbytes = 0
        self._latest: OrderedDict[int, str] = OrderedDict()  # program by owner

    def __len__(self) -> int:
        return len(self._held)

    def add(self, digest: str, data: bytes, memory: Optional[Segment]) -> None:
        """Keep a part that has arrived."""
        self.drop(digest)
        held = Held(data, memory, len(data) + (sum(memory.sizes) if memory is not None else 0))
        self._held[digest] = held
        self._nbytes += held.nbytes

    def missing(self, digests: Sequence[str]) -> List[str]:
        """Return those that are not here."""
        return [digest for digest in digests if digest and digest not in self._held]

    def use(self, digest: str) -> Held:
        """Return a part, as the one used last."""
        self._held.move_to_end(digest)
        return self._held[digest]

    def forget(self, needed: int) -> None:
        """Let go of the parts used longest ago, but for as many as are `needed`."""
        while len(self._held) > max(needed, KEPT if self._nbytes <= KEPT_BYTES else 0):
            self.drop(next(iter(self._held)))

    def replace(self, owner: int, program: str) -> None:
        """Let go of what an owner's program was before: with other state at each run, they would fill the memory."""
        before = self._latest.pop(owner, None)
        self._latest[owner] = program
        if len(self._latest) > KEPT:
            self._latest.popitem(last=False)
        if before != program and before is not None and before not in self._latest.values():
            self.drop(before)

    def let_go(self, but: Sequence[str]) -> None:
        """Forget what has large buffers, other than parts `but`; programs that were read have none."""
        for digest in [digest for digest, held in self._held.items() if held.memory is not None]:
            if digest not in but:
                self.drop(digest)

    def drop(self, digest: str) -> None:
        """Let go of a part, if it is here."""
        held = self._held.pop(digest, None)
        if held is not None:
            self._nbytes -= held.nbytes
            held.close()
