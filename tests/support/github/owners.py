"""CODEOWNERS: who owns the files a pull request changes."""

from __future__ import annotations

import re

from tests.support.github import pulls
from tests.support.github.records import Json, Pull, Repo
from tests.support.github.web import Answer, Call, Refused, route

_PLACES = (".github/CODEOWNERS", "CODEOWNERS", "docs/CODEOWNERS")


def _read(repo: Repo, branch: str) -> tuple[str, str]:
    """The path and the text of the first file there is."""
    tip = repo.tip(branch)
    if tip is not None:
        tree = repo.git.commit(tip).tree
        for place in _PLACES:
            entry = repo.git.at(tree, place)
            if entry is not None and entry.mode != "040000":
                return place, repo.git.blob(entry.sha).decode("utf-8", "replace")
    return "", ""


def _lines(text: str) -> list[tuple[int, str, list[str]]]:
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        parts = line.partition("#")[0].split()
        if parts:
            found.append((number, parts[0], parts[1:]))
    return found


def _pattern(text: str) -> re.Pattern[str]:
    anchored = "/" in text.rstrip("/")
    body = text.strip("/")
    out = ""
    for part in re.split(r"(\*\*/|\*\*|\*|\?)", body):
        out += {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}.get(part, re.escape(part))
    # A pattern that names a folder means all that is in it; `docs/*` only what is right in there.
    below = r"/.*" if text.endswith("/") else "" if body.endswith("/*") else r"(?:/.*)?"
    return re.compile(("" if anchored else r"(?:.*/)?") + out + below + r"\Z")


def of(pull: Pull) -> list[list[str]]:
    """The logins of each group of owners that a changed file asks for; the last pattern that fits a file decides."""
    rules = [(_pattern(pattern), names) for _, pattern, names in _lines(_read(pull.repo, pull.base_ref)[1])]
    found: list[list[str]] = []
    for change in pulls.changes(pull):
        fit = [names for pattern, names in rules if pattern.match(change.path)]
        if fit and fit[-1]:
            names = [name.removeprefix("@") for name in fit[-1]]
            if names not in found:
                found.append(names)
    return found


@route("GET", "/repos/{owner}/{repo}/codeowners/errors", "contents:read")
def codeowners_errors(call: Call) -> Answer:
    branch = call.query.get("ref", call.repo.default_branch)
    path, text = _read(call.repo, branch)
    if not path:
        raise Refused(404, "Not Found")
    errors: list[Json] = []
    lines = text.splitlines()
    for number, _, names in _lines(text):
        for name in names:
            account = call.hub.by_login.get(name.removeprefix("@").casefold())
            if account is None or call.repo.role(account) not in ("write", "maintain", "admin"):
                column = lines[number - 1].index(name) + 1
                why = f"make sure {name} exists and has write access to the repository"
                errors.append(
                    {
                        "line": number,
                        "column": column,
                        "kind": "Unknown owner",
                        "source": lines[number - 1],
                        "suggestion": why,
                        "message": f"Unknown owner on line {number}: {why}",
                        "path": path,
                    }
                )
    return Answer(200, {"errors": errors})
