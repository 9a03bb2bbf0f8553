"""Knobs: the tunables of a training job, each an integer held as a pod-template annotation, or under its name in a ConfigMap."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated

from pydantic import Field, StringConstraints

from gitops_mk.model.base import Frozen

ANNOTATION_PREFIX = "modekeeper/knob."
KNOB_NAME_PATTERN = r"^[a-z][a-z0-9_]{0,47}$"

KnobName = Annotated[str, StringConstraints(pattern=KNOB_NAME_PATTERN)]
MAX_VALUE = 2**31 - 1
KnobValue = Annotated[int, Field(strict=True, ge=0, le=MAX_VALUE)]

MAX_DIGITS = 10

_NAME = re.compile(KNOB_NAME_PATTERN.replace("$", r"\Z"))

KNOWN_KNOBS: Mapping[str, str] = {
    "grad_accum_steps": "microbatches accumulated before one optimizer step",
    "microbatch_size": "samples per forward and backward pass on one worker",
    "dataloader_num_workers": "processes that load data, per worker",
    "dataloader_prefetch_factor": "batches each loader process keeps ready",
    "concurrency": "requests or tasks in flight",
    "timeout_ms": "process-group timeout, in milliseconds",
    "comm_bucket_mb": "gradient bucket of the all-reduce, in MiB",
}


def annotation_key(knob: str) -> str:
    """The annotation that holds `knob`."""
    return ANNOTATION_PREFIX + knob


def knobs_from_annotations(annotations: Mapping[str, str]) -> dict[str, int]:
    """The knob values among `annotations`; those that are no plain decimal integer are left out."""
    found = {}
    for key, text in annotations.items():
        value = decimal(text) if key.startswith(ANNOTATION_PREFIX) else None
        if value is not None:
            found[key[len(ANNOTATION_PREFIX) :]] = value
    return dict(sorted(found.items()))


def knobs_from_data(data: Mapping[str, str]) -> dict[str, int]:
    """The knob values among the keys of a ConfigMap: bare knob names; what is no plain decimal integer is left out."""
    found = {}
    for key, text in data.items():
        value = decimal(text) if _NAME.match(key) else None
        if value is not None:
            found[key] = value
    return dict(sorted(found.items()))


def decimal(text: str) -> int | None:
    """The value of a plain decimal integer; None for any other text."""
    # Thousands of digits would not be read by Python, and no value has more than ten.
    if len(text) <= MAX_DIGITS and text.isascii() and text.isdecimal() and str(int(text)) == text:
        value = int(text)
        return value if value <= MAX_VALUE else None
    return None


class KnobChange(Frozen):
    """One knob's move: from where it stands on the base branch to where the plan wants it."""

    knob: KnobName
    before: KnobValue
    after: KnobValue

    @property
    def delta(self) -> int:
        """The signed size of the move."""
        return self.after - self.before

    def reversed(self) -> KnobChange:
        """The move back."""
        return KnobChange(knob=self.knob, before=self.after, after=self.before)
