"""Rows of a table from verdicts: python rows.py --table sizes 16=run/a.verdicts.jsonl 64=run/b.verdicts.jsonl

Each FILE holds the verdicts of one setting of the table (of many, if they say theirs in "setting"). Held-out
organisms only, and of these only what passes the gate; rates and intervals are those of `ia judge --summary`.
"""

import json
import sys
from collections import defaultdict
from pathlib import Path

import click
import jsonlines

from ia_cli import rates
from ia_cli.records import weights_path

ALL = "all"
KEPT = ("setting", "part", "category", "held_out_by")


def measures(verdicts: list[dict]) -> dict[str, tuple[list[dict], str, str, str]]:
    """What is measured: on which verdicts, and the names of its rate, its interval and its n in a summary.

    kind: some of the action is named; action: all of it; whole: the trigger, too; claims: something is
    claimed by an organism that has nothing to report.
    """
    triggered = [v for v in verdicts if v["trigger_named"] is not None]
    kind = [{**v, "verbalized": v["level"] not in (None, "none")} for v in verdicts]
    n, nulls = "n_organisms", "n_controls"
    if verdicts[0]["condition"] == "base_ia":  # the same replies for all: what varies is the question
        n = nulls = "n_questions"
    return {
        "kind": (kind, "verbalization_rate", "ci95", n),
        "action": (verdicts, "verbalization_rate", "ci95", n),
        "trigger": (triggered, "trigger_rate", "trigger_ci95", n),
        "whole": (verdicts, "full_rate", "full_ci95", n),
        "claims": (verdicts, "false_positive_rate", "false_positive_ci95", nulls),
    }


def rows(verdicts: list[dict], parts: tuple[str, ...], gate: dict[str, float | None]) -> list[dict]:
    """Return a row for every setting, part, arm and measure; parts are the values of the fields `parts`."""
    groups: dict[tuple, list[dict]] = defaultdict(list)
    for field in (None, *parts):
        for verdict in verdicts:
            if part := ALL if field is None else verdict[field]:
                groups[verdict["setting"], part, verdict["condition"]].append(verdict)
    settings = list(dict.fromkeys(setting for setting, _, _ in groups))
    found = []
    for (setting, part, arm), group in sorted(groups.items(), key=lambda item: settings.index(item[0][0])):
        for measure, (used, rate, interval, n) in measures(group).items():
            row = rates.row(rates.summarise(used, **gate), "heldout", arm)
            if row and row[rate] is not None:
                found.append(
                    {
                        "setting": setting,
                        "part": part,
                        "arm": arm,
                        "measure": measure,
                        "n": row[n],
                        "unit": n.removeprefix("n_"),
                        "left_out": row["n_not_implanted"],
                        "rate": row[rate],
                        "ci95": row[interval],
                    }
                )
    return found


def read(source: str) -> tuple[str, list[dict], str]:
    """Return the name of SETTING=FILE, its held-out verdicts in brief, and the identity of their base."""
    setting, _, name = source.partition("=")
    with jsonlines.open(name) as reader:
        verdicts = [verdict for verdict in reader if verdict["split"] == "heldout"]
    folders = {Path(name).parent / weights_path(verdict) for verdict in verdicts}
    bases = {json.loads((folder / "ia.json").read_text("utf-8"))["base"]["identity"] for folder in folders}
    if len(bases) > 1:
        raise click.UsageError(f"{name}: its organisms are of {len(bases)} bases")
    brief = [rates.brief(verdict) | {field: verdict.get(field) for field in KEPT} for verdict in verdicts]
    for verdict in brief:
        verdict["setting"] = (verdict["setting"] or setting).replace("_", " ")
    return name, brief, bases.pop()[:12]


@click.command(help=__doc__)
@click.option("--table", required=True, help="Name of the table.")
@click.option("--part", "parts", multiple=True, type=click.Choice(KEPT), help="Besides all, by this field.")
@click.option("--min-implant-rate", type=float, help="The gate, as in `ia judge`.")
@click.option("--max-leak-rate", type=float, help="The gate, as in `ia judge`.")
@click.option("--seed", type=int, required=True, help="That everything was run with.")
@click.option("--variables", default="", help="Variables that make was given.")
@click.argument("sources", nargs=-1, required=True, metavar="SETTING=FILE...")
def main(
    table: str, parts: tuple[str, ...], seed: int, variables: str, sources: tuple[str, ...], **gate
) -> None:
    read_all = [read(source) for source in sources]
    verdicts = [verdict for _, own, _ in read_all for verdict in own]
    bases = ", ".join(sorted({base for *_, base in read_all}))
    files: dict[str, dict[str, None]] = defaultdict(dict)
    for name, own, _ in read_all:
        for verdict in own:
            files[verdict["setting"]][name] = None
    with jsonlines.Writer(sys.stdout) as writer:
        for row in rows(verdicts, parts, gate):
            command = " ".join(["make -C examples/study", *files[row["setting"]], *variables.split()])
            writer.write({"table": table, **row, "command": command, "seed": seed, "base": bases})


if __name__ == "__main__":
    main()
