"""Set a repository up: find the workloads that carry knobs, the configuration that lists them, and what GitHub needs."""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple
from urllib.parse import urlsplit

from gitops_mk._version import __version__
from gitops_mk.core import yamldocs
from gitops_mk.core.checks.facts import document_knobs
from gitops_mk.core.config_map import CONFIG_MAP
from gitops_mk.core.documents import parse_yaml
from gitops_mk.core.kustomization import NAMES, closure
from gitops_mk.errors import InputError, ManifestError
from gitops_mk.model.change import GATE_CHECK
from gitops_mk.model.settings import CONFIG_DIR, CONFIG_PATH, RepoSettings, WorkloadSettings
from gitops_mk.model.workload import API_VERSIONS
from gitops_mk.ports import ManifestBuilder

ForgeKind = Literal["local", "github"]

ACTION_REPOSITORY: Final = "modekeeper-gitops/modekeeper-gitops"
ACTION_COMMIT: Final[str | None] = None
"""The commit of this version's tag; a release puts it here."""
NO_COMMIT: Final = "0" * 40
"""Stands where nobody knows the commit: none has that name, so the job fails before it runs anything."""
WORKFLOW_PATH: Final = ".github/workflows/modekeeper-verify.yml"
WORKFLOW_TEMPLATE: Final = "github/verify.yml.j2"
VERIFY_JOB: Final = "modekeeper-verify"
"""The name of that workflow's one job, which is that of its check."""
CODEOWNERS_PATHS: Final = (".github/CODEOWNERS", "CODEOWNERS", "docs/CODEOWNERS")
"""Where GitHub looks for one, the first first."""

_ACTION = re.compile(
    r"(?:(?P<repo>[A-Za-z0-9][A-Za-z0-9-]{0,38}/[A-Za-z0-9._-]{1,100})(?:@|\Z))?(?P<commit>[0-9a-f]{40})?\Z"
)
_OWNER = re.compile(r"@[A-Za-z0-9][A-Za-z0-9-]{0,38}(/[A-Za-z0-9._-]{1,100})?\Z|[^@\s]{1,64}@[^@\s]{1,190}\Z")
_WORDS = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})


def overlays_of(files: Mapping[str, bytes]) -> list[str]:
    """Folders with a kustomization that no other one builds on: what a syncing tool may point at."""
    folders = sorted(path.rpartition("/")[0] or "." for path in files if path.rpartition("/")[2] in NAMES)
    below: set[str] = set()
    for folder in folders:
        try:
            reached = closure(files, folder).directories
        except InputError:
            continue
        below |= set(reached) - {folder}
    return [folder for folder in folders if folder not in below]


