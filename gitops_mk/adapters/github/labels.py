"""Labels, and whom a review is asked of: what a pull request gets besides its text. None of it carries authority but one label."""

from __future__ import annotations

from urllib.parse import quote

from gitops_mk.adapters.github.api import Api, Refused
from gitops_mk.adapters.github.pulls import labels_of
from gitops_mk.adapters.github.wire import Bag
from gitops_mk.model.settings import ForgeSettings


def put_on(api: Api, path: str, pull: Bag, labels: tuple[str, ...]) -> Bag:
    """Put on those that it lacks; gives it with all it has then. GitHub makes a label that the repository lacks."""
    missing = [label for label in labels if label not in labels_of(pull, labels)]
    if not missing:
        return pull
    answer = api.send("POST", f"{path}/issues/{pull.number('number')}/labels", {"labels": missing})
    return Bag({**pull.raw, "labels": answer}, "pull request") if isinstance(answer, list) else pull


def take_off(api: Api, path: str, number: int, label: str) -> None:
    """Take one off, if it is there."""
    try:
        api.send("DELETE", f"{path}/issues/{number}/labels/{quote(label, safe='')}")
    except Refused as exc:
        if exc.status != 404:
            raise


def make(api: Api, path: str, label: str) -> None:
    """Make a label where the repository has none of that name."""
    if api.find(f"{path}/labels/{quote(label, safe='')}", urgent=True) is None:
        try:
            api.send("POST", f"{path}/labels", {"name": label, "color": "b60205"}, urgent=True)
        except Refused as exc:
            # Somebody made it meanwhile.
            if exc.status != 422:
                raise


def ask_reviewers(api: Api, path: str, pull: Bag, settings: ForgeSettings) -> None:
    """Those the configuration names; a name that GitHub does not take must not cost the pull request."""
    wanted = {"reviewers": settings.reviewers, "team_reviewers": settings.team_reviewers}
    body = {key: list(names) for key, names in wanted.items() if names}
    if body and not pull.rows("requested_reviewers") and not pull.rows("requested_teams"):
        try:
            api.send("POST", f"{path}/pulls/{pull.number('number')}/requested_reviewers", body)
        except Refused as exc:
            if exc.status not in (403, 404, 422):
                raise
