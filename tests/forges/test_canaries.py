"""Forty secrets around a controller's turn, everything logged and traced, things going wrong: none of them is written or sent.

The only secret that goes out is the token, in the one header that it is for.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gitops_mk.adapters.clone import Clone
from gitops_mk.adapters.git import HTTP_VARIABLE
from gitops_mk.adapters.github.auth import address_of
from gitops_mk.adapters.telemetry.synthetic import SyntheticSource
from gitops_mk.errors import MkError
from tests.support.github.faults import Fault
from tests.support.github_world import HubWorld, hub_world
from tests.support.make import StandingClock

ROOT = Path(__file__).resolve().parents[2]


def shaped(prefix: str, number: int, length: int = 36) -> str:
    """A secret of that shape, unlike any other."""
    return prefix + (f"CaNaRy{number:02d}" + "x7Q9vK2mZ4pL8wR3tY6u" * 5)[:length]


def jwt(number: int) -> str:
    def part(data: Mapping[str, object]) -> str:
        return base64.urlsafe_b64encode(json.dumps(data).encode()).decode().rstrip("=")

    return f"{part({'alg': 'RS256', 'n': number})}.{part({'iss': f'canary-{number}'})}.{shaped('', number, 60)}"


ENVIRONMENT: dict[str, str] = {
    "MODEKEEPER_GIT_TOKEN": shaped("ghp_", 1),
    "MODEKEEPER_GITHUB_TOKEN": shaped("github_pat_", 2, 70),
    "GITHUB_TOKEN": shaped("ghs_", 3),
    "GH_TOKEN": shaped("gho_", 4),
    "GH_ENTERPRISE_TOKEN": shaped("ghu_", 5),
    "ACTIONS_ID_TOKEN_REQUEST_TOKEN": jwt(6),
    "ACTIONS_RUNTIME_TOKEN": jwt(7),
    "AWS_ACCESS_KEY_ID": shaped("AKIA", 8, 16),
    "AWS_SECRET_ACCESS_KEY": shaped("", 9, 40),
    "AWS_SESSION_TOKEN": shaped("IQoJ", 10, 80),
    "KUBE_TOKEN": jwt(11),
    "NPM_TOKEN": shaped("npm_", 12),
    "SLACK_TOKEN": shaped("xoxb-", 13),
    "OPENAI_API_KEY": shaped("sk-", 14, 48),
    "DATABASE_URL": f"postgres://app:{shaped('', 15)}@db.invalid/app",
    "https_proxy": f"http://proxy:{shaped('', 16)}@127.0.0.1:9",
    "GIT_ASKPASS": shaped("/bin/", 17),
    "GIT_CONFIG_COUNT": "1",
    "GIT_CONFIG_KEY_0": "http.extraHeader",
    "GIT_CONFIG_VALUE_0": f"X-Leak: {shaped('', 18)}",
    "VAULT_TOKEN": shaped("hvs.", 19, 90),
    "GITLAB_TOKEN": shaped("glpat-", 20, 20),
    "PYPI_TOKEN": shaped("pypi-", 21, 90),
    "HF_TOKEN": shaped("hf_", 22),
}
TRACES = {
    "GIT_TRACE": "1", "GIT_TRACE_CURL": "1", "GIT_CURL_VERBOSE": "1", "GIT_TRACE_PACKET": "1", "GIT_TRACE_SETUP": "1",
    "GIT_TRACE_REDACT": "0", "GIT_TRACE2": "1", "GIT_TRACE2_EVENT": "1", "GIT_TRACE_CURL_NO_DATA": "0",
    "PYTHONWARNINGS": "default", "PYTHONASYNCIODEBUG": "1",
}  # fmt: skip
IN_LINES = [
    f"2026-03-01T12:00:00Z stderr F Authorization: Bearer {jwt(23)}",
    f'{{"level":"debug","header":"token {shaped("ghp_", 24)}"}}',
    f"pulling https://user:{shaped('', 25)}@registry.invalid/v2/",
    f"export AWS_SECRET_ACCESS_KEY={shaped('', 26, 40)}",
    f"users: [{{name: admin, user: {{token: {jwt(27)}}}}}]",
    f"git clone https://x-access-token:{shaped('ghs_', 28)}@github.com/team/gitops",
    f"-----BEGIN PRIVATE KEY-----{shaped('', 29, 64)}",
    f"PGPASSWORD={shaped('', 30)} psql",
]
IN_FIELDS = {
    "note": shaped("ghr_", 31), "kubernetes.annotations.token": jwt(32), "env": {"WANDB_API_KEY": shaped("", 33, 40)},
    "args": [f"--password={shaped('', 34)}"], shaped("k", 35): 1,
}  # fmt: skip
BRANCHES = [f"feature/{shaped('ghp_', 36)}", f"renovate/{shaped('github_pat_', 37, 60)}"]
COMMENTS = [f"the token is {shaped('ghp_', 38)}", f"/modekeeper {shaped('ghp_', 39)}"]
TITLE = f"Rotate {shaped('glpat-', 40, 20)}"
IN_USE = ("MODEKEEPER_GIT_TOKEN", "MODEKEEPER_GITHUB_TOKEN")


def secrets_of(text: str) -> list[str]:
    """The secret part of a value, and what it looks like for a header."""
    found = text.rpartition("=")[2] if text.startswith(("export", "PGP", "--")) else text
    return [found]


def canaries() -> list[str]:
    """What must not be found, by the part that nothing else has."""
    whole = [*ENVIRONMENT.values(), *IN_LINES, json.dumps(IN_FIELDS), *BRANCHES, *COMMENTS, TITLE]
    marks = {f"CaNaRy{number:02d}" for number in range(1, 41) if any(f"CaNaRy{number:02d}" in one for one in whole)}
    assert len(marks) == 40, sorted(marks)
    return sorted(marks)


@dataclass
class Run:
    """What a turn left behind, and what it said."""

    code: int
    said: bytes
    folders: list[Path]

    def haystack(self) -> Iterator[tuple[str, bytes]]:
        yield "stdout and stderr", self.said
        for folder in self.folders:
            for path in sorted(folder.rglob("*")):
                yield f"the name of {path}", str(path).encode()
                if path.is_file() and not path.is_symlink():
                    yield str(path), path.read_bytes()
        # Loose and packed objects are compressed: looked into by git itself.
        for folder in self.folders:
            for git_dir in [p.parent for p in folder.rglob("HEAD")]:
                yield f"objects of {git_dir}", objects(git_dir)


def objects(git_dir: Path) -> bytes:
    done = subprocess.run(
        ["git", f"--git-dir={git_dir}", "cat-file", "--batch-all-objects", "--batch"], capture_output=True, check=False
    )
    return done.stdout


def telemetry(path: Path) -> None:
    rows = b"".join(SyntheticSource("straggler").chunks()).splitlines()
    lines = []
    for number, row in enumerate(rows):
        record = json.loads(row)
        if number % 10 == 0:
            record |= IN_FIELDS
        lines.append(json.dumps(record))
        if number % 50 == 7:
            lines.append(IN_LINES[number // 50])
    path.write_text("\n".join(lines) + "\n")


def turn(world: HubWorld, folder: Path, name: str) -> Run:
    """A turn in a process of its own, with the canaries around it."""
    key, lines, out, tmp, saved = (folder / name / part for part in ("key.pem", "log.jsonl", "out", "tmp", "saved"))
    tmp.mkdir(parents=True)
    key.write_text(world.app.private_key)
    telemetry(lines)
    told = {"remote": world.remote, "out": str(out), "telemetry": str(lines), "saved": str(saved)}
    env = {
        **{one: os.environ[one] for one in ("PATH", "HOME") if one in os.environ}, **ENVIRONMENT, **TRACES,
        "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1", "TMPDIR": str(tmp), "PYTHONPATH": str(ROOT),
        HTTP_VARIABLE: "1", "MODEKEEPER_GITHUB_APP_ID": str(world.app.id), "MODEKEEPER_GITHUB_APP_KEY_PATH": str(key),
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("canary_run.py")), json.dumps(told)],
        env=env, cwd=folder, capture_output=True, check=False, timeout=180,
    )  # fmt: skip
    return Run(done.returncode, done.stdout + b"\n" + done.stderr, [out, saved, tmp])


def headers_of(world: HubWorld) -> list[str]:
    return [r.headers.get("Authorization", "") for r in world.hub.requests]


def tokens_in_use(world: HubWorld) -> list[str]:
    """The App's own: what it was given, what it signed, and its key."""
    shown = [header.split()[-1] for header in headers_of(world) if header]
    minted = [token for token in world.hub.tokens if token.startswith("ghs_")]
    key = [line for line in world.app.private_key.splitlines() if "KEY" not in line][:3]
    basic = [base64.b64encode(f"x-access-token:{token}".encode()).decode() for token in minted]
    return sorted({*shown, *minted, *key, *basic})


