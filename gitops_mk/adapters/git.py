"""Git, by a closed set of commands: fixed verbs, arguments after `--end-of-options`, an environment of our own.

No hook, no user or system configuration, no prompt, and no transport but the listed ones. Why not a library: ADR 0002.
The models are imported where a value of theirs is made: a command that is just starting reads trees before it has any.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from gitops_mk.adapters.children import running
from gitops_mk.adapters.leftout import LeftOut
from gitops_mk.errors import ConflictError, GitError, InputError
from gitops_mk.model.git import ABSENT_MODE, CommitInfo, PathChange, TreeEntry

if TYPE_CHECKING:
    from gitops_mk.model.change import AppliedChange, Person

TIMEOUT_S = 120.0
MAX_BLOB = 4 * 1024 * 1024
MAX_TREE_BYTES = 256 * 1024 * 1024
# Where a tree is larger than that, its large files are left out first: manifests are small.
_SMALLER_LIMITS = (1024 * 1024, 256 * 1024, 64 * 1024)
MIN_VERSION = (2, 38)  # merge-tree --write-tree

_PASSED_ON = (
    "PATH",
    "HOME",
    "TMPDIR",
    "SSH_AUTH_SOCK",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "https_proxy",
    "HTTPS_PROXY",
    "no_proxy",
    "NO_PROXY",
)
_REF = re.compile(
    r"(?!.*\.\.)[^\x00-\x20\x7f~^:?*\[\\-][^\x00-\x20\x7f~^:?*\[\\]{0,250}([~^][0-9]{0,6}){0,16}\Z"  # HEAD~2, v1^2~3
)
_SECRET_URL = re.compile(r"(\w+://)[^/\s]*@")
_REMOTE = re.compile(
    r"^((https://|ssh://|[A-Za-z0-9._][A-Za-z0-9._-]*@[A-Za-z0-9.][A-Za-z0-9.-]*:)[^\x00-\x20\x7f]+|(file://)?/[^\x00-\x1f\x7f]*)\Z"
)
_OID = re.compile(r"^[0-9a-f]{40}([0-9a-f]{24})?\Z")
# For a git server on this machine, as in tests: plain HTTP is used for a loopback address, and only when this is `1`.
HTTP_VARIABLE = "MODEKEEPER_GIT_ALLOW_HTTP"
TOKEN_VARIABLE = "MODEKEEPER_GIT_TOKEN"  # noqa: S105 - the variable's name
_LOOPBACK = re.compile(r"^http://(127\.0\.0\.1|localhost)(:\d{1,5})?/[^\x00-\x20\x7f@]*\Z")
_LISTINGS = 64
_ANSWERS = 8192
_T = TypeVar("_T")
_LAST_TIME = 253_402_300_799  # 9999-12-31, the last that a date can say
_REFUSED = re.compile(
    r"Authentication failed|could not read (Username|Password)|returned error: 4(0[0-7]|1)|[Pp]ermission denied"
    r"|[Aa]ccess denied|Host key verification failed|not found|does not (appear to be a git repository|exist)"
    r"|dubious ownership|not allowed|unable to update url base from redirection"
)


def check_remote(url: str) -> str:
    """A remote we are willing to talk to: https, ssh, or a path on this machine. Raises InputError."""
    if not (_REMOTE.match(url) and "::" not in url.partition("/")[0]) and not _plain_http(url):
        raise InputError(
            f"remote {_tidy(url)!r} is not one we use",
            hint="expected https://…, ssh://…, user@host:path or an absolute path",
        )
    return url


def _plain_http(url: str) -> bool:
    return os.environ.get(HTTP_VARIABLE) == "1" and _LOOPBACK.match(url) is not None


class _Listed(NamedTuple):
    mode: str
    oid: str
    size: int | None
    path: str


class GitRepo:
    """One git directory. With `scratch`, an empty one made there borrows its objects, and the repository is only read.

    `token` gives what remotes are talked to with over HTTP; without it, the environment does.

    That also keeps the repository's own merge drivers and filters out of what is computed.
    """

    def __init__(
        self, git_dir: Path, *, scratch: Path | None = None, token: Callable[[], str | None] | None = None
    ) -> None:
        self.git_dir = git_dir
        self._token = token
        self._env = self._refs_env = _environment(git_dir)
        self._listings: dict[str, tuple[_Listed, ...]] = {}
        self._answers: dict[tuple[object, ...], Any] = {}
        self._blobs: Mapping[str, bytes] = {}
        if scratch is not None:
            own = _empty_repository(scratch.resolve() / "objects.git")
            common = _common_dir(git_dir)
            _lend(own, common / "objects")
            shallow = common / "shallow"
            self._env = _environment(own) | ({"GIT_SHALLOW_FILE": str(shallow)} if shallow.exists() else {})

    # -- running -----------------------------------------------------------------------------------------------------

    def run(
        self, *args: str, stdin: bytes = b"", ok: tuple[int, ...] = (0,), env: Mapping[str, str] | None = None
    ) -> bytes:
        """Run one git command; gives what it printed. Raises GitError with git's own words, capped and without secrets."""
        return _run(args, self._env | dict(env or {}), stdin, ok)[1]

    def code(self, *args: str, ok: tuple[int, ...]) -> tuple[int, bytes]:
        """Run one git command that answers by its exit code."""
        return _run(args, self._env, b"", ok)

    def _once(self, key: tuple[object, ...], names: Sequence[str | None], ask: Callable[[], _T]) -> _T:
        """What git says of objects by their ids can't change: asked once. `names` are those that have to be ids."""
        if not all(name is None or is_oid(name) for name in names):
            return ask()
        if key not in self._answers:
            while len(self._answers) >= _ANSWERS:
                self._answers.pop(next(iter(self._answers)), None)
            self._answers[key] = ask()
        known: _T = self._answers[key]
        return known

    # -- reading -----------------------------------------------------------------------------------------------------

    def resolve(self, ref: str) -> str | None:
        """The commit that a branch name, ref or SHA means, with `~N` and `^N` after it or not; None when there is none."""
        if not _REF.match(ref):
            raise InputError(f"{ref!r} is no git ref", hint="expected a branch, a tag, a commit SHA, or such as HEAD~1")
        args = ("rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")
        code, out = _run(args, self._refs_env, b"", (0, 1, 128))
        if code and self._env is not self._refs_env:
            code, out = _run(args, self._env, b"", (0, 1, 128))
        return out.decode().strip() if code == 0 else None

    def commit(self, sha: str) -> CommitInfo:
        """What a commit says of itself."""
        args = ("log", *_LOG, "--no-walk", "--end-of-options", sha, "--")
        return self._once(("commit", sha), (sha,), lambda: _parse_commits(self.run(*args))[0])

    def log(
        self, ref: str, *, first_parent: bool = True, exclude: str | None = None, limit: int = 1000
    ) -> tuple[CommitInfo, ...]:
        """Commits from `ref` backwards, newest first, without those reachable from `exclude`."""
        args = ["log", *_LOG, f"--max-count={limit}"]
        if first_parent:
            args.append("--first-parent")
        args += ["--end-of-options", ref]
        if exclude:
            args.append(f"^{exclude}")
        return self._once(("log", *args), (ref, exclude), lambda: _parse_commits(self.run(*args, "--")))

    def root(self, ref: str) -> str:
        """The first commit of a history: what a repository is known by, wherever it is cloned to."""
        return (
            self.run("rev-list", "--max-parents=0", "--first-parent", "--end-of-options", ref, "--")
            .decode()
            .split()[-1]
        )

    def applied(self, tip: str, workload: str | None = None, *, since: int = 0) -> tuple[AppliedChange, ...]:
        """Merged chords from `tip` backwards along first parents, oldest first.

        A merge made by hand has no trailers of ours in its own message: then its second parent's count.
        """
        from gitops_mk.core.ledger import applied_change, trailers
        from gitops_mk.model.change import TRAILER_DIGEST

        found = []
        for commit in self.log(tip, first_parent=True, limit=20_000):
            if commit.time < since:
                break
            message = commit.message
            if TRAILER_DIGEST not in trailers(message) and len(commit.parents) == 2:
                message = self.commit(commit.parents[1]).message
            change = applied_change(commit, message)
            if change is not None and workload in (None, change.workload):
                found.append(change)
        return tuple(reversed(found))

    def tree(self, treeish: str) -> tuple[TreeEntry, ...]:
        """All files of a tree, by path."""
        return tuple(TreeEntry(mode=one.mode, oid=one.oid, path=one.path) for one in self._listing(treeish))

    def _listing(self, treeish: str) -> tuple[_Listed, ...]:
        """Every entry of a tree, with its size; that of an object id, which can't change, is asked for once."""
        known = self._listings.get(treeish)
        if known is not None:
            return known
        found = []
        for record in self.run("ls-tree", "-r", "-z", "--long", "--full-tree", "--end-of-options", treeish).split(
            b"\0"
        ):
            if record:
                head, _, path = record.partition(b"\t")
                mode, _, oid, size = head.decode().split()
                # Neither a submodule nor a missing object has a size.
                found.append(_Listed(mode, oid, int(size) if size.isdecimal() else None, os.fsdecode(path)))
        listed = tuple(found)
        if is_oid(treeish):
            if len(self._listings) >= _LISTINGS:
                self._listings.clear()
            self._listings[treeish] = listed
        return listed

    def read(self, treeish: str, path: str, *, max_bytes: int = 1_048_576) -> bytes | None:
        """The bytes of a regular file; None when the path is not there. Raises GitError for links, folders and larger files."""
        return self._once(("read", treeish, path, max_bytes), (treeish,), lambda: self._read(treeish, path, max_bytes))

    def _read(self, treeish: str, path: str, max_bytes: int) -> bytes | None:
        out = self.run("ls-tree", "-z", "--long", "--full-tree", "--end-of-options", treeish, path)
        head, _, name = out.split(b"\0")[0].partition(b"\t")
        # A trailing slash would list what is in a folder.
        if name != os.fsencode(path):
            return None
        mode, _, oid, size = head.decode().split()
        if mode not in ("100644", "100755"):
            raise GitError(f"{path} is not a regular file (mode {mode})")
        if int(size) > max_bytes:
            raise GitError(f"{path}: {size} bytes, expected at most {max_bytes}")
        return self.run("cat-file", "blob", oid)

    def blobs(
        self, oids: Sequence[str], *, max_bytes: int = MAX_BLOB, known: Container[str] = frozenset()
    ) -> dict[str, bytes]:
        """The bytes of many blobs by one git process. Raises GitError for a missing or too large one.

        `known` are there, and of a size that was looked at already.
        """
        wanted = list(dict.fromkeys(oids))
        if not wanted:
            return {}
        names = "".join(f"{oid}\n" for oid in wanted).encode()
        asked = [oid for oid in wanted if oid not in known]
        sizes = []
        if asked:
            listed = "".join(f"{oid}\n" for oid in asked).encode()
            sizes = self.run("cat-file", "--batch-check=%(objectsize)", stdin=listed).decode().split("\n")
        for oid, size in zip(asked, sizes, strict=False):
            if not size.isdecimal():
                raise GitError(f"object {oid[:12]} is not in the repository: its history may be cut (a shallow clone)")
            if int(size) > max_bytes:
                raise GitError(f"object {oid[:12]}: {size} bytes, expected at most {max_bytes}")
        if sum(int(size) for size in sizes if size) > MAX_TREE_BYTES:
            raise GitError(f"the tree is larger than {MAX_TREE_BYTES} bytes")
        out = self.run("cat-file", "--batch", stdin=names)
        return {oid: data for oid, data in zip(wanted, _parse_batch(out), strict=True) if data is not None}

    def documents(self, commits: Sequence[str], path: str) -> tuple[bytes | None, ...]:
        """The bytes of one path in each of many commits, by one git process; None where it is not there."""
        names = "".join(f"{sha}:{path}\n" for sha in commits).encode()
        return tuple(_parse_batch(self.run("cat-file", "--batch", stdin=names))) if commits else ()

    def files(self, treeish: str) -> dict[str, bytes]:
        """Every regular file of a tree, by path; links and submodules are not in it.

        For a file larger than MAX_BLOB (a smaller limit where the tree has more than MAX_TREE_BYTES) a `LeftOut` stands.
        """
        regular = [one for one in self._listing(treeish) if one.mode in ("100644", "100755")]
        # A missing object has no size; `blobs` says what that means.
        sizes = {one.oid: one.size or 0 for one in regular}
        found = [(one.path, one.oid) for one in regular]
        for limit in (MAX_BLOB, *_SMALLER_LIMITS):
            read = [oid for oid, size in sizes.items() if size <= limit]
            if sum(sizes[oid] for oid in read) <= MAX_TREE_BYTES:
                break
        else:
            raise GitError(f"the tree is larger than {MAX_TREE_BYTES} bytes")
        # Most of a tree is what stood in the one before: only what differs is read again.
        kept = {oid: self._blobs[oid] for oid in read if oid in self._blobs}
        known = {one.oid for one in regular if one.size is not None}
        self._blobs = blobs = kept | self.blobs([oid for oid in read if oid not in kept], known=known)
        return {path: blobs[oid] if oid in blobs else LeftOut(path, oid, sizes[oid], limit) for path, oid in found}

    def diff(self, base: str, head: str) -> tuple[PathChange, ...]:
        """The paths that differ between two trees, renames told as a removal and an addition."""
        before = {one.path: one for one in self._listing(base)}
        after = {one.path: one for one in self._listing(head)}
        return tuple(
            PathChange(
                path=path,
                old_mode=before[path].mode if path in before else ABSENT_MODE,
                new_mode=after[path].mode if path in after else ABSENT_MODE,
            )
            for path in sorted(before.keys() | after.keys(), key=os.fsencode)
            if before.get(path) != after.get(path)
        )

    def diff_text(self, base: str, head: str) -> str:
        """The unified diff of two trees, for people."""
        out = self.run(
            "diff-tree",
            "-r",
            "-p",
            "--no-color",
            "--no-renames",
            "--no-ext-diff",
            "--no-textconv",
            "--end-of-options",
            base,
            head,
            "--",
        )
        return out.decode("utf-8", "replace")

    def merge_base(self, a: str, b: str) -> str | None:
        """The best common ancestor; None for unrelated histories."""
        return self._once(("merge-base", a, b), (a, b), lambda: self._merge_base(a, b))

    def _merge_base(self, a: str, b: str) -> str | None:
        code, out = self.code("merge-base", "--end-of-options", a, b, ok=(0, 1))
        return out.decode().split("\n")[0] if code == 0 else None

    def merge_tree(self, base: str, head: str) -> str | None:
        """The tree that merging `head` into `base` gives (git-merge-tree(1), `--write-tree`); None on a conflict."""
        return self._once(("merge-tree", base, head), (base, head), lambda: self._merge_tree(base, head))

    def _merge_tree(self, base: str, head: str) -> str | None:
        code, out = self.code("merge-tree", "--write-tree", "--no-messages", "--end-of-options", base, head, ok=(0, 1))
        if code and not is_oid(out.decode().split("\n")[0]):
            raise GitError(f"{base[:40]!r} and {head[:40]!r} can't be merged: one of them is no commit")
        return out.decode().split("\n")[0].strip() if code == 0 else None

    def parents(self, sha: str) -> tuple[str, ...]:
        """The parents of a commit, the first one first. Raises GitError when it is not here."""
        args = ("rev-list", "--no-walk", "--parents", "--end-of-options", sha, "--")
        return self._once(("parents", sha), (sha,), lambda: tuple(self.run(*args).decode().split()[1:]))

    def tree_of(self, sha: str) -> str:
        """The tree of a commit. Raises GitError when it is not here."""
        args = ("rev-parse", "--verify", "--end-of-options", f"{sha}^{{tree}}")
        return self._once(("tree-of", sha), (sha,), lambda: self.run(*args).decode().strip())

    def refs(self, prefix: str, *, fetched: bool = False) -> dict[str, str]:
        """Refs under a prefix, by full name. `fetched`: those that `fetch` brought here, where a scratch folder takes them."""
        args = ("for-each-ref", "--format=%(objectname) %(refname)", "--end-of-options", prefix)
        out = _run(args, self._env if fetched else self._refs_env, b"", (0,))[1]
        return {name: oid for oid, _, name in (line.partition(" ") for line in out.decode().splitlines())}

    # -- writing objects ---------------------------------------------------------------------------------------------

    def write_tree(self, base: str | None, files: Mapping[str, bytes | None]) -> str:
        """A tree like `base` (None: empty) with these files put in, or taken out where None.

        Raises InputError for a path that git would leave out without a word: one that could leave the tree.
        """
        for path in files:
            parts = path.split("/")
            if not {"", ".", ".."}.isdisjoint(parts) or any(part.lower() == ".git" for part in parts) or "\0" in path:
                raise InputError(f"{path!r} is no path inside a repository")
        key = ("write-tree", base, frozenset(files.items()))
        return self._once(key, (base,), lambda: self._write_tree(base, files))

    def _write_tree(self, base: str | None, files: Mapping[str, bytes | None]) -> str:
        with tempfile.TemporaryDirectory(prefix="mk-index-") as folder:
            env = {"GIT_INDEX_FILE": str(Path(folder) / "index")}
            if base is not None:
                self.run("read-tree", "--end-of-options", base, env=env)
            put = {path: data for path, data in files.items() if data is not None}
            blobs = [Path(folder) / str(number) for number in range(len(put))]
            for blob, data in zip(blobs, put.values(), strict=True):
                blob.write_bytes(data)
            names = "".join(f"{blob}\n" for blob in blobs).encode()
            oids = self.run("hash-object", "-w", "--no-filters", "--stdin-paths", stdin=names).split() if put else []
            lines = [b"0 " + b"0" * 40 + b"\t" + os.fsencode(path) + b"\0" for path in files if path not in put]
            lines += [b"100644 " + oid + b"\t" + os.fsencode(path) + b"\0" for path, oid in zip(put, oids, strict=True)]
            self.run("update-index", "-z", "--index-info", stdin=b"".join(lines), env=env)
            return self.run("write-tree", env=env).decode().strip()

    def write_commit(self, *, tree: str, parents: Sequence[str], message: str, author: Person, time: int) -> str:
        """A commit object with author and committer alike and a fixed time, so that equal input gives an equal id."""
        for name in (tree, *parents):
            if not is_oid(name):
                raise InputError(f"{name!r} is no object id, expected one to make a commit of")
        date = f"@{time} +0000"  # without the @, git takes small numbers for years
        env = {
            "GIT_AUTHOR_NAME": author.name,
            "GIT_AUTHOR_EMAIL": author.email,
            "GIT_AUTHOR_DATE": date,
            "GIT_COMMITTER_NAME": author.name,
            "GIT_COMMITTER_EMAIL": author.email,
            "GIT_COMMITTER_DATE": date,
        }
        args = ["commit-tree", tree]
        for parent in parents:
            args += ["-p", parent]
        return self.run(*args, stdin=message.encode(), env=env).decode().strip()

    def set_refs(self, refs: Mapping[str, str | None]) -> None:
        """Move refs of this repository itself, all or none; None deletes. For a private clone that knows what it pushed."""
        lines = [f"update {ref} {new}\n" if new else f"delete {ref}\n" for ref, new in refs.items()]
        self.run("update-ref", "--stdin", stdin="".join(lines).encode())

    # -- the remote --------------------------------------------------------------------------------------------------

    def fetch(self, remote: str, refspecs: Sequence[str]) -> None:
        """Bring refs here, dropping those that are gone. Raises GitError."""
        code, _, said = _execute(
            (
                "fetch", "--quiet", "--prune", "--no-tags", "--no-write-fetch-head", "--no-auto-maintenance",
                "--no-recurse-submodules", "--end-of-options", check_remote(remote), *refspecs,
            ),
            self._for_remote(remote),
        )  # fmt: skip
        if code:
            raise _failed("fetch", said)

    def push(self, remote: str, updates: Mapping[str, tuple[str | None, str | None]]) -> None:
        """Move refs of the remote, all or none: `{ref: (old, new)}`, None meaning absent.

        Raises ConflictError when one is not at `old` any more, GitError when the remote refuses for another reason.
        """
        code, out, said = _execute(_push_args(remote, updates, "--atomic"), self._for_remote(remote))
        if code == 0:
            return
        lost = _lost_ref(out.decode("utf-8", "replace"), said)
        if lost is not None:
            raise ConflictError(f"{lost} was moved by somebody else at the same time", ref=lost)
        raise _failed("push", "\n".join(line for line in (*_rejections(out), said) if line))

    def push_each(
        self, remote: str, updates: Mapping[str, tuple[str | None, str | None]]
    ) -> dict[str, tuple[bool, str]]:
        """Move refs by one push, each on its own; gives those that did not move: whether it lost a race, and git's words.

        Raises GitError when the push as a whole did not go through.
        """
        code, out, said = _execute(_push_args(remote, updates), self._for_remote(remote))
        rejected = _refusals(out.decode("utf-8", "replace"))
        if code and not rejected:
            raise _failed("push", said)
        return {ref: (_lost_race(why), f"git push failed: {_tidy(why)}") for ref, why in rejected.items()}

    def _for_remote(self, remote: str) -> dict[str, str]:
        return _for_remote(self._env, remote, self._token() if self._token is not None else None)


