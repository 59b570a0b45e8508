#!/usr/bin/env bash
# The oldest versions that pyproject.toml allows, in an environment of their own: a bound that is
# not true fails here. A board's side by default; `lower_bounds.sh train` the training side too,
# whose torch takes some gigabytes.
set -euo pipefail
cd "$(dirname "$0")/.."
export ORT_DISABLE_TELEMETRY=1 OMP_NUM_THREADS=1
side=${1:-edge}
python=${PYTHON:-python3}
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT

"$python" -m venv "$place/uv"
"$place/uv/bin/pip" install --quiet uv
"$python" -m venv "$place/venv"
install() { VIRTUAL_ENV=$place/venv "$place/uv/bin/uv" pip install --quiet "$@"; }
extras=edge,report
[ "$side" = edge ] || extras=$extras,train
install --resolution lowest-direct ".[$extras]"
# What the tests need beside it, without moving what was chosen.
"$place/venv/bin/python" -m pip freeze --exclude ardx | sed 's/ @ .*//' > "$place/chosen.txt"
install --constraint "$place/chosen.txt" pytest hypothesis onnx scipy statsmodels jsonschema xmlschema \
  'cyclonedx-python-lib[json-validation]'

cp -r tests "$place/tests"
cp pyproject.toml "$place"
cd "$place"
if [ "$side" = edge ]; then
  # Where there is no torch: what a board reads, runs, times, judges and writes.
  venv/bin/python -m pytest -q -p no:cacheprovider tests/edge_bench/core tests/edge_bench/files \
    tests/edge_bench/backends/test_backends.py tests/edge_bench/policy tests/edge_bench/runs \
    tests/edge_bench/robustness tests/edge_bench/timing
else
  venv/bin/python -m pytest -q -p no:cacheprovider tests/ard/learning tests/ard/models \
    tests/ard/exporting/test_precision.py tests/deploy
fi
