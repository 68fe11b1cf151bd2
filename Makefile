# Two commands are enough: `make demo` and `make test`. Both install what is missing.
VENV ?= .venv
PYTHON ?= python3.11
BIN = $(VENV)/bin
DOMAIN ?= hip
PYTEST_ARGS ?=

.PHONY: install demo test format lint types cov docs check bare acceptance
.DEFAULT_GOAL := check

install: $(VENV)/.installed

# the constraints come first: they pin a torch that needs no GPU packages where a CPU build exists
$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || python3 -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt torch
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

demo: install
	$(BIN)/python examples/hip_demo.py

test: install
	$(BIN)/python -m pytest -n 2 --dist loadfile --timeout 300 $(PYTEST_ARGS)

format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/mypy

cov: install
	$(MAKE) test PYTEST_ARGS="--cov sciml --cov-report term:skip-covered"

docs: install
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[docs]'
	$(BIN)/mkdocs build --strict

check: format lint types test

# an environment without extras: importing and asking for help needs none of them
bare:
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV) || python3 -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt torch
	$(BIN)/python -m pip install --quiet -c constraints.txt -e .
	$(BIN)/python -c "import sciml.cli"
	$(BIN)/sciml --help > /dev/null
	$(BIN)/sciml fit --help > /dev/null

# the long checks: every line of the acceptance list, resumable, one table and one JSON
acceptance: install
	$(BIN)/python tests/acceptance/run.py $(DOMAIN)
