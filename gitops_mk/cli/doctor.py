"""`mk doctor`."""

from __future__ import annotations

from pathlib import Path

import click

from gitops_mk.cli import output
from gitops_mk.cli.options import cluster_options, json_option, license_option, repo_options
from gitops_mk.errors import EXIT_FAILED, MkError


@click.command(epilog="Example: mk doctor --repo ~/gitops")
@repo_options
@cluster_options
@license_option
@json_option
def doctor(
    repo: Path | None,
    forge: str | None,
    base_branch: str | None,
    kubeconfig: str | None,
    context: str | None,
    license_path: Path | None,
    as_json: bool,
) -> int:
    """Say what is missing and how to mend it; exit 0 when nothing is that proposing and verifying need."""
    from gitops_mk.config import Access
    from gitops_mk.controller.examine import examine_cluster
    from gitops_mk.wiring import find_cluster, home_of, make_tools, open_workplace

    lines: list[dict[str, object]] = []

    def note(name: str, ok: bool, text: str, hint: str | None = None, *, needed: bool = True) -> None:
        lines.append({"check": name, "ok": ok, "needed": needed, "detail": text, "hint": hint})

    cluster = find_cluster(kubeconfig, context)
    tools = make_tools(cluster)
    try:
        note("kustomize", True, tools.builder.version())
    except MkError as exc:
        note("kustomize", False, exc.message, exc.hint)
    try:
        with open_workplace(Access(repo, forge, base_branch, license_path), tools, writes=False) as place:
            from gitops_mk.controller.builds import CachingBuilder
            from gitops_mk.controller.setup import builds_on
            from gitops_mk.controller.state import policy_of, state_on_base
            from gitops_mk.core.target import overridden

            base = place.forge.base_tip()
            note("repository", True, f"{place.forge.base_branch} at {base[:12]}")
            files = place.forge.repo.files(base)
            policy = policy_of(files, tools.built_in)
            note("configuration", True, f"{len(policy.settings.workloads)} workloads")
            builder = CachingBuilder(tools.builder)
            above = builds_on(files, [workload.overlay for workload in policy.settings.workloads])
            for workload in policy.settings.workloads:
                try:
                    state = state_on_base(place.forge, files, policy, workload, builder)
                    knobs = ", ".join(f"{k}={v}" for k, v in state.knobs.items())
                    note(
                        str(workload.ref),
                        bool(knobs),
                        knobs or "no knobs",
                        "annotate its pod template with modekeeper/knob.…",
                    )
                    fixed = overridden(builder, files, workload.overlay, workload.ref, state.target, state.knobs)
                    if fixed:
                        note(
                            f"{workload.ref}, patches",
                            False,
                            f"{workload.overlay} sets {', '.join(fixed)} after our component: a proposal can't move them",
                            "set them in what the overlay builds on, or in a component listed before `modekeeper`",
                            needed=False,
                        )
                except MkError as exc:
                    note(str(workload.ref), False, exc.message, exc.hint)
                if others := above[workload.overlay]:
                    note(
                        f"{workload.ref}, reach",
                        False,
                        f"{', '.join(others)} build on {workload.overlay}: a change reaches them too",
                        "name the overlay that is synced itself, if they should stay as they are",
                        needed=False,
                    )
            for found in place.forge.examine():
                note(found.name, found.ok, found.detail, found.hint, needed=found.needed)
            for found in examine_cluster(cluster, home_of(place, tools)):
                note(found.name, found.ok, found.detail, found.hint, needed=found.needed)
            for reading in place.kill_switch.read():
                note(f"kill switch, {reading.source}", not reading.active, reading.detail, needed=False)
            status = place.license_status()
            note("licence", status.ok, status.message, "only merging needs one", needed=False)
    except MkError as exc:
        note("repository", False, exc.message, exc.hint)
    if as_json:
        output.print_json({"ok": all(line["ok"] for line in lines if line["needed"]), "checks": lines})
    else:
        for line in lines:
            mark = "ok  " if line["ok"] else "MISS" if line["needed"] else "note"
            output.say(f"{mark} {line['check']}: {line['detail']}", ok=bool(line["ok"]) if line["needed"] else None)
            if not line["ok"] and line["hint"]:
                output.say(f"     hint: {line['hint']}")
    return 0 if all(line["ok"] for line in lines if line["needed"]) else EXIT_FAILED
