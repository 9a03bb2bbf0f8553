"""After everything else on the same cluster: what the API server itself saw the product do. `python -m tests.cluster test` runs
it last; alone it has a short run of its own to look at.
"""

from __future__ import annotations

import os
import subprocess
import sys

from tests.cluster.audit import counts, requests
from tests.cluster.control_plane import Cluster

AGENT = "modekeeper/"
# Announcements, the Lease, and questions that the server answers without storing anything.
ALLOWED = {"events", "leases.coordination.k8s.io", "selfsubjectaccessreviews.authorization.k8s.io"}
WHOLE_RUN = "MODEKEEPER_WHOLE_RUN"


def test_the_product_mutates_nothing(cluster: Cluster) -> None:
    """Every request by our user agent, under whatever identity, admins included, in the whole run."""
    if os.environ.get(WHOLE_RUN) != "1":
        env = {**os.environ, "KUBECONFIG": str(cluster.kubeconfig)}
        observe = [
            "observe",
            "--source",
            "k8s",
            "--k8s-namespace",
            "default",
            "--k8s-deployment",
            "none",
            "--out",
            os.devnull,
        ]
        subprocess.run([sys.executable, "-m", "gitops_mk", *observe], env=env, capture_output=True, check=False)
    seen = [r for r in requests(cluster.audit_log) if r.agent.startswith(AGENT)]
    stray = [r for r in seen if not r.dry_run and r.what not in ALLOWED]
    assert not stray, [f"{r.user}: {r.verb} {r.what} {r.namespace}/{r.name}: {r.code}" for r in stray]
    if os.environ.get(WHOLE_RUN) == "1":
        kinds = {(r.what, r.dry_run) for r in seen}
        assert {("deployments.apps", True), ("events", False), ("leases.coordination.k8s.io", False)} <= kinds
        print(
            f"\n{len(seen)} mutating requests of the product, of them {sum(r.dry_run for r in seen)} with dryRun=All:"
        )
        for (user, verb, what, dry), count in sorted(counts(seen).items(), key=lambda item: -item[1])[:12]:
            print(f"  {count:5} {verb:7} {what}{' (dryRun=All)' if dry else ''} by {user}")
