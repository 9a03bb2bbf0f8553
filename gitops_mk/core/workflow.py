"""GitHub Actions: what an event says, and what a job says back. Needed before any model is, so none is imported.

Everything in an event, and every text that comes from a repository, is untrusted. Workflow commands and their escaping:
https://docs.github.com/actions/reference/workflow-commands-for-github-actions
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from gitops_mk.core.render.paths import COMPONENT_DIR, KNOBS_SUFFIX, PLAN_SUFFIX
from gitops_mk.core.render.text import markdown, plain
from gitops_mk.errors import InputError
from gitops_mk.model.annotation import Annotation
from gitops_mk.model.canonical import JsonLimits, loads_strict
from gitops_mk.model.git import ABSENT_MODE

if TYPE_CHECKING:
    from gitops_mk.model.gate import VerifyOutcome
    from gitops_mk.model.git import PathChange
    from gitops_mk.model.verdict import Verdict

EVENT_MAX_BYTES: Final = 4 * 1024 * 1024
EVENTS: Final = ("pull_request", "merge_group")
BRANCH_PREFIX: Final = "modekeeper/"
INIT_BRANCH: Final = "modekeeper/init"
"""What `mk init --commit` makes: the one branch of that prefix that carries no workload's change."""
COMPONENT_MARK: Final = b"# Kept by ModeKeeper GitOps"
"""How a component's own files begin."""
MAX_ANNOTATIONS: Final = 10
"""As many errors of one step as GitHub shows."""

_SHA = re.compile(r"[0-9a-f]{40}\Z")
# git-check-ref-format(1), without what is legal and nobody needs: a leading dash, and non-printing characters.
_REF = re.compile(r"(?![-/.])(?!.*(?:\.\.|@\{|//|/\.))[^\x00-\x20\x7f~^:?*\[\\]{1,250}(?<![/.])(?<!\.lock)\Z")
_NAME = re.compile(r"[a-z][a-z0-9]*(?:_[a-z0-9]+)+")
_NOT_JUDGED = "not judged"
_VALUE_STEPS = frozenset({"build", "freshness", "invariants", "live", "dry_run"})


@dataclass(frozen=True)
class Event:
    """What is to be verified. `ref` holds the head on the server: a pull request's, or the merge queue's branch.

    `base` is the base as it stood when the event was made; `base_branch` and `head_branch` are names without `refs/heads/`.
    """

    name: Literal["pull_request", "merge_group"]
    head: str
    base: str
    base_branch: str
    ref: str
    head_branch: str = ""
    number: int | None = None

    def plain(self) -> dict[str, object]:
        """As it stands in the report."""
        return {
            "name": self.name,
            "head": self.head,
            "base": self.base,
            "base_branch": self.base_branch,
            "number": self.number,
        }


def parse_event(data: bytes, name: str | None, *, what: str) -> Event:
    """The event that a file holds; `name` is what GitHub calls it, None where the file is to tell.

    Raises InputError for one that verify does not judge, and for one that does not say what GitHub's do.
    """
    found = loads_strict(data, what=what, limits=JsonLimits(max_bytes=EVENT_MAX_BYTES))
    if not isinstance(found, dict):
        raise InputError(f"{what}: expected a JSON object")
    if name is None:
        name = next((event for event in EVENTS if event in found), "unknown")
    if name == "pull_request":
        return _pull_request(found, what)
    if name == "merge_group":
        return _merge_group(found, what)
    hint = "run it on pull_request and merge_group"
    if name == "pull_request_target":
        hint += "; pull_request_target would give a pull request the rights of the base"
    raise InputError(f"event {plain(name, most=60)!r} is none that verify judges", hint=hint)


def _pull_request(found: Mapping[str, Any], what: str) -> Event:
    pull = _part(found, "pull_request", what)
    number = pull.get("number")
    if not isinstance(number, int) or isinstance(number, bool) or not 0 < number < 2**31:
        raise InputError(f"{what}: pull_request.number is {plain(repr(number), most=60)}, expected a whole number")
    head, base = _part(pull, "head", what), _part(pull, "base", what)
    return Event(
        name="pull_request",
        head=_sha(head, "sha", what),
        base=_sha(base, "sha", what),
        base_branch=_ref(base, "ref", what),
        ref=f"refs/pull/{number}/head",
        head_branch=_ref(head, "ref", what),
        number=number,
    )


