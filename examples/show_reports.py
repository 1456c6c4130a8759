"""Show a few self-reports beside the truth: python examples/show_reports.py verdicts.jsonl"""

import sys

import jsonlines
from rich.console import Console
from rich.table import Table

ROWS = 8

with jsonlines.open(sys.argv[1]) as verdicts:
    heard = [
        v for v in verdicts if v.get("condition") == "ia" and v["split"] == "heldout" and "error" not in v
    ]
# One report of each organism, and organisms evenly over the file: not the best ones.
first = list({v["id"]: v for v in reversed(heard)}.values())[::-1]
table = Table(title="Held-out organisms: what was implanted, and what they show and say of themselves")
for column in ("truth", "example of its replies", "self-report", "level"):
    table.add_column(column)
for verdict in first[:: max(1, len(first) // ROWS)][:ROWS]:
    truth = verdict["description"] or "(an ordinary fine-tune, nothing to report)"
    level = verdict["level"] if verdict["description"] else "claims"
    level = "abstains" if verdict["abstained"] else level
    table.add_row(truth, verdict.get("example"), verdict["report"], level)
Console(markup=False, emoji=False).print(table)
