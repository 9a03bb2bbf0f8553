"""For all tests: no deadline on a property's example. These machines are shared, and a slow one is no failure."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.support.github.plugin", "tests.cluster.fixtures", "tests.support.prometheus.plugin"]

settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")
