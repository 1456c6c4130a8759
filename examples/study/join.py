"""Join sets of organisms: python join.py --held-out new.implanted.jsonl a.implanted.jsonl b.implanted.jsonl

All organisms of the FILEs become training organisms. Those of --held-out are held out, but
for behaviors that a training organism has, which are dropped. Ids get the name of the set. Paths are not
touched: write beside the files that are read.
"""

import json
import sys
from pathlib import Path

import click
import jsonlines
from pick import shorter


def behavior(record: dict) -> str:
    """What an organism does, whatever the words."""
    return json.dumps([record["facets"], record["trigger"]]) if record["description"] else record["id"]


def join(sets: dict[str, list[dict]], held_out: str) -> list[dict]:
    """Return the records of all sets, by name; `held_out` names the one that is not trained on."""
    seen = {behavior(record) for name, records in sets.items() if name != held_out for record in records}
    joined = []
    for name, records in sets.items():
        place = {"split": "train", "held_out_by": None}
        if name == held_out:
            records = [r for r in records if not r["description"] or behavior(r) not in seen]
            place = {"split": "heldout", "held_out_by": "combination"}
        joined += [{**record, **place, "id": f"{record['id']}~{name}"} for record in records]
    return joined


@click.command(help=__doc__)
@click.option("--held-out", type=click.Path(path_type=Path), required=True, help="The set that is held out.")
@click.argument("files", nargs=-1, type=click.Path(path_type=Path), metavar="FILE...")
def main(held_out: Path, files: tuple[Path, ...]) -> None:
    sets = {}
    for path in (*files, held_out):
        with jsonlines.open(path) as reader:
            sets[path.name.split(".")[0]] = list(reader)
    with jsonlines.Writer(sys.stdout) as writer:
        for record in join(sets, held_out.name.split(".")[0]):
            writer.write(shorter(record))


if __name__ == "__main__":
    main()