def _push_args(remote: str, updates: Mapping[str, tuple[str | None, str | None]], *how: str) -> list[str]:
    leases = [f"--force-with-lease={ref}:{old or ''}" for ref, (old, _) in updates.items()]
    specs = [f"{new or ''}:{ref}" for ref, (_, new) in updates.items()]
    fixed = ["push", *how, "--porcelain", "--no-verify", "--no-follow-tags"]
    return [*fixed, *leases, "--end-of-options", check_remote(remote), *specs]


def _refusals(out: str) -> dict[str, str]:
    """The refs that a push names as not moved, and why."""
    rows = [line.split("\t") for line in out.splitlines() if line.startswith("!\t") and line.count("\t") == 2]
    return {names.rpartition(":")[2]: why for _, names, why in rows}


def _rejections(out: bytes) -> list[str]:
    return [line.rpartition("\t")[2] for line in out.decode("utf-8", "replace").splitlines() if line.startswith("!")]


def _lost_ref(out: str, said: str) -> str | None:
    """A ref whose lease was lost, by what git push said here or by what the server's transaction said there."""
    rejected = _refusals(out)
    lost = next((ref for ref, why in rejected.items() if _lost_race(why)), None)
    server = re.search(r"cannot lock ref '(refs/[^']+)'", said)
    return server[1] if lost is None and server and server[1] in rejected else lost


