#!/usr/bin/env bash
# The whole chain on CIFAR-10, from teach to gate, within a budget of minutes.
#
#   benchmarks/cifar10_chain.sh --minutes 60 --data-dir DIR --out runs/cifar10
#
# DIR holds cifar-10-batches-py. The budget goes to training (teacher 50, student 32, undefended
# 6 percent) and leaves the rest to evaluation. After an interruption the same command goes on:
# what is trained is not trained again, and a run that was cut off resumes.
set -euo pipefail

minutes=60 data_dir=data out=runs/cifar10
while [ $# -gt 0 ]; do
  case "$1" in
    --minutes) minutes=$2; shift 2 ;;
    --data-dir) data_dir=$2; shift 2 ;;
    --out) out=$2; shift 2 ;;
    *) echo "usage: $0 [--minutes N] [--data-dir DIR] [--out DIR]" >&2; exit 2 ;;
  esac
done
ardx=${ARDX:-ardx}
share() { python3 -c "print($minutes * $1)"; }
# say COMMAND ...: show a stage, then run it.
say() { echo; echo "\$ ardx $*"; $ardx "$@"; }
# learn FILE COMMAND ...: train FILE unless it is there; go on where a checkpoint is.
learn() {
  local weights=$1 resume=; shift
  [ ! -f "$weights" ] || { echo; echo "$weights: trained already"; return; }
  [ ! -f "$(dirname "$weights")/checkpoint.safetensors" ] || resume=--resume
  say "$@" --out "$(dirname "$weights")" $resume
}

mkdir -p "$out"
data=(--data-dir "$data_dir")
train=(--dataset cifar10 "${data[@]}" --epsilon 8/255 --inner-steps 5 --step-size 3/255 --precision bf16)
echo "machine: $(nproc) cores, ${OMP_NUM_THREADS:-all} threads, $(grep -m1 'model name' /proc/cpuinfo | cut -d: -f2- | xargs); $minutes minutes"
$ardx doctor

learn "$out/teacher/teacher.safetensors" \
  teach "${train[@]}" --arch resnet8:32 --method pgd_at --minutes "$(share 0.50)"
learn "$out/student/student.safetensors" \
  distill "${train[@]}" --teacher "$out/teacher/teacher.safetensors" --student resnet8 --method ard \
  --minutes "$(share 0.32)"
learn "$out/undefended/teacher.safetensors" \
  teach "${train[@]}" --arch resnet8 --method natural --minutes "$(share 0.06)"

for model in teacher/teacher student/student undefended/teacher; do
  say evaluate "$out/$model.safetensors" "${data[@]}" --attacks clean,fgsm,pgd20,cw30
done
say evaluate "$out/student/student.safetensors" "${data[@]}" --attacks clean,pgd20,cw30,autoattack --limit 500

student=$out/student/student.safetensors
say export "$student" "${data[@]}" --out "$out/student.onnx" --force
say export "$student" "${data[@]}" --int8 --target x86-vnni --out "$out/student-int8.onnx" --force
for attack in pgd20 cw30; do
  say attack "$student" "${data[@]}" --attack $attack --epsilon 8/255 --out "$out/sets/$attack" --force
done
for model in student student-int8; do
  say bench "$out/$model.onnx" --sets "$out/sets" --device local --backend ort --threads 1 \
    --out "$out/$model.json" --force
done
say gate "$out/student-int8.json" --min-robust-accuracy 0.20 --max-latency-p95-ms 30 \
  --baseline "$out/student.json" --max-robust-drop 0.01
