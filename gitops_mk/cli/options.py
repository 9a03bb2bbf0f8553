"""Options that several commands share, so that they are spelt and explained once."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast, get_args

import click

F = TypeVar("F", bound=Callable[..., Any])

PATH = click.Path(path_type=Path)

out_option = click.option(
    "--out", type=PATH, default=Path("report"), show_default=True, help="Folder for reports and artifacts."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")
license_option = click.option("--license-path", type=PATH, help="Licence file; see `mk license --help` for the order.")


def repo_options(function: F) -> F:
    """`--repo`, `--forge` and `--base-branch`."""
    for option in (
        click.option("--base-branch", help="Base branch, when HEAD's configuration can't say."),
        click.option("--forge", help="The git server: a path or URL. Default: the checkout's remote `origin`."),
        click.option("--repo", type=PATH, help="GitOps repository: a checkout or a bare one. Default: this folder."),
    ):
        function = option(function)
    return function


def cluster_options(function: F) -> F:
    """`--kubeconfig` and `--context`."""
    for option in (
        click.option("--context", help="Context of the kubeconfig. Default: its current one."),
        click.option(
            "--kubeconfig", help="Kubeconfig. Default: KUBECONFIG, ~/.kube/config, or the pod's own identity."
        ),
    ):
        function = option(function)
    return function


def pod_options(function: F) -> F:
    """Which pods' logs are telemetry."""
    from gitops_mk.model.workload import WorkloadKind

    for option in (
        click.option(
            "--container", help="The container. Default: by annotation, by the workload's name, or the only one."
        ),
        click.option(
            "--k8s-kind",
            type=click.Choice(list(get_args(WorkloadKind))),
            default="Deployment",
            show_default=True,
            help="Kind of the workload.",
        ),
        click.option("--k8s-deployment", help="Workload whose pods' logs are read (implies --source k8s)."),
        click.option("--k8s-namespace", help="Its namespace."),
    ):
        function = option(function)
    return function


def format_option(function: F) -> F:
    """`--format`."""
    from gitops_mk.core.parse.names import FORMATS

    return click.option("--format", "fmt", type=click.Choice(FORMATS), help="Format, when it is not to be detected.")(
        function
    )


def telemetry_options(function: F) -> F:
    """Where telemetry comes from."""
    for option in (
        click.option("--seed", type=int, default=0, show_default=True, help="Seed of a synthetic scenario."),
        click.option("--scenario", help="Synthetic scenario (implies --source synthetic)."),
        click.option(
            "--duration",
            help="Stop following after this long: 30s, 2m, 1h. Logs of pods are followed for 2m unless told. Of Prometheus: how "
            "far back.",
        ),
        click.option("--follow", is_flag=True, help="Go on reading as the log grows, until --duration or Ctrl-C."),
        format_option,
        click.option("--path", help="Telemetry: JSON lines, CSV or a trainer's log, maybe .gz; - for stdin."),
    ):
        function = option(function)
    return function


def prometheus_options(function: F) -> F:
    """What is asked of a Prometheus. The command gets it as one argument, `prometheus`: a mapping for `wiring.PrometheusAsked`."""
    from gitops_mk.core.prometheus.presets import PRESETS

    @functools.wraps(function)
    def gathered(**given: Any) -> Any:
        asked = {name.removeprefix(_PREFIX): given.pop(name) for name in list(given) if name.startswith(_PREFIX)}
        return function(prometheus=asked, **given)

    wrapper: Any = gathered
    for option in (
        click.option("--prometheus-ca-file", help="Authority that TLS trusts. Default: MODEKEEPER_PROMETHEUS_CA_FILE."),
        click.option("--prometheus-password-file", help="Password. Default: MODEKEEPER_PROMETHEUS_PASSWORD_FILE."),
        click.option("--prometheus-username", help="For basic auth. Default: MODEKEEPER_PROMETHEUS_USERNAME."),
        click.option("--prometheus-token-file", help="Bearer token. Default: MODEKEEPER_PROMETHEUS_TOKEN_FILE."),
        click.option("--prometheus-worker-label", "prometheus_worker_label", help="Label that tells workers apart."),
        click.option("--prometheus-step", help="Time between two samples.  [default: 15s]"),
        click.option(
            "--prometheus-preset",
            "prometheus_presets",
            multiple=True,
            type=click.Choice(list(PRESETS)),
            help="Queries for metrics with known names; several may be given.",
        ),
        click.option(
            "--prometheus-query",
            "prometheus_queries",
            multiple=True,
            metavar="ROLE=PROMQL",
            help="What a role is read from, such as step_time_s; several may be given.",
        ),
        click.option(
            "--prometheus-url",
            help="Address of a Prometheus (implies --source prometheus). Default: the configuration, then "
            "MODEKEEPER_PROMETHEUS_URL.",
        ),
    ):
        wrapper = option(wrapper)
    return cast("F", wrapper)


_PREFIX = "prometheus_"
