# Two commands on a machine that has only Python (3.10 to 3.13) and make:
#   make demo    the whole chain on small real data, in a few minutes
#   make test    the tests
# For who works on it: make lint, make fix, make docs (into docs/_build), make reliability (every
# promise of docs/explanation/reliability.md), make bench (how fast it is, beside its peers), make
# fuzz, make wheel (into dist), make locked.
PYTHON ?= python3
BIN := .venv/bin
# Folders or files of tests; all of them by default.
TESTS ?=
# Options of benchmarks/reliability/run.py, and seconds of fuzzing for each parser.
RELIABILITY ?=
FUZZ_SECONDS ?= 60
# Subjects of make bench, by commas (all but the demo), and options of benchmarks/speed/run.py.
ONLY ?=
BENCH ?=

# Where Python is told to keep no byte code, each of hundreds of processes would compile ours again,
# which is a tenth of the time that it takes to start.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test lint fix docs reliability bench fuzz wheel locked constraints clean

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

# A process for each core, of one thread each, meant for 15 minutes on two quiet ones.
reliability: .venv/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.reliability.run \
	  --lines docs/results/reliability.jsonl $(RELIABILITY); \
	code=$$?; $(BIN)/python -m benchmarks.reliability.table; exit $$code

# Takes 28 minutes of a machine with nothing else to do. The page is made from the lines alone.
bench: .bench/installed
	.bench/bin/python -m benchmarks.speed.run --only '$(ONLY)' $(BENCH); \
	code=$$?; .bench/bin/python -m benchmarks.speed.report; exit $$code

# Rivals in an environment of their own: none of them is ardx's business, and some pin old packages.
.bench/installed: pyproject.toml
	$(PYTHON) -m venv .bench
	.bench/bin/pip install --quiet --editable '.[train,openvino,report]' torchattacks foolbox
	.bench/bin/pip install --quiet nncf || echo "no nncf for this Python: its lines will say so"
	.bench/bin/pip install --quiet mlcommons-loadgen || echo "no LoadGen here: its lines will say so"
	touch $@

# By coverage where atheris has a wheel, by mutations alone elsewhere.
fuzz: .venv/installed
	$(BIN)/pip install --quiet --editable '.[fuzz]' || echo "no atheris here: by mutations alone"
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.fuzz.run --seconds $(FUZZ_SECONDS)

# The dates in it are the commit's, so that the same commit gives the same bytes.
wheel: .venv/installed
	SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) $(BIN)/pip wheel --quiet --no-deps \
	  --no-build-isolation --wheel-dir dist .

# The environment of .ci/constraints.txt alone, each file by its hash; in place of what is there.
locked:
	rm -rf .venv
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --require-hashes --no-deps --requirement .ci/constraints.txt
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	touch .venv/installed

# For every Python and system at once; needs uv.
constraints:
	uv pip compile pyproject.toml --extra train --extra dev --universal --python-version 3.10 \
	  --generate-hashes --no-header --no-annotate --upgrade --output-file .ci/constraints.txt

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable '.[train,dev]'
	touch $@

clean:
	rm -rf .venv .bench demo .aarch64 .gpu docs/_build dist build fuzz-findings
