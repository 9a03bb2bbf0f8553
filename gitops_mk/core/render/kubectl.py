"""The kubectl script of a plan: for reading and, if a person wants to, for pasting. Nothing of ours ever runs it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from gitops_mk.model.canonical import dumps_canonical
from gitops_mk.model.plan import PlanItem

_HEAD = """#!/bin/sh
# Made by `mk`; never executed by it. Merging the pull request is the way to apply.
# As it stands this asks the API server what it would do. MK_DRY_RUN=none makes it patch.
set -eu
"""
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u200b-\u200f\u202a-\u202e\u2066-\u2069]")


def kubectl_script(items: Sequence[PlanItem]) -> str:
    """The script; one patch a workload, every name and value quoted. Without items it runs no kubectl."""
    lines = [_HEAD]
    if not items:
        lines.append("# The plan is empty: nothing to do.\n")
    for item in items:
        patch = dumps_canonical(item.patch).decode()
        words = (
            '"${KUBECTL:-kubectl}"',
            f"--namespace={shlex.quote(item.namespace)}",
            "patch",
            shlex.quote(f"{item.kind.lower()}/{item.name}"),
            "--type=merge",
            '--dry-run="${MK_DRY_RUN:-server}"',
            f"--patch={shlex.quote(patch)}",
        )
        lines.append(f"\n# {_CONTROL.sub(' ', item.reason)}\n" + " \\\n  ".join(words) + "\n")
    return "".join(lines)
