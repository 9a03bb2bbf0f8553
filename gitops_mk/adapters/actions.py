"""A job of GitHub Actions, from inside: its event, what git's server says of it, and where its answer goes.

Standard library and git alone: what is loaded here is all that it takes to conclude, whatever else went wrong.
"""

from __future__ import annotations

import os
import secrets
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from gitops_mk.adapters.git import GitRepo
from gitops_mk.core.workflow import EVENT_MAX_BYTES, Event, annotation_command, command, parse_event, quoted
from gitops_mk.errors import GitError, InputError

if TYPE_CHECKING:
    from gitops_mk.model.annotation import Annotation
    from gitops_mk.ports import Clock

FETCHED: Final = "refs/modekeeper/event/"
"""Where the refs that an event is about are fetched to."""
FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 5.0
# GitHub takes a summary of 1 MiB; ours is far smaller.
_SUMMARY_MAX: Final = 512 * 1024
_T = TypeVar("_T")


@dataclass(frozen=True)
class Job:
    """What a job's environment says: its event, and the files that take its summary and its outputs, where there are such."""

    event_path: Path
    event_name: str | None
    summary_path: Path | None
    output_path: Path | None

    def event(self) -> Event:
        """What is to be verified. Raises InputError."""
        try:
            with self.event_path.open("rb") as file:
                data = file.read(EVENT_MAX_BYTES + 1)
        except OSError as exc:
            raise InputError(f"{self.event_path}: the event can't be read: {exc.strerror}") from exc
        return parse_event(data, self.event_name, what=str(self.event_path))


def in_actions(env: Mapping[str, str]) -> bool:
    """Whether this is a job of GitHub Actions."""
    return env.get("GITHUB_ACTIONS") == "true"


def find_job(env: Mapping[str, str], event: Path | None = None) -> Job:
    """The job that the environment tells of. `event`: a file to take instead of its own. Raises InputError."""
    named = event or (Path(env["GITHUB_EVENT_PATH"]) if env.get("GITHUB_EVENT_PATH") else None)
    if named is None:
        raise InputError(
            "GITHUB_EVENT_PATH is not set, expected the file of the event", hint="or name one with --event"
        )
    return Job(
        event_path=named,
        event_name=env.get("GITHUB_EVENT_NAME") or None,
        summary_path=_path(env, "GITHUB_STEP_SUMMARY"),
        output_path=_path(env, "GITHUB_OUTPUT"),
    )


def _path(env: Mapping[str, str], name: str) -> Path | None:
    return Path(env[name]) if env.get(name) else None


# -- what the server says ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Settled:
    """The two commits to verify, all of whose objects are here. `note`: what a reader should know of them."""

    base: str
    head: str
    note: str = ""


@dataclass(frozen=True)
class Halted:
    """Why there is nothing to verify: the value of a `model.verdict.Reason`, and a sentence."""

    reason: str
    message: str
    base: str | None = None


@dataclass(frozen=True)
class _Wait:
    """Not so yet. `late`: what it means when it stays that way."""

    late: Halted


def settle(repo: GitRepo, remote: str, event: Event, clock: Clock, *, wait_s: float) -> Settled | Halted:
    """Wait until the server has the event's head and has merged it for a try, then say which commits that makes.

    The base is the branch's tip of that moment, which may be newer than the event. Raises GitError when the server can't be
    read until `wait_s` seconds are over.
    """
    end = clock.monotonic() + wait_s
    pause = FIRST_PAUSE_S
    while True:
        try:
            repo.fetch(remote, _refspecs(event))
            found = _look(repo, event)
            late: Halted | GitError = found.late if isinstance(found, _Wait) else Halted("", "")
        except GitError as exc:
            if not exc.retryable:
                raise
            found, late = None, exc
        if isinstance(found, Settled | Halted):
            return found
        left = end - clock.monotonic()
        if left <= 0:
            if isinstance(late, GitError):
                raise late
            return late
        clock.sleep(min(pause, left))
        pause = min(pause * 1.5, LONGEST_PAUSE_S)


def _refspecs(event: Event) -> tuple[str, ...]:
    """By patterns where a ref may be missing, which would make the fetch fail."""
    if event.name == "merge_group":
        return (f"+{event.ref}*:{FETCHED}queue/{event.ref}*",)
    folder = event.ref.rpartition("/")[0]
    return (f"+{folder}/*:{FETCHED}{folder}/*", f"+refs/heads/{event.base_branch}:{FETCHED}base")


def _look(repo: GitRepo, event: Event) -> Settled | Halted | _Wait:
    return _look_at_queue(repo, event) if event.name == "merge_group" else _look_at_pull(repo, event)


def _look_at_pull(repo: GitRepo, event: Event) -> Settled | Halted | _Wait:
    refs = repo.refs(FETCHED, fetched=True)
    tip, head = refs[f"{FETCHED}base"], refs.get(FETCHED + event.ref)
    merge = refs.get(f"{FETCHED}{event.ref.rpartition('/')[0]}/merge")
    if head != event.head:
        moved = Halted(
            "head_moved",
            f"the pull request's head is {head or 'gone'}, the event is about {event.head}; its newest run decides",
            tip,
        )
        return moved if head is not None and _is_ancestor(repo, event.head, head) else _Wait(moved)
    parents = repo.parents(merge) if merge is not None else ()
    if len(parents) != 2 or parents[1] != head:
        if not _merges(repo, tip, head):
            return Halted("merge_conflict", "head does not merge into base without a conflict", tip)
        return _Wait(
            Halted("not_mergeable", "GitHub has not told whether the head can be merged (refs/pull/N/merge)", tip)
        )
    if not _is_ancestor(repo, parents[0], tip):
        return _Wait(Halted("base_moved", f"GitHub merged into {parents[0]}, which is not on {event.base_branch}", tip))
    older = f"GitHub tried the merge into {parents[0]}; this is judged on a newer tip of the base"
    return Settled(tip, head, "" if parents[0] == tip else older)


