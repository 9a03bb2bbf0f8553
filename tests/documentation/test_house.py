"""Rules of the house that no linter knows: one way to a permit, no shell, nothing executed, nothing unpinned."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "gitops_mk"


def modules() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        yield str(path.relative_to(PACKAGE)), ast.parse(path.read_text())


def names(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.ImportFrom):
            yield from (alias.name for alias in node.names)


def test_only_the_gate_claims_the_seal() -> None:
    users = {path for path, tree in modules() if {"claim_seal", "_THE_SEAL", "_seals"} & set(names(tree))}
    assert users == {"core/gate.py", "model/permit.py"}


def test_only_the_gate_makes_permits() -> None:
    makers = {
        path
        for path, tree in modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Permit"
    }
    assert makers == {"core/gate.py"}


def test_merge_is_called_in_one_place() -> None:
    callers = {
        path
        for path, tree in modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "merge"
    }
    # The fence only hands on the permit that it was given.
    assert callers == {"controller/apply.py", "controller/fenced.py"}


def test_no_shell_and_no_evaluation() -> None:
    for path, tree in modules():
        for node in ast.walk(tree):
            if isinstance(node, ast.keyword) and node.arg == "shell":
                pytest.fail(f"{path}:{node.value.lineno} uses a shell")
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in {"eval", "exec", "compile", "__import__"}, f"{path}:{node.lineno}"
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                assert ast.unparse(node.func) not in {"os.system", "os.popen", "pickle.loads", "yaml.load"}, (
                    f"{path}:{node.lineno}"
                )


def test_no_assert_guards_anything() -> None:
    for path, tree in modules():
        for node in ast.walk(tree):
            assert not isinstance(node, ast.Assert), f"{path}:{node.lineno}: python -O would drop it"


def test_processes_are_started_by_few() -> None:
    users = {path for path, tree in modules() if "subprocess" in set(imported(tree))}
    assert users <= {
        "adapters/children.py", "adapters/git.py", "adapters/kustomize_command.py", "adapters/kustomize_install.py", "config.py",
        "demo/gates.py", "demo/runner.py",
    }  # fmt: skip


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def test_every_public_thing_in_the_package_has_a_docstring() -> None:
    for path, tree in modules():
        assert ast.get_docstring(tree) or path == "_version.py", path


def test_the_lock_has_a_hash_for_every_package_and_no_address() -> None:
    text = (ROOT / "requirements.lock").read_text()
    assert "://" not in text
    packages = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]
    assert len(packages) > 20
    for package in packages:
        assert "--hash=sha256:" in package, package.splitlines()[0]
        assert re.match(r"[a-z0-9-]+==", package), package.splitlines()[0]


def test_workflows_pin_by_commit() -> None:
    for path in (ROOT / ".github").rglob("*.yml"):
        for line in path.read_text().splitlines():
            used = re.search(r"uses:\s*(\S+)", line)
            if used and not used[1].startswith(("./", "$/")):
                assert re.search(r"@[0-9a-f]{40}$", used[1]), f"{path.name}: {used[1]}"


def test_templates_ship_in_the_wheel() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    assert 'templates = "gitops_mk/templates"' in text