def sent(world: HubWorld) -> Iterator[tuple[str, str]]:
    for number, r in enumerate(world.hub.requests):
        where = f"request {number}, {r.method} {r.path}"
        yield where, r.path + json.dumps(r.query) + json.dumps(r.body)
        yield f"headers of {where}", json.dumps({k: v for k, v in r.headers.items() if k != "Authorization"})


FAULTS: dict[str, tuple[str, str, Callable[[], Fault]] | None] = {
    "all is well": None,
    "the API breaks down": ("POST", "/pulls$", lambda: Fault.status(502)),
    "a push is cut off": ("POST", "git-receive-pack", Fault.drop),
    "a fetch is refused": ("GET", "upload-pack", lambda: Fault.status(403)),
    "the merge gets no answer": ("PUT", "/merge$", Fault.drop_after),
    "a token is not known": ("GET", "/pulls", lambda: Fault.status(401)),
    "no token is given": ("POST", "access_tokens", lambda: Fault.status(403)),
    "an answer is no JSON": ("GET", "/rules/", lambda: Fault.status(200, "x")),
}


@pytest.fixture
def world(embedded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubWorld]:
    clock = StandingClock(at=datetime.now(UTC))
    with hub_world(tmp_path / "hub", embedded, monkeypatch, validate=False, clock=clock) as made:
        made.configure(b"kind: github", b"kind: github\n  dashboard: true")
        for branch in BRANCHES:
            made.hub.move(made.repo, branch, made.tip())
        theirs = made.hub.commit(made.repo, BRANCHES[0], {"theirs": b"x"}, by=made.alice)
        assert theirs
        made.hub.open_pr(made.repo, BRANCHES[0], by=made.alice, title=TITLE, body=COMMENTS[0])
        yield made


