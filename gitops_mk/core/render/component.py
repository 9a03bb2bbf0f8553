"""The component next to an overlay: `<overlay>/modekeeper/`, a few files that are wholly ours, and one entry that isn't.

A strategic-merge patch with one knob a line, so that a reviewer's diff is one line a knob; the decision record beside it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from types import MappingProxyType

from gitops_mk.core.kustomization import NAMES
from gitops_mk.core.render.paths import COMPONENT_DIR, KNOBS_SUFFIX, component_dir, knobs_path, plan_path
from gitops_mk.core.yamlpatch import add_component
from gitops_mk.errors import InputError
from gitops_mk.model.knob import annotation_key
from gitops_mk.model.plan import PatchTarget, Plan

_MARK = b"# Kept by ModeKeeper GitOps"
_PLAIN = re.compile(r"[a-z][a-z0-9._-]*\Z")
# What YAML 1.1 reads as something else than text.
_WORDS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})
_OURS = "# Kept by ModeKeeper GitOps; changed by pull request only. Why these values: see the .plan.json beside this file.\n"


def overlay_kustomization(paths: Mapping[str, object] | frozenset[str], overlay: str) -> str:
    """The path of the overlay's kustomization file. Raises InputError when there is none, or more than one."""
    prefix = "" if overlay == "." else f"{overlay}/"
    found = [prefix + name for name in NAMES if prefix + name in paths]
    if len(found) != 1:
        what = "no kustomization file" if not found else f"{len(found)} kustomization files ({', '.join(found)})"
        raise InputError(
            f"overlay {overlay!r} has {what}, expected one",
            hint="check `overlay` of the workload in .modekeeper/config.yaml on the base branch",
        )
    return found[0]


def knobs_yaml(plan: Plan) -> str:
    """The patch: names and numbers only, each knob on a line of its own."""
    target = plan.target
    if target.places:
        return _json_patch(plan)
    if target.config_map is not None:
        return config_map_yaml(target, plan.knobs)
    lines = [_OURS.rstrip("\n"), f"apiVersion: {target.api_version}", f"kind: {target.kind}", "metadata:"]
    lines.append(f"  name: {target.name}")
    if target.namespace is not None:
        lines.append(f"  namespace: {target.namespace}")
    lines.append("  annotations:")
    lines += [f'    {annotation_key(k)}: "{v}"' for k, v in sorted(plan.knobs.items())]
    lines += ["spec:", "  template:", "    metadata:", "      annotations:"]
    lines += [f'        {annotation_key(k)}: "{v}"' for k, v in sorted(plan.knobs.items())]
    return "\n".join(lines) + "\n"


def config_map_yaml(target: PatchTarget, knobs: Mapping[str, int]) -> str:
    """The patch of a ConfigMap: the knobs under their bare names, and nothing else of it."""
    lines = [_OURS.rstrip("\n"), f"apiVersion: {target.api_version}", f"kind: {target.kind}", "metadata:"]
    lines.append(f"  name: {_scalar(target.name)}")
    if target.namespace is not None:
        lines.append(f"  namespace: {_scalar(target.namespace)}")
    lines.append("data:")
    lines += [f'  {_scalar(knob)}: "{value}"' for knob, value in sorted(knobs.items())]
    return "\n".join(lines) + "\n"


def _scalar(text: str) -> str:
    """Text as every YAML reader reads it back: a ConfigMap may be called `123`, and a passport's knob `on`."""
    plain = _PLAIN.match(text) and text not in _WORDS
    return text if plain else json.dumps(text)


def _json_patch(plan: Plan) -> str:
    """The same for a kind whose pod templates stand in lists or maps of roles, which a merge patch would replace whole."""
    lines = [_OURS.rstrip("\n")]
    for place in plan.target.places:
        for knob, value in sorted(plan.knobs.items()):
            path = f"{place}/{annotation_key(knob).replace('/', '~1')}"
            lines.append(f'- {{op: add, path: {json.dumps(path)}, value: "{value}"}}')
    return "\n".join(lines) + "\n"


def selector(target: PatchTarget) -> dict[str, str]:
    """How kustomize finds the target of a JSON patch: names are regular expressions to it."""
    group, _, version = target.api_version.rpartition("/")
    found = {"group": group, "version": version, "kind": target.kind, "name": f"^{re.escape(target.name)}$"}
    return found | ({"namespace": f"^{re.escape(target.namespace)}$"} if target.namespace else {})


def component_yaml(slugs: frozenset[str], targets: Mapping[str, PatchTarget] = MappingProxyType({})) -> str:
    """The component's own kustomization: one patch a workload, in order; `targets` of those whose patch names none itself."""
    lines = [
        "# Kept by ModeKeeper GitOps.",
        "apiVersion: kustomize.config.k8s.io/v1alpha1",
        "kind: Component",
        "patches:",
    ]
    for slug in sorted(slugs):
        lines.append(f"  - path: {slug}{KNOBS_SUFFIX}")
        target = targets.get(slug)
        if target is not None and target.places:
            lines.append("    target:")
            lines += [f"      {key}: {json.dumps(value)}" for key, value in selector(target).items()]
    return "\n".join(lines) + "\n"


def pinned_slugs(paths: Mapping[str, object] | frozenset[str], overlay: str) -> frozenset[str]:
    """The workloads whose values already stand in the overlay's component."""
    prefix = component_dir(overlay) + "/"
    names = (path[len(prefix) :] for path in paths if path.startswith(prefix) and path.endswith(KNOBS_SUFFIX))
    return frozenset(name[: -len(KNOBS_SUFFIX)] for name in names if "/" not in name)


def render(plan: Plan, base: Mapping[str, bytes]) -> dict[str, bytes]:
    """The files that differ from `base` (path to bytes) when the plan is carried out. Raises InputError.

    Deterministic: the same plan on the same base gives the same bytes.
    """
    slug = plan.workload.slug
    folder = component_dir(plan.overlay)
    kustomization = overlay_kustomization(base, plan.overlay)
    for path in (f"{folder}/kustomization.yaml", knobs_path(plan.overlay, slug)):
        if not base.get(path, _MARK).startswith(_MARK):
            raise InputError(
                f"{path} is not ModeKeeper's, and would be overwritten",
                hint=f"move what stands in {folder} elsewhere: that folder is for the component",
            )
    slugs = pinned_slugs(base, plan.overlay) | {slug}
    files = {
        kustomization: add_component(base[kustomization], COMPONENT_DIR),
        f"{folder}/kustomization.yaml": component_yaml(
            slugs, {**_targets(base, plan.overlay, slugs), slug: plan.target}
        ).encode(),
        knobs_path(plan.overlay, slug): knobs_yaml(plan).encode(),
        plan_path(plan.overlay, slug): plan.to_text().encode(),
    }
    return {path: data for path, data in files.items() if base.get(path) != data}


def _targets(base: Mapping[str, bytes], overlay: str, slugs: frozenset[str]) -> dict[str, PatchTarget]:
    """The targets that the decision records beside the patches name. Raises InputError for a record that can't be read."""
    found = {}
    for slug in slugs:
        path = plan_path(overlay, slug)
        if path in base:
            found[slug] = Plan.parse_json(base[path], what=path).target
    return found


def allowed_paths(plan_overlay: str, slug: str, kustomization: str) -> frozenset[str]:
    """All that a pull request for this workload may touch."""
    folder = component_dir(plan_overlay)
    return frozenset(
        {
            kustomization,
            f"{folder}/kustomization.yaml",
            knobs_path(plan_overlay, slug),
            plan_path(plan_overlay, slug),
        }
    )