def _failed(verb: str, said: str) -> GitError:
    refused = _REFUSED.search(said)
    hint = None
    if refused and re.search(r"Authentication|could not read|40[13]|denied", refused[0]):
        hint = f"set {TOKEN_VARIABLE} to a token that may read and push, or check your SSH key"
    elif refused and refused[0] == "dubious ownership":
        hint = "the repository belongs to somebody else on this machine: reach it by ssh or https, or run as its owner"
    return GitError(
        f"git {verb} failed: {_tidy(said)}", hint=hint, retryable=refused is None and "[remote rejected]" not in said
    )


def _lost_race(summary: str) -> bool:
    return any(
        word in summary
        for word in (
            "stale info",
            "fetch first",
            "failed to update ref",
            "cannot lock ref",
            "reference already exists",
            "incorrect old value",
            "remote ref updated since checkout",
        )
    )


def init_bare(path: Path) -> GitRepo:
    """A new bare repository on `main`."""
    _run(
        ("init", "--quiet", "--bare", "--initial-branch=main", "--template=", str(path)), _environment(path), b"", (0,)
    )
    return GitRepo(path)


def find_git_dir(path: Path) -> tuple[Path, Path | None]:
    """The git directory and the work tree (None for a bare repository) that `path` is in. Raises InputError."""
    if not path.exists():
        raise InputError(f"{path}: no such folder, expected a GitOps repository", hint="name one with --repo")
    env = _own_environment()
    where = str(path.resolve())
    code, out, said = _execute(("-C", where, "rev-parse", "--is-bare-repository", "--absolute-git-dir"), env)
    if code != 0:
        if "dubious ownership" in said:
            raise InputError(
                f"{path} belongs to another user, and git refuses to work in it",
                hint="run as its owner, or say that it is safe: git config --global --add safe.directory …",
            )
        raise InputError(f"{path} is not in a git repository", hint="name your GitOps repository with --repo")
    bare, _, name = os.fsdecode(out).removesuffix("\n").partition("\n")
    if bare == "true":
        return Path(name), None
    top = os.fsdecode(_run(("-C", where, "rev-parse", "--show-toplevel"), env, b"", (0,))[1]).removesuffix("\n")
    return Path(name), Path(top)


