"""A Prometheus that scrapes nothing: its database is written before it starts, by its own `promtool`."""

from __future__ import annotations

import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.certificates import Keys
from tests.cluster.process import Components, PortTakenError, free_port, listening
from tests.support.prometheus.programs import programs
from tests.support.prometheus.series import Metrics

TRIES = 5
USER = "reader"
PASSWORD = "correct horse"
# bcrypt of PASSWORD, at the lowest cost.
HASH = "$2a$04$Mk6RB27SUvtlOc8fXDE.JuXb3.KetEtlVFN/9R9n3pNBTN6BaiTxa"


@dataclass(frozen=True)
class Prometheus:
    """A running server. `end` is the time of its newest sample. `ca` is its authority where it serves TLS; then it asks for
    USER and PASSWORD, too.
    """

    url: str
    end: int
    ca: Path | None = None


@contextmanager
def running(folder: Path, metrics: Metrics, *, guarded: bool = False) -> Iterator[Prometheus]:
    """One with these metrics. `guarded`: behind TLS and a password. Raises Unavailable where there is none to be had."""
    server, promtool = programs()
    text, data = folder / "metrics.txt", folder / "data"
    text.write_text(metrics.openmetrics())
    command = [str(promtool), "tsdb", "create-blocks-from", "openmetrics", str(text), str(data)]
    subprocess.run(command, check=True, capture_output=True)
    (folder / "prometheus.yml").write_text("global: {}\n")
    options, scheme, ca = [], "http", None
    if guarded:
        keys = Keys(folder / "keys")
        cert, key = keys.issue("prometheus")
        web = f"tls_server_config: {{cert_file: {cert}, key_file: {key}}}\nbasic_auth_users: {{{USER}: '{HASH}'}}\n"
        (folder / "web.yml").write_text(web)
        options, scheme, ca = [f"--web.config.file={folder / 'web.yml'}"], "https", keys.ca
    with Components(folder) as components:
        for attempt in range(TRIES):
            port = free_port()
            argv: list[str | Path] = [
                server,
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={data}",
                "--storage.tsdb.retention.time=10y",
                f"--web.listen-address=127.0.0.1:{port}",
                *options,
            ]
            started = components.start(f"prometheus-{attempt}", argv)
            url = f"{scheme}://127.0.0.1:{port}"
            try:
                components.wait_until(lambda: _ready(url, port, guarded=guarded), "answer of Prometheus", 60)  # noqa: B023
            except PortTakenError:
                started.stop()
                del components.running[started.name]
                continue
            yield Prometheus(url, metrics.end, ca)
            return
    raise AssertionError(f"no free port in {TRIES} tries")


def _ready(url: str, port: int, *, guarded: bool) -> bool:
    if guarded:
        # Whether it is ready is behind the password as well: it listens once its database is open.
        return listening(port)
    with suppress(OSError), urllib.request.urlopen(f"{url}/-/ready", timeout=5) as answer:
        return bool(answer.status == 200)
    return False
