"""Writes a ConfigMap's data into a folder as the kubelet does: all at once, by moving one link."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from gitops_mk.demo.knob_files import DATA_LINK


def project(folder: Path, data: Mapping[str, str]) -> None:
    """Make the mounted folder hold exactly `data`, a file a key, by one rename of `..data`; then remove what was before.

    Method: the kubelet's atomic writer (Kubernetes, pkg/volume/util/atomic_writer.go): a new folder with the files, a link to
    it under another name, that link renamed over `..data`, and beside it a link for each key that goes by way of `..data`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    link = folder / DATA_LINK
    before = folder / link.readlink() if link.is_symlink() else None
    # Never a name that was there before: readers tell by it that something changed.
    new = Path(tempfile.mkdtemp(prefix=f"..{time.time_ns()}.", dir=folder))
    for key, text in data.items():
        (new / key).write_text(text, encoding="utf-8")
    scratch = folder / f"{DATA_LINK}_tmp"
    scratch.unlink(missing_ok=True)
    scratch.symlink_to(new.name)
    scratch.rename(link)
    for path in folder.iterdir():
        if not path.name.startswith("..") and path.name not in data:
            path.unlink()
    for key in data:
        if not (folder / key).is_symlink():
            (folder / key).symlink_to(f"{DATA_LINK}/{key}")
    if before is not None:
        shutil.rmtree(before)