def checkout_problem(git_dir: Path, work_tree: Path) -> str | None:
    """Why a checkout should not be worked from: uncommitted changes or a detached HEAD. None when it is clean.

    Filters (gitattributes(5)) are never run; so files that have one, such as large files kept elsewhere, are left out.
    """
    env = _environment(git_dir) | {"GIT_WORK_TREE": str(work_tree)}
    _, names = _run(("config", "-z", "--name-only", "--get-regexp", r"^filter\."), env, b"", (0, 1))
    for driver in {os.fsdecode(name).rpartition(".")[0] for name in names.split(b"\0") if name}:
        env = _with_settings(env, {f"{driver}.{key}": "" for key in ("clean", "smudge", "process")})
        env = _with_settings(env, {f"{driver}.required": "false"})
    code, _ = _run(("symbolic-ref", "--quiet", "HEAD"), env, b"", (0, 1))
    if code != 0:
        return "HEAD is detached, expected a branch"
    _, out = _run(("status", "--porcelain", "-z", "--untracked-files=no", "--ignore-submodules"), env, b"", (0,))
    paths = [item[3:] for item in out.split(b"\0") if len(item) > 3]
    _, out = _run(("check-attr", "-z", "--stdin", "filter"), env, b"".join(path + b"\0" for path in paths), (0,))
    fields = out.split(b"\0")
    filtered = {path for path, value in zip(fields[0::3], fields[2::3], strict=False) if value != b"unspecified"}
    changed = [os.fsdecode(path) for path in paths if path not in filtered]
    if changed:
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        return f"{changed[0]}{more} changed and not committed"
    return None