@pytest.mark.parametrize("what", FAULTS)
def test_no_secret_is_written_or_sent(world: HubWorld, tmp_path: Path, what: str) -> None:
    fault = FAULTS[what]
    if fault is not None:
        method, path, make = fault
        world.hub.faults.add(method, path, make(), times=99 if "fetch" in what or "no token" in what else 3)
    runs = [turn(world, tmp_path, "first")]
    if fault is None:
        assert runs[0].code == 0, runs[0].said.decode()[-3000:]
        (ours,) = [pull for pull in world.repo.pulls if pull.issue.user is world.app.bot]
        assert ours.merged
        for text in COMMENTS:
            world.hub.comment(ours, world.alice, text)
        runs.append(turn(world, tmp_path, "second"))
    else:
        assert runs[0].code != 0 or what in ("the merge gets no answer", "a token is not known"), runs[0].said.decode()[
            -2000:
        ]
    assert b"urllib3" in runs[0].said, "everything is logged at DEBUG"
    marks = [*canaries(), *tokens_in_use(world)]
    for run in runs:
        for where, data in run.haystack():
            found = [mark for mark in marks if mark.encode() in data]
            assert found == [], f"{what}: {where}"
    # What others wrote on GitHub stands there; nothing of it comes from us.
    for where, text in sent(world):
        assert [mark for mark in marks if mark in text] == [], f"{what}: {where}"
    pushed = [
        world.server.run("cat-file", "-p", sha).decode() for name, sha in world.refs().items() if "heads/m" in name
    ]
    assert [mark for mark in marks for text in pushed if mark in text] == []
    said = [*(c.body for c in world.repo.comments.values() if c.user is world.app.bot)]
    said += [i.body or "" for i in world.repo.issues.values() if i.user is world.app.bot]
    assert [mark for mark in marks for text in said if mark in text] == []


def test_each_token_goes_into_the_header_that_it_is_for_and_nowhere_else(world: HubWorld, tmp_path: Path) -> None:
    turn(world, tmp_path, "only")
    for request in world.hub.requests:
        shown = request.headers.get("Authorization", "")
        git = not request.path.startswith("/api/")
        assert shown.startswith("Basic " if git else ("token ", "Bearer "))
        value = base64.b64decode(shown.split()[1]).decode() if git else shown
        assert "ghs_" in value or value.count(".") == 2
    assert not any("CaNaRy" in header for header in headers_of(world)), "where there is an App, no other token is used"


@pytest.mark.parametrize("scheme", ["https", "http", "ssh"])
def test_a_password_in_a_remote_is_not_told(scheme: str) -> None:
    remote = f"{scheme}://user:{shaped('', 15)}@127.0.0.1:9/team/gitops.git"
    with pytest.raises(MkError) as caught:
        Clone(remote, ("+refs/heads/*:refs/heads/*",))
    told = f"{caught.value.message} {caught.value.hint}"
    assert "CaNaRy" not in told
    if scheme != "http":
        assert "CaNaRy" not in repr(address_of(remote))