def _merge_group(found: Mapping[str, Any], what: str) -> Event:
    group = _part(found, "merge_group", what)
    queue, base = _ref(group, "head_ref", what), _ref(group, "base_ref", what)
    return Event(
        name="merge_group",
        head=_sha(group, "head_sha", what),
        base=_sha(group, "base_sha", what),
        base_branch=base.removeprefix("refs/heads/"),
        ref="refs/heads/" + queue.removeprefix("refs/heads/"),
    )


def _part(found: Mapping[str, Any], key: str, what: str) -> Mapping[str, Any]:
    part = found.get(key)
    if not isinstance(part, dict):
        raise InputError(f"{what}: {key} is missing, expected an object", hint="is it the file of GITHUB_EVENT_PATH?")
    return part


def _sha(found: Mapping[str, Any], key: str, what: str) -> str:
    value = found.get(key)
    if not isinstance(value, str) or not _SHA.match(value):
        raise InputError(f"{what}: {key} is {plain(repr(value), most=60)}, expected the SHA of a commit")
    return value


def _ref(found: Mapping[str, Any], key: str, what: str) -> str:
    value = found.get(key)
    if not isinstance(value, str) or not _REF.match(value):
        raise InputError(f"{what}: {key} is {plain(repr(value), most=60)}, expected the name of a branch")
    return value


def concerns_us(
    changes: Iterable[PathChange], before: Mapping[str, bytes], after: Mapping[str, bytes], *, branch: str = ""
) -> bool:
    """Whether a change is one of ours, or reaches into what is: whatever else people change is theirs to review.

    `changes` lead from the files `before` to those `after`; `branch` is where the change comes from, where that is known.
    """
    if branch.startswith(BRANCH_PREFIX) and branch != INIT_BRANCH:
        return True
    for change in changes:
        *folders, name = change.path.split("/")
        if COMPONENT_DIR not in folders:
            continue
        kept = any(files.get(change.path, b"").startswith(COMPONENT_MARK) for files in (before, after))
        if kept or name.endswith((PLAN_SUFFIX, KNOBS_SUFFIX)):
            return True
    return False


# -- annotations ------------------------------------------------------------------------------------------------------


def annotate(
    outcome: VerifyOutcome, changes: Sequence[PathChange], files: Mapping[str, bytes]
) -> tuple[Annotation, ...]:
    """A remark for each step that said no, on the line of the changed files that it is about, as well as that can be told.

    `changes` and `files` are those of the merged tree, the former against the base. Steps that could only say that an
    earlier one left them nothing to judge are left out. None where nothing changes: then there is no line to stand on.
    """
    paths = [
        change.path for change in sorted(changes, key=lambda change: (change.new_mode == ABSENT_MODE, change.path))
    ]
    if not paths:
        return ()
    no = [step for step in outcome.steps if not step.allowed]
    told = [step for number, step in enumerate(no) if number == 0 or not step.message.startswith(_NOT_JUDGED)]
    return tuple(_annotation(step, paths, files) for step in told)


def _annotation(step: Verdict, paths: Sequence[str], files: Mapping[str, bytes]) -> Annotation:
    path = _path_of(step, paths)
    return Annotation(
        path=path,
        line=_line_of(step.message, files.get(path, b""), values=step.rule in _VALUE_STEPS),
        level="failure",
        title=f"verify: {step.rule}: {step.reason}",
        message=plain(step.message, most=1000),
    )


def _path_of(step: Verdict, paths: Sequence[str]) -> str:
    named = [path for path in paths if path in step.message]
    if named:
        return max(named, key=len)
    suffix = KNOBS_SUFFIX if step.rule in _VALUE_STEPS else PLAN_SUFFIX
    return next((path for path in paths if path.endswith(suffix)), paths[0])