def current_branch(git_dir: Path) -> str | None:
    """The branch HEAD is on; None when it is detached."""
    code, out = _run(("symbolic-ref", "--quiet", "--short", "HEAD"), _environment(git_dir), b"", (0, 1))
    return out.decode().strip() if code == 0 else None


def is_shallow(git_dir: Path) -> bool:
    """True when the history here is cut off (git-clone(1), `--depth`)."""
    return (_common_dir(git_dir) / "shallow").exists()


def remote_url(git_dir: Path, name: str = "origin") -> str | None:
    """The URL of a remote of a checkout; None when it has none. A relative path is taken from the repository."""
    code, out = _run(("config", "--get", f"remote.{name}.url"), _environment(git_dir), b"", (0, 1))
    url = out.decode().strip()
    if code != 0 or not url:
        return None
    if url.startswith("."):
        return str((git_dir.parent / url).resolve())
    return url


def user_identity(git_dir: Path) -> Person | None:
    """Who the person at the keyboard is, by git's configuration of this repository and of the user."""
    env = {
        key: os.environ[key]
        for key in (*_PASSED_ON, "XDG_CONFIG_HOME", "GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL")
        if key in os.environ
    }
    from gitops_mk.model.change import Person

    env |= {"GIT_DIR": str(git_dir), "LC_ALL": "C", "GIT_CONFIG_COUNT": "0"}
    # Never a name made up from the machine's.
    env = _with_settings(env, {"user.useConfigOnly": "true"})
    code, out = _run(("var", "GIT_AUTHOR_IDENT"), env, b"", (0, 1, 128))
    match = re.match(r"^(.{1,200}) <([^<>]{3,200})> \d+ [+-]\d+\s*\Z", out.decode("utf-8", "replace"))
    return Person(name=match[1], email=match[2]) if code == 0 and match else None


