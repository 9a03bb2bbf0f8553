"""What `ports.ManifestBuilder` promises, held against every real kustomize on this machine."""

from __future__ import annotations

import http.server
import os
import shutil
import stat
import struct
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gitops_mk.adapters import kustomize_command
from gitops_mk.adapters.go_build import module_version
from gitops_mk.adapters.kustomize import Kustomize
from gitops_mk.adapters.kustomize_command import ENV_COMMAND, Command, find_command, probe
from gitops_mk.adapters.leftout import LeftOut
from gitops_mk.errors import InputError, ManifestError

CONFIG_MAP = b"apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\ndata: {k: '1'}\n"


def real_commands() -> list[Command]:
    """Every usable binary; without one these tests would prove nothing, so that is an error."""
    paths = [os.environ.get(ENV_COMMAND), shutil.which("kustomize"), shutil.which("kubectl")]
    probed = [probe(path) for path in dict.fromkeys(paths) if path]
    usable = [command for command in probed if isinstance(command, Command)]
    if not usable:
        raise RuntimeError(
            "no kustomize on this machine: run python -m gitops_mk.adapters.kustomize_install --into DIR"
        )
    return usable


@pytest.fixture(params=real_commands(), ids=str)
def kustomize(request: pytest.FixtureRequest) -> Kustomize:
    command: Command = request.param
    return Kustomize(command)


def overlay(text: str) -> dict[str, bytes]:
    return {"o/kustomization.yaml": text.encode(), "o/a.yaml": CONFIG_MAP, "base/kustomization.yaml": b"", "x": b"\xff"}


def test_it_builds_what_the_overlay_says(kustomize: Kustomize) -> None:
    files = overlay("resources: [../base]\nnamePrefix: p-\ncomponents: [c]\n") | {
        "base/kustomization.yaml": b"resources:\r\n- a.yaml\r\n",
        "base/a.yaml": CONFIG_MAP,
        "o/c/kustomization.yaml": b"apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\npatches: [{path: p.yaml}]\n",
        "o/c/p.yaml": b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {k: '2'}\n",
    }
    expected = 'apiVersion: v1\ndata:\n  k: "2"\nkind: ConfigMap\nmetadata:\n  name: p-a\n'
    assert kustomize.build(files, "o").replace("'", '"') == expected
    assert kustomize.build(files, "o") == kustomize.build(dict(reversed(files.items())), "o")
    assert kustomize.closure(files, "o") == set(files) - {"o/a.yaml", "x"}


def test_the_root_of_the_repository_can_be_the_overlay(kustomize: Kustomize) -> None:
    assert "name: a" in kustomize.build({"kustomization.yml": b"resources: [a.yaml]\n", "a.yaml": CONFIG_MAP}, ".")


def test_the_version_is_told(kustomize: Kustomize) -> None:
    assert kustomize.version().split()[-1].startswith("v5.")


def test_an_error_carries_kustomizes_words_and_no_path_of_ours(kustomize: Kustomize) -> None:
    files = overlay(
        "resources: [a.yaml]\npatches: [{patch: '{kind: X, metadata: {name: n}}', target: {}}, {path: b.yaml}]"
    )
    files["o/b.yaml"] = b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: other}\n"
    with pytest.raises(ManifestError, match=r"can't build 'o': .*other") as caught:
        kustomize.build(files, "o")
    assert "mk-build-" not in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.hint is not None


def test_a_very_long_error_is_cut(kustomize: Kustomize) -> None:
    files = overlay("resources: [a.yaml]\npatches: [{path: p.yaml}]\n")
    files["o/p.yaml"] = CONFIG_MAP.replace(b"name: a", b"name: " + b"x" * 20_000)
    with pytest.raises(ManifestError, match=r"can't build 'o': .* … .*") as caught:
        kustomize.build(files, "o")
    assert 1000 < len(caught.value.message) < 2000


