"""Knobs: the tunables of a training job, each an integer held as a pod-template annotation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field, StringConstraints

from gitops_mk.model.base import Frozen

ANNOTATION_PREFIX = "modekeeper/knob."
KNOB_NAME_PATTERN = r"^[a-z][a-z0-9_]{0,47}$"

KnobName = Annotated[str, StringConstraints(pattern=KNOB_NAME_PATTERN)]
KnobValue = Annotated[int, Field(strict=True, ge=0, le=2**31 - 1)]

MAX_DIGITS = 10

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
        # Thousands of digits would not be read by Python, and no value has more than ten.
        if not key.startswith(ANNOTATION_PREFIX) or len(text) > MAX_DIGITS:
            continue
        if text.isascii() and text.isdecimal() and str(int(text)) == text:
            found[key[len(ANNOTATION_PREFIX) :]] = int(text)
    return dict(sorted(found.items()))


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
