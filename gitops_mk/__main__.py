"""`mk`: the entry point. Answers `--version` without importing anything else."""

from __future__ import annotations

import gc
import os
import sys

# Looking for plugins of pydantic costs a tenth of a second's start, and whatever was installed beside us would be run.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
# Modules and models stay: at Python's own pace a quarter of a start goes into looking for garbage among them.
COLLECT_AFTER = 100_000


def main() -> int:
    """Run the command line; gives the exit code."""
    if sys.argv[1:] == ["--version"]:
        from gitops_mk._version import __version__

        sys.stdout.write(f"mk {__version__}\n")
        return 0
    gc.set_threshold(COLLECT_AFTER)
    from gitops_mk.cli.main import run

    try:
        return run(sys.argv[1:])
    finally:
        # The interpreter looks through everything once more as it ends.
        gc.freeze()


if __name__ == "__main__":
    sys.exit(main())
