#!/usr/bin/env bash
# What `make demo` shows: the reference model compressed, reloaded, evaluated and accounted for.
set -euo pipefail
cd "$(dirname "$0")/.."
run=runs/demo
if [ -d "$run" ]; then
    .venv/bin/liptt compress --resume "$run"
else
    .venv/bin/liptt compress --config tiny --output "$run"
fi
echo "The report is in $run/report.md"
