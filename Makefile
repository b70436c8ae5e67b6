# make help: the list. Every target sets itself up; nothing is needed before but python3, pip, make and apt.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
UNIT ?= tests
SECONDS ?= 120
SEED ?= 1
BUILDS ?= 1-200

.DEFAULT_GOAL := help
.PHONY: help setup demo test check fmt bench lock clean conformance conformance-dockerfile conformance-cache \
	conformance-reproduce fuzz fuzz-diff grammar torture

help: ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(STAMP) ## make .venv with .venv/bin/pybuild

# Debian parts venv from python3; without it the module is there but can't make an environment.
$(STAMP): requirements-dev.lock tests/fuzz/requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { apt-get update -qq && apt-get install -y -qq python3-venv; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock -r tests/fuzz/requirements.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: setup ## build, push, pull and run a web application through a registry of your own
	@deploy/demo

test: setup ## run the whole test suite (as root)
	@tests/install-peers
	@PYTHON=$(BIN)/python tests/run $(UNIT)

check: setup ## format, lint, types, import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fmt: setup ## put the code into its one form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup ## print the benchmarks, peers beside us in the same run
	@tests/install-peers bench
	$(BIN)/python -m tests.bench

conformance: setup ## run the OCI distribution conformance suite against our registry
	@tests/conformance/distribution.sh

conformance-cache: setup ## share caches with a real BuildKit, both ways (needs Go, minutes)
	@tests/install-peers
	@tests/conformance/buildkit $(VENV)/buildkit
	$(BIN)/python -m tests.conformance.cache $(VENV)/buildkit

conformance-dockerfile: setup ## print each rule of the Dockerfile language with the tests that hold it, run beside BuildKit
	@tests/install-peers
	$(BIN)/python -m tests.conformance

conformance-reproduce: setup ## build the web example in two roots, on two days: one digest (minutes)
	@tests/install-peers
	@tests/conformance/reproduce.sh

torture: setup ## push, delete, collect and kill in any order, 100,000 steps (EXAMPLES=N: N times 30)
	PYBUILD_TORTURE=$(or $(EXAMPLES),3334) $(BIN)/python -m pytest tests/integration/test_store_any_crash.py --timeout=0

lock: setup ## pin the dependencies anew, with and without those of development
	$(PYTHON) -m venv $(VENV)/lock && $(VENV)/lock/bin/pip install --quiet pip-tools
	for extra in "-o requirements.lock" "--extra dev -o requirements-dev.lock"; do \
		CUSTOM_COMPILE_COMMAND="make lock" $(VENV)/lock/bin/pip-compile --quiet --upgrade --generate-hashes --allow-unsafe \
			--strip-extras --no-emit-index-url --no-emit-find-links --no-emit-trusted-host $$extra pyproject.toml; \
	done

fuzz: setup ## fuzz what reads other people's bytes; SECONDS (for each target), TARGETS, SEED
	$(BIN)/python -m tests.fuzz --seconds $(SECONDS) --seed $(SEED) $(TARGETS)

fuzz-diff: setup ## compare random builds with BuildKit's; BUILDS=FIRST-LAST (seeds); what differs is shrunk into fuzz-found
	@tests/install-peers
	FUZZ_BUILDS=$(BUILDS) FUZZ_FOUND=fuzz-found $(BIN)/python -m pytest -q --timeout=36000 tests/fuzz/test_random_builds.py

grammar: setup ## write the parser tables of the Dockerfile grammar anew
	$(BIN)/python -m builder.dockerfile.tables

clean: ## remove what setup made
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
