"""Choose behaviors or organisms out of a set: python pick.py --train 64 < all.jsonl > some.jsonl

Of the training and of the held-out records the first of each category come before the second, so that few
are spread as evenly as many, and a smaller choice is part of a larger one. What is chosen keeps its place.
Paths are not touched: write beside the file that is read.
"""

import sys
from collections import Counter

import click
import jsonlines


def turns(records: list[dict]) -> list[dict]:
    """The records in the order in which they are taken: one of each category and way of holding out first."""
    seen: Counter = Counter()
    places = []
    for record in records:
        group = record["category"], record.get("held_out_by")
        places.append(seen[group])
        seen[group] += 1
    order = sorted(range(len(records)), key=places.__getitem__)
    return [records[i] for i in order]


def pick(
    records: list[dict],
    train: int | None,
    held_out: int | None,
    controls: int | None,
    of: set[str] | None,
    held_out_of: set[str] | None,
    implanted: float,
) -> list[dict]:
    """Return so many training, held-out and control records, None for all; `of`: only these categories.

    What shows its behavior less often than `implanted` is left out.
    """
    records = [r for r in records if implanted <= (1 if r.get("implant_rate") is None else r["implant_rate"])]
    kinds: dict[str, list[dict]] = {"train": [], "heldout": [], "control": []}
    for record in records:
        kinds["control" if record["category"] == "control" else record["split"]].append(record)
    taught = [r for r in kinds["train"] if of is None or r["category"] in of]
    asked = [r for r in kinds["heldout"] if held_out_of is None or r["category"] in held_out_of]
    ordinary = [r for r in kinds["control"] if train != 0 or r["split"] == "heldout"]
    if train is not None and train > len(taught):
        raise click.UsageError(f"there are {len(taught)} training records, not {train}")
    chosen = turns(taught)[:train] + turns(asked)[:held_out] + ordinary[:controls]
    ids = {record["id"] for record in chosen}
    return [record for record in records if record["id"] in ids]


def shorter(record: dict) -> dict:
    """The record without what only implanting reads (train-ia reads demonstrations, too)."""
    bulky = {"probes"} if record["split"] == "train" else {"probes", "demonstrations"}
    return {field: value for field, value in record.items() if field not in bulky}


def names(context: click.Context, parameter: click.Parameter, value: str | None) -> set[str] | None:
    return set(value.split(",")) if value else None


@click.command(help=__doc__)
@click.option("--train", type=int, help="Training records; all if not given. 0: no training controls either.")
@click.option("--held-out", type=int, help="Held-out records; all if not given.")
@click.option("--controls", type=int, help="Controls; all if not given.")
@click.option(
    "--of", callback=names, help='Training records of these only; "part": is a record in distribution?'
)
@click.option("--held-out-of", callback=names, help="Held-out records of these categories only.")
@click.option(
    "--implanted", type=click.FloatRange(0, 1), default=0, help="Of organisms: the least implant rate."
)
@click.option("--setting", help="Say so in each record, and in its id, so that sets can be joined.")
@click.option(
    "--brief",
    is_flag=True,
    help="Without what only implanting reads: probes, and of held-out records the demonstrations.",
)
def main(brief: bool, setting: str | None, of: set[str] | None, **wanted) -> None:
    with jsonlines.Reader(sys.stdin) as reader, jsonlines.Writer(sys.stdout) as writer:
        for record in pick(list(reader), of=of, **wanted):
            if of and record["category"] != "control":
                record["part"] = f"{'in' if record['category'] in of else 'out of'} distribution"
            if setting:
                record |= {"setting": setting, "id": f"{record['id']}~{setting}"}
            writer.write(shorter(record) if brief else record)


if __name__ == "__main__":
    main()
