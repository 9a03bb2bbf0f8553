"""Refs, commits, trees, blobs and contents over REST, and commits made by hand in tests."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from urllib.parse import quote

from tests.support.github import pulls, rules, shapes
from tests.support.github.gitdir import ZERO, Change, Entry, Who, is_oid
from tests.support.github.records import Account, Json, Repo
from tests.support.github.web import Answer, Call, Refused, not_found, paged, route

_HOOK = """#!/bin/sh
# Does what the simulator ordered for this push: refuse a ref, or refuse it unless it goes forward.
tab=$(printf '\\t')
while IFS="$tab" read -r kind ref text; do
  [ "$ref" = "$1" ] || continue
  if [ "$kind" = deny ] || ! git merge-base --is-ancestor "$2" "$3"; then
    echo "error: GH013: Repository rule violations found for $1." >&2
    echo "$text" >&2
    exit 1
  fi
done < "$GIT_DIR/mk-orders"
exit 0
"""


def install_hook(repo: Repo) -> None:
    """Have pushes do as the simulator says, whatever the repository was set to."""
    hooks = repo.git_dir / "hooks"
    hooks.mkdir(exist_ok=True)
    hook = hooks / "update"
    hook.write_text(_HOOK)
    hook.chmod(0o755)
    settings = {
        "core": {"repositoryformatversion": "0", "bare": "true", "hooksPath": f'"{hooks}"'},
        "receive": {"autogc": "false"},
        "gc": {"auto": "0"},
        "uploadpack": {"allowAnySHA1InWant": "true"},
    }
    lines = [
        line for name, one in settings.items() for line in (f"[{name}]", *(f"\t{key} = {one[key]}" for key in one))
    ]
    (repo.git_dir / "config").write_text("\n".join(lines) + "\n")


def author(account: Account, now: float) -> Who:
    """An account as the author of a commit made on GitHub."""
    return Who(account.login, shapes.email_of(account), int(now), "+0000")


def commit_files(repo: Repo, branch: str, files: Mapping[str, str | bytes | None], message: str, by: Account) -> str:
    """A commit on a branch, pushed by hand."""
    git, ref = repo.git, f"refs/heads/{branch}"
    old = git.ref(ref)
    start = old or repo.tip()
    who = author(by, repo.hub.now())
    sha = git.write_commit(_tree(repo, start, files), [start] if start else [], who, who, message)
    git.update_ref(ref, sha, old or ZERO)
    pulls.ref_moved(repo, ref, old, sha, by)
    return sha


def _tree(repo: Repo, start: str | None, files: Mapping[str, str | bytes | None]) -> str:
    git = repo.git
    base = git.commit(start).tree if start is not None else None
    put: dict[str, tuple[str, str] | None] = {}
    for path, data in files.items():
        if data is None:
            put[path] = None
        else:
            had = git.at(base, path) if base is not None else None
            blob = git.write("blob", data.encode() if isinstance(data, str) else data)
            put[path] = (had.mode if had is not None and had.mode != "040000" else "100644", blob)
    return git.write_tree(base, put) or git.empty_tree()


def move_branch(repo: Repo, branch: str, sha: str | None, by: Account) -> None:
    """Put a branch anywhere, or delete it."""
    ref = f"refs/heads/{branch}"
    old = repo.git.ref(ref)
    if not repo.git.update_ref(ref, sha or ZERO, None):
        raise ValueError(f"{branch} can't be put on {sha}")
    pulls.ref_moved(repo, ref, old, sha, by)


# -- refs ----------------------------------------------------------------------------------------------------------------


@route("GET", "/repos/{owner}/{repo}/git/ref/{ref}", "contents:read")
def get_ref(call: Call) -> Answer:
    name = f"refs/{call.params['ref']}"
    sha = call.repo.git.ref(name)
    if sha is None:
        raise not_found()
    return Answer(200, shapes.ref(call.repo, name, sha))


@route("GET", "/repos/{owner}/{repo}/git/matching-refs/{ref}", "contents:read", listing=True)
def matching_refs(call: Call) -> Answer:
    found = call.repo.git.refs(f"refs/{call.params['ref']}")
    return Answer(200, [shapes.ref(call.repo, name, sha) for name, sha in found.items()])


@route("POST", "/repos/{owner}/{repo}/git/refs", "contents:write")
def create_ref(call: Call) -> Answer:
    name, sha, git = call.want("ref", "Reference"), call.want("sha", "Reference"), call.repo.git
    if not name.startswith("refs/") or name.count("/") < 2 or not git.valid_name(name):
        raise Refused(422, f"{name} is not a valid ref name.")
    if not is_oid(sha) or git.kind(sha) is None:
        raise Refused(422, "Object does not exist")
    if git.ref(name) is not None:
        raise Refused(422, "Reference already exists")
    _refuse(call, name, "creation")
    if not git.update_ref(name, sha, ZERO):
        raise Refused(422, "Reference update failed")
    pulls.ref_moved(call.repo, name, None, sha, call.me)
    return Answer(201, shapes.ref(call.repo, name, sha), {"Location": f"{call.repo.api}/git/{quote(name)}"})


@route("PATCH", "/repos/{owner}/{repo}/git/refs/{ref}", "contents:write")
def move_ref(call: Call) -> Answer:
    name, sha, git = f"refs/{call.params['ref']}", call.want("sha", "Reference"), call.repo.git
    old = git.ref(name)
    if old is None:
        raise Refused(422, "Reference does not exist")
    if not is_oid(sha) or git.kind(sha) is None:
        raise Refused(422, "Object does not exist")
    _refuse(call, name, "update")
    forward = git.kind(sha) == "commit" and git.is_ancestor(old, sha)
    if not forward and not call.get("force"):
        raise Refused(422, "Update is not a fast forward")
    if not forward and rules.forward_only(call.repo, call.actor, name):
        raise Refused(422, "Cannot force-push to this branch")
    if not git.update_ref(name, sha, old):
        raise Refused(409, "Reference cannot be updated")
    pulls.ref_moved(call.repo, name, old, sha, call.me)
    return Answer(200, shapes.ref(call.repo, name, sha))


@route("DELETE", "/repos/{owner}/{repo}/git/refs/{ref}", "contents:write")
def delete_ref(call: Call) -> Answer:
    name, git = f"refs/{call.params['ref']}", call.repo.git
    old = git.ref(name)
    if old is None:
        raise Refused(422, "Reference does not exist")
    if name == f"refs/heads/{call.repo.default_branch}":
        raise Refused(422, "Cannot delete the default branch")
    _refuse(call, name, "deletion")
    git.update_ref(name, ZERO, old)
    pulls.ref_moved(call.repo, name, old, None, call.me)
    return Answer(204)


def _refuse(call: Call, name: str, change: str) -> None:
    texts = rules.push_objections(call.repo, call.actor, name, change)
    if texts:
        raise Refused(422, "\n\n".join(["Repository rule violations found", *texts]) + "\n\n")


# -- objects -------------------------------------------------------------------------------------------------------------


@route("GET", "/repos/{owner}/{repo}/git/commits/{commit_sha}", "contents:read")
def get_git_commit(call: Call) -> Answer:
    sha = call.params["commit_sha"]
    if not is_oid(sha) or call.repo.git.kind(sha) != "commit":
        raise not_found()
    return Answer(200, shapes.git_commit(call.repo, call.repo.git.commit(sha)))


@route("POST", "/repos/{owner}/{repo}/git/commits", "contents:write")
def create_git_commit(call: Call) -> Answer:
    git, tree, parents = call.repo.git, call.want("tree", "Commit"), call.get("parents") or []
    if git.kind(tree) != "tree":
        raise Refused(422, "Tree SHA does not exist")
    if any(git.kind(sha) != "commit" for sha in parents):
        raise Refused(422, "Parent SHA does not exist or is not a commit object")
    by = _given(call, "author") or author(call.me, call.hub.now())
    sha = git.write_commit(tree, parents, by, _given(call, "committer") or by, call.want("message", "Commit"))
    url = f"{call.repo.api}/git/commits/{sha}"
    return Answer(201, shapes.git_commit(call.repo, git.commit(sha)), {"Location": url})


def _given(call: Call, name: str) -> Who | None:
    from datetime import datetime

    given = call.get(name)
    if given is None:
        return None
    date = given.get("date")
    time = datetime.fromisoformat(date).timestamp() if date else call.hub.now()
    return Who(given["name"], given["email"], int(time), "+0000")


def _entry(repo: Repo, path: str, one: Entry) -> Json:
    kind = {"040000": "tree", "160000": "commit"}.get(one.mode, "blob")
    made = {"path": path, "mode": one.mode, "type": kind, "sha": one.sha, "url": f"{repo.api}/git/{kind}s/{one.sha}"}
    return made | ({"size": len(repo.git.blob(one.sha))} if kind == "blob" else {})


@route("GET", "/repos/{owner}/{repo}/git/trees/{tree_sha}", "contents:read")
def get_tree(call: Call) -> Answer:
    repo, git, text = call.repo, call.repo.git, call.params["tree_sha"]
    sha = text if is_oid(text) and git.kind(text) == "tree" else None
    if sha is None:
        commit = git.resolve(text)
        if commit is None:
            raise not_found()
        sha = git.commit(commit).tree
    deep = "recursive" in call.query
    return Answer(200, _tree_shape(repo, sha, deep=deep))


def _tree_shape(repo: Repo, sha: str, *, deep: bool) -> Json:
    def walk(tree: str, prefix: str) -> list[Json]:
        found = []
        for one in repo.git.tree(tree):
            found.append(_entry(repo, prefix + one.name, one))
            if deep and one.mode == "040000":
                found += walk(one.sha, f"{prefix}{one.name}/")
        return found

    return {"sha": sha, "url": f"{repo.api}/git/trees/{sha}", "tree": walk(sha, ""), "truncated": False}


@route("POST", "/repos/{owner}/{repo}/git/trees", "contents:write")
def create_tree(call: Call) -> Answer:
    git, base = call.repo.git, call.get("base_tree")
    if base is not None:
        base = base if git.kind(base) == "tree" else git.commit(base).tree if git.kind(base) == "commit" else None
        if base is None:
            raise Refused(422, "base_tree is not a valid tree oid")
    put: dict[str, tuple[str, str] | None] = {}
    for one in call.want("tree", "Tree"):
        if "content" in one:
            put[one["path"]] = (one.get("mode", "100644"), git.write("blob", one["content"].encode()))
        elif one.get("sha") is None:
            put[one["path"]] = None
        elif git.kind(one["sha"]) is None:
            raise Refused(422, f"tree.sha {one['sha']} is not a valid blob")
        else:
            put[one["path"]] = (one.get("mode", "100644"), one["sha"])
    sha = git.write_tree(base, put) or git.empty_tree()
    url = f"{call.repo.api}/git/trees/{sha}"
    return Answer(201, _tree_shape(call.repo, sha, deep=False), {"Location": url})


@route("GET", "/repos/{owner}/{repo}/git/blobs/{file_sha}", "contents:read")
def get_blob(call: Call) -> Answer:
    repo, sha = call.repo, call.params["file_sha"]
    if not is_oid(sha) or repo.git.kind(sha) != "blob":
        raise not_found()
    data = repo.git.blob(sha)
    body = {
        "content": _encoded(data),
        "encoding": "base64",
        "url": f"{repo.api}/git/blobs/{sha}",
        "sha": sha,
        "size": len(data),
        "node_id": shapes.node_id("B", f"{repo.id}:{sha}"),
    }
    return Answer(200, body)


@route("POST", "/repos/{owner}/{repo}/git/blobs", "contents:write")
def create_blob(call: Call) -> Answer:
    text = call.want("content", "Blob")
    data = _decoded(text) if call.get("encoding") == "base64" else text.encode()
    sha = call.repo.git.write("blob", data)
    url = f"{call.repo.api}/git/blobs/{sha}"
    return Answer(201, {"sha": sha, "url": url}, {"Location": url})


def _encoded(data: bytes) -> str:
    """Base64 in lines of sixty, each with its newline, as GitHub gives it."""
    text = base64.b64encode(data).decode()
    return "".join(f"{text[start : start + 60]}\n" for start in range(0, len(text), 60))


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text)
    except binascii.Error:
        raise Refused(422, "content is not valid Base64") from None


# -- commits and contents ------------------------------------------------------------------------------------------------


@route("GET", "/repos/{owner}/{repo}/commits", "contents:read", listing=True)
def list_commits(call: Call) -> Answer:
    start = call.repo.git.resolve(call.query.get("sha", call.repo.default_branch))
    if start is None:
        raise Refused(
            409 if call.repo.tip() is None else 404,
            "Git Repository is empty." if call.repo.tip() is None else "Not Found",
        )
    found = call.repo.git.log(start)
    return Answer(200, paged(call, found, lambda one: shapes.commit(call.repo, one)))


@route("GET", "/repos/{owner}/{repo}/commits/{ref}", "contents:read")
def get_commit(call: Call) -> Answer:
    repo, git, text = call.repo, call.repo.git, call.params["ref"]
    sha = git.resolve(text)
    if sha is None:
        raise Refused(422, f"No commit found for SHA: {text}")
    one = git.commit(sha)
    parent = git.commit(one.parents[0]).tree if one.parents else None
    changed = git.diff(parent, one.tree)
    files = [_file(repo, sha, change) for change in changed]
    plus, minus = sum(file["additions"] for file in files), sum(file["deletions"] for file in files)
    made = shapes.commit(repo, one)
    made["stats"] = {"total": plus + minus, "additions": plus, "deletions": minus}
    made["files"] = files
    return Answer(200, made)


def _file(repo: Repo, sha: str, change: Change) -> Json:
    plus, minus, patch = repo.git.lines(change)
    status = "added" if change.old_sha is None else "removed" if change.new_sha is None else "modified"
    made = {
        "sha": change.new_sha or change.old_sha,
        "filename": change.path,
        "status": status,
        "additions": plus,
        "deletions": minus,
        "changes": plus + minus,
        "blob_url": f"{repo.html}/blob/{sha}/{quote(change.path)}",
        "raw_url": f"{repo.html}/raw/{sha}/{quote(change.path)}",
        "contents_url": f"{repo.api}/contents/{quote(change.path)}?ref={sha}",
    }
    return made | ({"patch": patch} if patch else {})


def _content(repo: Repo, path: str, entry: Entry, ref: str, *, data: bool) -> Json:
    kind = {"040000": "dir", "160000": "submodule", "120000": "symlink"}.get(entry.mode, "file")
    blob = repo.git.blob(entry.sha) if kind in ("file", "symlink") else b""
    url, thing = f"{repo.api}/contents/{quote(path)}?ref={quote(ref, safe='')}", "tree" if kind == "dir" else "blob"
    git_url, page = f"{repo.api}/git/{thing}s/{entry.sha}", f"{repo.html}/{thing}/{ref}/{quote(path)}"
    made: Json = {
        "name": path.rpartition("/")[2],
        "path": path,
        "sha": entry.sha,
        "size": len(blob),
        "url": url,
        "html_url": page,
        "git_url": git_url,
        "download_url": None if kind == "dir" else f"{repo.html}/raw/{ref}/{quote(path)}",
        "type": kind,
        "_links": {"self": url, "git": git_url, "html": page},
    }
    if data and kind == "symlink":
        made["target"] = blob.decode("utf-8", "replace")
    elif data:
        made |= {"content": _encoded(blob), "encoding": "base64"}
    return made


def _at(call: Call) -> tuple[str, str]:
    """The tree that `ref` means, and the name it goes by."""
    ref = call.query.get("ref") or call.repo.default_branch
    sha = call.repo.git.resolve(ref.removeprefix("refs/heads/"))
    if sha is None:
        raise Refused(404, f"No commit found for the ref {ref}")
    return call.repo.git.commit(sha).tree, ref


@route("GET", "/repos/{owner}/{repo}/contents/{path}", "contents:read")
def get_contents(call: Call) -> Answer:
    path = call.params["path"].strip("/")
    tree, ref = _at(call)
    entry = call.repo.git.at(tree, path)
    if entry is None:
        raise not_found()
    if entry.mode == "040000":
        below = call.repo.git.tree(entry.sha)
        return Answer(
            200, [_content(call.repo, f"{path}/{one.name}".lstrip("/"), one, ref, data=False) for one in below]
        )
    return Answer(200, _content(call.repo, path, entry, ref, data=True))


@route("PUT", "/repos/{owner}/{repo}/contents/{path}", "contents:write")
def put_contents(call: Call) -> Answer:
    repo, git, path = call.repo, call.repo.git, call.params["path"].strip("/")
    branch = call.get("branch") or repo.default_branch
    old = repo.tip(branch)
    if old is None and repo.tip() is not None:
        raise Refused(404, f"Branch {branch} not found")
    entry = git.at(git.commit(old).tree, path) if old is not None else None
    given = call.get("sha")
    if entry is not None and given is None:
        raise Refused(422, 'Invalid request.\n\n"sha" wasn\'t supplied.')
    if given != (entry.sha if entry is not None else None):
        raise Refused(409, f"{path} does not match {given}")
    ref = f"refs/heads/{branch}"
    if old is not None:
        _refuse_contents(call, ref)
    data = _decoded(call.want("content", "Content"))
    who = _given(call, "committer") or author(call.me, call.hub.now())
    by = _given(call, "author") or who
    made = git.write_commit(_tree(repo, old, {path: data}), [old] if old else [], by, who, call.want("message"))
    git.update_ref(ref, made, old or ZERO)
    pulls.ref_moved(repo, ref, old, made, call.me)
    now = git.at(git.commit(made).tree, path)
    assert now is not None
    body = {
        "content": _content(repo, path, now, branch, data=False),
        "commit": shapes.git_commit(repo, git.commit(made)),
    }
    return Answer(201 if entry is None else 200, body)


def _refuse_contents(call: Call, ref: str) -> None:
    texts = rules.push_objections(call.repo, call.actor, ref, "update")
    if texts:
        raise Refused(409, "\n\n".join(["Repository rule violations found", *texts]) + "\n\n")
