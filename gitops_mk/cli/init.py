"""`mk init`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gitops_mk.cli import output
from gitops_mk.cli.options import PATH
from gitops_mk.errors import ConfigError, InputError

if TYPE_CHECKING:
    from gitops_mk.adapters.git import GitRepo
    from gitops_mk.controller.setup import Action, ForgeKind

MESSAGE = """Set ModeKeeper GitOps up

Written by `mk init`: the workloads that carry knobs, and the check of every pull request.
"""


@click.command(epilog="Example: cd ~/gitops && mk init --overlay overlays/prod --commit")
@click.option("--repo", type=PATH, help="The checkout of your GitOps repository. Default: this folder.")
@click.option(
    "--overlay", "overlays", multiple=True, help="An overlay to take workloads from. Default: all that build."
)
@click.option("--passport", default="pilot", show_default=True, help="The limits; `mk passport templates` lists them.")
@click.option(
    "--forge",
    type=click.Choice(["github", "local"]),
    help="Where pull requests live. Default: github, where the remote `origin` is on github.com, else local.",
)
@click.option("--action", help="For github: OWNER/REPO@COMMIT of the action to verify with. Default: this version's.")
@click.option("--owner", "owners", multiple=True, help="For github: @user or @org/team who reviews the rules.")
@click.option("--commit", "as_commit", is_flag=True, help="Make a commit on a new branch modekeeper/init instead.")
@click.option("--dry-run", is_flag=True, help="Print what would be written.")
def init(
    repo: Path | None,
    overlays: tuple[str, ...],
    passport: str,
    forge: str | None,
    action: str | None,
    owners: tuple[str, ...],
    as_commit: bool,
    dry_run: bool,
) -> None:
    """Set a GitOps repository up: .modekeeper/config.yaml for the workloads whose overlays carry knobs, and, on GitHub,
    the workflow that verifies pull requests and who owns the rules.

    Nothing that is there is overwritten. You commit it, or --commit does, without touching your files or your index.
    """
    from gitops_mk.adapters import git
    from gitops_mk.adapters.resources import read_template
    from gitops_mk.controller import setup
    from gitops_mk.model.passport import BUILT_IN
    from gitops_mk.model.settings import CONFIG_DIR, CONFIG_PATH

    if passport not in BUILT_IN:
        raise InputError(f"passport {passport!r}, expected one of {', '.join(BUILT_IN)}")
    git_dir, work_tree = git.find_git_dir(repo or Path())
    if work_tree is None:
        raise InputError(f"{git_dir} is a bare repository, expected a checkout to write {CONFIG_PATH} into")
    objects = git.GitRepo(git_dir)
    if objects.resolve("HEAD") is None:
        raise InputError("the repository has no commit yet", hint="commit your overlays first")
    kind: ForgeKind = "github" if forge == "github" else "local" if forge else setup.forge_of(git.remote_url(git_dir))
    branch = git.current_branch(git_dir) or "main"
    in_head = {entry.path for entry in objects.tree("HEAD")} if as_commit else set()

    def stands(path: str) -> bool:
        return path in in_head if as_commit else (work_tree / path).exists()

    used = setup.find_action(action)
    wanted: dict[str, str] = {}
    if not stands(CONFIG_PATH):
        config = _config(objects, branch, overlays, passport, kind)
        wanted = {CONFIG_PATH: config, f"{CONFIG_DIR}/config.schema.json": _schema()}
    owned = next((path for path in setup.CODEOWNERS_PATHS if stands(path)), None)
    if kind == "github":
        wanted[setup.WORKFLOW_PATH] = setup.workflow_yaml(read_template(setup.WORKFLOW_TEMPLATE).decode(), used)
        if owned is None:
            wanted[setup.CODEOWNERS_PATHS[0]] = setup.codeowners(owners)
    new = {path: text for path, text in wanted.items() if not stands(path)}
    if not new:
        raise InputError(f"{work_tree / CONFIG_PATH} is there already", hint="edit it; `mk config validate` checks it")
    for path in (CONFIG_PATH, *wanted):
        if stands(path):
            output.say(f"{path} is there already, and left as it is")
    if dry_run:
        for path, text in new.items():
            output.say(f"--- {path}")
            output.say(text.rstrip("\n"))
        return
    if as_commit:
        _commit(git_dir, objects, new)
    else:
        _write(work_tree, new)
    if kind == "github":
        lines = setup.codeowners_lines(owners) if owned is not None else []
        _tell_github(branch, used, owned, lines, work=setup.WORKFLOW_PATH in new)
    _next_steps(branch, kind, as_commit=as_commit)


def _config(objects: GitRepo, branch: str, overlays: tuple[str, ...], passport: str, kind: ForgeKind) -> str:
    """The configuration's text; says what it lists, and what it leaves out."""
    from gitops_mk.controller.setup import config_yaml, find_workloads
    from gitops_mk.wiring import make_tools

    found = find_workloads(objects.files("HEAD"), make_tools().builder, overlays)
    for workload in found.workloads:
        output.say(f"  {workload.ref} in {workload.overlay}")
    for note in found.notes:
        output.say(f"note: {note}")
    if not found.workloads:
        output.say(
            "no workload carries knobs yet: add annotations such as modekeeper/knob.microbatch_size to a pod template"
        )
    return config_yaml(branch, found.workloads, passport=passport, forge=kind)


