"""Organisms whose every weight was trained: model directories, and having the base take on their weights.

A directory in the format of transformers. Of it only safetensors and ia.json are read, and the weights must
be those of the base in name and shape: architecture, tokenizer and chat template are the base's own.
"""

import contextlib
import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ia_cli import checking
from ia_cli.adapters import PROVENANCE_FILE, check_free, put_in_place
from ia_cli.errors import IAError
from ia_cli.models import Base

LARGEST_FILE = 64 << 30  # bytes


def write_model(directory: Path, base: Base, provenance: Mapping[str, object]) -> None:
    """Write the base as it is now, with its tokenizer, as a model directory, whole or not at all."""
    check_free(directory)
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory.parent, prefix=".unfinished-") as scratch:
        fresh = Path(scratch, "new")
        base.model.save_pretrained(fresh)
        base.tokenizer.save_pretrained(fresh)
        (fresh / PROVENANCE_FILE).write_text(json.dumps(provenance, indent=2) + "\n", encoding="utf-8")
        put_in_place(fresh, directory)


def read_provenance(directory: Path) -> dict:
    """Return the ia.json of a model directory, {} if it has none."""
    path = directory / PROVENANCE_FILE
    return checking.read_json(path) if path.exists() else {}


def read_model(directory: str | Path, base: Base) -> dict[str, Tensor]:
    """Return the weights in a model directory by their names in the base.

    IAError for a directory that is not there, has no safetensors, pickles or links to the outside, was made
    from another base, or whose weights are not finite or not those of the base in name and shape.
    """
    directory, where = Path(directory), str(directory)
    checking.check_folder(directory)
    made_for = read_provenance(directory).get("base")
    remedy = f"give the base it was made from with --base (this is {base.name})"
    if isinstance(made_for, dict) and made_for.get("identity") not in (None, base.identity):
        raise IAError(f"made from another base, {made_for.get('name')}", remedy=remedy, where=where)
    tensors: dict[str, Tensor] = {}
    for path in sorted(directory.glob("*.safetensors")):
        checking.check_file(path, LARGEST_FILE)
        try:
            tensors |= load_file(path)
        except SafetensorError as error:
            raise IAError(f"not safetensors: {error}", remedy="save it again", where=str(path)) from error
    wanted = named_weights(base)
    if unlike := _unlike(tensors, wanted):
        raise IAError(f"not the weights of {base.name}: {unlike}", remedy=remedy, where=where)
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise IAError(f"{name} is not finite", remedy="train it again", where=where)
    return {name: tensors[name] for name in wanted}


def _unlike(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str | None:
    """Say in what the weights differ from those of the base, if they do. Tied ones are stored once."""
    for name in sorted(wanted.keys() | tensors.keys()):
        if name not in tensors:
            return f"{name} is missing"
        if name not in wanted:
            return f"it has no {name}"
        if tensors[name].shape != wanted[name].shape:
            return f"{name} is {list(tensors[name].shape)}, not {list(wanted[name].shape)}"
    return None


@contextlib.contextmanager
def taking_on(base: Base, weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Let the base have these weights for a while. Adapters that are on it stay on."""
    parameters = named_weights(base)
    before = {name: parameters[name].detach().clone() for name in weights}
    try:
        _put(parameters, weights)
        yield
    finally:
        _put(parameters, before)


def named_weights(base: Base) -> dict[str, torch.nn.Parameter]:
    """Return the base's own weights by name, whether PEFT has wrapped its layers or not."""
    return {
        name.replace(".base_layer", ""): parameter
        for name, parameter in base.model.named_parameters()
        if ".lora_" not in name and not name.startswith("bank.")
    }


@torch.no_grad()
def _put(parameters: Mapping[str, torch.nn.Parameter], weights: Mapping[str, Tensor]) -> None:
    for name, weight in weights.items():
        parameters[name].copy_(weight)