@pytest.fixture
def listener() -> Iterator[tuple[str, list[str]]]:
    """A server on this machine that notes who asks it for something."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(CONFIG_MAP)

        def log_message(self, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    "text",
    [
        "resources: [URL/a.yaml]",
        "Resources: [URL/a.yaml]",
        'resources: ["\\x68\\x74\\x74\\x70URLTAIL/a.yaml"]',
        "bases: [URL/repo.git]",
        "components: ['git::URL/repo']",
        "patches: [{path: URL/p.yaml}]",
        "patchesStrategicMerge: ['URL/: p']",
        "configMapGenerator: [{name: c, files: [k=URL/f]}]",
        "transformers: [URL/t.yaml]",
        "helmCharts: [{name: x, repo: URL}]",
        "crds: [URL/c.yaml]",
        "openapi: {path: URL/o.json}",
        "replacements: [{path: URL/r.yaml}]",
        "resources: [../../outside]",
        "resources: [/etc]",
        "resources: [github.com/org/repo?ref=v1]",
        "transformers: [exec.yaml]",
    ],
)
def test_whatever_is_remote_or_runs_is_refused_before_anything_starts(
    text: str, listener: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(*args: object, **kwargs: object) -> None:
        raise AssertionError("a program was started")

    url, asked = listener
    monkeypatch.setattr("gitops_mk.adapters.kustomize.run", start)
    files = overlay(text.replace("URLTAIL", url.removeprefix("http")).replace("URL", url))
    files["o/exec.yaml"] = b"apiVersion: team/v1\nkind: Exec\nmetadata: {name: x}\n"
    with pytest.raises(ManifestError) as caught:
        Kustomize(Command(("/nowhere/kustomize", "build"), "v5.0.0")).build(files, "o")
    assert isinstance(caught.value.__cause__, InputError)
    assert asked == []


def test_what_slips_through_meets_no_network(kustomize: Kustomize, listener: tuple[str, list[str]]) -> None:
    """The second line of defence: with the prescan out of the way, the request still reaches nobody but loopback."""
    from gitops_mk.core import kustomization

    url, asked = listener
    far = "http://example.invalid/a.yaml"
    files = overlay(f"resources: [{far}]")
    reached = kustomization.Closure("o", frozenset({"o/kustomization.yaml"}), frozenset({"o"}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HTTP_PROXY", url)
        patch.setenv("http_proxy", url)
        patch.setattr(kustomization, "closure", lambda files, overlay: reached)
        with pytest.raises(ManifestError, match=r"127\.0\.0\.1:9"):
            kustomize.build(files, "o")
    assert asked == []


def script(folder: Path, body: str, name: str = "kustomize") -> str:
    path = folder / name
    path.write_text(f"#!{sys.executable}\nimport os, sys, time\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def fake(folder: Path, body: str) -> Command:
    return Command((script(folder, body), "build"), "v5.9.9")


def test_the_environment_leads_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "x")
    body = "print(sorted(k for k in os.environ if k != 'LC_CTYPE'), os.listdir(os.environ['PATH']), os.listdir(os.environ['HOME']))"
    told = Kustomize(fake(tmp_path, body)).build(overlay("resources: [a.yaml]"), "o")
    assert "SECRET_TOKEN" not in told
    assert "https_proxy" in told
    assert told.strip().endswith("[] []")


def test_only_what_the_overlay_reaches_is_handed_over(tmp_path: Path) -> None:
    body = "print(sorted(f for _, _, found in os.walk(sys.argv[2] + '/..') for f in found))"
    told = Kustomize(fake(tmp_path, body)).build(overlay("resources: [a.yaml]"), "o")
    assert told.strip() == "['a.yaml', 'kustomization.yaml']"


def test_too_much_output_too_much_time_and_nonsense_are_errors(tmp_path: Path) -> None:
    files = overlay("resources: [a.yaml]")
    with pytest.raises(ManifestError, match="wrote more than 1000 bytes"):
        Kustomize(fake(tmp_path, "while True: print('x' * 1000)"), max_output=1000).build(files, "o")
    with pytest.raises(ManifestError, match=r"took longer than 0\.5 s"):
        Kustomize(
            fake(
                tmp_path,
                "os.spawnlp(os.P_NOWAIT, sys.executable, sys.executable, '-c', 'while True: pass')\ntime.sleep(600)",
            ),
            timeout_s=0.5,
        ).build(files, "o")
    with pytest.raises(ManifestError, match="wrote no UTF-8"):
        Kustomize(fake(tmp_path, r"sys.stdout.buffer.write(b'\xff')")).build(files, "o")
    with pytest.raises(ManifestError, match="it gave no reason"):
        Kustomize(fake(tmp_path, "sys.exit(3)")).build(files, "o")
    with pytest.raises(ManifestError, match="can't be run: No such file"):
        Kustomize(Command((str(tmp_path / "gone"), "build"), "v5.0.0")).build(files, "o")


@pytest.mark.parametrize("path", ["o/../../x", "/abs", "o//x", "o/\0"])
def test_a_path_that_is_no_plain_path_is_never_written(path: str) -> None:
    from gitops_mk.adapters.kustomize import _materialise

    with pytest.raises(ManifestError, match="not a plain path"):
        _materialise({path: b""}, Path("/nonexistent"))


def test_a_tree_that_no_disk_can_hold_is_an_error(tmp_path: Path) -> None:
    from gitops_mk.adapters.kustomize import _materialise

    with pytest.raises(ManifestError, match="can't lay out the files"):
        _materialise({"a": b"", "a/b": b""}, tmp_path)


def test_the_first_usable_program_is_taken(tmp_path: Path) -> None:
    old = tmp_path / "old"
    old.mkdir()
    script(old, "print('{Version:kustomize/v4.5.7 GitCommit:x}')")
    new = tmp_path / "new"
    new.mkdir()
    kubectl = script(new, 'print(\'{"clientVersion": {}, "kustomizeVersion": "v5.4.2"}\')', "kubectl")
    found = find_command({"PATH": f"{old}{os.pathsep}{new}"})
    assert found == Command((kubectl, "kustomize"), "v5.4.2")
    assert str(found) == "kubectl kustomize v5.4.2"
    with pytest.raises(ManifestError, match=r"is kustomize v4\.5\.7, expected v5 or newer"):
        find_command({"PATH": f"{old}{os.pathsep}{new}", ENV_COMMAND: str(old / "kustomize")})


@pytest.mark.parametrize("body", ["print('hello')", "print('v5.0.0'); sys.exit(1)", "sys.exit('broken')"])
def test_a_program_that_tells_no_version_is_not_used(tmp_path: Path, body: str) -> None:
    script(tmp_path, body)
    with pytest.raises(ManifestError, match="tells no version of kustomize"):
        find_command({"PATH": str(tmp_path)})


def test_without_any_program_the_error_says_how_to_get_one() -> None:
    with pytest.raises(ManifestError, match="no kustomize and no kubectl on the PATH") as caught:
        find_command({"PATH": "/nonexistent"})
    assert "kustomize_install" in (caught.value.hint or "")
    with pytest.raises(ManifestError, match="/nonexistent/kustomize can't be run"):
        find_command({"PATH": "", ENV_COMMAND: "/nonexistent/kustomize"})


def test_the_program_is_looked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    command = real_commands()[0]

    def find() -> Command:
        calls.append(1)
        return command

    monkeypatch.setattr("gitops_mk.adapters.kustomize.find_command", find)
    builder = Kustomize()
    assert calls == []
    assert builder.version() == builder.version() == str(command)
    assert calls == [1]


def test_a_file_too_large_to_read_is_named_when_a_build_needs_it(kustomize: Kustomize) -> None:
    files = overlay("resources: [a.yaml]\n")
    beside = files | {"big.bin": LeftOut("big.bin", "0" * 40, 9, 4)}
    assert "name: a" in kustomize.build(beside, "o")
    for path in ("o/a.yaml", "o/kustomization.yaml"):
        with pytest.raises(ManifestError, match="too large") as caught:
            kustomize.build(files | {path: LeftOut(path, "0" * 40, 9, 4)}, "o")
        assert f"{path} has 9 bytes, more than the 4" in caught.value.message


class TestGoBuild:
    """What a Go program's file tells of its build; any other file tells nothing, and none of them is run."""

    MODULE = r"sigs\.k8s\.io/kustomize/kustomize/v\d+"

    def program(self, tmp_path: Path, info: bytes, *, flags: int = 2, name: bytes = b".go.buildinfo") -> Path:
        """An ELF file with nothing but that section and the names of sections."""
        version, modules = b"go1.23.8", b"0123456789abcdef" + info + b"fedcba9876543210"
        content = b"\xff Go buildinf:" + bytes([8, flags]) + bytes(16)
        for text in (version, modules):
            size = len(text)
            while size > 0x7F:
                content += bytes([size & 0x7F | 0x80])
                size >>= 7
            content += bytes([size]) + text
        names = b"\0" + name + b"\0.shstrtab\0"
        table = 64 + len(content) + len(names)
        headers = bytes(64)
        for at, start, length in ((1, 64, len(content)), (len(name) + 2, 64 + len(content), len(names))):
            headers += struct.pack("<I20xQQ24x", at, start, length)
        head = b"\x7fELF\x02\x01".ljust(40, b"\0") + struct.pack("<Q10xHHH", table, 64, 3, 2)
        path = tmp_path / "program"
        path.write_bytes(head + content + names + headers)
        return path

    @pytest.mark.parametrize(
        ("info", "version"),
        [
            (b"path\tx\nmod\tsigs.k8s.io/kustomize/kustomize/v5\tv5.8.1\th1:x=\n", "v5.8.1"),
            (b"mod\tk8s.io/kubectl\t(devel)\t\ndep\tsigs.k8s.io/kustomize/kustomize/v5\tv5.5.0\t\nx\n", "v5.5.0"),
            (b"dep\tsigs.k8s.io/kustomize/kustomize/v5\tv5.5.0\t\n=>\t./mine\tv0.0.0\n", None),
            (b"mod\tsigs.k8s.io/kustomize/kustomize/v5\t(devel)\t\n", None),
            (b"dep\tsigs.k8s.io/kustomize/api\tv0.18.0\t\n" * 50, None),
        ],
    )
    def test_a_version_is_read(self, tmp_path: Path, info: bytes, version: str | None) -> None:
        assert module_version(self.program(tmp_path, info), self.MODULE) == version

    def test_a_file_that_does_not_tell(self, tmp_path: Path) -> None:
        info = b"mod\tsigs.k8s.io/kustomize/kustomize/v5\tv5.8.1\t\n"
        assert module_version(self.program(tmp_path, info, flags=0), self.MODULE) is None
        assert module_version(self.program(tmp_path, info, name=b".data"), self.MODULE) is None
        assert module_version(tmp_path / "none", self.MODULE) is None
        assert module_version(tmp_path, self.MODULE) is None
        whole = self.program(tmp_path, info).read_bytes()
        for end in range(0, len(whole), 7):
            (tmp_path / "cut").write_bytes(whole[:end])
            assert module_version(tmp_path / "cut", self.MODULE) is None

    def test_it_is_what_the_program_says(self) -> None:
        for command in real_commands():
            read = module_version(Path(command.argv[0]), self.MODULE)
            text, _ = kustomize_command._told(command.argv[0])
            assert read in (None, text)
