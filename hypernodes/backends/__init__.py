"""Who runs pipelines: nobody outside of this package names one backend or another."""

from hypernodes.backends.local import LocalBackend

DEFAULT = LocalBackend()
"""Runs a pipeline that has no backend, and is within none that has."""
