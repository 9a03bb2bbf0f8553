"""A bare repository, read in this process where it pays and changed by git: refs live, objects cached by their id."""

from __future__ import annotations

import difflib
import hashlib
import os
import re
import subprocess
import tempfile
import threading
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

ZERO = "0" * 40
_OID = re.compile(r"[0-9a-f]{40}\Z")
_ENV = {
    "PATH": os.environ.get("PATH", os.defpath),
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_COUNT": "1",
    "GIT_CONFIG_KEY_0": "safe.directory",
    "GIT_CONFIG_VALUE_0": "*",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_OPTIONAL_LOCKS": "0",
    "LC_ALL": "C",
}


class GitFailed(Exception):
    """Git said no; the text is git's own."""


class Who(NamedTuple):
    """The author or the committer of a commit."""

    name: str
    email: str
    time: int
    zone: str


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit object, parsed."""

    sha: str
    tree: str
    parents: tuple[str, ...]
    author: Who
    committer: Who
    message: str


class Entry(NamedTuple):
    """One line of a tree."""

    mode: str
    name: str
    sha: str


class Change(NamedTuple):
    """A path that differs between two trees; no mode where it isn't there."""

    path: str
    old_mode: str | None
    old_sha: str | None
    new_mode: str | None
    new_sha: str | None


def oid(kind: str, data: bytes) -> str:
    """The id of an object."""
    return hashlib.sha1(f"{kind} {len(data)}\0".encode() + data, usedforsecurity=False).hexdigest()


def is_oid(text: str) -> bool:
    """True for a full object id."""
    return _OID.match(text) is not None


def run_git(*args: str, stdin: bytes = b"", cwd: Path | None = None, ok: Sequence[int] = (0,)) -> tuple[int, bytes]:
    """One git command, away from anyone's configuration. Raises GitFailed."""
    done = subprocess.run(["git", *args], input=stdin, cwd=cwd, env=_ENV, capture_output=True, check=False)
    if done.returncode not in ok:
        raise GitFailed(done.stderr.decode("utf-8", "replace").strip() or f"git {args[0]} failed")
    return done.returncode, done.stdout


