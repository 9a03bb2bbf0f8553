"""What the controller counts, in Prometheus' text format."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

_SECONDS = (0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_LAG = (5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)


class Metrics:
    """`ports.Meter`. Label values come from closed sets, so that no workload's name can blow the series up."""

    def __init__(self, api_calls: Callable[[], int]) -> None:
        self.registry = CollectorRegistry()
        self._api_calls = api_calls
        self._usage: Callable[[], tuple[Mapping[str, int], int | None]] = lambda: ({}, None)
        self._plans = Counter("mk_plans", "Plans made, by chord", ["chord"], registry=self.registry)
        self._proposals = Counter("mk_proposals", "What proposing came to", ["outcome"], registry=self.registry)
        self._gates = Counter("mk_gate_decisions", "Gate decisions, by reason", ["reason"], registry=self.registry)
        self._lines = Counter("mk_log_lines", "Log lines read", registry=self.registry)
        self._errors = Counter("mk_reconcile_errors", "Reconciles that failed", registry=self.registry)
        self._prs = Gauge("mk_pull_requests", "Pull requests of ours, by state", ["state"], registry=self.registry)
        self._workloads = Gauge(
            "mk_workloads", "Workloads, by why they are left alone", ["reason"], registry=self.registry
        )
        self._leader = Gauge("mk_leader", "1 while this process holds the Lease", registry=self.registry)
        self._duration = Histogram(
            "mk_reconcile_duration_seconds", "One reconcile of one workload", buckets=_SECONDS, registry=self.registry
        )
        self._lag = Histogram(
            "mk_merge_to_rollout_seconds", "From a merge to its rollout's end", buckets=_LAG, registry=self.registry
        )
        # A collector by its `collect` alone, as the library documents it.
        self.registry.register(self)

    def watch_forge(self, usage: Callable[[], tuple[Mapping[str, int], int | None]]) -> None:
        """Count the forge's calls, too: by kind, and what is left of its budget, None where it has none."""
        self._usage = usage

    def collect(self) -> list[CounterMetricFamily | GaugeMetricFamily]:
        """Requests to the API server and to the forge, read where they are counted."""
        family = CounterMetricFamily("mk_api_calls", "Requests sent to the API server")
        family.add_metric([], self._api_calls())
        calls, left = self._usage()
        forge = CounterMetricFamily("mk_forge_calls", "Requests sent to the forge, by kind", labels=["kind"])
        for kind, count in calls.items():
            forge.add_metric([kind], count)
        found: list[CounterMetricFamily | GaugeMetricFamily] = [family, forge]
        if left is not None:
            found.append(GaugeMetricFamily("mk_forge_budget_left", "Calls left of the forge's hourly budget", left))
        return found

    def planned(self, chord: str) -> None:
        """A plan was made."""
        self._plans.labels(chord=chord).inc()

    def proposed(self, outcome: str) -> None:
        """Proposing came to that."""
        self._proposals.labels(outcome=outcome).inc()

    def gate(self, reason: str) -> None:
        """The gate was asked; `open` where it was."""
        self._gates.labels(reason=reason).inc()

    def lines(self, count: int) -> None:
        """Log lines were read."""
        self._lines.inc(count)

    def failed(self) -> None:
        """A reconcile failed."""
        self._errors.inc()

    def reconciled(self, seconds: float) -> None:
        """A reconcile took that long."""
        self._duration.observe(seconds)

    def rolled_out(self, seconds: float) -> None:
        """A merge was seen rolled out that long after it."""
        self._lag.observe(seconds)

    def state(self, *, prs: Mapping[str, int], workloads: Mapping[str, int], leader: bool) -> None:
        """How things stand."""
        self._prs.clear()
        for name, count in prs.items():
            self._prs.labels(state=name).set(count)
        self._workloads.clear()
        for name, count in workloads.items():
            self._workloads.labels(reason=name).set(count)
        self._leader.set(int(leader))

    def text(self) -> bytes:
        """Everything, for a scrape."""
        return generate_latest(self.registry)