def open_private(
    folder: Path,
    remote: str,
    refspecs: Sequence[str],
    *,
    borrow: Path | None = None,
    token: Callable[[], str | None] | None = None,
) -> GitRepo:
    """A bare repository of our own in `folder`; `borrow`s the objects of a local one. Raises GitError."""
    check_remote(remote)
    repo = GitRepo(init_bare(folder / "repo.git").git_dir, token=token)
    if borrow is not None and _is_complete(borrow):
        _borrow(repo.git_dir, borrow)
    repo.fetch(remote, refspecs)
    return repo


def _borrow(git_dir: Path, lender: Path) -> None:
    _lend(git_dir, _common_dir(lender) / "objects")


def _empty_repository(git_dir: Path) -> Path:
    """What gitrepository-layout(5) asks of one, without a process."""
    (git_dir / "objects").mkdir(parents=True, exist_ok=True)
    (git_dir / "refs").mkdir(exist_ok=True)
    (git_dir / "HEAD").write_text("ref: refs/heads/main\n")
    (git_dir / "config").write_text("[core]\n\trepositoryformatversion = 0\n\tbare = true\n")
    return git_dir


def _lend(git_dir: Path, objects: Path) -> None:
    alternates = git_dir / "objects" / "info" / "alternates"
    alternates.parent.mkdir(parents=True, exist_ok=True)
    alternates.write_text(_quoted(objects) + "\n")


