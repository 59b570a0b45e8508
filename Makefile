# Two commands on a machine that has only Python (3.10 to 3.13) and make:
#   make demo    the whole chain on small real data, in a few minutes
#   make test    the tests
# For who works on it: make lint, make fix, make docs (into docs/_build).
PYTHON ?= python3
BIN := .venv/bin
# Folders or files of tests; all of them by default.
TESTS ?=

.PHONY: demo test lint fix docs clean

demo: .venv/installed
	$(BIN)/ardx demo --out demo --force

# A process for each core, of one thread each: torch's threads would wait for one another's cores.
test: .venv/installed
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses auto --durations 25 --durations-min 3 $(TESTS)

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fix: .venv/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Every page anew: a warning is told only where its page is read.
docs: .venv/installed
	$(BIN)/sphinx-build --fail-on-warning --keep-going --fresh-env --quiet docs docs/_build

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable '.[train,dev]'
	touch $@

clean:
	rm -rf .venv demo .aarch64 .gpu docs/_build
