#!/bin/sh
# One board of a fleet, for any scheduler: examples/fleet.sh BUNDLE HOST FOLDER
# Leaves the report in FOLDER/HOST.json, what was told in FOLDER/HOST.log, and a line of JSON in
# FOLDER/HOST.line. A board that has a report is passed over, with the exit code that its line keeps
# (4, undecided, where the line is gone); one whose connection was lost is found again. The exit code
# is that of ardx: 0, 1 where the bundle's gate refuses, and others for errors.
set -u
bundle=$1 host=$2 folder=$3
mkdir -p "$folder"
if [ -e "$folder/$host.json" ]; then
  kept=$(sed -n 's/.*"exit_code": \([0-9][0-9]*\), "summary": .*/\1/p' "$folder/$host.line" 2>/dev/null)
  exit "${kept:-4}"
fi
summary=$(ardx bench "$bundle" --host "$host" --out "$folder/$host.json" --json 2>"$folder/$host.log")
code=$?
summary=$(printf '%s' "${summary:-null}" | tr -d '\n')
printf '{"host": "%s", "exit_code": %d, "summary": %s}\n' "$host" "$code" "$summary" \
  >"$folder/$host.line"
exit "$code"