class GitDir:
    """One bare repository. Whoever uses it holds the hub's lock, but for reading refs."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._batch: subprocess.Popen[bytes] | None = None
        self._lock = threading.RLock()
        self._commits: dict[str, Commit] = {}
        self._trees: dict[str, tuple[Entry, ...]] = {}
        self._packed: tuple[tuple[int, int, int], dict[str, str]] | None = None
        self._ancestors: dict[str, frozenset[str]] = {}
        self._merges: dict[tuple[str, str], str | None] = {}
        self._stats: dict[tuple[str | None, str | None], tuple[int, int, str]] = {}

    def close(self) -> None:
        """End the process that reads objects."""
        with self._lock:
            if self._batch is not None:
                assert self._batch.stdin is not None
                assert self._batch.stdout is not None
                with suppress(BrokenPipeError):
                    self._batch.stdin.close()
                self._batch.stdout.close()
                self._batch.wait()
                self._batch = None

    def run(self, *args: str, stdin: bytes = b"", ok: Sequence[int] = (0,)) -> tuple[int, bytes]:
        """One git command in this repository. Raises GitFailed."""
        return run_git(f"--git-dir={self.path}", *args, stdin=stdin, ok=ok)

    # -- refs --------------------------------------------------------------------------------------------------------

    def ref(self, name: str) -> str | None:
        """What a full ref name points to now."""
        try:
            text = (self.path / name).read_text().strip()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            return self._packed_refs().get(name)
        if text.startswith("ref: "):
            return self.ref(text[5:])
        return text or None

    def refs(self, prefix: str = "refs/") -> dict[str, str]:
        """All refs whose full name begins so, by name."""
        found = {name: sha for name, sha in self._packed_refs().items() if name.startswith(prefix)}
        top = self.path / prefix.rpartition("/")[0]
        for folder, _, files in os.walk(top):
            for file in files:
                name = os.path.relpath(os.path.join(folder, file), self.path)  # noqa: PTH118 - thousands of them
                if name.startswith(prefix) and not name.endswith(".lock"):
                    sha = self.ref(name)
                    if sha is not None:
                        found[name] = sha
        return dict(sorted(found.items()))

    def _packed_refs(self) -> dict[str, str]:
        try:
            stat = (self.path / "packed-refs").stat()
        except FileNotFoundError:
            return {}
        key = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        if self._packed is None or self._packed[0] != key:
            lines = (self.path / "packed-refs").read_text().splitlines()
            refs = {line[41:]: line[:40] for line in lines if line[:1] not in ("#", "^", "")}
            self._packed = (key, refs)
        return self._packed[1]

    def update_ref(self, name: str, new: str, old: str | None) -> bool:
        """Move a ref from `old` (ZERO: it isn't there; None: wherever it is) to `new` (ZERO: delete it)."""
        args = ["-d", name] if new == ZERO else [name, new]
        if old is not None:
            args.append(old)
        return self.run("update-ref", *args, ok=(0, 1, 128))[0] == 0

    def put_ref(self, name: str, sha: str) -> None:
        """Write a ref that nobody but the simulator writes: no process is started for it."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        fd, temporary = tempfile.mkstemp(dir=path.parent, suffix=".lock")
        with os.fdopen(fd, "w") as file:
            file.write(f"{sha}\n")
        Path(temporary).rename(path)

    def valid_name(self, name: str) -> bool:
        """True for a ref name that git takes."""
        return self.run("check-ref-format", name, ok=(0, 1))[0] == 0

    def resolve(self, text: str) -> str | None:
        """The commit that a SHA, branch, tag or full ref means."""
        if is_oid(text):
            return text if self.kind(text) == "commit" else None
        for name in (f"refs/heads/{text}", f"refs/tags/{text}", f"refs/{text}", text):
            if name.startswith("refs/") and (sha := self.ref(name)):
                return self.peel(sha)
        if re.fullmatch(r"[0-9a-f]{7,39}", text):
            code, out = self.run("rev-parse", "--verify", "--quiet", f"{text}^{{commit}}", ok=(0, 1, 128))
            return out.decode().strip() if code == 0 else None
        return None

    def peel(self, sha: str) -> str | None:
        """The commit behind an annotated tag."""
        found = self.object(sha)
        if found is not None and found[0] == "tag":
            return self.peel(found[1].split(b"\n", 1)[0].split()[1].decode())
        return sha if found is not None and found[0] == "commit" else None

    # -- objects -----------------------------------------------------------------------------------------------------

    def object(self, sha: str) -> tuple[str, bytes] | None:
        """The kind and the bytes of an object."""
        with self._lock:
            if self._batch is None or self._batch.poll() is not None:
                self.close()
                command = ["git", f"--git-dir={self.path}", "cat-file", "--batch"]
                self._batch = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=_ENV)
            assert self._batch.stdin is not None
            assert self._batch.stdout is not None
            self._batch.stdin.write(f"{sha}\n".encode())
            self._batch.stdin.flush()
            head = self._batch.stdout.readline().decode().split()
            if len(head) != 3:
                return None
            data = self._batch.stdout.read(int(head[2]))
            self._batch.stdout.read(1)
            return head[1], data

    def kind(self, sha: str) -> str | None:
        """What sort of object it is, None for one that isn't there."""
        if sha in self._commits:
            return "commit"
        found = self.object(sha)
        return found[0] if found is not None else None

    def blob(self, sha: str) -> bytes:
        """The bytes of a blob. Raises GitFailed."""
        found = self.object(sha)
        if found is None or found[0] != "blob":
            raise GitFailed(f"no blob {sha}")
        return found[1]

    def commit(self, sha: str) -> Commit:
        """A commit. Raises GitFailed."""
        known = self._commits.get(sha)
        if known is None:
            found = self.object(sha)
            if found is None or found[0] != "commit":
                raise GitFailed(f"no commit {sha}")
            known = self._commits[sha] = _parse_commit(sha, found[1])
        return known

    def tree(self, sha: str) -> tuple[Entry, ...]:
        """The lines of a tree. Raises GitFailed."""
        known = self._trees.get(sha)
        if known is None:
            found = self.object(sha)
            if found is None or found[0] != "tree":
                raise GitFailed(f"no tree {sha}")
            known = self._trees[sha] = tuple(_parse_tree(found[1]))
        return known

    def at(self, tree: str, path: str) -> Entry | None:
        """What a tree has at a path."""
        entry = Entry("040000", "", tree)
        for part in [part for part in path.split("/") if part]:
            if entry.mode != "040000":
                return None
            below = next((one for one in self.tree(entry.sha) if one.name == part), None)
            if below is None:
                return None
            entry = below
        return entry

    def files(self, tree: str, prefix: str = "") -> Iterator[tuple[str, Entry]]:
        """Every entry of a tree that is no folder, by path."""
        for entry in self.tree(tree):
            path = f"{prefix}{entry.name}"
            if entry.mode == "040000":
                yield from self.files(entry.sha, f"{path}/")
            else:
                yield path, entry

    def diff(self, old: str | None, new: str | None, prefix: str = "") -> list[Change]:
        """The paths that differ between two trees."""
        if old == new:
            return []
        before = {one.name: one for one in self.tree(old)} if old else {}
        after = {one.name: one for one in self.tree(new)} if new else {}
        found: list[Change] = []
        for name in sorted(before.keys() | after.keys()):
            was, now = before.get(name), after.get(name)
            if was == now:
                continue
            folders = [one.sha if one is not None and one.mode == "040000" else None for one in (was, now)]
            if any(folders):
                found += self.diff(folders[0], folders[1], f"{prefix}{name}/")
            was = was if was is not None and was.mode != "040000" else None
            now = now if now is not None and now.mode != "040000" else None
            if was is not None or now is not None:
                path = f"{prefix}{name}"
                found.append(
                    Change(path, was and was.mode, was and was.sha, now and now.mode, now and now.sha),
                )
        return found

    def lines(self, change: Change) -> tuple[int, int, str]:
        """Lines added, lines taken away, and the patch of one changed path."""
        key = (change.old_sha, change.new_sha)
        known = self._stats.get(key)
        if known is None:
            old, new = (self._text(change.old_mode, sha) for sha in key)
            if old is None or new is None:
                known = (0, 0, "")
            else:
                patch = list(difflib.unified_diff(old, new, lineterm="", n=3))[2:]
                known = (
                    sum(line.startswith("+") for line in patch),
                    sum(line.startswith("-") for line in patch),
                    "\n".join(patch),
                )
            self._stats[key] = known
        return known

    def _text(self, mode: str | None, sha: str | None) -> list[str] | None:
        if sha is None or mode == "160000":
            return []
        data = self.blob(sha)
        return None if b"\0" in data else data.decode("utf-8", "replace").splitlines()

    # -- history -----------------------------------------------------------------------------------------------------

    def ancestors(self, sha: str) -> frozenset[str]:
        """A commit and all before it."""
        known = self._ancestors.get(sha)
        if known is not None:
            return known
        seen: set[str] = set()
        queue = deque([sha])
        while queue:
            one = queue.popleft()
            if one in seen:
                continue
            beyond = self._ancestors.get(one)
            if beyond is not None:
                seen |= beyond
                continue
            seen.add(one)
            queue.extend(self.commit(one).parents)
        if len(self._ancestors) >= 32:
            del self._ancestors[next(iter(self._ancestors))]
        self._ancestors[sha] = frozenset(seen)
        return self._ancestors[sha]

    def is_ancestor(self, old: str, new: str) -> bool:
        """True when `new` has `old` in its history."""
        return old == new or old in self.commit(new).parents or old in self.ancestors(new)

    def between(self, base: str, head: str) -> list[Commit]:
        """The commits of `head` that `base` lacks, oldest first."""
        had = self.ancestors(base)
        found: dict[str, Commit] = {}
        stack = [(head, False)]
        done: set[str] = set()
        while stack:
            sha, ready = stack.pop()
            if ready:
                found[sha] = self.commit(sha)
            elif sha not in had and sha not in done:
                done.add(sha)
                stack.append((sha, True))
                stack.extend((parent, False) for parent in reversed(self.commit(sha).parents))
        return list(found.values())

    def merge_base(self, one: str, other: str) -> str | None:
        """The best common ancestor."""
        if self.is_ancestor(one, other):
            return one
        parents = self.commit(other).parents
        if len(parents) == 1 and self.is_ancestor(parents[0], one):
            return parents[0]
        code, out = self.run("merge-base", one, other, ok=(0, 1))
        return out.decode().split("\n")[0] if code == 0 else None

    def merge_tree(self, base: str, head: str) -> str | None:
        """The tree of merging `head` into `base`, by git; None on a conflict."""
        key = (base, head)
        if key not in self._merges:
            code, out = self.run("merge-tree", "--write-tree", "--no-messages", base, head, ok=(0, 1))
            self._merges[key] = out.decode().split("\n")[0] if code == 0 else None
        return self._merges[key]

    def log(self, sha: str, limit: int = 1000) -> list[Commit]:
        """Commits from `sha` backwards, newest first."""
        out = self.run("rev-list", f"--max-count={limit}", sha)[1]
        return [self.commit(one) for one in out.decode().split()]

    # -- writing -----------------------------------------------------------------------------------------------------

    def write(self, kind: str, data: bytes) -> str:
        """Store an object as git does; gives its id."""
        sha = oid(kind, data)
        path = self.path / "objects" / sha[:2] / sha[2:]
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            fd, temporary = tempfile.mkstemp(prefix="tmp_obj_", dir=path.parent)
            with os.fdopen(fd, "wb") as file:
                file.write(zlib.compress(f"{kind} {len(data)}\0".encode() + data, 1))
            Path(temporary).chmod(0o444)
            Path(temporary).rename(path)
        return sha

    def write_tree(self, base: str | None, files: dict[str, tuple[str, str] | None]) -> str | None:
        """A tree like `base` with these (mode, id) put at their paths, or taken out; None for an empty one."""
        entries = {one.name: one for one in self.tree(base)} if base is not None else {}
        below: dict[str, dict[str, tuple[str, str] | None]] = {}
        for path, put in files.items():
            name, _, rest = path.partition("/")
            if rest:
                below.setdefault(name, {})[rest] = put
            elif put is None:
                entries.pop(name, None)
            else:
                entries[name] = Entry(put[0], name, put[1])
        for name, inside in below.items():
            had = entries.get(name)
            tree = self.write_tree(had.sha if had is not None and had.mode == "040000" else None, inside)
            if tree is None:
                entries.pop(name, None)
            else:
                entries[name] = Entry("040000", name, tree)
        if not entries:
            return None
        ordered = sorted(entries.values(), key=lambda one: os.fsencode(one.name) + b"/" * (one.mode == "040000"))
        data = b"".join(
            one.mode.lstrip("0").encode() + b" " + os.fsencode(one.name) + b"\0" + bytes.fromhex(one.sha)
            for one in ordered
        )
        return self.write("tree", data)

    def empty_tree(self) -> str:
        """The tree with nothing in it."""
        return self.write("tree", b"")

    def write_commit(self, tree: str, parents: Sequence[str], author: Who, committer: Who, message: str) -> str:
        """Store a commit; gives its id."""
        head = [f"tree {tree}", *(f"parent {one}" for one in parents)]
        head += [
            f"{part} {who.name} <{who.email}> {who.time} {who.zone}"
            for part, who in (("author", author), ("committer", committer))
        ]
        return self.write("commit", ("\n".join(head) + "\n\n" + message).encode())


def _who(text: str) -> Who:
    found = re.fullmatch(r"(.*?) ?<(.*)> (\d+) ([+-]\d{4})", text, re.S)
    return Who(found[1], found[2], int(found[3]), found[4]) if found else Who(text, "", 0, "+0000")


def _parse_commit(sha: str, data: bytes) -> Commit:
    head, _, message = data.decode("utf-8", "replace").partition("\n\n")
    tree, parents, people = "", [], {}
    for line in head.split("\n"):
        key, _, value = line.partition(" ")
        if key == "tree":
            tree = value
        elif key == "parent":
            parents.append(value)
        elif key in ("author", "committer"):
            people[key] = _who(value)
    return Commit(sha, tree, tuple(parents), people["author"], people["committer"], message)


def _parse_tree(data: bytes) -> Iterator[Entry]:
    at = 0
    while at < len(data):
        space, end = data.index(b" ", at), data.index(b"\0", at)
        yield Entry(
            data[at:space].decode().rjust(6, "0"), os.fsdecode(data[space + 1 : end]), data[end + 1 : end + 21].hex()
        )
        at = end + 21
