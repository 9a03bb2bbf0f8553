"""`mk`: the entry point. Answers `--version` without importing anything else."""

from __future__ import annotations

import os
import sys

# Looking for plugins of pydantic costs a tenth of a second's start, and whatever was installed beside us would be run.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")


def main() -> int:
    """Run the command line; gives the exit code."""
    if sys.argv[1:] == ["--version"]:
        from gitops_mk._version import __version__

        sys.stdout.write(f"mk {__version__}\n")
        return 0
    from gitops_mk.cli.main import run

    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
