# make demo    trains a news classifier on this machine, in a few minutes
# make test    runs all tests
# Both make the environment first, in .venv, where it is missing or out of date.

VENV ?= .venv
# The first Python of 3.11 or later that runs; a version manager's stand-in for a Python that is not there does not.
PYTHON ?= $(shell for python in python3.11 python3 python3.12 python3.13 python; do \
  $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$python; break; }; done)
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
TESTS ?= tests
# One thread a process: two test processes with two threads each would wait for each other on two cores.
RUN_TESTS = OMP_NUM_THREADS=1 "$(BIN)/python" -m pytest -n 2

.PHONY: help demo test test-fast lint types check bench parity peers curves engines clean need-bench-data

help:
	@echo "make demo       train a news classifier in a few minutes"
	@echo "make test       all tests (make test-fast: without the slow ones)"
	@echo "make check      lint and types"
	@echo "make bench      speed against the stock Trainer    (LUTHIER_BENCH_DATA=folder)"
	@echo "make parity     scores against the stock Trainer   (LUTHIER_BENCH_DATA=folder)"
	@echo "make peers      speed beside other packages       (LUTHIER_BENCH_DATA=folder)"
	@echo "make curves     losses beside the stock Trainer's     (LUTHIER_BENCH_DATA=folder)"
	@echo "make engines    scores of torch, tensorflow and jax   (LUTHIER_BENCH_DATA=folder)"
	@echo "make clean      remove the environment and caches"

# torch comes first and pinned: the range of pyproject.toml could bring another build. The stamp is written last,
# so that an installation that was interrupted is done again.
$(STAMP): pyproject.toml constraints.txt
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "Luthier needs Python 3.11 or later, and none was found. Say which one: make PYTHON=/path/to/python"; exit 1; }
	@rm -f "$(STAMP)"
	@echo "Making the environment in $(VENV): some hundred megabytes, a few minutes, once."
	@"$(PYTHON)" -m venv "$(VENV)"
	@"$(BIN)/python" -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	@"$(BIN)/python" -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	@touch "$(STAMP)"

demo: $(STAMP)
	@"$(BIN)/luthier" train examples/news-topics.yaml

test: $(STAMP)
	$(RUN_TESTS) $(TESTS)

test-fast: $(STAMP)
	$(RUN_TESTS) -m "not slow" $(TESTS)

lint: $(STAMP)
	"$(BIN)/ruff" check .
	"$(BIN)/ruff" format --check .

types: $(STAMP)
	"$(BIN)/mypy"

check: lint types

need-bench-data:
	@test -d "$(LUTHIER_BENCH_DATA)" || { echo "LUTHIER_BENCH_DATA must name the folder that holds the data sets."; exit 2; }

bench: need-bench-data $(STAMP)
	"$(BIN)/python" -m benchmarks.bench
	"$(BIN)/python" -m benchmarks.whole_runs

parity: need-bench-data $(STAMP)
	"$(BIN)/python" -m benchmarks.parity

peers: need-bench-data $(STAMP)
	"$(BIN)/python" -m benchmarks.peers

curves: need-bench-data $(STAMP)
	"$(BIN)/python" -m benchmarks.curves

engines: need-bench-data $(STAMP)
	"$(BIN)/python" -m benchmarks.engines
	"$(BIN)/python" -m benchmarks.keras_speed

clean:
	rm -rf "$(VENV)" .pytest_cache .mypy_cache .ruff_cache
