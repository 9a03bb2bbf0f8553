"""`mk demo`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from gitops_mk.cli.options import PATH

if TYPE_CHECKING:
    from gitops_mk.model.workload import Delivery

DELIVERIES = ("annotation", "configmap")
TOPICS = ("straggler", "drift", "burst", "sales", "safety-gates")


@click.command(epilog="Example: mk demo straggler")
@click.argument("topic", type=click.Choice(TOPICS), default="straggler")
@click.option("--out", type=PATH, help="Folder for all it makes. Default: report/_demo_TOPIC.")
@click.option(
    "--pace", type=click.FloatRange(0, 60), help="Seconds to rest on each step. Default: 8 for sales, else 0."
)
@click.option(
    "--delivery",
    type=click.Choice(DELIVERIES),
    default="annotation",
    show_default=True,
    help="How the knobs reach the trainer (safety-gates runs none): by its pod's annotations, or by a mounted ConfigMap.",
)
@click.option("--keep", is_flag=True, help="Go on in the folder as it is, instead of starting afresh.")
def demo(topic: str, out: Path | None, pace: float | None, delivery: Delivery, keep: bool) -> None:
    """The whole loop on this machine: a real trainer, a GitOps repository, a pull request, the gate, the merge.

    \b
    straggler     a slow data loader, mended by more loaders
    drift         steps that grow slower, mended by smaller microbatches
    burst         storage that hiccups, absorbed by deeper queues
    safety-gates  what the gate blocks, with reason and exit code
    sales         the whole story, for somebody watching
    """  # noqa: D301 - click wants the backspace character
    from gitops_mk.demo.run import run_demo

    folder = out if out is not None else Path("report") / f"_demo_{topic.replace('-', '_')}"
    rest = pace if pace is not None else 8.0 if topic == "sales" else 0.0
    run_demo(topic, folder, pace=rest, keep=keep, delivery=delivery)