def builds_on(files: Mapping[str, bytes], overlays: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """For each of `overlays` the folders that build on it: what changes there reaches them too."""
    folders = sorted({posixpath.dirname(path) or "." for path in files if posixpath.basename(path) in NAMES})
    found: dict[str, list[str]] = {overlay: [] for overlay in overlays}
    for folder in folders:
        try:
            reached = closure(files, folder).directories - {folder}
        except InputError:
            continue
        for overlay, above in found.items():
            if posixpath.normpath(overlay) in reached:
                above.append(folder)
    return {overlay: tuple(above) for overlay, above in found.items()}


@dataclass
class Found:
    """What a repository holds for a configuration: workloads, each in one overlay; and, for people, what was left out."""

    workloads: list[WorkloadSettings] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def find_workloads(files: Mapping[str, bytes], builder: ManifestBuilder, overlays: Sequence[str] = ()) -> Found:
    """The workloads with knob annotations, or with one that names a ConfigMap of knobs, each with the first overlay that builds it,
    and no two that a configuration can't list together. Raises ManifestError for an overlay that was asked for and does not build.
    """
    found = Found()
    also: dict[str, list[str]] = {}
    for overlay in dict.fromkeys(overlay.rstrip("/") or "." for overlay in overlays or overlays_of(files)):
        try:
            documents = yamldocs.documents(builder.build(files, overlay))
        except (ManifestError, InputError) as exc:
            if overlays:
                raise
            found.notes.append(f"{overlay} is left out: {exc.message}")
            continue
        for document in documents:
            try:
                workload = _workload(document, overlay)
                if workload is None:
                    continue
                if any(workload.ref == other.ref for other in found.workloads):
                    also.setdefault(workload.ref.key, []).append(overlay)
                    continue
                parse_yaml(RepoSettings, config_yaml("main", [*found.workloads, workload]).encode(), what=CONFIG_PATH)
            except InputError as exc:
                found.notes.append(f"{document.id.whole} in {overlay} is left out: {exc.message}")
            else:
                found.workloads.append(workload)
    for workload in found.workloads:
        if others := also.get(workload.ref.key):
            found.notes.append(
                f"{workload.ref} is also built by {', '.join(others)}: one overlay a workload; "
                f"edit `overlay` ({workload.overlay}) to choose another"
            )
    return found


def _workload(document: yamldocs.Leaves, overlay: str) -> WorkloadSettings | None:
    """A built object as a workload; None when it is of another kind or carries no knobs. Raises InputError."""
    ident = document.id.whole
    if API_VERSIONS.get(ident.kind) != ident.api_version:
        return None
    config_map = document.at("metadata", "annotations", CONFIG_MAP)
    if config_map is None and not document_knobs(document):
        return None
    fields = {"namespace": ident.namespace, "name": ident.name, "kind": ident.kind, "overlay": overlay}
    if config_map is not None:
        fields |= {"delivery": "configmap", "config_map": config_map.text}
    return WorkloadSettings.parse(fields, what="its identity")


def config_yaml(
    branch: str, workloads: Sequence[WorkloadSettings], *, passport: str = "pilot", forge: ForgeKind = "local"
) -> str:
    """A configuration that lists them."""
    lines = [
        "# yaml-language-server: $schema=config.schema.json",
        "# ModeKeeper GitOps: which workloads, where they live, what may be done. See docs/config.md.",
        "version: v1",
        f"base_branch: {_scalar(branch)}",
        "defaults:",
        f"  passport: {_scalar(passport)}",
        "forge:",
        f"  kind: {forge}",
        "  required_approvals: 1",
    ]
    lines.append("workloads:" if workloads else "workloads: []")
    for workload in workloads:
        lines += [
            f"  - namespace: {_scalar(workload.namespace)}",
            f"    name: {_scalar(workload.name)}",
            f"    kind: {workload.kind}",
            f"    overlay: {_scalar(workload.overlay)}",
        ]
        if workload.config_map is not None:
            lines += [f"    delivery: {workload.delivery}", f"    config_map: {_scalar(workload.config_map)}"]
    return "\n".join(lines) + "\n"


def _scalar(text: str) -> str:
    """Text as YAML reads it back: a namespace may be called `123` or `on`."""
    plain = re.fullmatch(r"[A-Za-z][A-Za-z0-9./_-]*", text) and text.lower() not in _WORDS
    return text if plain else json.dumps(text)


def forge_of(remote: str | None) -> ForgeKind:
    """Where a repository's pull requests live, by the host of its remote; a GitHub of one's own has to be told."""
    if remote is None:
        return "local"
    host = urlsplit(remote).hostname if "://" in remote else remote.partition(":")[0].rpartition("@")[2]
    return "github" if host in ("github.com", "ssh.github.com") else "local"


class Action(NamedTuple):
    """The action that the workflow uses, by commit, and what stands beside the commit for people."""

    repository: str
    commit: str
    note: str

    @property
    def known(self) -> bool:
        """False when somebody still has to set the commit."""
        return self.commit != NO_COMMIT


def find_action(given: str | None) -> Action:
    """The action to use: `OWNER/REPO@COMMIT`, `OWNER/REPO`, a commit, or this version's own.

    Raises InputError for anything else than a whole commit: a tag or a branch can be moved.
    """
    match = _ACTION.match(given or ACTION_REPOSITORY)
    if match is None or not any(match.groupdict().values()) or (given or "").endswith("@"):
        raise InputError(
            f"action {given!r}, expected OWNER/REPO@COMMIT with all 40 digits of the commit",
            hint="git ls-remote https://github.com/OWNER/REPO TAG tells the commit of a tag",
        )
    repository = match["repo"] or ACTION_REPOSITORY
    if match["commit"] not in (None, NO_COMMIT):
        return Action(repository, match["commit"], "the commit that `mk init` was given")
    if repository == ACTION_REPOSITORY and ACTION_COMMIT is not None:
        return Action(repository, ACTION_COMMIT, f"v{__version__}")
    return Action(repository, NO_COMMIT, f"SET THE COMMIT of v{__version__}: nothing has this one, so the job fails")


def workflow_yaml(template: str, action: Action) -> str:
    """The workflow that verifies pull requests."""
    from jinja2 import Environment, StrictUndefined

    # The usual brackets are GitHub's.
    env = Environment(  # noqa: S701 - YAML; what is filled in was checked
        undefined=StrictUndefined, variable_start_string="[[", variable_end_string="]]", keep_trailing_newline=True
    )
    return env.from_string(template).render(action=action.repository, commit=action.commit, note=action.note)


def codeowners_lines(owners: Sequence[str]) -> list[str]:
    """Who is to review what judges pull requests. Raises InputError for what CODEOWNERS can't name."""
    for owner in owners:
        if not _OWNER.match(owner):
            raise InputError(f"owner {owner!r}, expected @user, @org/team or an e-mail address")
    named = " ".join(owners) or "@your-org/your-platform-team"
    return [f"/{CONFIG_DIR}/ {named}", f"/.github/ {named}"]


def codeowners(owners: Sequence[str]) -> str:
    """A CODEOWNERS file; where nobody is named it names nobody, and shows how."""
    lines = codeowners_lines(owners)
    if not owners:
        lines = ["# Name who reviews these, and take the `# ` away:", *(f"# {line}" for line in lines)]
    return "\n".join(["# What judges pull requests is not to be changed by one that nobody looked at.", *lines]) + "\n"


def branch_rules(branch: str) -> list[str]:
    """What to switch on for the base branch on GitHub."""
    return [
        f"a ruleset (or branch protection) for {branch}: require a pull request",
        "  1 approval or more; dismiss stale approvals when new commits are pushed; require review from code owners",
        f"  required status checks: {VERIFY_JOB} (from GitHub Actions) and {GATE_CHECK} (from your ModeKeeper App)",
        "  strict: require branches to be up to date before merging",
        "  block force pushes; nobody on the bypass list",
    ]
