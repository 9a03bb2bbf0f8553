"""`mk init`."""

from __future__ import annotations

from pathlib import Path

import click

from gitops_mk.cli import output
from gitops_mk.cli.options import PATH
from gitops_mk.errors import InputError


@click.command(epilog="Example: cd ~/gitops && mk init --overlay overlays/prod")
@click.option("--repo", type=PATH, help="The checkout of your GitOps repository. Default: this folder.")
@click.option(
    "--overlay", "overlays", multiple=True, help="An overlay to take workloads from. Default: all that build."
)
def init(repo: Path | None, overlays: tuple[str, ...]) -> None:
    """Write .modekeeper/config.yaml for the workloads whose overlays carry knobs. You commit it.

    Nothing that is there is overwritten.
    """
    from gitops_mk.adapters import git
    from gitops_mk.adapters.artifacts import FolderStore
    from gitops_mk.cli.config_cmd import config_schema
    from gitops_mk.controller.setup import config_yaml, find_workloads
    from gitops_mk.model.canonical import dumps_pretty
    from gitops_mk.model.settings import CONFIG_DIR, CONFIG_PATH
    from gitops_mk.wiring import make_tools

    git_dir, work_tree = git.find_git_dir(repo or Path())
    if work_tree is None:
        raise InputError(f"{git_dir} is a bare repository, expected a checkout to write {CONFIG_PATH} into")
    if (work_tree / CONFIG_PATH).exists():
        raise InputError(f"{work_tree / CONFIG_PATH} is there already", hint="edit it; `mk config validate` checks it")
    objects = git.GitRepo(git_dir)
    if objects.resolve("HEAD") is None:
        raise InputError("the repository has no commit yet", hint="commit your overlays first")
    found = find_workloads(objects.files("HEAD"), make_tools().builder, overlays)
    branch = git.current_branch(git_dir) or "main"
    store = FolderStore(work_tree)
    schema = store.text(f"{CONFIG_DIR}/config.schema.json", dumps_pretty(config_schema()))
    path = store.text(CONFIG_PATH, config_yaml(branch, found.workloads))
    output.say(f"wrote {path} and {schema}")
    for workload in found.workloads:
        output.say(f"  {workload.ref} in {workload.overlay}")
    for note in found.notes:
        output.say(f"note: {note}")
    if not found.workloads:
        output.say(
            "no workload carries knobs yet: add annotations such as modekeeper/knob.microbatch_size to a pod template"
        )
    output.say("look it through, then commit and push it to the base branch")
