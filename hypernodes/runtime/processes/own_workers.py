"""The worker processes of one backend, of whichever kind this system can have; started as runs need them."""

from __future__ import annotations

from typing import Any, Optional

from hypernodes.runtime.drivers import cores


class OwnWorkers:
    """So many processes for all runs of a backend.

    Parameters
    ----------
    size : int
        How many there are at most.
    initializer : bytes, optional
        A pickled `Initializer`, called in each before its first node.
    """

    def __init__(self, size: int, initializer: Optional[bytes]) -> None:
        # Together, numerical libraries in the workers start one thread for each core.
        self._native_threads = max(1, cores.usable_cores() // size)
        self.pool: Any = None
        self._loky: Any = None
        if cores.has_own_pool():
            from hypernodes.runtime.processes.pool import WorkerPool
            from hypernodes.runtime.processes.worker import server

            self.pool = WorkerPool(size, server(size, initializer))
        else:
            from hypernodes.runtime.processes.loky_pool import LokyPool

            self._loky = LokyPool(size, self._native_threads, initializer)

    def transport(self, pipeline: str) -> Any:
        """Return what carries the requests of one run."""
        if self.pool is None:
            return self._loky.transport(pipeline)
        from hypernodes.runtime.processes.transports import PoolTransport

        return PoolTransport(self.pool, self._native_threads)

    def close(self) -> None:
        """End them."""
        (self.pool or self._loky).close()