def _schema() -> str:
    from gitops_mk.cli.config_cmd import config_schema
    from gitops_mk.model.canonical import dumps_pretty

    return dumps_pretty(config_schema())


def _write(work_tree: Path, new: Mapping[str, str]) -> None:
    from gitops_mk.adapters.artifacts import FolderStore

    store = FolderStore(work_tree)
    # The configuration last: a second run after a failure finds what is still missing.
    for path in sorted(new, reverse=True):
        output.say(f"wrote {store.text(path, new[path])}")


def _commit(git_dir: Path, objects: GitRepo, new: Mapping[str, str]) -> None:
    """A commit on HEAD, by plumbing: neither the index nor the files of the checkout are touched."""
    from gitops_mk.adapters import git
    from gitops_mk.adapters.clock import SystemClock
    from gitops_mk.core.workflow import INIT_BRANCH

    ref = f"refs/heads/{INIT_BRANCH}"
    if objects.refs(ref):
        raise InputError(f"branch {INIT_BRANCH} is there already", hint=f"git branch -D {INIT_BRANCH}, or push it")
    author = git.user_identity(git_dir)
    if author is None:
        raise ConfigError("git does not know who you are", hint="git config user.name and user.email")
    head = objects.resolve("HEAD") or ""
    tree = objects.write_tree(head, {path: text.encode() for path, text in new.items()})
    time = int(SystemClock().now().timestamp())
    sha = objects.write_commit(tree=tree, parents=[head], message=MESSAGE, author=author, time=time)
    # Only if it is still not there.
    objects.run("update-ref", ref, sha, "0" * 40)
    output.say(f"committed {sha[:12]} on {INIT_BRANCH}: {', '.join(sorted(new))}")


def _tell_github(branch: str, used: Action, owned: str | None, lines: list[str], *, work: bool) -> None:
    from gitops_mk.controller.setup import WORKFLOW_PATH, branch_rules

    if work and not used.known:
        output.say(
            f"note: no commit is known for {used.repository}: set it in {WORKFLOW_PATH} (or run again with --action), "
            "until then the job fails"
        )
    if owned is not None:
        output.say(f"add to {owned}:")
        for line in lines:
            output.say(f"  {line}")
    output.say("on GitHub, switch on:")
    for line in branch_rules(branch):
        output.say(f"  {line}")


def _next_steps(branch: str, kind: ForgeKind, *, as_commit: bool) -> None:
    from gitops_mk.core.workflow import INIT_BRANCH

    if as_commit:
        output.say(f"look it through (git show {INIT_BRANCH}), then: git push -u origin {INIT_BRANCH}")
        output.say(f"open a pull request of it to {branch}, and merge it")
    else:
        output.say("look it through, then commit and push it to the base branch")
    output.say(f"then: mk doctor{'; docs/github.md has the App and its permissions' if kind == 'github' else ''}")
