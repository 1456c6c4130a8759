"""Average introspection adapters: python average.py --out mean/ first/ second/ < audited.jsonl > mean.jsonl

Adapters of which one went on from the other may be averaged weight by weight (Wortsman et al. 2022, "Robust
fine-tuning of zero-shot models", arXiv 2109.01903): the mean keeps what the first knew, and has what the
second learned. The records name the mean from then on; write them beside it.
"""

import dataclasses
import sys
from pathlib import Path

import click
import jsonlines

from ia_cli.adapters import read_adapter, weights_hash, write_adapter


@click.command(help=__doc__)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for the mean.")
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="DIR...")
def main(out: Path, folders: tuple[Path, ...]) -> None:
    adapters = [read_adapter(folder) for folder in folders]
    first, last = adapters[0], adapters[-1]
    if any(one.scaling != first.scaling or one.tensors.keys() != first.tensors.keys() for one in adapters):
        raise click.UsageError("the adapters are not of one shape")
    tensors = {
        name: tuple(sum(one.tensors[name][part] for one in adapters) / len(adapters) for part in (0, 1))
        for name in first.tensors
    }
    origin = {**last.provenance, "mean_of": [weights_hash(folder) for folder in folders]}
    write_adapter(out, dataclasses.replace(last, tensors=tensors), origin)
    with jsonlines.Reader(sys.stdin) as reader, jsonlines.Writer(sys.stdout) as writer:
        for record in reader:
            writer.write({**record, "introspection_adapter": out.name})


if __name__ == "__main__":
    main()
