# Two commands do all the set-up: `make demo` runs the main job, `make test` passes the tests.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3.14 python3; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
OUT ?= report/_demo
# Last, so that a kustomize or kubectl of yours comes before the one that make may have put there.
export PATH := $(PATH):$(abspath $(BIN))

.PHONY: help demo test test-cluster lint bench docs lock install build clean
help:
	@echo "make demo   run the whole loop on this machine (straggler demo)"
	@echo "make test   lint, types, layers and all tests"
	@echo "make test-cluster  a real Kubernetes control plane to try things on, until Ctrl-C"
	@echo "make bench  the benchmarks, as ratios"
	@echo "make docs   regenerate the schema and the reference pages"
	@echo "make lock   resolve the lock file again (needs uv)"

install: $(STAMP)
$(STAMP): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "ERROR: no Python 3.11 or newer on the PATH" >&2; echo "hint: install one, or run make PYTHON=/path/to/python3.11" >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "ERROR: $(PYTHON) can't make a virtual environment" >&2; echo "hint: on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 2; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --editable .
	$(BIN)/python -m compileall -q gitops_mk
	$(BIN)/python -m gitops_mk.adapters.kustomize_install --into $(BIN)
	@touch $@

demo: $(STAMP)
	$(BIN)/mk demo straggler --out $(OUT)

# The real trainer runs apart from what keeps both cores busy: it measures itself. Branch coverage is measured where it must be whole, and nowhere else: it doubles the time of a test.
test: $(STAMP) lint
	$(BIN)/python -m pytest -n 2 -q tests/unit tests/contract/test_target.py \
		--cov=gitops_mk.model --cov=gitops_mk.core --cov-branch --cov-fail-under=100 --cov-report=term-missing:skip-covered
	$(BIN)/python -m pytest -n 2 -q tests --ignore=tests/unit --ignore=tests/contract/test_target.py \
		--ignore=tests/e2e --ignore=tests/demo --ignore=tests/cluster
	$(BIN)/python -m pytest -n 3 --maxschedchunk 1 -q tests/e2e tests/demo
	$(BIN)/python -m tests.cluster test

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# A real Kubernetes control plane on loopback, without containers; its programs are built once, with Go (about 10 minutes).
test-cluster: $(STAMP)
	$(BIN)/python -m tests.cluster up

bench: $(STAMP)
	$(BIN)/python -m tests.bench

docs: $(STAMP)
	$(BIN)/python -m tests.docs --write

lock:
	uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-header --quiet --upgrade --output-file requirements.lock

build: $(STAMP)
	$(BIN)/python -m hatchling build

clean:
	rm -rf $(VENV) dist report
