# Two commands on a machine that has only Python (3.10 to 3.13) and make:
#   make demo    the whole chain on small real data, in a few minutes
#   make test    the tests
PYTHON ?= python3
BIN := .venv/bin
# Folders or files of tests; all of them by default.
TESTS ?=

.PHONY: demo test lint clean

demo: .venv/installed
	$(BIN)/ardx demo --out demo --force

# A process for each core, of one thread each: torch's threads would wait for one another's cores.
test: .venv/installed
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses auto $(TESTS)

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable '.[train,dev]'
	touch $@

clean:
	rm -rf .venv demo .aarch64
