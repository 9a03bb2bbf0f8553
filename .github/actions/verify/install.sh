#!/usr/bin/env bash
# Install what `mk verify` needs into a new folder of the job's, and tell its Python as the output `python`.
# Every package is a wheel whose hash stands in the lock; ModeKeeper itself is this very checkout of it.
set -euo pipefail

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)
root=$(cd -- "$here/../../.." && pwd -P)
lock=requirements.lock
if [[ ${MK_CLUSTER:-false} == true ]]; then lock=cluster.lock; fi
python=${MK_PYTHON:-python3}

# -I everywhere: nothing in the folder that we are called from, nor in PYTHONPATH, is imported.
if ! "$python" -I -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
  echo "::error title=modekeeper verify::Python 3.11 or newer is needed: run actions/setup-python first, or set the input python"
  exit 2
fi
into=$(mktemp -d "${RUNNER_TEMP:-${TMPDIR:-/tmp}}/modekeeper.XXXXXXXX")
options=(--quiet --disable-pip-version-check --no-input --no-compile --require-hashes --no-deps --only-binary :all:)
# A pip that is there already (22.3 or newer, for --python) saves the seconds that a new one takes.
if "$python" -I -c 'import sys, pip; sys.exit([*map(int, pip.__version__.split(".")[:2])] < [22, 3])' 2>/dev/null; then
  "$python" -I -m venv --without-pip "$into"
  "$python" -I -m pip --python "$into/bin/python" install "${options[@]}" -r "$here/$lock"
else
  "$python" -I -m venv --clear "$into"
  "$into/bin/python" -I -m pip install "${options[@]}" -r "$here/$lock"
fi
site=$("$into/bin/python" -I -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
printf '%s\n' "$root" >"$site/modekeeper.pth"
# It does nothing where the runner has a usable kustomize or kubectl.
"$into/bin/python" -I -m gitops_mk.adapters.kustomize_install --into "$into/bin"
echo "python=$into/bin/python" >>"${GITHUB_OUTPUT:-/dev/stdout}"
echo "report=$into/report" >>"${GITHUB_OUTPUT:-/dev/stdout}"
