"""ModeKeeper GitOps: from training telemetry to a small, verified pull request, and no other way to a change.

Layers, each importing only what stands below it (see `docs/architecture.md`)::

    __main__ > cli > demo > wiring > config > (controller | adapters) > (ports | core) > model > errors
"""

from gitops_mk._version import __version__

__all__ = ["__version__"]
