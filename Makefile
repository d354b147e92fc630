# Everything a developer does, one word each. `make` alone explains them.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup run demo-audit test test-kafka-a-q test-kafka-r-z test-models test-simulation simulate e2e chaos bench bench-quick bench-istiod check format lock clean

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
UV_VERSION := 0.13.8

help: ## This list
	@echo "Service Facets: Kubernetes Service frontends and backends as Kafka changelogs."
	@echo
	@echo "Start with:  make run          (a demo, all on this machine; Ctrl-C ends it)"
	@echo
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "PYTHON=python3.12 make setup   uses another Python (3.11 or newer)"

setup: $(READY) ## Make .venv with the `facets` command in it (does nothing when up to date)

$(READY): pyproject.toml requirements.lock requirements-java.lock
	@command -v "$(PYTHON)" >/dev/null || { echo "make setup: '$(PYTHON)' not found. Install Python 3.11 or newer, or name one: make setup PYTHON=/path/to/python3" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "make setup: Python 3.11 or newer is needed, '$(PYTHON)' is $$("$(PYTHON)" -V 2>&1). Name another: make setup PYTHON=python3.12" >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { echo "make setup: '$(PYTHON)' has no venv module. On Debian or Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@# A venv made by another Python version would keep using that one.
	@if [ -x $(BIN)/python ] && [ "$$($(BIN)/python -c 'import sys; print(sys.version_info[:2])' 2>&1)" != "$$("$(PYTHON)" -c 'import sys; print(sys.version_info[:2])')" ]; then \
		echo "==> $(VENV) was made by another Python; making it anew"; rm -rf $(VENV); fi
	@if [ ! -x $(BIN)/pip ]; then echo "==> Making $(VENV) with $$("$(PYTHON)" -V)"; "$(PYTHON)" -m venv $(VENV); fi
	@echo "==> Installing the locked packages (about a minute the first time)"
	@$(BIN)/pip install --disable-pip-version-check --quiet --require-hashes -r requirements.lock
	@if $(BIN)/python -m streams.local.kafka.java >/dev/null 2>&1; then :; else \
		echo "==> No Java 17 or newer found: installing one into $(VENV)"; \
		$(BIN)/pip install --disable-pip-version-check --quiet --require-hashes -r requirements-java.lock; fi
	@echo "==> Installing facets"
	@$(BIN)/pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation -e .
	@touch $@
	@echo "==> Ready: $(BIN)/facets"

run: setup ## The demo: broker, watcher, worker and server in one (FOR=30 ends it by itself after 30 seconds)
	@$(BIN)/facets up --demo $(if $(FOR),--for $(FOR))

demo-audit: setup ## An incident on the demo's clusters, from the alert to the object that caused it (KEEP=1: the page stays)
	@$(BIN)/python -m streams.local.demo_audit $(if $(KEEP),--keep)

# Tests that wait for Kafka run in two halves, beside two that compute. With ARGS all are one run, whose results are in one place.
test: setup ## Unit, property, simulation and integration tests
	@$(if $(ARGS),$(BIN)/python -m pytest tests/unit tests/properties tests/simulation tests/integration $(ARGS),\
		$(MAKE) --no-print-directory --keep-going --jobs=4 test-kafka-a-q test-kafka-r-z test-models test-simulation)

# Several runs at once: a line of one is not broken by another.
BY_LINE := while IFS= read -r line; do printf '%s\n' "$$line"; done

test-kafka-a-q test-kafka-r-z: test-kafka-%: setup
	$(BIN)/python -u -m pytest tests/integration/test_[$*]*.py | $(BY_LINE)

test-models: setup
	$(BIN)/python -u -m pytest tests/unit tests/properties | $(BY_LINE)

test-simulation: setup
	$(BIN)/python -u -m pytest tests/simulation | $(BY_LINE)

simulate: setup ## Seeded runs of the whole system in models, with faults; interrupted, it goes on where it was (SEEDS=0:100000)
	$(BIN)/python -m tests.simulation --seeds $(or $(SEEDS),0:20000) --progress build/simulation $(if $(PLANT),--plant $(PLANT)) $(ARGS)

e2e: setup ## End-to-end tests: a real Kubernetes control plane (KUBEBUILDER_ASSETS, or built with Go), and the page in Chromium
	@assets="$$(bash tests/e2e/control-plane.sh)"; \
		KUBEBUILDER_ASSETS="$$assets" $(BIN)/python -m pytest tests/e2e tests/page $(ARGS)

bench: setup ## Measure next to the peers, on a real control plane and Kafka: table, build/bench.json, plots
	@assets="$$(bash tests/e2e/control-plane.sh)"; \
		KUBEBUILDER_ASSETS="$$assets" $(BIN)/python -m tests.bench $(ARGS)

bench-quick: setup ## The same with less of everything, in under five minutes
	@$(MAKE) --no-print-directory bench ARGS="--quick $(ARGS)"

bench-istiod: setup ## Optional: what is compared with istiod, which is built with Go (15 minutes, the first time some 20)
	@bash tests/bench/peers/istiod.sh >/dev/null
	@$(MAKE) --no-print-directory bench ARGS="--only latency --only fan-out --only requests $(ARGS)"

chaos: setup ## Kill, stop and cut off every part while a real cluster changes; then real routers under change (MINUTES=10)
	@assets="$$(bash tests/e2e/control-plane.sh)"; \
		KUBEBUILDER_ASSETS="$$assets" $(BIN)/python -m tests.chaos --minutes $(or $(MINUTES),10) $(if $(SEED),--seed $(SEED)); \
		KUBEBUILDER_ASSETS="$$assets" $(BIN)/python -m tests.routers --minutes $(or $(MINUTES),10) $(if $(SEED),--seed $(SEED))

check: setup ## Lint, formatting, types, layers, dead code, schemas
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/vulture streams
	$(BIN)/vulture streams tests
	$(BIN)/facets schemas --check

format: setup ## Put the code into shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: setup ## Renew the lock files from pyproject.toml (UPGRADE=1 takes the newest of everything)
	$(BIN)/pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	$(BIN)/uv pip compile pyproject.toml --extra dev $(LOCK_FLAGS) -o requirements.lock
	sed -n 's/^java = \["\(.*\)"\]$$/\1/p' pyproject.toml | $(BIN)/uv pip compile - $(LOCK_FLAGS) -o requirements-java.lock
	@$(MAKE) --no-print-directory setup

LOCK_FLAGS := --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	--no-emit-index-url --no-emit-find-links $(if $(UPGRADE),--upgrade)

clean: ## Remove .venv and everything the tools left behind
	rm -rf $(VENV) dist build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
