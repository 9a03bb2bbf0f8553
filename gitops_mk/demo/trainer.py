"""The demo's training job: `python -m gitops_mk.demo.trainer --annotations FILE --log FILE --fault straggler --seed 7`.

A small classifier, truly trained, on a machine with one thing wrong with it (see `faults`). Its knobs come from a file in
the Downward API's format, or from the folder that a ConfigMap is mounted as (`--knobs-dir`, or `MODEKEEPER_KNOBS_DIR`), and are
taken up at the next step after they change, without a restart. It ends on SIGTERM, on SIGINT, and when
its parent is gone.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from gitops_mk.errors import EXIT_BAD_INPUT, EXIT_FAILED, MkError

KNOBS_DIR = "MODEKEEPER_KNOBS_DIR"
FAULTS = ("none", "straggler", "drift", "burst")


class _Life:
    """Whether to go on: no signal has come, and the parent is the one it was."""

    def __init__(self, parent: int) -> None:
        self._parent = parent
        self._stopped = False

    def stop(self, *_: object) -> None:
        """Take note of a signal."""
        self._stopped = True

    def __call__(self) -> bool:
        return not self._stopped and os.getppid() == self._parent


def main(argv: Sequence[str] | None = None) -> int:
    """Run the training job; gives its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m gitops_mk.demo.trainer", description="A small training job to watch and to tune."
    )
    knobs_from = parser.add_mutually_exclusive_group()
    knobs_from.add_argument("--annotations", type=Path, metavar="FILE", help='knobs, as key="value" lines')
    knobs_from.add_argument(
        "--knobs-dir", type=Path, metavar="DIR", help=f"knobs, as a mounted ConfigMap (default: ${KNOBS_DIR})"
    )
    parser.add_argument("--log", type=Path, metavar="FILE", help="where the log lines go (default: standard output)")
    parser.add_argument("--fault", choices=FAULTS, default="none", help="what is wrong with the machine")
    parser.add_argument("--seed", type=int, default=7, help="of the data, the network and the fault")
    parser.add_argument("--max-steps", type=int, metavar="N", help="end after so many steps (default: go on)")
    parser.add_argument("--parent", type=int, default=os.getppid(), metavar="PID", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    folder = options.knobs_dir
    if folder is None and options.annotations is None:
        if not os.environ.get(KNOBS_DIR):
            parser.error(f"where do the knobs come from? expected --annotations, --knobs-dir or {KNOBS_DIR}")
        folder = Path(os.environ[KNOBS_DIR])
    life = _Life(options.parent)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, life.stop)
    # Before numpy is loaded: its threads would fight the loaders for the cores, and make forking unsafe.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"):
        os.environ[name] = "1"
    from gitops_mk.demo.annotations import KnobFile
    from gitops_mk.demo.faults import Fault
    from gitops_mk.demo.knob_files import KnobFiles
    from gitops_mk.demo.loader import LoaderError
    from gitops_mk.demo.training import Knobs, Training

    try:
        knobs: Knobs = KnobFile(options.annotations) if folder is None else KnobFiles(folder)
        if options.log is None:
            Training(knobs, sys.stdout, Fault(options.fault), options.seed, life).run(options.max_steps)
        else:
            with options.log.open("a", encoding="utf-8") as log:
                Training(knobs, log, Fault(options.fault), options.seed, life).run(options.max_steps)
    except MkError as exc:
        sys.stderr.write(f"ERROR: {exc.message}\n")
        return EXIT_BAD_INPUT
    except (LoaderError, OSError) as exc:
        sys.stderr.write(f"ERROR: the trainer ends: {exc}\n")
        return EXIT_FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main())
