"""Files that ship with the product: `templates/`, in the wheel or beside the package in a checkout."""

from __future__ import annotations

from pathlib import Path

from gitops_mk.core.policy import BuiltIn
from gitops_mk.core.render.describe import Wording
from gitops_mk.errors import IntegrityError
from gitops_mk.model.passport import BUILT_IN

_HERE = Path(__file__).resolve().parent.parent
_PLACES = (_HERE / "templates", _HERE.parent / "templates")


def templates_dir() -> Path:
    """The folder of the templates. Raises IntegrityError when the installation lacks it."""
    for place in _PLACES:
        if (place / "chord_catalog.json").is_file():
            return place
    raise IntegrityError("the installation lacks its templates", hint="install gitops-mk again")


def read_template(name: str) -> bytes:
    """One template's bytes; `name` is ours, never from outside."""
    return (templates_dir() / name).read_bytes()


def built_in() -> BuiltIn:
    """The built-in catalog and passports."""
    return BuiltIn(
        catalog=read_template("chord_catalog.json"),
        passports={name: read_template(f"passports/{name}.json") for name in BUILT_IN},
    )


def wording() -> Wording:
    """The templates of the pull request."""
    return Wording(
        pr_body=read_template("pr_body.md.j2").decode(), commit_message=read_template("commit_message.txt.j2").decode()
    )
