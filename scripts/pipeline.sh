#!/usr/bin/env bash
# A compression as a CI job: validate, plan, compress, evaluate with a gate, export. Any step that fails ends it.
#
#   scripts/pipeline.sh CONFIG OUTPUT [GATE] [--set KEY=VALUE]...
#   scripts/pipeline.sh tiny runs/ci 'perplexity>+60%'
#
# The gate is judged on 64 windows, a fixed subset. stdout carries the plan, the evaluation and the export, one JSON
# document each. LIPTT names the command (default: liptt).
set -euo pipefail
config=${1:?usage: scripts/pipeline.sh CONFIG OUTPUT [GATE] [--set KEY=VALUE]...}
output=${2:?usage: scripts/pipeline.sh CONFIG OUTPUT [GATE] [--set KEY=VALUE]...}
gate=${3:-'perplexity>+100%'}
shift $(($# < 3 ? $# : 3))
read -ra liptt <<<"${LIPTT:-liptt}"

"${liptt[@]}" plan --config "$config" "$@" --json
if [ -f "$output/manifest.json" ]; then
    "${liptt[@]}" -q compress --resume "$output" --json >/dev/null
else
    "${liptt[@]}" -q compress --config "$config" --output "$output" "$@" --json >/dev/null
fi
"${liptt[@]}" -q verify "$output" >&2
model=$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["config"]["model"])' "$output/manifest.json")
"${liptt[@]}" -q eval "$output" --against "$model" --perplexity stdlib --windows 64 --fail-if "$gate" --json
"${liptt[@]}" -q export "$output" --to hf --output "$output/dense" --force --json
