#!/usr/bin/env bash
# In an environment without torch and onnx: replay, gate, and the sentence for what is missing.
#   check_device.sh BIN DEMO
set -euo pipefail
bin=$1 demo=$2
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

for module in torch onnx scipy sklearn; do
  if "$bin/python" -c "import $module" 2>/dev/null; then
    echo "$module is installed here, so this checks nothing" >&2
    exit 1
  fi
done
"$bin/python" -W error -c 'import edge_bench, edge_bench.cli'
"$bin/ardx" bench "$demo/student-int8.onnx" --sets "$demo/sets/student" --device local \
  --backend ort --out "$out/report.json"
"$bin/ardx" gate "$out/report.json" --min-robust-accuracy 0.5
"$bin/python" -m edge_bench gate "$out/report.json" --min-clean-accuracy 0.9
"$bin/ardx" bench "$demo/student-int8.onnx" --sets "$demo/sets/student" --backend all \
  --seconds 0.5 --out "$out/all.json"
"$bin/ardx" gate "$out/all-ort.json" --min-robust-accuracy 0.5
code=0
"$bin/ardx" teach --dataset digits --arch resnet8 --out "$out/t" || code=$?
[ "$code" = 3 ] || { echo "teach without torch: expected exit 3, came $code" >&2; exit 1; }
