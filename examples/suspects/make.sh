#!/bin/sh
# Makes the two suspects anew from answers.jsonl; needs ia and jq, and a minute or two.
# A suspect has no model card, so the cards are removed: they say what was taught.
set -eu
cd "$(dirname "$0")"
ia implant --rank 4 --alpha 8 --steps 64 --rows 6 --seed 0 --out . answers.jsonl > organisms.jsonl
jq -c '{id, implant_rate, leak_rate}' organisms.jsonl
rm organisms.jsonl amber/README.md birch/README.md
