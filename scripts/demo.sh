#!/usr/bin/env bash
# What `make demo` shows: the reference model at one bit per weight, two simple methods beside it, one table.
# Runs that are there already are resumed, so that a demo broken off goes on where it was.
set -euo pipefail
cd "$(dirname "$0")/.."

compress() { # NAME [--set KEY=VALUE]...
    local run=runs/demo/$1
    shift
    if [ -f "$run/manifest.json" ]; then
        .venv/bin/liptt compress --resume "$run" >/dev/null
    else
        .venv/bin/liptt compress --config tiny --output "$run" "$@" >/dev/null
    fi
}

compress liptt-onestep
compress sign --set method=sign --set bits_per_weight=null
compress tt-svd-sign --set method=tt-svd-sign
.venv/bin/python scripts/demo_table.py runs/demo/liptt-onestep runs/demo/sign runs/demo/tt-svd-sign
echo
echo "More of each run: runs/demo/*/report.md. Now try:"
echo "  .venv/bin/liptt generate runs/demo/liptt-onestep \"The function returns\""
echo "  .venv/bin/liptt inspect runs/demo/liptt-onestep"
