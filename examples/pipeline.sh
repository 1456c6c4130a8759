#!/bin/sh
# The whole pipeline on the embedded base, small: 64 behaviors.
# Usage: examples/pipeline.sh [FOLDER]
set -eu
out=${1:-pipeline}
mkdir -p "$out"
cd "$out"

ia gen-behaviors -n 64 --controls 8 --held-out 0.25 > behaviors.jsonl
ia implant  --out organisms/ < behaviors.jsonl > organisms.jsonl
ia train-ia --out ia/        < organisms.jsonl > audited.jsonl
ia elicit   --split heldout  < audited.jsonl   > reports.jsonl
ia judge    --summary summary.json < reports.jsonl > verdicts.jsonl
