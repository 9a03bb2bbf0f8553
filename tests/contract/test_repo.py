"""What `ports.Repo` promises, held against real git; and that nothing of a repository's own is ever run."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gitops_mk.adapters import git
from gitops_mk.adapters.git import GitRepo, check_remote, find_git_dir, init_bare, open_private
from gitops_mk.adapters.leftout import LeftOut
from gitops_mk.errors import ConflictError, GitError, InputError, MkError
from gitops_mk.model.change import Person
from gitops_mk.model.git import PathChange
from tests.support.githttp import GitServer, git_server

ME = Person(name="Me", email="me@example.invalid")
ALL = ("+refs/*:refs/*",)
SECRET = "s3kr1t-token-value"

NASTY = [
    "quote'and\"double",
    "$(touch CANARY)",
    "`touch CANARY`",
    ";touch CANARY;",
    "|touch CANARY",
    "new\nline",
    "tab\there",
    " leading and trailing ",
    "--output=CANARY",
    "--upload-pack=touch CANARY",
    "-c",
    ":(exclude)x",
    "*",
    "back\\slash",
    "caf\u00e9-\u202egnp",
    os.fsdecode(b"not-utf8-\xff\xfe"),
    "n" * 200,
    "deep/" * 60 + "x",
]


@pytest.fixture(autouse=True)
def canary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Every test runs in an empty folder that must still be empty of canaries after it."""
    for name in (git.HTTP_VARIABLE, git.TOKEN_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "cwd"
    folder.mkdir()
    monkeypatch.chdir(folder)
    yield folder / "CANARY"
    assert list(folder.iterdir()) == []
    assert not list(tmp_path.rglob("CANARY*"))


@pytest.fixture
def repo(tmp_path: Path) -> GitRepo:
    return init_bare(tmp_path / "server.git")


def commit(repo: GitRepo, files: dict[str, bytes | None], *parents: str, branch: str | None = "main") -> str:
    tree = repo.write_tree(parents[0] if parents else None, files)
    sha = repo.write_commit(tree=tree, parents=parents, message="Say\n", author=ME, time=1_700_000_000)
    if branch:
        repo.run("update-ref", f"refs/heads/{branch}", sha)
    return sha


def git_in(folder: Path, *args: str) -> str:
    """The user's own git, with the user's own ways, in a checkout."""
    env = {"PATH": os.environ["PATH"], "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    env |= {f"GIT_{who}_{what}": f"{who}@x" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    return subprocess.run(["git", *args], cwd=folder, env=env, check=True, capture_output=True, text=True).stdout


# -- reading and writing objects -------------------------------------------------------------------------------------


def test_a_branch_a_ref_and_a_sha_resolve_to_the_commit_and_others_to_none(repo: GitRepo) -> None:
    sha = commit(repo, {"a": b"1"})
    assert repo.resolve("main") == repo.resolve("refs/heads/main") == repo.resolve(sha) == sha
    assert repo.resolve("nowhere") is None
    assert repo.resolve("f" * 40) is None
    tree = repo.commit(sha).tree
    assert repo.resolve(tree) is None, "a tree is no commit"
    second = commit(repo, {"a": b"2"}, sha)
    merged = commit(repo, {"a": b"3"}, second, commit(repo, {"b": b"1"}, sha, branch="side"))
    assert repo.resolve("main~1") == repo.resolve("main^") == repo.resolve(f"{merged}^1") == second
    assert repo.resolve("main~2") == repo.resolve("main^2~1") == repo.resolve("main~~") == sha
    assert repo.resolve("main^2") == repo.resolve("side")
    assert repo.resolve("main~9") is None


@pytest.mark.parametrize(
    "ref",
    [
        "",
        "-x",
        "--all",
        "a b",
        "a\nb",
        "a..b:c",
        "x^{tree}",
        "a\0b",
        "r" * 300,
        "~",
        "@{-1}:x",
        "a..b",
        "main~1:a",
        "main~1\n",
        "main~x",
        "main^{}",
        "^main",
        "main~1 ",
        "main~-1",
        "main^!",
        "main^@",
        "main^-",
    ],
)
def test_what_is_no_ref_is_bad_input(repo: GitRepo, ref: str) -> None:
    with pytest.raises(InputError, match="no git ref"):
        repo.resolve(ref)


def test_a_commit_says_who_when_what_and_from_what(repo: GitRepo) -> None:
    first = commit(repo, {"a": b"1"})
    tree = repo.write_tree(first, {"b": b"2"})
    message = "Subject\n\nBody with ünicode\n\nTrailer-One: x\n"
    sha = repo.write_commit(tree=tree, parents=[first], message=message, author=ME, time=7)
    info = repo.commit(sha)
    assert (info.sha, info.tree, info.parents, info.author, info.committer) == (sha, tree, (first,), ME, ME)
    assert info.time == 7, "small numbers are times, not years"
    assert info.message == message.rstrip("\n")


def test_equal_input_gives_an_equal_commit_in_two_repositories(tmp_path: Path) -> None:
    one, two = init_bare(tmp_path / "one.git"), init_bare(tmp_path / "two.git")
    files: dict[str, bytes | None] = {"x/y": b"1\r\n", "z": b""}
    assert commit(one, files) == commit(two, dict(reversed(files.items())))


def test_a_tree_is_written_over_another_and_read_back(repo: GitRepo) -> None:
    first = commit(repo, {"a": b"1", "dir/b": b"2", "dir/c": b"3"})
    tree = repo.write_tree(first, {"a": None, "dir/b": b"two", "new/d": b"\x00\xff", "gone": None})
    assert repo.files(tree) == {"dir/b": b"two", "dir/c": b"3", "new/d": b"\x00\xff"}
    assert [entry.path for entry in repo.tree(tree)] == ["dir/b", "dir/c", "new/d"]
    assert {entry.mode for entry in repo.tree(tree)} == {"100644"}
    assert repo.diff(first, tree) == (
        PathChange("a", "100644", "000000"),
        PathChange("dir/b", "100644", "100644"),
        PathChange("new/d", "000000", "100644"),
    )
    assert "+two" in repo.diff_text(first, tree)
    assert repo.diff(tree, tree) == ()


def test_bytes_are_kept_as_they_are(repo: GitRepo) -> None:
    files: dict[str, bytes | None] = {".gitattributes": b"* text eol=crlf ident\n", "a": b"1\r\n2\n$Id$\n"}
    assert repo.files(commit(repo, files)) == files


def test_reading_one_file(repo: GitRepo) -> None:
    sha = commit(repo, {"dir/a": b"123", "dir2/b": b"x"})
    assert repo.read(sha, "dir/a") == b"123"
    assert repo.read(sha, "dir/none") is None
    assert repo.read(sha, "dir/") is None
    with pytest.raises(GitError, match="not a regular file"):
        repo.read(sha, "dir")
    with pytest.raises(GitError, match="3 bytes, expected at most 2"):
        repo.read(sha, "dir/a", max_bytes=2)
    assert repo.documents((sha, sha), "dir/a") == (b"123", b"123")
    assert repo.documents((sha,), "none") == (None,)
    assert repo.documents((), "none") == ()


def test_links_and_submodules_are_seen_and_never_followed(repo: GitRepo, tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("secret")
    sha = commit(repo, {"a": b"1"})
    link = repo.run("hash-object", "-w", "--stdin", stdin=str(tmp_path / "outside").encode()).strip().decode()
    env = {"GIT_INDEX_FILE": str(tmp_path / "index")}
    lines = f"120000 {link}\tlink\n160000 {sha}\tsub\n100755 {link}\trun\n"
    repo.run("update-index", "--index-info", stdin=lines.encode(), env=env)
    tree = repo.run("write-tree", env=env).decode().strip()
    assert {entry.path: entry.mode for entry in repo.tree(tree)} == {"link": "120000", "sub": "160000", "run": "100755"}
    assert set(repo.files(tree)) == {"run"}
    for path in ("link", "sub"):
        with pytest.raises(GitError, match="not a regular file"):
            repo.read(tree, path)


def test_what_is_missing_or_too_large_is_told(repo: GitRepo, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(GitError, match="not in the repository"):
        repo.blobs(["e" * 40])
    sha = commit(repo, {"a": b"1234", "b": b"5678"})
    monkeypatch.setattr(git, "MAX_TREE_BYTES", 7)
    with pytest.raises(GitError, match="larger than 7 bytes"):
        repo.files(sha)
    with pytest.raises(GitError, match="4 bytes, expected at most 3"):
        repo.blobs([entry.oid for entry in repo.tree(sha)], max_bytes=3)
    for call in (repo.commit, repo.tree, repo.files, repo.log, repo.root):
        with pytest.raises(GitError):
            call("f" * 40)


def test_a_large_file_stays_in_the_tree_and_is_not_read(repo: GitRepo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(git, "MAX_BLOB", 100)
    monkeypatch.setattr(git, "_SMALLER_LIMITS", (50, 10))
    sha = commit(repo, {"o/k": b"small", "big/one": b"x" * 101, "big/two": b"y" * 101, "big/copy": b"x" * 101})
    files = repo.files(sha)
    assert (set(files), files["o/k"]) == ({"o/k", "big/one", "big/two", "big/copy"}, b"small")
    one, two = files["big/one"], files["big/two"]
    assert isinstance(one, LeftOut)
    assert one.why == "big/one has 101 bytes, more than the 100 that are read of one file in this tree"
    assert frozenset(files.items()) == frozenset(repo.files(sha).items())
    assert one != two, "a key made of the contents still tells the trees apart"
    # More than may be read of the tree in all: the largest go first.
    middle = commit(repo, {"a": b"1" * 40, "b": b"2" * 40, "c": b"3" * 9})
    monkeypatch.setattr(git, "MAX_TREE_BYTES", 60)
    files = repo.files(middle)
    assert {path for path, data in files.items() if isinstance(data, LeftOut)} == {"a", "b"}
    assert files["c"] == b"3" * 9


def test_merging_gives_the_tree_or_none_on_a_conflict(repo: GitRepo) -> None:
    base = commit(repo, {"a": b"1\n", "b": b"1\n"})
    left = commit(repo, {"a": b"2\n"}, base, branch="left")
    right = commit(repo, {"b": b"2\n"}, base, branch="right")
    clash = commit(repo, {"a": b"3\n"}, base, branch="clash")
    tree = repo.merge_tree(left, right)
    assert tree is not None
    assert repo.files(tree) == {"a": b"2\n", "b": b"2\n"}
    assert repo.merge_tree(left, clash) is None
    assert repo.merge_base(left, right) == base
    other = commit(repo, {"z": b"1"}, branch="other")
    assert repo.merge_base(left, other) is None


def test_the_log_goes_along_first_parents_and_stops_where_told(repo: GitRepo) -> None:
    base = commit(repo, {"a": b"1"})
    side = commit(repo, {"b": b"1"}, base, branch="side")
    top = repo.write_commit(tree=repo.commit(side).tree, parents=[base, side], message="m\n", author=ME, time=9)
    assert [c.sha for c in repo.log(top)] == [top, base]
    assert {c.sha for c in repo.log(top, first_parent=False)} == {top, base, side}
    assert [c.sha for c in repo.log(top, exclude=base)] == [top]
    assert [c.sha for c in repo.log(top, limit=1)] == [top]
    assert repo.log(base, exclude=top) == ()
    assert repo.root(top) == base


def test_odd_commits_can_be_read(repo: GitRepo) -> None:
    tree = repo.write_tree(None, {"a": b"1"})
    for date in (b"99999999999999 +0000", b"-5 +0000", b"never"):
        raw = b"tree %b\nauthor  <> %b\ncommitter \xff\xfe <x> %b\n\n" % (tree.encode(), date, date)
        sha = repo.run("hash-object", "-w", "-t", "commit", "--literally", "--stdin", stdin=raw).decode().strip()
        info = repo.commit(sha)
        assert 0 <= info.time <= 253_402_300_799
        assert info.message == ""
        repo.applied(sha)


# -- pushing -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def clone(repo: GitRepo, tmp_path: Path) -> GitRepo:
    commit(repo, {"a": b"1"})
    (tmp_path / "clone").mkdir()
    return open_private(tmp_path / "clone", str(repo.git_dir), ALL)


def test_leases_create_move_and_delete(repo: GitRepo, clone: GitRepo) -> None:
    remote, old = str(repo.git_dir), repo.refs("refs/")["refs/heads/main"]
    new = commit(clone, {"a": b"2"}, old, branch=None)
    clone.push(remote, {"refs/heads/x": (None, new)})
    clone.push(remote, {"refs/heads/main": (old, new), "refs/heads/x": (new, None), "refs/mk/1": (None, old)})
    assert repo.refs("refs/") == {"refs/heads/main": new, "refs/mk/1": old}


@pytest.mark.parametrize(
    ("ref", "old"),
    [("refs/heads/main", None), ("refs/heads/main", "stale"), ("refs/heads/gone", "stale")],
    ids=["create what is there", "stale", "gone"],
)
def test_a_lost_lease_moves_nothing_and_names_the_ref(repo: GitRepo, clone: GitRepo, ref: str, old: str | None) -> None:
    before = repo.refs("refs/")
    base = before["refs/heads/main"]
    stale = commit(clone, {"a": b"s"}, base, branch=None)
    new = commit(clone, {"a": b"2"}, base, branch=None)
    with pytest.raises(ConflictError) as caught:
        clone.push(str(repo.git_dir), {"refs/heads/other": (None, new), ref: (stale if old else None, new)})
    assert caught.value.ref == ref
    assert repo.refs("refs/") == before


RACES = {
    "moved": ("git update-ref refs/heads/main {other}", "refs/heads/main"),
    "created": ("git update-ref refs/heads/x {other}", "refs/heads/x"),
    "deleted": ("git update-ref -d refs/heads/y", "refs/heads/y"),
    "locked": (": > refs/heads/main.lock", "refs/heads/main"),
}


@pytest.mark.parametrize("race", RACES)
def test_a_race_that_the_server_alone_sees_is_a_conflict_too(repo: GitRepo, clone: GitRepo, race: str) -> None:
    """Between the server's list of refs and its transaction somebody else is quicker."""
    base = repo.refs("refs/")["refs/heads/main"]
    other = commit(repo, {"a": b"o"}, base, branch="y")
    new = commit(clone, {"a": b"2"}, base, branch=None)
    script, ref = RACES[race]
    hook(repo, "pre-receive", "unset GIT_QUARANTINE_PATH\n" + script.format(other=other))
    updates: dict[str, tuple[str | None, str | None]] = {"refs/heads/main": (base, new), "refs/heads/x": (None, new)}
    with pytest.raises(ConflictError) as caught:
        clone.push(str(repo.git_dir), {**updates, "refs/heads/y": (other, None)})
    assert caught.value.ref == ref
    assert new not in repo.refs("refs/").values()


def test_a_refusal_by_the_server_is_told_in_its_words(repo: GitRepo, clone: GitRepo) -> None:
    hook(repo, "pre-receive", "echo 'only on weekdays' >&2; exit 1")
    base = repo.refs("refs/")["refs/heads/main"]
    with pytest.raises(GitError, match=r"hook declined.*only on weekdays") as caught:
        clone.push(str(repo.git_dir), {"refs/heads/main": (base, None)})
    assert not caught.value.retryable


def hook(repo: GitRepo, name: str, script: str) -> None:
    path = repo.git_dir / "hooks" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_refs_of_a_private_clone_are_moved_all_or_none(clone: GitRepo) -> None:
    base = clone.refs("refs/")["refs/heads/main"]
    clone.set_refs({"refs/heads/x": base, "refs/heads/main": None})
    assert clone.refs("refs/") == {"refs/heads/x": base}
    with pytest.raises(GitError):
        clone.set_refs({"refs/heads/x": None, "refs/heads/y": "f" * 40})
    assert clone.refs("refs/") == {"refs/heads/x": base}


def test_fetching_drops_what_is_gone_and_fails_for_what_never_was(
    repo: GitRepo, clone: GitRepo, tmp_path: Path
) -> None:
    repo.run("update-ref", "refs/heads/side/x", repo.refs("refs/")["refs/heads/main"])
    clone.fetch(str(repo.git_dir), ALL)
    repo.run("update-ref", "-d", "refs/heads/side/x")
    repo.run("update-ref", "refs/heads/side", repo.refs("refs/")["refs/heads/main"])
    clone.fetch(str(repo.git_dir), ALL)
    assert clone.refs("refs/") == repo.refs("refs/")
    with pytest.raises(GitError) as caught:
        clone.fetch(str(tmp_path / "nowhere.git"), ALL)
    assert not caught.value.retryable


# -- nasty names -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NASTY)
def test_any_file_name_is_handled_and_none_is_run(repo: GitRepo, name: str) -> None:
    sha = commit(repo, {name: b"1", "plain": b"2"})
    assert repo.read(sha, name) == b"1"
    assert repo.files(sha) == {name: b"1", "plain": b"2"}
    assert [change.path for change in repo.diff(repo.write_tree(None, {"plain": b"2"}), sha)] == [name]
    assert repo.files(repo.write_tree(sha, {name: None})) == {"plain": b"2"}


@pytest.mark.parametrize(
    "name", ["../x", "/abs", "a/../b", ".git/config", "a/.GIT/hooks/x", "", "a//b", "./a", "a/", "a\0b"]
)
def test_a_path_that_leaves_the_tree_is_refused(repo: GitRepo, name: str) -> None:
    with pytest.raises(InputError, match="no path inside"):
        repo.write_tree(None, {name: b"1"})


INJECTED = ["--upload-pack=touch CANARY", "--output=CANARY", "-x", "--exec=touch CANARY", "--index-output=CANARY"]


@pytest.mark.parametrize("text", [*INJECTED, "a\0b", "\ud800"])
def test_no_argument_is_ever_an_option(repo: GitRepo, text: str) -> None:
    sha = commit(repo, {"a": b"1"})
    calls: list[Callable[[], object]] = [
        lambda: repo.resolve(text),
        lambda: repo.commit(text),
        lambda: repo.log(text),
        lambda: repo.log(sha, exclude=text),
        lambda: repo.root(text),
        lambda: repo.tree(text),
        lambda: repo.read(text, "a"),
        lambda: repo.files(text),
        lambda: repo.diff(text, sha),
        lambda: repo.diff(sha, text),
        lambda: repo.diff_text(text, sha),
        lambda: repo.merge_tree(text, sha),
        lambda: repo.merge_tree(sha, text),
        lambda: repo.merge_base(text, sha),
        lambda: repo.write_tree(text, {}),
        lambda: repo.write_commit(tree=text, parents=[], message="m", author=ME, time=1),
        lambda: repo.write_commit(tree=sha, parents=[text], message="m", author=ME, time=1),
        lambda: repo.fetch(str(repo.git_dir), [text]),
        lambda: repo.fetch(text, ALL),
        lambda: repo.push(text, {"refs/heads/x": (None, sha)}),
        lambda: repo.push(str(repo.git_dir), {text: (None, sha)}),
        lambda: repo.push(str(repo.git_dir), {"refs/heads/x": (None, text)}),
    ]
    for number, call in enumerate(calls):
        try:
            call()
        except MkError:
            continue
        raise AssertionError(f"call {number} took {text!r}")


REMOTES = [
    "ext::sh -c 'touch CANARY'",
    "ext::sh%20-c%20touch%20CANARY",
    "fd::17/foo",
    "--upload-pack=touch CANARY",
    "-oProxyCommand=touch CANARY",
    "-x@host:path",
    "ssh://-oProxyCommand=touch/x",
    "user@-oProxyCommand=touch:x",
    "http://example.invalid/x.git",
    "http://127.0.0.1:1/x.git",
    "git://example.invalid/x.git",
    "ftp://x/y",
    "file://host/x",
    "relative/path",
    "../up",
    "C:\\windows",
    "https://x/y z",
    "https://x/\ny",
    "/tmp/\nx",
    "",
]


@pytest.mark.parametrize("remote", REMOTES)
def test_a_remote_of_another_kind_is_refused_before_git_sees_it(remote: str, repo: GitRepo) -> None:
    if remote.startswith("ssh://-"):
        # Git's own refusal: a host name that looks like an option.
        with pytest.raises(GitError, match="blocked"):
            repo.fetch(remote, ALL)
        return
    with pytest.raises(InputError, match="not one we use"):
        repo.fetch(remote, ALL)


@pytest.mark.parametrize(
    "remote",
    ["https://x.invalid/a.git", "ssh://git@x/a", "git@x.invalid:a/b.git", "/a b/c", "file:///a", "https://[::1]/x"],
)
def test_remotes_we_use(remote: str) -> None:
    assert check_remote(remote) == remote


@pytest.mark.parametrize("folder", ['it\'s "quoted" $(touch CANARY)', "with space", "a:b;c", "ünï", "n" * 120])
def test_repositories_under_odd_names(tmp_path: Path, folder: str) -> None:
    home = tmp_path / folder
    home.mkdir()
    server = init_bare(home / "server.git")
    sha = commit(server, {"a": b"1"})
    git_in(home, "clone", "-q", str(server.git_dir), "co")
    git_dir, work_tree = find_git_dir(home / "co")
    assert (git_dir, work_tree) == (home / "co" / ".git", home / "co")
    assert git.remote_url(git_dir) == str(server.git_dir)
    (home / "private").mkdir()
    borrowed = open_private(home / "private", str(server.git_dir), ALL, borrow=git_dir)
    assert borrowed.resolve("main") == sha
    assert not list((borrowed.git_dir / "objects" / "pack").glob("*.pack")), "objects are borrowed, not copied"
    assert GitRepo(git_dir, scratch=home / "scratch").files(sha) == {"a": b"1"}


def test_a_folder_name_with_a_line_end_is_found(tmp_path: Path) -> None:
    home = tmp_path / "two\nlines"
    home.mkdir()
    git_in(home, "init", "-q")
    assert find_git_dir(home) == (home / ".git", home)


# -- a user's repository ----------------------------------------------------------------------------------------------


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    server = init_bare(tmp_path / "origin.git")
    commit(server, {"a": b"1\n", "b/c": b"2\n"})
    git_in(tmp_path, "clone", "-q", str(server.git_dir), "checkout")
    return tmp_path / "checkout"


def objects_of(git_dir: Path) -> dict[str, int]:
    return {str(p): p.stat().st_mtime_ns for p in sorted(git_dir.rglob("*")) if p.is_file()}


def test_scratch_mode_leaves_the_repository_untouched(checkout: Path, tmp_path: Path) -> None:
    before = objects_of(checkout / ".git")
    repo = GitRepo(checkout / ".git", scratch=tmp_path / "scratch")
    sha = commit(repo, {"new": b"x"}, repo.resolve("HEAD") or "", branch=None)
    assert repo.files(sha)["new"] == b"x"
    assert repo.merge_tree(repo.resolve("HEAD") or "", sha) is not None
    assert repo.resolve(sha) == sha
    assert repo.refs("refs/heads/") == GitRepo(checkout / ".git").refs("refs/heads/")
    assert objects_of(checkout / ".git") == before
    assert GitRepo(checkout / ".git").resolve(sha) is None


def test_nothing_of_a_checkout_is_run(checkout: Path, tmp_path: Path, canary: Path) -> None:
    script = tmp_path / "evil.sh"
    script.write_text(f"#!/bin/sh\ntouch {canary}\ncat\n")
    script.chmod(0o755)
    for name in (
        "pre-commit",
        "post-checkout",
        "reference-transaction",
        "pre-push",
        "post-index-change",
        "pre-receive",
    ):
        hook(GitRepo(checkout / ".git"), name, f"touch {canary}")
    for key in (
        "core.fsmonitor", "core.sshCommand", "core.pager", "core.editor", "core.askPass", "gpg.program", "diff.external",
        "filter.evil.clean", "filter.evil.smudge", "filter.evil.process", "filter.two.clean", "diff.evil.textconv",
        "diff.evil.command", "merge.evil.driver", "credential.helper", "uploadpack.packObjectsHook",
        "core.alternateRefsCommand", "trailer.x.command", "alias.log",
    ):  # fmt: skip
        git_in(checkout, "config", key, f"!{script}" if key.startswith("alias") else str(script))
    git_in(checkout, "config", "filter.two.required", "true")
    git_in(checkout, "config", "log.showSignature", "true")
    git_in(checkout, "config", "core.hooksPath", ".git/hooks")
    (checkout / ".git/info/attributes").write_text("* diff=evil merge=evil\na filter=evil\nb/c filter=two\n")
    for path in ("a", "b/c"):
        os.utime(checkout / path, (1, 1))

    assert git.checkout_problem(checkout / ".git", checkout) is None
    (checkout / "a").write_text("changed\n")
    assert git.checkout_problem(checkout / ".git", checkout) is None, "what a filter makes of it can't be told"
    repo = GitRepo(checkout / ".git", scratch=tmp_path / "scratch")
    head = repo.resolve("HEAD") or ""
    signed = repo.run("cat-file", "commit", head).replace(
        b"\n\n", b"\ngpgsig -----BEGIN PGP SIGNATURE-----\n x\n -----END PGP SIGNATURE-----\n\n", 1
    )
    sha = repo.run("hash-object", "-w", "-t", "commit", "--stdin", stdin=signed).decode().strip()
    repo.log(sha)
    # Without a scratch folder the checkout's own configuration is in force, and the signature's program with it.
    direct = GitRepo(checkout / ".git")
    direct.run("hash-object", "-w", "-t", "commit", "--stdin", stdin=signed)
    direct.commit(sha)
    direct.log(sha)
    one = commit(repo, {"a": b"left\n"}, head, branch=None)
    two = commit(repo, {"a": b"right\n"}, head, branch=None)
    assert repo.merge_tree(one, two) is None
    assert "right" in repo.diff_text(one, two)
    (tmp_path / "private").mkdir()
    open_private(tmp_path / "private", str(checkout / ".git"), ALL, borrow=checkout / ".git")
    git.user_identity(checkout / ".git")
    git.current_branch(checkout / ".git")


def test_a_checkout_is_clean_dirty_or_detached(checkout: Path) -> None:
    git_dir = checkout / ".git"
    assert git.checkout_problem(git_dir, checkout) is None
    (checkout / "untracked").write_text("x")
    assert git.checkout_problem(git_dir, checkout) is None
    (checkout / "a").write_text("other")
    assert git.checkout_problem(git_dir, checkout) == "a changed and not committed"
    (checkout / "b/c").write_text("other")
    assert git.checkout_problem(git_dir, checkout) == "a and 1 more changed and not committed"
    git_in(checkout, "checkout", "-q", "--force", "--detach")
    assert "detached" in (git.checkout_problem(git_dir, checkout) or "")
    assert git.current_branch(git_dir) is None


def test_the_parents_git_environment_confuses_nothing(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, canary: Path
) -> None:
    other = init_bare(tmp_path / "other.git")
    commit(other, {"other": b"1"})
    for name in (
        "GIT_DIR",
        "GIT_COMMON_DIR",
        "GIT_OBJECT_DIRECTORY",
        "GIT_WORK_TREE",
        "GIT_INDEX_FILE",
        "GIT_NAMESPACE",
    ):
        monkeypatch.setenv(name, str(other.git_dir))
    monkeypatch.setenv("GIT_CONFIG_PARAMETERS", f"'core.fsmonitor=touch {canary}'")
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "core.fsmonitor")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", f"touch {canary}")
    monkeypatch.setenv("GIT_EXTERNAL_DIFF", f"touch {canary}")
    monkeypatch.setenv("GIT_SSH_COMMAND", f"touch {canary}")
    monkeypatch.setenv("GIT_PROXY_COMMAND", f"touch {canary}")
    monkeypatch.setenv("GIT_TRACE", str(canary))
    monkeypatch.setenv("GIT_AUTHOR_DATE", "yesterday")
    git_dir, work_tree = find_git_dir(checkout / "b")
    assert (git_dir, work_tree) == (checkout / ".git", checkout)
    repo = GitRepo(git_dir, scratch=tmp_path / "scratch")
    assert set(repo.files(repo.resolve("HEAD") or "")) == {"a", "b/c"}
    assert git.checkout_problem(git_dir, checkout) is None
    assert commit(repo, {"x": b"1"}, branch=None) == commit(other, {"x": b"1"}, branch=None)


def test_where_there_is_no_repository(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        find_git_dir(tmp_path / "none")
    (tmp_path / "file").write_text("x")
    for path in (tmp_path, tmp_path / "file"):
        with pytest.raises(InputError, match="not in a git repository"):
            find_git_dir(path)
    init_bare(tmp_path / "bare.git")
    assert find_git_dir(tmp_path / "bare.git") == (tmp_path / "bare.git", None)


def test_a_linked_work_tree_is_a_checkout_like_any_other(checkout: Path, tmp_path: Path) -> None:
    git_in(checkout, "worktree", "add", "-q", "-b", "side", str(tmp_path / "linked"))
    git_dir, work_tree = find_git_dir(tmp_path / "linked")
    assert work_tree == tmp_path / "linked"
    assert git.checkout_problem(git_dir, work_tree) is None
    assert git.current_branch(git_dir) == "side"
    (tmp_path / "private").mkdir()
    open_private(tmp_path / "private", str(tmp_path / "origin.git"), ALL, borrow=git_dir)


@pytest.mark.parametrize("how", [("--depth", "1"), ("--filter=blob:none",)], ids=["shallow", "partial"])
def test_an_incomplete_clone_lends_nothing(tmp_path: Path, how: tuple[str, ...]) -> None:
    server = init_bare(tmp_path / "server.git")
    sha = commit(server, {"a": b"0"})
    for number in range(1, 4):
        sha = commit(server, {"a": b"%d" % number}, sha)
    server.run("config", "uploadpack.allowFilter", "true")
    git_in(tmp_path, "clone", "-q", "--no-checkout", *how, f"file://{server.git_dir}", "part")
    (tmp_path / "private").mkdir()
    repo = open_private(tmp_path / "private", str(server.git_dir), ALL, borrow=tmp_path / "part" / ".git")
    assert len(repo.log("main")) == 4
    assert [repo.files(c.sha)["a"] for c in repo.log("main")] == [b"3", b"2", b"1", b"0"]


def test_a_cut_history_ends_where_it_was_cut(tmp_path: Path) -> None:
    server = init_bare(tmp_path / "server.git")
    sha = commit(server, {"a": b"0"})
    for number in range(1, 4):
        sha = commit(server, {"a": b"%d" % number}, sha)
    git_in(tmp_path, "clone", "-q", "--depth", "2", f"file://{server.git_dir}", "part")
    repo = GitRepo(tmp_path / "part" / ".git", scratch=tmp_path / "scratch")
    assert len(repo.log(sha)) == 2


def test_the_remote_of_a_checkout(checkout: Path) -> None:
    assert git.remote_url(checkout / ".git", "other") is None
    git_in(checkout, "remote", "set-url", "origin", "../origin.git")
    assert git.remote_url(checkout / ".git") == str(checkout.parent / "origin.git")


def test_who_is_at_the_keyboard(checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "EMAIL", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert git.user_identity(checkout / ".git") is None, "a name made of the machine's is nobody's"
    git_in(checkout, "config", "user.name", "Ann O'Nym")
    git_in(checkout, "config", "user.email", "ann@example.invalid")
    assert git.user_identity(checkout / ".git") == Person(name="Ann O'Nym", email="ann@example.invalid")


def test_a_missing_git_is_told(repo: GitRepo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(GitError, match="not on the PATH"):
        GitRepo(repo.git_dir).resolve("main")


def test_a_repository_of_another_user_is_told_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    init_bare(tmp_path / "theirs.git")
    # Git's own knob for its own tests: take every folder for another user's.
    monkeypatch.setattr(git, "_PASSED_ON", (*git._PASSED_ON, "GIT_TEST_ASSUME_DIFFERENT_OWNER"))
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(InputError, match="belongs to another user"):
        find_git_dir(tmp_path / "theirs.git")
    (tmp_path / ".gitconfig").write_text("[safe]\n\tdirectory = *\n")
    assert find_git_dir(tmp_path / "theirs.git")[1] is None


# -- over HTTP ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def http(repo: GitRepo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[GitServer]:
    commit(repo, {"a": b"1"})
    monkeypatch.setenv(git.HTTP_VARIABLE, "1")
    with git_server(tmp_path) as server:
        yield server


@pytest.fixture
def far(http: GitServer, tmp_path: Path) -> GitRepo:
    (tmp_path / "far").mkdir()
    return open_private(tmp_path / "far", http.remote("server.git"), ALL)


def test_fetch_and_push_over_http(http: GitServer, far: GitRepo, repo: GitRepo) -> None:
    base = far.refs("refs/")["refs/heads/main"]
    big = commit(far, {f"f{number}": os.urandom(20_000) for number in range(80)}, base, branch=None)
    far.push(http.remote("server.git"), {"refs/heads/main": (base, big)})
    assert repo.refs("refs/")["refs/heads/main"] == big, "1.6 MB: a chunked request"
    with pytest.raises(ConflictError):
        far.push(http.remote("server.git"), {"refs/heads/main": (base, base)})


def test_the_token_goes_by_header_and_shows_nowhere(
    http: GitServer, far: GitRepo, repo: GitRepo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(git.TOKEN_VARIABLE, f"{SECRET}\n")
    http.seen.clear()
    far.fetch(http.remote("server.git"), ALL)
    assert {header for _, _, header in http.seen} == {"Basic eC1hY2Nlc3MtdG9rZW46czNrcjF0LXRva2VuLXZhbHVl"}
    assert all(SECRET not in path for _, path, _ in http.seen)
    text = "".join(p.read_text(errors="replace") for p in far.git_dir.rglob("*") if p.is_file())
    assert SECRET not in text


def test_the_token_is_not_handed_to_a_local_servers_hooks(
    repo: GitRepo, clone: GitRepo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(git.TOKEN_VARIABLE, SECRET)
    hook(repo, "pre-receive", f"env > {tmp_path}/environment")
    base = repo.refs("refs/")["refs/heads/main"]
    clone.push(str(repo.git_dir), {"refs/heads/x": (None, base)})
    assert "Authorization" not in (tmp_path / "environment").read_text()


def test_the_token_is_not_carried_to_where_a_redirect_points(
    http: GitServer, far: GitRepo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(git.TOKEN_VARIABLE, SECRET)
    with git_server(tmp_path) as thief:
        http.fault = lambda method, path: f"redirect {thief.url}"
        with pytest.raises(GitError) as caught:
            far.fetch(http.remote("server.git"), ALL)
        assert thief.seen == []
    assert SECRET not in str(caught.value)


STATUS = {
    401: (False, "MODEKEEPER_GIT_TOKEN"),
    403: (False, "MODEKEEPER_GIT_TOKEN"),
    404: (False, None),
    500: (True, None),
    503: (True, None),
}


@pytest.mark.parametrize("status", STATUS)
def test_answers_of_a_server_that_refuses(
    http: GitServer, far: GitRepo, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(git.TOKEN_VARIABLE, SECRET)
    http.fault = lambda method, path: status
    remote = http.remote("server.git")
    calls: list[Callable[[], None]] = [
        lambda: far.fetch(remote, ALL),
        lambda: far.push(remote, {"refs/heads/x": (None, far.refs("refs/")["refs/heads/main"])}),
    ]
    for call in calls:
        with pytest.raises(GitError) as caught:
            call()
        retryable, hint = STATUS[status]
        assert caught.value.retryable is retryable, caught.value.message
        assert (hint or "") in (caught.value.hint or "")
        assert SECRET not in f"{caught.value.message} {caught.value.hint}"


@pytest.mark.parametrize("fault", ["drop", "lost"])
def test_a_connection_that_breaks_is_worth_another_try(
    http: GitServer, far: GitRepo, repo: GitRepo, fault: str
) -> None:
    http.fault = lambda method, path: fault if method == "POST" else None
    base = repo.refs("refs/")["refs/heads/main"]
    with pytest.raises(GitError) as caught:
        far.push(http.remote("server.git"), {"refs/heads/x": (None, base)})
    assert caught.value.retryable
    assert ("refs/heads/x" in repo.refs("refs/")) is (fault == "lost")


def test_a_server_that_says_nothing_is_given_up(http: GitServer, far: GitRepo, monkeypatch: pytest.MonkeyPatch) -> None:
    http.fault = lambda method, path: "hang"
    monkeypatch.setattr(git, "TIMEOUT_S", 0.5)
    with pytest.raises(GitError, match="took longer") as caught:
        far.fetch(http.remote("server.git"), ALL)
    assert caught.value.retryable
    http.stopping.set()


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1.evil.invalid/x",
        "http://localhost@evil.invalid/x",
        "http://127.0.0.1:1@evil.invalid/",
        "http://x/y",
    ],
)
def test_plain_http_is_for_loopback_alone(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(git.HTTP_VARIABLE, "1")
    with pytest.raises(InputError, match="not one we use"):
        check_remote(url)
    assert check_remote("http://127.0.0.1:80/x")
    monkeypatch.setenv(git.HTTP_VARIABLE, "true")
    with pytest.raises(InputError):
        check_remote("http://127.0.0.1:80/x")


@pytest.mark.parametrize("url", ["https://me:{}@127.0.0.1:1/x.git", "https://me:p@{}@127.0.0.1:1/x.git"])
def test_a_password_in_a_url_shows_in_no_error(repo: GitRepo, url: str) -> None:
    with pytest.raises(GitError) as caught:
        repo.fetch(url.format(SECRET), ALL)
    assert SECRET not in str(caught.value)
    with pytest.raises(InputError) as refused:
        check_remote(url.format(SECRET).replace("https", "gopher"))
    assert SECRET not in str(refused.value)


def test_git_is_ended_when_the_caller_is(http: GitServer, far: GitRepo, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while git waits for a server leaves no git behind."""
    started = threading.Event()

    def slow(method: str, path: str) -> str:
        started.set()
        return "hang"

    http.fault = slow

    ended: list[subprocess.Popen[bytes]] = []

    def interrupted(process: subprocess.Popen[bytes], *args: bytes, timeout: float) -> tuple[bytes, bytes]:
        ended.append(process)
        assert started.wait(20)
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess.Popen, "communicate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        far.fetch(http.remote("server.git"), ALL)
    assert [process.returncode for process in ended] == [-9]
    http.stopping.set()
