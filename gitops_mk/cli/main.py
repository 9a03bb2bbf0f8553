"""The tree of commands, and the one place where an error becomes a line and an exit code."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

import click

from gitops_mk._version import __version__
from gitops_mk.errors import EXIT_BAD_INPUT, EXIT_FAILED, MkError

INTERRUPTED = 130

# name: (module under gitops_mk.cli, attribute, what it does in a line)
COMMANDS: dict[str, tuple[str, str, str]] = {
    "apply": ("apply", "apply", "Ask the gate, then merge a pull request."),
    "chords": ("chords", "chords", "List, show and validate chords."),
    "closed-loop": ("closed_loop", "closed_loop", "Observe, plan, render; with --apply also merge."),
    "config": ("config_cmd", "config", "Check the configuration; print its JSON Schema."),
    "controller": ("controller", "controller", "Watch a cluster's workloads, and propose."),
    "demo": ("demo", "demo", "The whole loop on this machine, nothing leaves it."),
    "doctor": ("doctor", "doctor", "Say what is missing, and how to mend it."),
    "explain": ("explain", "explain", "Why this pull request, or why none."),
    "hold": ("hold", "hold", "List and release what reviewers said no to."),
    "init": ("init", "init", "Set a GitOps repository up."),
    "k8s": ("k8s", "k8s", "Render a plan as kubectl script; verify it; apply it."),
    "kill-switch": ("kill_switch", "kill_switch", "Show or throw the kill switch."),
    "license": ("license_cmd", "license_group", "Issue, check and inspect licences."),
    "observe": ("observe", "observe", "Telemetry to signals."),
    "passport": ("passport", "passport", "List, show and validate passports."),
    "pr": ("pr", "pr", "List, show, approve and close pull requests."),
    "propose": ("propose", "propose", "A plan to a branch and a pull request."),
    "replay": ("replay", "replay", "Ask a recorded run again, window by window."),
    "rollback": ("rollback", "rollback", "Open the pull request that undoes an applied one."),
    "verify": ("verify", "verify", "The CI check of a pull request."),
    "workloads": ("workloads", "workloads", "List the workloads of a cluster, and where each comes from."),
}


class LazyGroup(click.Group):
    """A group whose commands are imported only when one is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All commands, by name."""
        del ctx
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        del ctx
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        command: click.Command = getattr(importlib.import_module(f"gitops_mk.cli.{entry[0]}"), entry[1])
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands from the table above, so that `--help` imports none of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name][2]) for name in self.list_commands(ctx)])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; an unknown one is told together with those that come near it."""
        name = args[0] if args else ""
        if name not in COMMANDS and not name.startswith("-"):
            import difflib

            near = difflib.get_close_matches(name, COMMANDS, n=2)
            hint = f"did you mean {' or '.join(near)}?" if near else "see `mk --help`"
            raise MkError(f"there is no command {name!r}", hint=hint)
        return super().resolve_command(ctx, args)


@click.command(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Example: mk demo straggler",
)
@click.version_option(__version__, prog_name="mk", message="%(prog)s %(version)s")
def cli() -> None:
    """From training telemetry to a small, verified pull request on your GitOps repository."""


def run(argv: Sequence[str]) -> int:
    """Run one command; gives its exit code. Errors of ours are told in one line, with a hint below where there is one."""
    try:
        result = cli.main(args=list(argv), prog_name="mk", standalone_mode=False)
    except MkError as exc:
        tell(exc.message, exc.hint)
        return exc.exit_code
    except click.exceptions.Exit as exc:
        return exc.exit_code
    except click.exceptions.Abort:
        return _interrupted()
    except click.ClickException as exc:
        context = getattr(exc, "ctx", None)
        where = context.command_path if context is not None else "mk"
        tell(exc.format_message().rstrip("."), f"see `{where} --help`")
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        return _interrupted()
    except OSError as exc:
        if isinstance(exc, BrokenPipeError):
            return _reader_gone()
        tell(
            f"{exc.filename or 'the system'}: {exc.strerror or exc}", "a disk that is full, or a right that is missing?"
        )
        return EXIT_FAILED
    return result if isinstance(result, int) else 0


def _reader_gone() -> int:
    """The reader went away (`mk … | head`): not our error, and nothing more can be printed."""
    sys.stderr.close()
    return 0


def _interrupted() -> int:
    tell("interrupted", None)
    return INTERRUPTED


def tell(message: str, hint: str | None) -> None:
    """One `ERROR:` line on stderr, and a `hint:` line where there is one."""
    one_line = " ".join(message.split())
    sys.stderr.write(f"ERROR: {one_line}\n")
    if hint:
        sys.stderr.write(f"hint: {' '.join(hint.split())}\n")