def _look_at_queue(repo: GitRepo, event: Event) -> Settled | Halted | _Wait:
    head = repo.refs(FETCHED, fetched=True).get(f"{FETCHED}queue/{event.ref}")
    if head != event.head:
        text = f"the merge queue's branch is at {head or 'nothing'}, the event is about {event.head}"
        return _Wait(Halted("head_moved", text, event.base))
    if not _is_ancestor(repo, event.base, head):
        return Halted("base_moved", f"{event.base} is not in the history of {head}", event.base)
    parents = repo.parents(head)
    # A merge made by the queue: the pull request's own commit is verified, and that the queue added nothing to it.
    if len(parents) == 2 and parents[0] == event.base and repo.merge_tree(*parents) == repo.tree_of(head):
        return Settled(event.base, parents[1], f"the merge queue's commit is {head}")
    return Settled(event.base, head)


def _is_ancestor(repo: GitRepo, old: str, new: str) -> bool:
    try:
        return repo.merge_base(old, new) == old
    except GitError:
        # It is not here, and all of the history of `new` is.
        return False


def _merges(repo: GitRepo, base: str, head: str) -> bool:
    try:
        return repo.merge_tree(base, head) is not None
    except GitError:
        if repo.merge_base(base, head) is None:
            return False
        raise


# -- always an end ----------------------------------------------------------------------------------------------------


class Concluded(Generic[_T]):
    """What work came to within its time: a value, an error, or why it was cut off. The work may still run then."""

    def __init__(self, work: Callable[[], _T], *, within_s: float) -> None:
        """Do the work in a thread, until it is done, the time is over, or SIGTERM or SIGINT comes. For the main thread."""
        self.value: _T | None = None
        self.error: BaseException | None = None
        self.cut_off = ""
        self._over = threading.Event()
        self._signal = 0
        self._work = work
        self._thread = threading.Thread(target=self._run, name="verify", daemon=True)
        self._before = {number: signal.signal(number, self._stop) for number in (signal.SIGTERM, signal.SIGINT)}
        self._thread.start()
        in_time = self._over.wait(within_s)
        if self._signal:
            self.cut_off = f"stopped by {signal.Signals(self._signal).name} before it was done"
        elif not in_time:
            self.cut_off = f"not done within {within_s:g} s"

    def restore(self) -> None:
        """Let signals do again what they did. Until then none keeps the answer from being written."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _run(self) -> None:
        try:
            self.value = self._work()
        except BaseException as exc:  # noqa: BLE001 - told to whoever waits
            self.error = exc
        self._over.set()

    def _stop(self, number: int, frame: FrameType | None) -> None:
        del frame
        self._signal = number
        self._over.set()

    def leave(self, end_children: Callable[[], None], *, wait_s: float = 3.0) -> bool:
        """End what runs for the work, and wait for it a moment; False when it can't be brought to an end."""
        waited = 0.0
        while self._thread.is_alive() and waited < wait_s:
            end_children()
            self._thread.join(0.05)
            waited += 0.05
        return not self._thread.is_alive()


# -- the answer -------------------------------------------------------------------------------------------------------


def say(lines: Sequence[str], notes: Sequence[Annotation]) -> None:
    """Print lines in which no workflow command counts, and annotations that do."""
    put("".join(f"{line}\n" for line in (*quoted(lines, secrets.token_hex(16)), *map(annotation_command, notes))))


def error(title: str, message: str) -> None:
    """Print an error that stands on no line of a file."""
    put(command("error", message, title=title) + "\n")


def put(text: str) -> None:
    """Print text as it is; a name that is no UTF-8 must not keep the rest from being told."""
    sys.stdout.flush()
    sys.stdout.buffer.write(text.encode("utf-8", "replace"))
    sys.stdout.buffer.flush()


def write_summary(job: Job, text: str) -> None:
    """Add to the job's summary. Raises InputError."""
    if job.summary_path is not None:
        _append(job.summary_path, text.encode("utf-8", "replace")[:_SUMMARY_MAX])


def write_outputs(job: Job, outputs: Mapping[str, str]) -> None:
    """Add to the step's outputs, each between delimiters that nobody can know. Raises InputError."""
    if job.output_path is not None:
        mark = secrets.token_hex(16)
        lines = (f"{name}<<{mark}\n{value}\n{mark}\n" for name, value in outputs.items())
        _append(job.output_path, "".join(lines).encode("utf-8", "replace"))


def _append(path: Path, data: bytes) -> None:
    try:
        with path.open("ab") as file:
            file.write(data)
    except OSError as exc:
        raise InputError(f"{path} can't be written: {exc.strerror}") from exc


def leave_now(code: int) -> None:
    """End this process although something in it can't be stopped."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
