# One command makes the environment and runs the main example (make example), one makes it and
# passes the tests (make test). Nothing is needed but a Python >= 3.12 under one of its usual names.

VENV ?= .venv
PYTHONS ?= python3.14 python3.13 python3.12 python3 python
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
# As many processes as there are cores, each with one thread; a file's tests stay together.
PYTEST := OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest
PYTEST_ARGS ?= -n auto --dist loadfile
PEER_PYTHON ?= $(BIN)/python

.PHONY: help example test slow lint docs bench clean

help:
	@echo "make example   run examples/arabidopsis.py (makes $(VENV) first)"
	@echo "make test      the tests and the docstrings' examples"
	@echo "make slow      the tests that take minutes"
	@echo "make lint      ruff and mypy"
	@echo "make docs      build docs/_build/html"
	@echo "make bench     the benchmarks, beside the peers (PEER_PYTHON names the Python of theirs)"
	@echo "make clean     remove $(VENV) and what was built"

example: $(VENV)/.stamp-base
	$(BIN)/python examples/arabidopsis.py

test: $(VENV)/.stamp-dev
	$(PYTEST) -m "not slow" $(PYTEST_ARGS)

slow: $(VENV)/.stamp-dev
	$(PYTEST) -m slow $(PYTEST_ARGS)

lint: $(VENV)/.stamp-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.stamp-docs
	$(BIN)/python -m sphinx -W --keep-going -b html docs docs/_build/html

bench: $(VENV)/.stamp-benchmarks
	$(BIN)/python -m benchmarks startup
	$(BIN)/python -m benchmarks ml --peer-python $(PEER_PYTHON)
	$(BIN)/python -m benchmarks posterior --peer-python $(PEER_PYTHON)

# A name may exist and not run (a version manager's shim), or be too old, or lack ensurepip:
# so each is asked to do what it is wanted for.
$(BIN)/python:
	@for python in $(PYTHONS); do \
	  if "$$python" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 12))' \
	      >/dev/null 2>&1; then \
	    echo "Making $(VENV) with $$python ($$("$$python" --version))"; \
	    exec "$$python" -m venv "$(VENV)"; \
	  fi; \
	done; \
	echo "No Python >= 3.12 with venv was found among: $(PYTHONS)." >&2; \
	echo "Install one (on Debian or Ubuntu also its -venv package), or: make PYTHONS=/path/to/python" >&2; \
	exit 1

$(VENV)/.stamp-base: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) -e .
	@touch $@

$(VENV)/.stamp-%: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) -e ".[$*]"
	@touch $@

clean:
	rm -rf "$(VENV)" build dist docs/_build docs/api/generated docs/jupyter_execute figures