def _line_of(message: str, data: bytes, *, values: bool) -> int:
    """The first line with a name that the message says, such as a knob's; else the first with a value, else the first."""
    names = _NAME.findall(message)
    lines = data.decode("utf-8", "replace").splitlines()
    for name in names:
        for number, line in enumerate(lines, 1):
            if name in _NAME.findall(line):
                return number
    found = (number for number, line in enumerate(lines, 1) if "modekeeper/knob." in line)
    return next(found, 1) if values else 1


# -- workflow commands ------------------------------------------------------------------------------------------------


def escape_data(text: str) -> str:
    """Text after the `::` of a workflow command."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def escape_property(text: str) -> str:
    """Text of one of its properties."""
    return escape_data(text).replace(":", "%3A").replace(",", "%2C")


def command(name: str, message: str = "", **properties: object) -> str:
    """One workflow command; `name` and the properties' names are ours."""
    said = ",".join(f"{key}={escape_property(str(value))}" for key, value in properties.items())
    return f"::{name}{' ' if said else ''}{said}::{escape_data(message)}"


def annotation_command(one: Annotation) -> str:
    """The workflow command that puts an annotation where it belongs."""
    name = "error" if one.level == "failure" else one.level
    return command(name, one.message, file=one.path, line=one.line, title=plain(one.title))


def inert(text: str) -> str:
    """One line that starts no workflow command: neither `::name`, which counts at its start, nor `##[name`, which does anywhere."""
    line = plain(text, most=2000).replace("##[", "##\u2060[")
    return f":\u2060{line[1:]}" if line.startswith("::") else line


def quoted(lines: Iterable[str], token: str) -> list[str]:
    """Lines in which no workflow command counts, twice over. `token` is to be a new random word: it ends the quote."""
    return [f"::stop-commands::{token}", *map(inert, lines), f"::{token}::"]


# -- the report -------------------------------------------------------------------------------------------------------


def undecided_payload(base: str | None, head: str | None, reason: str | None, message: str) -> dict[str, object]:
    """What a report says where no step was run: never a yes. `reason` is None where there was an error."""
    return {
        "ok": False,
        "verify_ok": False,
        "base": base,
        "head": head,
        "tree": None,
        "plan_digest": None,
        "workload": None,
        "reason": reason,
        "message": message,
        "cluster": "not consulted",
        "steps": [],
    }


def step_lines(payload: Mapping[str, Any]) -> list[str]:
    """A line for each step of a report, and what came of it."""
    lines = []
    for step in payload["steps"]:
        why = f"{step['reason']}: {step['message']}" if step["reason"] else step["message"]
        lines.append(f"{step['number']} {'ok ' if step['allowed'] else 'NO '} {step['id']:11} {why}")
    if not payload["ok"] and not payload["steps"]:
        lines.append(f"{payload['reason'] or 'error'}: {payload['message']}")
    return lines


def summary(payload: Mapping[str, Any], sha256: str) -> str:
    """The job's summary, in Markdown, of a report and its digest."""
    ok, applies = payload["verify_ok"], payload.get("applicable", True)
    verdict = "ok" if ok else "not ok" if applies else "nothing of ModeKeeper's to verify"
    lines = [f"### verify: {verdict}", ""]
    if not ok:
        lines += [f"**{markdown(payload['reason'] or 'error')}**: {markdown(payload['message'], most=1000)}", ""]
    if payload["steps"]:
        lines += ["| | step | |", "|---|---|---|"]
        for step in payload["steps"]:
            why = f"{step['reason']}: {step['message']}" if step["reason"] else step["message"]
            mark = "ok" if step["allowed"] else "**no**"
            lines.append(f"| {mark} | {step['number']} {markdown(step['id'])} | {markdown(why, most=500)} |")
        lines.append("")
    facts = {
        "workload": payload["workload"],
        "base": payload["base"],
        "head": payload["head"],
        "tree of the merge": payload["tree"],
        "plan": payload["plan_digest"],
        "cluster": payload["cluster"] if isinstance(payload["cluster"], str) else "consulted",
        "note": payload.get("note"),
        "SHA-256 of the report": sha256,
    }
    lines += [f"- {name}: {markdown(str(value))}" for name, value in facts.items() if value]
    return "\n".join(lines) + "\n"
