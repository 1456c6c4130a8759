"""Score the reports of each organism against another: python shuffle.py < reports.jsonl | ia judge

A report that would be right about any organism is right about the wrong one, too. Held-out organisms with
the introspection adapter only; each is paired with one other, at random.
"""

import random
import sys

import click
import jsonlines

TRUTH = ("category", "held_out_by", "description", "trigger", "facets", "shows")


def shuffle(reports: list[dict], seed: int) -> list[dict]:
    """Return the reports of behaviors with the truth of another organism, whose id is in `scored_against`."""
    own = {r["id"]: {name: r.get(name) for name in TRUTH} for r in reports if r["category"] != "control"}
    order = random.Random(seed).sample(list(own), len(own))
    others = dict(zip(order, order[1:] + order[:1], strict=True))  # a ring: nobody meets himself
    return [
        {**report, **own[others[report["id"]]], "scored_against": others[report["id"]]}
        for report in reports
        if report["id"] in own
    ]


@click.command(help=__doc__)
@click.option("--seed", default=0, show_default=True)
def main(seed: int) -> None:
    with jsonlines.Reader(sys.stdin) as reader, jsonlines.Writer(sys.stdout) as writer:
        reports = [r for r in reader if r.get("condition") == "ia" and r["split"] == "heldout"]
        writer.write_all(shuffle([r for r in reports if not r.get("error")], seed))


if __name__ == "__main__":
    main()
