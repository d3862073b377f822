"""An executor of somebody's in, what kind it is out.

Its class and what that derives from say so, by the names of their modules: to import the process pool for an isinstance
would cost every user multiprocessing, and other libraries may not be installed.
"""

from __future__ import annotations

from typing import List

# Modules whose executors run work in other processes, or on other machines, without deriving from ProcessPoolExecutor.
_REMOTE = ("loky", "distributed", "ray", "mpi4py", "ipyparallel", "joblib")


def runs_in_threads(executor: object) -> bool:
    """Return whether it is known to run work in threads of this process."""
    return "concurrent.futures.thread" in _modules(executor)


def runs_in_processes(executor: object) -> bool:
    """Return whether it is known to run work in other processes, or on other machines."""
    modules = _modules(executor)
    return "concurrent.futures.process" in modules or any(module.split(".")[0] in _REMOTE for module in modules)


def is_of_dask(executor: object) -> bool:
    """Return whether its work goes to a cluster of Dask's."""
    return type(executor).__module__.split(".")[0] == "distributed"


def _modules(executor: object) -> List[str]:
    return [cls.__module__ for cls in type(executor).__mro__]
