# Everything runs in .venv, which the first target that needs it makes. Only Python ≥ 3.11 and make
# are needed on the machine.

.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory
.DELETE_ON_ERROR:

UV_VERSION := 0.13.9
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
UV_STAMP := $(VENV)/.uv-$(UV_VERSION)
RUN_STAMP := $(VENV)/.installed
DEV_STAMP := $(VENV)/.installed-dev
COMPILE := $(UV) pip compile --quiet --universal --generate-hashes --no-header --no-emit-index-url

##@ Try it
.PHONY: demo up

demo: $(RUN_STAMP) ## Make one picture through everything, without a GPU (or COMFYUI_URL=http://…)
	@$(BIN)/python -m job_service.all_in_one demo

up: $(DEV_STAMP) ## Run everything on 127.0.0.1:50051 until Ctrl-C (or COMFYUI_URL=http://…)
	@$(BIN)/python -m job_service.all_in_one up

##@ Check it
.PHONY: test lint types imports contract suite coverage heavy former conformance bench

test: lint types imports contract suite ## All checks and the whole test suite

lint: $(DEV_STAMP) ## Style and formatting
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(DEV_STAMP) ## Types
	$(BIN)/mypy

imports: $(DEV_STAMP) ## Who may import whom
	$(BIN)/lint-imports

# The released contract is an image in the tree, not a tag: see docs/adr/0006.
contract: $(DEV_STAMP) ## The contract's style, and that it breaks no released client
	$(BIN)/buf lint
	$(BIN)/buf breaking --against protos/released.binpb

# Real processes, killed and restarted, two tests at a time: a busy machine can make one late. What
# failed is run once more, alone, and that decides.
RERUN := $(BIN)/pytest --last-failed --last-failed-no-failures none

suite: $(DEV_STAMP) ## The tests
	$(BIN)/pytest -n 2 || $(RERUN)

coverage: $(DEV_STAMP) ## The tests, and how much of the code they reach; takes half as long again
	$(BIN)/pytest -n 2 --cov --cov-report=term

heavy: $(DEV_STAMP) ## The tests that take more than ten seconds each
	$(BIN)/pytest -m heavy || $(RERUN) -m heavy

former: $(DEV_STAMP) ## The import of every kind of former installation, from PostgreSQL 15 and 18; takes an hour
	$(BIN)/pytest tests/legacy_import -m former

conformance: $(DEV_STAMP) ## The driver's tests against a genuine ComfyUI on the CPU
	$(BIN)/pytest tests/conformance -m conformance || $(RERUN) tests/conformance -m conformance

bench: $(DEV_STAMP) ## The benchmarks: ratios to baselines measured in the same run
	$(BIN)/pytest -m benchmark

##@ Change it
.PHONY: format protos docs protos-release lock

format: $(DEV_STAMP) ## Format the code and fix what can be fixed by itself
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

protos: $(DEV_STAMP) docs ## Write the contract's stubs and its reference anew
	protos/generate

docs: $(DEV_STAMP) ## Write docs/api.md from the contract, and the tables in docs/operations.md
	$(BIN)/python protos/document.py
	$(BIN)/python docs/settings_table.py

# In the commit that a release is tagged on, and in no other.
protos-release: $(DEV_STAMP) ## Take the contract as it is for released
	$(BIN)/buf build --exclude-source-info --output protos/released.binpb

lock: $(UV_STAMP) ## Lock the dependencies anew
	$(COMPILE) pyproject.toml --extra embedded --output-file requirements.lock
	$(COMPILE) pyproject.toml --all-extras --constraints requirements.lock --output-file requirements-dev.lock
	$(COMPILE) pyproject.toml --constraints requirements.lock --output-file requirements-service.lock
	$(COMPILE) --group worker --constraints requirements.lock --output-file requirements-worker.lock

##@ Tidy
.PHONY: setup clean help

setup: $(DEV_STAMP) ## Make .venv with everything for development

clean: ## Remove .venv, caches and builds; keeps .data and demo-output
	rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache \
	    .coverage .coverage.* build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

help: ## Show this
	@awk 'BEGIN {FS = ":.*## "} \
	    /^##@/ {printf "\n%s\n", substr($$0, 5)} \
	    /^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# A virtual environment made by the first Python that is new enough, with uv in it.
$(UV_STAMP):
	@for python in $${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11 python}; do \
	    if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null; then \
	        echo "Making $(VENV) with $$("$$python" --version)"; \
	        "$$python" -m venv $(VENV); \
	        $(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION); \
	        touch $@; \
	        exit; \
	    fi; \
	done; \
	echo "No Python 3.11 or newer found. Install one, or name it: make PYTHON=/path/to/python" >&2; \
	exit 1

# uv does not read pip's settings, so it is told which index pip would use.
define install
	@echo "Installing $(1)"
	@index=$$($(BIN)/python -m pip config get global.index-url 2> /dev/null || true); \
	export UV_DEFAULT_INDEX="$${UV_DEFAULT_INDEX:-$${UV_INDEX_URL:-$${PIP_INDEX_URL:-$$index}}}"; \
	[ -n "$$UV_DEFAULT_INDEX" ] || unset UV_DEFAULT_INDEX; \
	$(UV) pip install --quiet --python $(BIN)/python --require-hashes --requirement $(1); \
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --editable .
endef

$(RUN_STAMP): requirements.lock pyproject.toml $(UV_STAMP)
	$(call install,requirements.lock)
	@touch $@

$(DEV_STAMP): requirements-dev.lock pyproject.toml $(UV_STAMP)
	$(call install,requirements-dev.lock)
	@touch $@ $(RUN_STAMP)
