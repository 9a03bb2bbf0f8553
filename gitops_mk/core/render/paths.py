"""Where our component stands beside an overlay, and how its files are called. Needed before any model is."""

from __future__ import annotations

import posixpath

COMPONENT_DIR = "modekeeper"
KNOBS_SUFFIX = ".knobs.yaml"
PLAN_SUFFIX = ".plan.json"


def component_dir(overlay: str) -> str:
    """The component's folder."""
    return COMPONENT_DIR if overlay == "." else f"{overlay}/{COMPONENT_DIR}"


def plan_path(overlay: str, slug: str) -> str:
    """Where the decision record of a workload stands."""
    return f"{component_dir(overlay)}/{slug}{PLAN_SUFFIX}"


def knobs_path(overlay: str, slug: str) -> str:
    """Where the values of a workload stand."""
    return f"{component_dir(overlay)}/{slug}{KNOBS_SUFFIX}"


def overlay_beside(path: str) -> str | None:
    """The overlay whose component a decision record at `path` would be in; None for any other path."""
    folder, name = posixpath.split(path)
    overlay, component = posixpath.split(folder)
    return (overlay or ".") if component == COMPONENT_DIR and name.endswith(PLAN_SUFFIX) else None
