# exnihilo from the command line. `make` alone prints what there is.

# Variables are taken from the command line, not from the environment: an exported N must not change a set.
PYTHON = python3
DATASET = visual_atoms
N = 10000
OUT = data/shards/$(DATASET)
SIZE =
SEED =
WORKERS =
SHARD_SIZE =
CODEC =
ARGS =

venv := .venv/bin/python
options = $(if $(SIZE),--size $(SIZE)) $(if $(SEED),--seed $(SEED)) $(if $(WORKERS),--workers $(WORKERS)) \
          $(if $(SHARD_SIZE),--shard-size $(SHARD_SIZE)) $(if $(CODEC),--codec $(CODEC)) $(ARGS)

.DEFAULT_GOAL := help
.PHONY: help setup shards test soak bench lint

help:  ## print this list
	@echo "make TARGET [NAME=VALUE ...]"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/.synth  ## make .venv with what the stages need (the others do it too)

shards: .venv/.synth  ## render a data set: DATASET N SIZE SEED OUT WORKERS SHARD_SIZE CODEC ARGS
	@$(venv) -m synth shards $(DATASET) --n $(N) --out "$(OUT)" $(options)

test: lint  ## lint, check types, run the tests
	@$(venv) -m pytest -m "not soak" $(ARGS)

soak: .venv/.test  ## a hundred kills at random moments
	@$(venv) -m pytest -m soak $(ARGS)

bench: .venv/.test  ## print the speed ratios of README's table
	@$(venv) -m tests.bench.bench_synth
	@$(venv) -m tests.bench.bench_fractals

lint: .venv/.test  ## ruff and mypy
	@$(venv) -m ruff check --quiet . && $(venv) -m ruff format --check --quiet . && $(venv) -m mypy --no-error-summary

# One pip call with exact versions; the stamps say which files they were made for.
.venv/.synth: extras = synth
.venv/.test: extras = synth,test
.venv/.synth .venv/.test: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "error: exnihilo needs Python 3.11 or later; name one with make PYTHON=python3.11" >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2> /dev/null || apt-get install --yes --quiet=2 python3-venv > /dev/null 2>&1 || \
	    { echo "error: Python's venv module is missing; install the system package python3-venv" >&2; exit 2; }
	@$(venv) -m pip --version > /dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	@echo "setting up .venv with [$(extras)]" >&2
	@$(venv) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt '.[$(extras)]'
	@touch $@ .venv/.synth
