# Each target sets up what it needs: `make demo` and `make test` work in a fresh clone.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Processes of `make test`; three are faster, but tests of time limits need a processor each.
JOBS ?= 2

.PHONY: setup demo test cases lint docs
setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'Python 3.11 or newer is needed: make PYTHON=python3.11')"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --constraint constraints.txt torch
	$(BIN)/python -m pip install -q --constraint constraints.txt -e ".[dev]"
	touch $(STAMP)

test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(JOBS) --dist worksteal

# Inputs that went wrong once: prints what each expects and what it got.
cases: setup
	OMP_NUM_THREADS=1 $(BIN)/python tests/cases/run_all.py

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

# Writes build/site. Warnings are errors; with --quiet, mkdocs would not count them.
docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

demo: setup
	$(BIN)/worldmodel demo out=runs/demo
