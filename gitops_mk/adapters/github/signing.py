"""A commit that GitHub makes and signs (`createCommitOnBranch`), on a branch that lives as long as this takes."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Final

from gitops_mk.adapters.clone import PREFIX, Clone
from gitops_mk.adapters.github.api import Api, Unanswered
from gitops_mk.errors import ForgeError, IntegrityError

STAGING: Final = f"{PREFIX}staging/"
_COMMIT: Final = (
    "mutation($input:CreateCommitOnBranchInput!){createCommitOnBranch(input:$input){commit{oid}}}"
)  # fmt: skip


def sign(
    api: Api, clone: Clone, name: str, commit: str, *, base: str, files: Mapping[str, bytes | None], message: str
) -> str:
    """The same change as `commit` made by GitHub on `base`; gives that commit.

    Raises IntegrityError for one that holds something else than was asked for, ForgeError where none was made.
    """
    staging = f"{STAGING}{commit[:16]}"
    ref = f"refs/heads/{staging}"
    clone.push({ref: (clone.tip(staging), base)})
    try:
        api.graphql(_COMMIT, {"input": _asked(name, staging, base, files, message)}, write=True)
    except Unanswered:
        # Whatever came of it stands on the branch.
        pass
    finally:
        clone.refresh()
        made = clone.tip(staging)
        if made is not None:
            clone.push({ref: (made, None)})
    if made is None or made == base:
        raise ForgeError("GitHub made no commit", retryable=True)
    found, wanted = clone.repo.commit(made), clone.repo.commit(commit)
    if found.tree != wanted.tree or found.parents != (base,):
        raise IntegrityError(f"GitHub's commit {made[:12]} is not the change it was asked for")
    return made


def _asked(name: str, branch: str, base: str, files: Mapping[str, bytes | None], message: str) -> dict[str, object]:
    title, _, text = message.partition("\n")
    return {
        "branch": {"repositoryNameWithOwner": name, "branchName": branch},
        "expectedHeadOid": base,
        "message": {"headline": title, "body": text.strip()},
        "fileChanges": {
            "additions": [
                {"path": path, "contents": base64.b64encode(data).decode()}
                for path, data in files.items()
                if data is not None
            ],
            "deletions": [{"path": path} for path, data in files.items() if data is None],
        },
    }
