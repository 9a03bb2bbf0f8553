"""The locks of the action: in step with the product's, whole, and enough for what the action runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.actions.conftest import Hub, left, whole_env

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / ".github/actions/verify"
LOCKS = ["requirements", "cluster"]


def locked(path: Path) -> dict[str, frozenset[str]]:
    """The hashes by `name==version`, and its marker."""
    found = {}
    for block in re.split(r"^(?=[a-z0-9])", path.read_text(), flags=re.MULTILINE)[1:]:
        head = block.split("\\")[0].split("#")[0].strip()
        found[head] = frozenset(re.findall(r"--hash=(sha256:[0-9a-f]{64})", block))
    return found


def name_of(requirement: str) -> str:
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert match is not None
    return re.sub(r"[-_.]+", "-", match[0]).lower()


def asked(path: Path) -> set[str]:
    return {name_of(line) for line in path.read_text().splitlines() if re.match(r"[a-z]", line)}


@pytest.mark.parametrize("lock", LOCKS)
def test_in_step_with_the_products_own(lock: str) -> None:
    """`make lock` makes that; then see docs/github.md for these."""
    whole = {head.split(" ;")[0]: hashes for head, hashes in locked(ROOT / "requirements.lock").items()}
    for head, hashes in locked(FOLDER / f"{lock}.lock").items():
        pin = head.split(" ;")[0]
        assert re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*", pin)
        assert hashes
        assert whole.get(pin) == hashes, f"{pin} is not what requirements.lock has"


@pytest.mark.parametrize("lock", LOCKS)
def test_what_is_asked_for_is_a_dependency_and_in_the_lock(lock: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = asked(FOLDER / f"{lock}.in")
    assert names
    assert names <= {name_of(one) for one in project["dependencies"]}
    assert names <= {head.partition("==")[0] for head in locked(FOLDER / f"{lock}.lock")}
    assert "://" not in (FOLDER / f"{lock}.lock").read_text()


@pytest.fixture(scope="module")
def folder_of_the_lock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which nothing can be imported but what the small lock names, as it is installed here."""
    target = tmp_path_factory.mktemp("site")
    here = next(Path(path) for path in sys.path if path.endswith("site-packages"))
    for head in locked(FOLDER / "requirements.lock"):
        name, _, version = head.split(" ;")[0].partition("==")
        infos = [path for path in here.glob("*.dist-info") if name_of(path.name.split("-")[0]) == name]
        assert len(infos) == 1, f"{name} is not installed"
        assert infos[0].name.removesuffix(".dist-info").split("-")[1] == version, (
            f"{infos[0].name}: expected {version}; run make install"
        )
        for line in (infos[0] / "RECORD").read_text().splitlines():
            top = line.split(",")[0].split("/")[0]
            if top not in ("..", "__pycache__") and not (target / top).exists():
                (target / top).symlink_to(here / top)
    (target / "modekeeper.pth").write_text(f"{ROOT}\n")
    return target


def test_verify_runs_on_the_small_lock_alone(hub: Hub, folder_of_the_lock: Path) -> None:
    """With the folders of this environment out of sight."""
    hub.pull_request()
    code = (
        "import site, sys\n"
        f"sys.path[:] = [p for p in sys.path if 'site-packages' not in p]; site.addsitedir({str(folder_of_the_lock)!r})\n"
        "from gitops_mk.__main__ import main\n"
        "sys.exit(main())"
    )
    argv = [
        sys.executable,
        "-I",
        "-S",
        "-c",
        code,
        "verify",
        "--repo",
        str(hub.checkout),
        "--out",
        str(hub.folder / "report"),
    ]
    done = subprocess.run(argv, env=whole_env(hub.folder), capture_output=True, text=True, check=False)
    ran = left(hub.folder, done.returncode, done.stdout, done.stderr)
    assert ran.code == 0, done.stdout + done.stderr
    assert ran.outputs["verify_ok"] == "true"


def test_the_small_lock_is_small(folder_of_the_lock: Path) -> None:
    assert not any((folder_of_the_lock / name).exists() for name in ("numpy", "kubernetes", "github", "cryptography"))


def test_a_python_that_is_too_old_is_told(tmp_path: Path) -> None:
    old = tmp_path / "python3"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    env = {**os.environ, "MK_PYTHON": str(old), "RUNNER_TEMP": str(tmp_path), "GITHUB_OUTPUT": str(tmp_path / "out")}
    done = subprocess.run(
        ["bash", str(FOLDER / "install.sh")], env=env, capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 2
    assert done.stdout.startswith("::error title=modekeeper verify::Python 3.11 or newer is needed")
    assert not (tmp_path / "out").exists()
