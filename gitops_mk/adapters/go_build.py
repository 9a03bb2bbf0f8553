"""Which version of a module a Go program was built with: read from the program's file, where starting it takes as long as a build.

Programs of Go 1.18 and newer carry it (`go version -m` prints it), in the ELF section `.go.buildinfo`. Standard library only.
"""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import BinaryIO, Final

_ELF64_LITTLE: Final = b"\x7fELF\x02\x01"
_MAGIC: Final = b"\xff Go buildinf:"
_INLINE: Final = 2
_MAX_SECTION: Final = 4 * 1024 * 1024


def module_version(path: Path, module: str) -> str | None:
    """The version of the main module or dependency `module`, a regular expression; None where the file doesn't tell."""
    try:
        with path.open("rb") as file:
            info = _build_info(file)
    except (OSError, struct.error, IndexError, ValueError):
        return None
    # A dependency that was replaced (`=>` on the next line) is of another version than it says.
    found = re.search(rf"^(?:mod|dep)\t{module}\t(v[^\t\n]+)(?:\t[^\n]*)?\n(?!=>)", info, re.MULTILINE)
    return found[1] if found is not None else None


def _build_info(file: BinaryIO) -> str:
    data = _section(file, b".go.buildinfo")
    if not data.startswith(_MAGIC) or not data[15] & _INLINE:
        return ""
    # The compiler's version comes first, then the modules, each behind its length.
    at = 32
    for _ in range(2):
        size, start = _number(data, at)
        at = start + size
    return data[start:at].decode("utf-8", "replace")


def _section(file: BinaryIO, wanted: bytes) -> bytes:
    """The content of a section by name (ELF-64 object file format), empty where there is none."""
    head = file.read(64)
    if not head.startswith(_ELF64_LITTLE):
        return b""
    (table,) = struct.unpack_from("<Q", head, 40)
    width, count, named = struct.unpack_from("<HHH", head, 58)
    headers = [struct.unpack_from("<I20xQQ", _at(file, table + width * number, width)) for number in range(count)]
    _, start, size = headers[named]
    names = _at(file, start, size)
    for name, start, size in headers:
        if names[name : name + len(wanted) + 1] == wanted + b"\0":
            return _at(file, start, size)
    return b""


def _at(file: BinaryIO, start: int, size: int) -> bytes:
    file.seek(start)
    return file.read(min(size, _MAX_SECTION))


def _number(data: bytes, at: int) -> tuple[int, int]:
    """A number of seven bits a byte, and where it ends (encoding/binary: Uvarint)."""
    value = shift = 0
    while data[at] & 0x80:
        value |= (data[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
    return value | data[at] << shift, at + 1
