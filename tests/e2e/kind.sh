#!/usr/bin/env bash
# The end-to-end story on kind, for people with Docker: the demo trainer in a cluster, Flux, a git server, the gate, a rollout.
# `make test` runs the same story without Docker (tests/cluster/test_end_to_end.py).
#
# usage: tests/e2e/kind.sh [OUT]     needs docker, kind, kubectl, flux and git on the PATH, and `make install` done
#   KEEP=1     leave the cluster running afterwards
#   FAULT=…    straggler (default), drift or burst
set -euo pipefail
cd "$(dirname "$0")/../.."

OUT=${1:-report/_e2e_kind}
FAULT=${FAULT:-straggler}
CLUSTER=modekeeper-e2e
NS=ml
MK=$PWD/.venv/bin/mk
GIT_PORT=${GIT_PORT:-18418} # on the gateway of kind's network: reachable from the cluster and from here

say() { printf '\n== %s\n' "$*"; }
fail() { printf 'FAIL: %s\n' "$*" >&2; exit 1; }

for tool in docker kind kubectl flux git; do
  command -v "$tool" >/dev/null || fail "$tool is not on the PATH"
done
[ -x "$MK" ] || fail "$MK is missing: run make install"
docker info >/dev/null 2>&1 || fail "no Docker daemon answers"

rm -rf "$OUT" && mkdir -p "$OUT"
OUT=$(cd "$OUT" && pwd)
export KUBECONFIG=$OUT/kubeconfig

cleanup() {
  [ -n "${GIT_PID:-}" ] && kill "$GIT_PID" 2>/dev/null || true
  [ "${KEEP:-0}" = 1 ] || kind delete cluster --name "$CLUSTER" >/dev/null 2>&1 || true
}
trap cleanup EXIT

say "1. A cluster, the trainer's image, and Flux"
kind create cluster --name "$CLUSTER" --wait 120s
docker build -q -f .ci/Dockerfile -t example.invalid/demo-trainer:1.0 . >/dev/null
kind load docker-image example.invalid/demo-trainer:1.0 --name "$CLUSTER"
flux install --components source-controller,kustomize-controller >/dev/null

say "2. A GitOps repository, served over HTTP to the cluster"
.venv/bin/python - "$OUT" "$FAULT" <<'PY'
import sys
from pathlib import Path

from gitops_mk.adapters.git import init_bare
from gitops_mk.demo.embedded import embedded_files
from gitops_mk.model.change import Person

out, fault = Path(sys.argv[1]), sys.argv[2]
files = embedded_files()
files[".modekeeper/config.yaml"] = files[".modekeeper/config.yaml"].replace(b"consult: never", b"consult: required")
base = "base/deployment.yaml"
files[base] = files[base].replace(
    b'args: ["--annotations", "/etc/podinfo/annotations"]',
    b'command: ["python", "-m", "gitops_mk.demo.trainer"]\n'
    b'          args: ["--annotations", "/etc/podinfo/annotations", "--fault", "' + fault.encode() + b'"]',
)
repo = init_bare(out / "git/gitops.git")
author = Person(name="Platform Team", email="platform@gitops.invalid")
tree = repo.write_tree(None, dict(files))
commit = repo.write_commit(tree=tree, parents=[], message="Add the demo trainer\n", author=author, time=1_767_225_600)
repo.run("update-ref", "refs/heads/main", commit)
PY
HOST=$(docker network inspect kind -f '{{range .IPAM.Config}}{{.Gateway}} {{end}}' | tr ' ' '\n' | grep -m1 '\.')
.venv/bin/python -m tests.support.githttp "$OUT/git" "$HOST" "$GIT_PORT" &
GIT_PID=$!
kubectl create namespace "$NS"
flux create source git gitops --url="http://$HOST:$GIT_PORT/gitops.git" --branch=main --interval=10s
flux create kustomization gitops --source=GitRepository/gitops --path=./overlays/demo --prune=true --interval=10s
kubectl -n "$NS" rollout status deployment/trainer --timeout=180s
kubectl -n "$NS" get deployment trainer -o json >"$OUT/deploy_before.json"
sleep 60

say "3. Smoke: with the kill switch on, nothing changes"
code=0
MODEKEEPER_KILL_SWITCH=1 "$MK" closed-loop run --apply --repo "$OUT/git/gitops.git" --observe-source k8s --duration 10s \
  --out "$OUT/smoke" || code=$?
[ "$code" = 2 ] || fail "the kill switch gave exit $code, expected 2"

say "4. Paid: observe, propose, verify with the cluster's word, merge"
"$MK" license mint-dev --out "$OUT/license" >/dev/null
export MODEKEEPER_LICENSE_PATH=$OUT/license/license_dev.json
export MODEKEEPER_LICENSE_PUBLIC_KEYS_PATH=$OUT/license/license_dev_public_keys.json
"$MK" closed-loop run --apply --repo "$OUT/git/gitops.git" --observe-source k8s --duration 30s --out "$OUT/paid"

say "5. Flux syncs the merge, the Deployment rolls, the new value is in a pod's log"
WANT=$("$MK" pr show 1 --repo "$OUT/git/gitops.git" --json | .venv/bin/python -c \
  'import json,sys; k,(b,a)=sorted(json.load(sys.stdin)["changes"].items())[0]; print(f"modekeeper/knob.{k}={a}")')
for _ in $(seq 60); do
  flux reconcile kustomization gitops --with-source >/dev/null 2>&1 || true
  for pod in $(kubectl -n "$NS" get pods -o name); do
    if { kubectl -n "$NS" logs "$pod"; kubectl -n "$NS" logs --previous "$pod" 2>/dev/null || true; } | grep -qF "$WANT"; then
      kubectl -n "$NS" get deployment trainer -o json >"$OUT/deploy_after.json"
      say "PASS: $WANT in $pod; reports in $OUT"
      exit 0
    fi
  done
  sleep 5
done
fail "$WANT was not seen in any pod's log"
