"""`mk explain`."""

from __future__ import annotations

from pathlib import Path

import click

from gitops_mk.cli import output
from gitops_mk.cli.options import PATH, json_option, repo_options

REPORTS = ("closed_loop_latest.json", "observe_latest.json")


@click.command(
    epilog="Example: mk explain report\n\nExample: mk explain --pr 3 --repo ~/gitops",
)
@click.argument("path", type=PATH, required=False)
@click.option("--pr", "number", type=click.IntRange(min=1), help="A pull request of ours, by its number.")
@repo_options
@json_option
def explain(
    path: Path | None,
    number: int | None,
    repo: Path | None,
    forge: str | None,
    base_branch: str | None,
    as_json: bool,
) -> None:
    """Say in plain words why there is a pull request, or why there is none.

    PATH is a report of observe or closed-loop, or the folder that holds one.
    """
    from gitops_mk.errors import InputError

    if (path is None) == (number is None):
        raise InputError("expected either PATH or --pr", hint="mk explain report, or mk explain --pr 3 --repo ~/gitops")
    lines = _of_report(path) if path is not None else _of_pull_request(number or 0, repo, forge, base_branch)
    if as_json:
        output.print_json({"lines": list(lines)})
        return
    for line in lines:
        output.say(line)


def _of_report(path: Path) -> tuple[str, ...]:
    from gitops_mk.cli.files import read_file
    from gitops_mk.core.explain import explain_report
    from gitops_mk.errors import InputError
    from gitops_mk.model.canonical import loads_strict

    file = path
    if path.is_dir():
        held = [path / name for name in REPORTS if (path / name).is_file()]
        if not held:
            raise InputError(f"{path} holds neither {' nor '.join(REPORTS)}", hint="name the --out folder of a run")
        file = held[0]
    return explain_report(loads_strict(read_file(file), what=str(file)), what=str(file))


def _of_pull_request(number: int, repo: Path | None, forge: str | None, base_branch: str | None) -> tuple[str, ...]:
    from gitops_mk.cli.pr import get_pr, open_place
    from gitops_mk.controller.explaining import plan_of
    from gitops_mk.core.explain import explain_plan

    with open_place(repo, forge, base_branch) as (place, _):
        return explain_plan(plan_of(place.forge, get_pr(place, number)))
