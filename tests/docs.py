"""The pages that are made from the code: `python -m tests.docs --write`; without `--write` says which are out of date."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from gitops_mk.adapters.telemetry.synthetic import SyntheticSource
from gitops_mk.cli.config_cmd import config_schema
from gitops_mk.cli.main import COMMANDS, cli
from gitops_mk.core.detect.observer import Observer
from gitops_mk.core.detect.registry import DETECTORS
from gitops_mk.core.render.plot import plot
from gitops_mk.model.canonical import dumps_pretty
from gitops_mk.model.signal import Observation, SignalName

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
SCENARIO = {SignalName.DRIFT_LOSS: "stable", SignalName.DRIFT_STEP: "drift"}


def pages() -> dict[Path, str]:
    """Every made page, by path."""
    return {
        DOCS / "config.schema.json": dumps_pretty(config_schema()),
        DOCS / "config.md": config_page(),
        DOCS / "cli.md": cli_page(),
    }


def pictures() -> dict[Path, str]:
    """An example of every signal as `mk observe --plot` draws it. Not held to the byte: processors differ in a last digit."""
    return {DOCS / "images" / "signals" / f"{name}.svg": plot(example(name)) for name, _ in DETECTORS}


def example(name: SignalName) -> Observation:
    """A scenario that shows the signal, with the answer of its detector alone."""
    scenario = SCENARIO.get(name, str(name))
    observer = Observer("synthetic")
    for chunk in SyntheticSource(scenario, seed=3, steps=1200).chunks():
        observer.feed(diverging(chunk) if name is SignalName.DRIFT_LOSS else chunk)
    seen = observer.finish()
    found = seen.signal(name)
    if found is None or not found.found:
        raise LookupError(f"the scenario {scenario} does not show {name}")
    return seen.model_copy(update={"signals": (found,)})


def diverging(lines: bytes) -> bytes:
    """The same records with a loss that turns upwards after two thirds."""
    records = [json.loads(line) for line in lines.splitlines()]
    for record in records:
        record["loss"] *= 1.0 + 0.5 * max(0.0, record["step"] - 800) / 400
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


def config_page() -> str:
    """The reference of `.modekeeper/config.yaml`, from its model."""
    schema: dict[str, Any] = config_schema()
    definitions: dict[str, Any] = schema["$defs"]
    lines = [
        "# Configuration: `.modekeeper/config.yaml`",
        "",
        "Made from the model by `make docs`; don't edit. The file stands in your GitOps repository, on the base branch: what a",
        "pull request would change in it does not judge that pull request. Editors complete it with",
        "[`config.schema.json`](config.schema.json), which `mk init` puts beside it and names on its first line (`mk config schema`",
        "prints it). `mk config validate` checks the file. Unknown keys are refused.",
        "",
        "```yaml",
        "version: v1",
        "base_branch: main",
        "defaults: {passport: pilot}",
        "forge: {kind: local, required_approvals: 1}",
        "workloads:",
        "  - namespace: ml",
        "    name: trainer",
        "    overlay: overlays/prod",
        "    world_size: 8",
        "```",
    ]
    for title, body in (("The file", schema), *definitions.items()):
        lines += ["", f"## {title}", "", *(_sentences(body.get("description", ""))), "", *_table(body)]
    return "\n".join(lines) + "\n"


def _sentences(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip()][:2]


def _table(body: dict[str, Any]) -> list[str]:
    required = set(body.get("required", ()))
    rows = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for name, field in body.get("properties", {}).items():
        default = "required" if name in required else f"`{_default(field)}`"
        rows.append(f"| `{name}` | {_type(field)} | {default} | {field.get('description', '').replace('|', '/')} |")
    return rows


def _default(field: dict[str, Any]) -> str:
    value = field.get("default")
    if isinstance(value, dict):
        return "see below"
    return {None: "none"}.get(value, str(value)) if not isinstance(value, list) else "[]"


def _type(field: dict[str, Any]) -> str:
    if "$ref" in field:
        name = field["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "allOf" in field:
        return _type(field["allOf"][0])
    if "anyOf" in field:
        return " or ".join(_type(option) for option in field["anyOf"])
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if "const" in field:
        return f"`{field['const']}`"
    if field.get("type") == "array":
        return f"list of {_type(field.get('items', {}))}"
    return str(field.get("type", "any"))


def cli_page() -> str:
    """Every command's `--help`, as it prints it."""
    lines = [
        "# Commands",
        "",
        "Made from `mk --help` by `make docs`; don't edit.",
        "",
        *_exit_codes(),
        "",
        "```",
        _help(cli, "mk"),
        "```",
    ]
    for path, command in _walk():
        lines += ["", f"## {path}", "", "```", _help(command, path), "```"]
    return "\n".join(lines) + "\n"


def _exit_codes() -> list[str]:
    return [
        "| exit | means |",
        "|---|---|",
        "| 0 | done: valid, verified, proposed, applied |",
        "| 1 | not ok, or failed while doing it |",
        "| 2 | blocked by a gate or the envelope, or bad input |",
        "| 130 | interrupted |",
        "",
        "Errors are one line on stderr, `ERROR: …`, with a `hint:` line below where there is one.",
    ]


def _walk() -> Iterator[tuple[str, click.Command]]:
    context = click.Context(cli)
    for name in sorted(COMMANDS):
        command = cli.get_command(context, name)
        if command is None:
            raise LookupError(name)
        yield f"mk {name}", command
        if isinstance(command, click.Group):
            for child in sorted(command.commands):
                yield f"mk {name} {child}", command.commands[child]


def _help(command: click.Command, path: str) -> str:
    context = click.Context(command, info_name=path, max_content_width=100, terminal_width=100)
    return command.get_help(context)


def main() -> int:
    """Write the pages, or say which differ."""
    if "--write" in sys.argv:
        for path, text in pictures().items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    stale = [path for path, text in pages().items() if not path.exists() or path.read_text() != text]
    for path in stale:
        if "--write" in sys.argv:
            path.write_text(pages()[path])
        print(("wrote " if "--write" in sys.argv else "out of date: ") + str(path.relative_to(ROOT)))
    return 1 if stale and "--write" not in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
