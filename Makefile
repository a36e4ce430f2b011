# make demo    trains a news classifier on this machine, in a few minutes
# make test    runs all tests
# Both make the environment first, in .venv, where it is missing or out of date.

VENV ?= .venv
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
TESTS ?= tests

.PHONY: help demo test test-fast lint types check bench parity clean

help:
	@echo "make demo       train a news classifier in a few minutes"
	@echo "make test       all tests (make test-fast: without the slow ones)"
	@echo "make check      lint and types"
	@echo "make bench      speed against the stock Trainer    (LUTHIER_BENCH_DATA=folder)"
	@echo "make parity     scores against the stock Trainer   (LUTHIER_BENCH_DATA=folder)"
	@echo "make clean      remove the environment and caches"

# torch comes first and pinned: a plain torch would bring gigabytes of CUDA.
$(STAMP): pyproject.toml constraints.txt
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Luthier needs Python 3.11 or later; found $$("$(PYTHON)" --version 2>&1). Say which: make PYTHON=/path/to/python"; exit 1; }
	@rm -f "$(STAMP)"
	"$(PYTHON)" -m venv "$(VENV)"
	"$(BIN)/python" -m pip install --quiet --constraint constraints.txt torch
	"$(BIN)/python" -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	@touch "$(STAMP)"

demo: $(STAMP)
	@"$(BIN)/luthier" train examples/news-topics.yaml

test: $(STAMP)
	OMP_NUM_THREADS=1 "$(BIN)/python" -m pytest -n 2 $(TESTS)

test-fast: $(STAMP)
	OMP_NUM_THREADS=1 "$(BIN)/python" -m pytest -n 2 -m "not slow" $(TESTS)

lint: $(STAMP)
	"$(BIN)/ruff" check .
	"$(BIN)/ruff" format --check .

types: $(STAMP)
	"$(BIN)/mypy"

check: lint types

bench: $(STAMP)
	"$(BIN)/python" -m benchmarks.bench

parity: $(STAMP)
	"$(BIN)/python" -m benchmarks.parity

clean:
	rm -rf "$(VENV)" .pytest_cache .mypy_cache .ruff_cache
