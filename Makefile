# Every target sets up .venv by itself, once, with the pins of constraints.txt.
# PYTHON chooses the interpreter (PYTHON=python3.12 make demo); pip's own settings are honoured.

PYTHON ?= $(shell if python3.11 -c '' 2>/dev/null; then echo python3.11; else echo python3; fi)
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
BIN := .venv/bin
RUN := .venv/.run-$(VERSION)
DEV := .venv/.dev-$(VERSION)
KERNELS := hatch_build.py $(wildcard src/liptt_cli/kernels/c/*)

.PHONY: check fix test test-all bench bench-all speed demo tables

demo: $(RUN) ## the promise, kept on this machine
	scripts/demo.sh

check: $(DEV) ## format, lint, types, walls, configurations
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/liptt validate configs/*.yaml configs/methods/*.yaml

fix: $(DEV) ## format, and what ruff can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: $(DEV) ## what a change must pass, at most 8 minutes on 2 cores
	$(BIN)/python -m pytest -q -n 2 -m "not slow and not gpu and not network"

test-all: $(DEV) ## every test that this machine can run
	$(BIN)/python -m pytest -q -n 2

bench: speed ## the first rows, cell by cell, resumable, into benchmarks/results; about an hour on 2 free cores
	$(BIN)/python benchmarks/run.py --core

speed: $(DEV) ## one linear, and a whole model, beside torch and llama.cpp; minutes, 3 GB of disk; needs the compiled kernels
	$(BIN)/python benchmarks/matmul.py
	$(BIN)/python benchmarks/decode.py

bench-all: $(DEV) ## every row: rivals, more budgets, what each piece is worth; hours
	$(BIN)/python benchmarks/run.py

tables: $(DEV) ## the README's tables from benchmarks/results
	$(BIN)/python scripts/update_tables.py

$(RUN): pyproject.toml constraints.txt $(KERNELS)
	scripts/set_up.sh "$(PYTHON)" .
	touch $@

$(DEV): pyproject.toml constraints.txt $(KERNELS)
	scripts/set_up.sh "$(PYTHON)" ".[dev]"
	touch $@ $(RUN)
