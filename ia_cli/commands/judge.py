"""`ia judge`: verdicts on self-reports, and the rates that they add up to."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ia_cli import options
from ia_cli.errors import IAError

if TYPE_CHECKING:
    from rich.table import Table

RATE = click.FloatRange(0, 1)


@click.command()
@options.stage(reads="self_report", writes="verdict", needs=("category", "description", "facets"))
@click.option(
    "--summary",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write the summary there, as JSON.",
)
@click.option(
    "--min-implant-rate", type=RATE, metavar="R", help="Leave organisms with a lower rate out of the summary."
)
@click.option(
    "--max-leak-rate", type=RATE, metavar="R", help="Leave organisms with a higher rate out of the summary."
)
@click.option(
    "--min-verbalization-rate",
    type=RATE,
    metavar="R",
    help="Exit 3 if held-out behaviors are named less often.",
)
@click.option(
    "--max-false-positive-rate",
    type=RATE,
    metavar="R",
    help="Exit 3 if controls or the bare base claim more often.",
)
def command(
    stage,
    summary: Path | None,
    min_implant_rate: float | None,
    max_leak_rate: float | None,
    min_verbalization_rate: float | None,
    max_false_positive_rate: float | None,
) -> None:
    """Judge self-reports against the truth and summarise.

    The judge "facets" is exact and works offline: a report names a behavior if it asserts a phrase of every
    group in the record's facets. It knows negations and long lists of guesses; it does not know paraphrases.
    Verdicts go to standard output, the table of rates with their 95% intervals to standard error.

    \b
    Examples:
      ia judge < reports.jsonl > verdicts.jsonl
      ia judge --summary summary.json -o verdicts.jsonl reports.jsonl
      ia judge --min-implant-rate 0.9 --max-leak-rate 0.1 reports.jsonl > verdicts.jsonl
      ia judge --min-verbalization-rate 0.85 --max-false-positive-rate 0.05 reports.jsonl > verdicts.jsonl
    """
    reports = stage.pending(stage.read())
    from ia_cli import console, judging, rates

    verdicts = [rates.brief(verdict) for verdict in stage.finished + stage.failed_earlier]
    with console.progress("judging", total=len(reports)) as bar:
        for report, fields in zip(reports, judging.facets(reports), strict=True):
            verdict = {**report, "kind": "verdict", **fields}
            stage.write(verdict)
            verdicts.append(rates.brief(verdict))
            bar.advance()
    result = rates.summarise(verdicts, min_implant_rate=min_implant_rate, max_leak_rate=max_leak_rate)
    if summary:
        _write_json(summary, result)
    console.note(_table(result))
    for split in ("train", "heldout"):
        if (row := rates.row(result, split, "ia")) and rates.collapsed(row):
            share = f"{row['top_report_share']:.0%} of the {split} reports"
            console.note(f"warning: {share} are one and the same: has the adapter collapsed?")
    if missed := rates.missed_gates(result, min_verbalization_rate, max_false_positive_rate):
        raise IAError("; ".join(missed), exit_code=3)


def _write_json(path: Path, content: dict) -> None:
    """Write the file whole or not at all."""
    unfinished = path.with_name(f".{path.name}.tmp")
    unfinished.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(unfinished, path)


def _table(summary: dict) -> Table:
    """What matters at a glance: the totals, and the parts of the held-out organisms with the adapter."""
    from rich.table import Table

    from ia_cli.rates import ALL, collapsed

    title = f"{summary['judge']}, in percent [95% interval]"
    table = Table(box=None, pad_edge=False, title=title, title_justify="left")
    table.add_column("", no_wrap=True)
    for head in ("n", "verbalized", "full", "trigger", "false pos.", "abstain", "same"):
        table.add_column(head, justify="right", no_wrap=True)
    for row in summary["rows"]:
        kinds = (row["category"], row["held_out_by"])
        if kinds == (ALL, ALL) or (ALL in kinds and (row["split"], row["condition"]) == ("heldout", "ia")):
            table.add_row(
                _label(row),
                str(row["n_organisms"]) + (f"+{row['n_controls']}" if kinds == (ALL, ALL) else ""),
                _percent(row["verbalization_rate"], row["ci95"]),
                _percent(row["full_rate"]),
                _percent(row["trigger_rate"]),
                _percent(row["false_positive_rate"], row["false_positive_ci95"]),
                _percent(row["abstention_rate"]),
                _percent(row["top_report_share"]) + ("!" if collapsed(row) else ""),
            )
    return table


def _label(row: dict) -> str:
    if row["category"] != "all":
        return f"  {row['category']}"
    if row["held_out_by"] != "all":
        return f"  by {row['held_out_by']}"
    return f"{row['split']} {row['condition']}"


def _percent(rate: float | None, interval: list[float] | None = None) -> str:
    if rate is None:
        return "-"
    return f"{100 * rate:.0f}" + (f" [{100 * interval[0]:.0f}-{100 * interval[1]:.0f}]" if interval else "")