def _common_dir(git_dir: Path) -> Path:
    """Where the objects and the shallow file are: a linked work tree's git directory names another (gitrepository-layout(5))."""
    try:
        named = os.fsdecode((git_dir / "commondir").read_bytes()).removesuffix("\n")
    except FileNotFoundError:
        named = ""
    return (git_dir / named).resolve()


def _is_complete(git_dir: Path) -> bool:
    """False for a shallow or partial clone, whose objects lack ancestors that a borrower would take for present."""
    env = _environment(git_dir)
    shallow = _run(("rev-parse", "--is-shallow-repository"), env, b"", (0,))[1].strip()
    partial, _ = _run(("config", "--get-regexp", r"^remote\..*\.promisor$"), env, b"", (0, 1))
    return shallow == b"false" and partial == 1


def _quoted(path: Path) -> str:
    """A path as lists of object folders take any: in C quotes, so that colons and line ends are part of it."""
    special = {0x22: '\\"', 0x5C: "\\\\"}
    return '"' + "".join(special.get(b, chr(b) if 0x20 <= b < 0x7F else f"\\{b:03o}") for b in os.fsencode(path)) + '"'


def _environment(git_dir: Path | None) -> dict[str, str]:
    env = {key: os.environ[key] for key in _PASSED_ON if key in os.environ}
    env |= {
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "true",
        "GIT_SSH_COMMAND": "ssh -o BatchMode=yes",
        "GIT_ALLOW_PROTOCOL": "https:ssh:file",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_LITERAL_PATHSPECS": "1",
        "GIT_ADVICE": "0",
        "LC_ALL": "C",
    }
    settings = {"core.hooksPath": os.devnull, "core.fsmonitor": "false", "core.symlinks": "false", "gc.auto": "0"}
    env["GIT_CONFIG_COUNT"] = "0"
    if git_dir is not None:
        env["GIT_DIR"] = str(git_dir)
    return _with_settings(env, settings)


