"""The product as it stands, asked about one log: the same observer that `mk observe` uses."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

from gitops_mk.core.detect.observer import Observer
from gitops_mk.model.signal import SignalName
from tests.bench.decisions.prediction import Prediction
from tests.bench.decisions.truth import SIGNALS

CHUNK = 1 << 20


def predict(path: Path) -> Prediction:
    """What the product says about the file at `path`, gzipped or not."""
    observer = Observer("file")
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            observer.feed(chunk)
    return answer(observer)


def predict_bytes(data: bytes) -> Prediction:
    """What the product says about these lines."""
    observer = Observer("file")
    observer.feed(data)
    return answer(observer)


def answer(observer: Observer) -> Prediction:
    """The observer's answer, in the bench's words."""
    seen = observer.finish()
    found = {str(name) for name in seen.found} | {word for word, holds in seen.facets().items() if holds}
    straggler = seen.signal(SignalName.STRAGGLER)
    names = straggler.evidence.culprits if straggler is not None and straggler.found else ()
    return Prediction(
        signals=frozenset(found & set(SIGNALS)),
        pr=seen.pr_worthy,
        insufficient=seen.insufficient,
        culprits=places(names),
    )


def places(names: Any) -> tuple[int, ...]:
    """Workers by their place in the record: "worker-3" is 3."""
    numbers = (str(name).rpartition("-")[2] for name in names)
    return tuple(sorted(int(number) for number in numbers if number.isdigit()))
