"""The formats that can be asked for by name, in the order in which they are tried. Nothing slow is imported here."""

from __future__ import annotations

FORMATS = (
    "jsonl",
    "csv",
    "lightning-csv",
    "torchtitan",
    "megatron",
    "deepspeed",
    "hf-trainer",
    "ray",
    "logfmt",
)
UNKNOWN_FORMAT = "unknown"
