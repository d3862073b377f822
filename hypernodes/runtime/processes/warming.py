"""A transport in, its workers started and ready out: what a first run would wait for is done before it."""

from __future__ import annotations

import contextvars

from hypernodes.pickling.exceptions import received
from hypernodes.pickling.modules import look
from hypernodes.runtime.processes.environment import pack
from hypernodes.runtime.processes.lane import Transport
from hypernodes.runtime.processes.memory import Packed
from hypernodes.runtime.processes.wire import Died, Part, WorkRequest, decode_response, own_part

_NO_PROGRAM = Part("", b"", None, 0)


def warm(transport: Transport) -> None:
    """Have every worker that no other run uses take a request with nothing to run; then give them back.

    Raises
    ------
    WorkerStartError, InitializerError
        Where one cannot start.
    """
    environment = own_part(pack(contextvars.copy_context(), transport.native_threads, look(), transport.follows))
    count = 0
    try:
        while transport.free():
            transport.send(WorkRequest(count, _NO_PROGRAM, environment, [], Packed(b"", None)))
            count += 1
        while count:
            for outcome in transport.wait():
                count -= 1
                if isinstance(outcome.fault, Died):
                    raise RuntimeError(f"a worker process ended as it started (exit code {outcome.fault.exitcode})")
                if outcome.fault is not None:
                    raise outcome.fault
                if not decode_response(outcome.parts[0]).ok:
                    raise received(outcome.parts[1])
    finally:
        transport.close()
