"""The wheel: what a stranger installs has its templates and answers from any folder."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_wheel_is_whole(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    [wheel] = tmp_path.glob("gitops_mk-*.whl")
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        archive.extractall(site)
    for template in (p for p in (ROOT / "templates").rglob("*") if p.is_file()):
        assert f"gitops_mk/templates/{template.relative_to(ROOT / 'templates')}" in names
    assert not any(name.startswith("tests/") for name in names)
    assert any(name.endswith("licenses/LICENSE") for name in names)
    env = {**os.environ, "PYTHONPATH": str(site)}
    code = "import gitops_mk, sys; assert gitops_mk.__file__.startswith(sys.argv.pop()), gitops_mk.__file__; from gitops_mk.__main__ import main; sys.exit(main())"
    out = str(tmp_path / "o")
    done = subprocess.run(
        [sys.executable, "-c", code, "closed-loop", "run", "--scenario", "drift", "--out", out, str(site)],
        cwd=tmp_path, env=env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "DRIFT-RETUNE planned" in done.stdout