def _own_environment() -> dict[str, str]:
    """With the user's own configuration: theirs to say which folders of other users are safe."""
    own = ("XDG_CONFIG_HOME", "GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM", "SUDO_UID")
    return {key: os.environ[key] for key in (*_PASSED_ON, *own) if key in os.environ} | {"LC_ALL": "C"}


def _with_settings(env: Mapping[str, str], settings: Mapping[str, str]) -> dict[str, str]:
    first = int(env["GIT_CONFIG_COUNT"])
    more = {"GIT_CONFIG_COUNT": str(first + len(settings))}
    for number, (key, value) in enumerate(settings.items(), start=first):
        more |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    return {**env, **more}


def _for_remote(env: Mapping[str, str], remote: str, token: str | None = None) -> dict[str, str]:
    """The environment for talking to one remote. A token goes over HTTP alone: a local server's hooks would inherit it."""
    if not remote.startswith(("https://", "http://")):
        return dict(env)
    settings = {}
    token = token or os.environ.get(TOKEN_VARIABLE, "").strip()
    if token:
        # In the environment of the child alone: never in a URL, an argument list or a file.
        import base64

        basic = base64.b64encode(f"x-access-token:{token}".encode()).decode()
        # Git would repeat the header to wherever a redirect points.
        settings = {"http.extraHeader": f"Authorization: Basic {basic}", "http.followRedirects": "false"}
    allowed = env["GIT_ALLOW_PROTOCOL"] + (":http" if _plain_http(remote) else "")
    return _with_settings({**env, "GIT_ALLOW_PROTOCOL": allowed}, settings)


def _run(args: Sequence[str], env: Mapping[str, str], stdin: bytes, ok: tuple[int, ...]) -> tuple[int, bytes]:
    code, out, said = _execute(args, env, stdin)
    if code not in ok:
        verb = next((a for a in args if not a.startswith("-") and not a.startswith("/")), "command")
        raise GitError(f"git {verb} failed: {_tidy(said)}")
    return code, out


def _execute(args: Sequence[str], env: Mapping[str, str], stdin: bytes = b"") -> tuple[int, bytes, str]:
    """The exit code, what was printed, and what was said on stderr."""
    try:
        if any(b"\0" in os.fsencode(arg) for arg in args):
            raise InputError("a NUL byte in a name handed to git")
    except UnicodeEncodeError as exc:
        raise InputError("a name handed to git is not text that a file system can hold") from exc
    try:
        with running(["git", *args], env) as process:
            out, said = process.communicate(stdin, timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired as exc:
        raise GitError(f"git {args[0]} took longer than {TIMEOUT_S:.0f} s", retryable=True) from exc
    except FileNotFoundError as exc:
        raise GitError("git is not on the PATH", hint="install git 2.38 or newer") from exc
    except OSError as exc:
        raise GitError(f"git {args[0]} can't be started: {exc.strerror}") from exc
    return process.returncode, out, said.decode("utf-8", "replace")


def _tidy(text: str) -> str:
    lines = [line.strip() for line in _SECRET_URL.sub(r"\1", text).splitlines() if line.strip()]
    return " | ".join(lines)[:600]


_LOG = ("-z", "--no-show-signature", "--format=%H%n%T%n%P%n%an%n%ae%n%cn%n%ce%n%ct%n%B")


def _parse_commits(out: bytes) -> tuple[CommitInfo, ...]:
    from gitops_mk.model.change import Person

    commits = []
    for record in out.decode("utf-8", "replace").split("\0"):
        if not record.strip():
            continue
        sha, tree, parents, name, email, by, by_email, time, message = record.lstrip("\n").split("\n", 8)
        commits.append(
            CommitInfo(
                sha=sha,
                tree=tree,
                parents=tuple(parents.split()),
                author=Person(name=name[:200], email=email[:200]),
                time=min(int(time), _LAST_TIME) if time.isdecimal() else 0,
                message=message.rstrip("\n"),
                committer=Person(name=by[:200], email=by_email[:200]),
            )
        )
    return tuple(commits)


def _parse_batch(out: bytes) -> Iterator[bytes | None]:
    """The objects that `git cat-file --batch` printed; None for a missing one."""
    at = 0
    while at < len(out):
        end = out.index(b"\n", at)
        head = out[at:end].split(b" ")
        if head[-1] == b"missing":
            yield None
            at = end + 1
        else:
            size = int(head[-1])
            yield out[end + 1 : end + 1 + size]
            at = end + size + 2


def is_oid(text: str) -> bool:
    """True for a full object name."""
    return bool(_OID.match(text))
