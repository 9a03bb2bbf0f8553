"""Render a plan file for people: the kubectl script and the kustomize files, without any repository."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gitops_mk.controller.plan import read_items, read_records
from gitops_mk.core.render.component import component_yaml, config_map_yaml, knobs_yaml
from gitops_mk.core.render.kubectl import kubectl_script
from gitops_mk.core.render.paths import KNOBS_SUFFIX, component_dir, knobs_path, plan_path
from gitops_mk.model.knob import annotation_key
from gitops_mk.model.plan import PatchTarget, PlanItem
from gitops_mk.model.workload import KnobMap


@dataclass(frozen=True)
class Rendered:
    """The script, and the component's files by path below `kustomize/`."""

    items: tuple[PlanItem, ...]
    script: str
    files: Mapping[str, str]


def render_plan(text: bytes, records: bytes | None, *, what: str) -> Rendered:
    """Render a `k8s_plan.json`. Raises InputError.

    Its kustomize files stand as they would next to the overlay; they are for reading, `mk propose` writes the real ones.
    """
    items = read_items(text, what=what)
    plans = read_records(text, records, what=what) if records is not None else ()
    files: dict[str, str] = {}
    for plan in plans:
        slug = plan.workload.slug
        targets = {p.workload.slug: p.target for p in plans if p.overlay == plan.overlay}
        files[f"{component_dir(plan.overlay)}/kustomization.yaml"] = component_yaml(frozenset(targets), targets)
        files[knobs_path(plan.overlay, slug)] = knobs_yaml(plan)
        files[plan_path(plan.overlay, slug)] = plan.to_text()
    if not plans:
        for item in items:
            files.update(_bare(item))
    return Rendered(items=items, script=kubectl_script(items), files=files)


def _bare(item: PlanItem) -> dict[str, str]:
    """The patch of an item that has no decision record: under its own name, as the overlay builds it."""
    ref = item.ref()
    folder = f"{ref.namespace}-{ref.slug}"
    values = item.knobs()
    if isinstance(ref, KnobMap):
        target = PatchTarget(api_version=ref.api_version, kind=ref.kind, name=ref.name, config_map=ref.name)
        return {
            f"{folder}/kustomization.yaml": component_yaml(frozenset({ref.slug})),
            f"{folder}/{ref.slug}{KNOBS_SUFFIX}": config_map_yaml(target, values),
        }
    lines = [f"apiVersion: {item.apiVersion}", f"kind: {item.kind}", "metadata:", f"  name: {item.name}"]
    lines += ["spec:", "  template:", "    metadata:", "      annotations:"]
    lines += [f'        {annotation_key(knob)}: "{value}"' for knob, value in values.items()]
    return {
        f"{folder}/kustomization.yaml": component_yaml(frozenset({ref.slug})),
        f"{folder}/{ref.slug}{KNOBS_SUFFIX}": "\n".join(lines) + "\n",
    }
