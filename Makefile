# One word a job; `make help` lists them. VENV and PYTHON may be set from outside.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STUDY ?= runs/demo
WORKERS ?= 2
.DEFAULT_GOAL := help
.PHONY: help setup demo test check fmt lint types layers tests test-slow parity repro \
	check-fit docs clean lock

help:  ## this list
	@grep -hE '^[a-z%-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 14

$(VENV)/installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

setup: $(VENV)/installed  ## virtual environment from the lock file

demo: setup  ## the whole journey on the built-in collection; prints where report.html is
	$(BIN)/gr-jax demo --study $(STUDY)

test: check tests  ## everything a commit must pass

check: lint types layers  ## format, lint, types, layers

fmt: setup  ## formats and mends what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: setup  ## format and lint, changing nothing
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: setup  ## static types
	$(BIN)/basedpyright --pythonpath $(BIN)/python

layers: setup  ## which package may import which
	$(BIN)/lint-imports --no-logo

tests: setup  ## the ordinary tests
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal \
		-m "not slow and not parity and not gpu"

test-slow: setup  ## the long tests
	JAX_DISABLE_MOST_OPTIMIZATIONS=0 $(BIN)/python -m pytest -n $(WORKERS) -m "slow" \
		--timeout=3600

$(VENV)/parity-installed: $(VENV)/installed requirements-parity.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-parity.lock
	@touch $@

parity: $(VENV)/parity-installed  ## live comparisons with torch and transformers
	$(BIN)/python -m pytest -m parity

repro: setup  ## the smallest study twice: equal records, and equal to the stored ones
	$(BIN)/python -m tools.repro

check-fit: setup  ## published scaling tables, fitted anew (needs GR_JAX_DATA)
	$(BIN)/python -m tools.check_fit

bench-%: setup  ## one benchmark: bench-decode, bench-fit, bench-train, …
	$(BIN)/python -m tools.bench.$(subst -,_,$*)

docs: setup  ## generated parts of the documentation
	$(BIN)/python -m tools.make_docs

lock: setup  ## renews the lock files from pyproject.toml (needs uv)
	tools/lock.sh

clean:  ## removes what builds leave behind, not the runs
	rm -rf build dist .pytest_cache .ruff_cache .import_linter_cache
