"""Builds overlays with the kustomize on this machine: `ports.ManifestBuilder`.

Only files that the prescan (`core.kustomization`) reached are handed over, in a folder of their own. No option that
enables plugins or Helm is ever given.
"""

from __future__ import annotations

import re
import tempfile
import threading
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from gitops_mk.adapters.kustomize_command import Command, find_command, run
from gitops_mk.adapters.leftout import LeftOut
from gitops_mk.errors import InputError, ManifestError

_MAX_MESSAGE = 1500


class Kustomize:
    """Builds with `command`, or with the one that `find_command` finds at the first use."""

    def __init__(
        self, command: Command | None = None, *, timeout_s: float = 60.0, max_output: int = 64 * 1024 * 1024
    ) -> None:
        self._command = command
        self._finding = threading.Lock()
        self._timeout_s = timeout_s
        self._max_output = max_output

    def build(self, files: Mapping[str, bytes], overlay: str) -> str:
        """The YAML that `overlay` builds from a tree given as path -> bytes.

        Raises ManifestError: for what the prescan refuses before anything runs, and with kustomize's own words.
        """
        # The reader of YAML is a part of a command's start that need not be waited for before the program is looked for.
        from gitops_mk.core import kustomization

        try:
            reached = kustomization.closure(files, overlay)
        except InputError as exc:
            named = [path for path, content in files.items() if isinstance(content, LeftOut) and path in exc.message]
            _refuse_left_out(files, named)
            raise ManifestError(exc.message, hint=exc.hint) from exc
        _refuse_left_out(files, sorted(reached.files))
        command = self._found()
        with tempfile.TemporaryDirectory(prefix="mk-build-") as folder:
            root = Path(folder).resolve()
            tree = root / "tree"
            _materialise({path: files[path] for path in reached.files}, tree)
            argv = [*command.argv, str(tree / overlay)]
            outcome = run(argv, root, timeout_s=self._timeout_s, max_output=self._max_output)
        if outcome.status != 0:
            raise ManifestError(
                f"{command} can't build {overlay!r}: {_words(outcome.err, tree)}",
                hint=f"see it with: {Path(command.argv[0]).name} {command.argv[1]} {overlay}",
            )
        try:
            return outcome.out.decode("utf-8")
        except UnicodeDecodeError as exc:
            raise ManifestError(f"{command} wrote no UTF-8 for {overlay!r}") from exc

    def closure(self, files: Mapping[str, bytes], overlay: str) -> frozenset[str]:
        """The files that a build of `overlay` reads. Raises InputError for what can't be built offline."""
        from gitops_mk.core import kustomization

        return kustomization.closure(files, overlay).files

    def version(self) -> str:
        """What is used, for reports: `kustomize v5.8.1`, or `kubectl kustomize v5.5.0`. Raises ManifestError."""
        return str(self._found())

    def warm(self) -> None:
        """Look for the program in the background: it is asked for its version, which takes as long as a build."""

        def find() -> None:
            # Whoever builds first is told what is missing.
            with suppress(ManifestError):
                self._found()

        threading.Thread(target=find, name="kustomize").start()

    def _found(self) -> Command:
        with self._finding:
            if self._command is None:
                self._command = find_command()
            return self._command


def _refuse_left_out(files: Mapping[str, bytes], paths: Iterable[str]) -> None:
    for path in paths:
        content = files[path]
        if isinstance(content, LeftOut):
            raise ManifestError(
                f"the overlay needs a file that is too large: {content.why}",
                hint="split it, or keep it out of what the overlay builds on",
            )


def _materialise(files: Mapping[str, bytes], tree: Path) -> None:
    try:
        for path, content in files.items():
            parts = path.split("/")
            if {"", ".", ".."} & set(parts) or "\0" in path:
                raise ManifestError(f"{path!r} is not a plain path inside the repository")
            place = tree.joinpath(*parts)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
    except OSError as exc:
        raise ManifestError(f"can't lay out the files of the build: {exc.strerror}", retryable=True) from exc


def _words(stderr: bytes, tree: Path) -> str:
    """What kustomize said, on one line and without our folder's name; of a long text its two ends."""
    text = stderr.decode("utf-8", "replace").replace(f"{tree}/", "").replace(str(tree), ".")
    said = " ".join(line.strip() for line in text.splitlines() if line.strip() and not line.startswith("# Warning"))
    said = re.sub(r'^E\d{4} \S+\s+\d+ \S+\] "command failed" err=', "", said)
    said = re.sub(r"^error: ", "", said, flags=re.IGNORECASE)
    if len(said) > _MAX_MESSAGE:
        said = f"{said[: _MAX_MESSAGE // 3]} … {said[-2 * _MAX_MESSAGE // 3 :]}"
    return said or "it gave no reason"
