"""What a report survives: the adapters of organisms changed on files, and measured anew."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import click
import torch
from torch import Tensor

from ia_cli import options
from ia_cli.bank import Bank
from ia_cli.directories.adapters import Adapter, provenance, read_adapter, weights_hash, write_adapter
from ia_cli.directories.stacking import stack
from ia_cli.models import Base, load_base, suitable_length
from ia_cli.organisms import AT_ONCE
from ia_cli.probing import implant_and_leak_rates
from ia_cli.seeds import derived_seed
from ia_cli.settings import ImplantSettings
from ia_cli.stage import Stage

NO_TRUTH = {
    "category": "control",
    "description": None,
    "trigger": None,
    "facets": {"action": [], "trigger": []},
    "shows": None,
    "probes": [],
}


def on_tensors(adapter: Adapter, change: Callable[[Tensor], Tensor]) -> Adapter:
    return replace(
        adapter, tensors={name: (change(a), change(b)) for name, (a, b) in adapter.tensors.items()}
    )


def scaled(adapter: Adapter, factor: float) -> Adapter:
    return replace(adapter, tensors={name: (a, factor * b) for name, (a, b) in adapter.tensors.items()})


def pruned(tensor: Tensor, share: float) -> Tensor:
    """Set the smallest `share` of the entries to zero."""
    smallest = tensor.abs().flatten().argsort()[: round(share * tensor.numel())]
    return tensor.flatten().index_fill(0, smallest, 0).view_as(tensor)


def quantised(tensor: Tensor, bits: int) -> Tensor:
    """Round to the nearest of 2^bits - 1 values from -largest to largest, by row."""
    steps = 2 ** (bits - 1) - 1
    unit = tensor.abs().amax(dim=1, keepdim=True).clamp(min=torch.finfo(tensor.dtype).tiny) / steps
    return (tensor / unit).round() * unit


def random_like(adapter: Adapter, seed: int) -> Adapter:
    """Draw A and B from a normal distribution; B A gets the norm that it had, in every layer."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, (a, b) in adapter.tensors.items():
        new_a, new_b = (torch.randn(t.shape, generator=generator, dtype=t.dtype) for t in (a, b))
        tensors[name] = new_a, new_b * (b @ a).norm() / (new_b @ new_a).norm()
    return replace(adapter, tensors=tensors)


def altered(change: str, record: dict, adapter: Adapter, control: Adapter) -> Adapter:
    """Return an adapter after the change NAME=AMOUNT."""
    name, _, amount = change.partition("=")
    match name:
        case "scale":
            return scaled(adapter, float(amount))
        case "prune":
            return on_tensors(adapter, partial(pruned, share=float(amount)))
        case "quantise":
            return on_tensors(adapter, partial(quantised, bits=int(amount)))
        case "merge":
            return stack([scaled(one, float(amount)) for one in (adapter, control)])
        case "random":
            return random_like(adapter, derived_seed(amount, record["id"]))
    raise click.UsageError(f"--change {change}: give scale, prune, quantise, merge or random")


def partner(record: dict, controls: Sequence[dict], seed: int) -> dict:
    """Return the control that a record is merged with, never itself; the usage if there is none."""
    others = [control for control in controls if control["id"] != record["id"]]
    if not others:
        raise click.UsageError("among the records must be two controls")
    return others[derived_seed(seed, "partner", record["id"]) % len(others)]


def said_of(record: dict, change: str) -> dict:
    """Return what the record says after a change, but for what is measured."""
    nothing = NO_TRUTH if change.startswith("random=") else {}
    return {**record, **nothing, "id": f"{record['id']}~{change}", "setting": change.replace("=", " ")}


def measured(records: Sequence[dict], organisms: Sequence[Adapter], base: Base, seed: int) -> Iterator[dict]:
    """Yield the records with the rates of their organisms; null where there is nothing to show."""
    bank = Bank.load(base.model, organisms)
    try:
        length = suitable_length(base, ImplantSettings.max_new_tokens)
        how = {"samples": ImplantSettings.samples, "max_new_tokens": length, "seed": seed}
        rates = implant_and_leak_rates(bank, base, records, **how)
    finally:
        bank.remove()
    for record, (implanted, leaked) in zip(records, rates, strict=True):
        rest = {name: value for name, value in record.items() if name != "probes"}
        yield {**rest, "implant_rate": implanted, "leak_rate": leaked}


@click.command()
@options.stage(reads="organism", writes="organism", needs=("category",))
@options.seed
@options.out("Folder for the changed adapters.")
@click.option("--change", "changes", multiple=True, metavar="NAME=AMOUNT", help="May be repeated.")
def main(stage: Stage, seed: int, out: Path, changes: tuple[str, ...]) -> None:
    """Change the adapters of organisms, and measure whether they still show their behavior.

    Writes one organism per record and change, which stands in "setting": scale=FACTOR, prune=SHARE (the
    smallest entries), quantise=BITS, merge=WEIGHT (times the sum with a control), random=SEED (an adapter of
    the same norm, with nothing to report). Among the records must be two controls.
    """
    given, base = stage.read(), load_base()
    controls = [r for r in given if r["category"] == "control"]
    planned = [
        (said_of(r, change), r, change, partner(r, controls, seed)["adapter"])
        for change in changes
        for r in given
    ]
    todo = [plan for plan in planned if (plan[0]["id"],) not in stage.done]
    for start in range(0, len(todo), AT_ONCE):
        some = todo[start : start + AT_ONCE]
        adapters = [altered(c, r, read_adapter(r["adapter"]), read_adapter(other)) for _, r, c, other in some]
        organisms = measured([after for after, *_ in some], adapters, base, seed)
        for organism, adapter, (_, before, change, _) in zip(organisms, adapters, some, strict=True):
            place, arguments = out / organism["id"], {"change": change, "seed": seed}
            parents = [{"id": before["id"], "sha256": weights_hash(before["adapter"])}]
            write_adapter(place, adapter, provenance("surgery", base, arguments, parents=parents))
            stage.write({**organism, "adapter": str(place)})


if __name__ == "__main__":
    main()
