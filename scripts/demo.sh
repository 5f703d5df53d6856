#!/usr/bin/env bash
# What `make demo` shows: the reference model compressed, reloaded, evaluated and accounted for.
set -euo pipefail
cd "$(dirname "$0")/.."
run=runs/demo
resume=()
if [ -d "$run" ]; then resume=(--resume); fi
.venv/bin/liptt compress --config tiny --output "$run" "${resume[@]}"
echo "The report is in $run/report.md"
