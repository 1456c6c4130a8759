#!/bin/sh
# What does one adapter say about itself? Asks it with the introspection adapter, without it, and the bare base with it:
# a claim counts only if the other two do not make it as well.
# Usage: examples/audit_one.sh SUSPECT_ADAPTER INTROSPECTION_ADAPTER   (needs jq)
set -eu
reports=$(ia elicit --quiet --adapter "$1" --ia "$2" --questions 8 --draws 1)
printf '%s\n' "$reports" |
    jq -r '[.condition, .report] | @tsv' | sort | uniq -c | sort -k2,2 -k1,1nr
