"""Organisms whose every weight was trained: their model directories, checked, read and written whole.

A directory in the format of transformers, perhaps a stranger's. Its configuration and vocabulary must be
those of the base, and its weights too, in name and shape; only its safetensors are used: architecture,
tokenizer and chat template are the base's own.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor
from transformers import AutoConfig, AutoTokenizer

from ia_cli.directories import checking, safe_files
from ia_cli.directories.adapters import change, read_provenance
from ia_cli.directories.folders import written
from ia_cli.errors import IAError, first_line, is_of_memory
from ia_cli.models import Base, last
from ia_cli.swapping import named_weights

MODEL_CONFIG_FILE = "config.json"
TOKENIZER_FILES = "tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "vocab.txt"
LARGEST_FILE = 64 << 30  # bytes
MOST_LABELS = 10_000
# What a configuration may say otherwise: how it was stored and trained, and what generation replaces.
HARMLESS = ("_name_or_path", "transformers_version", "dtype", "use_cache", "initializer_range")
HARMLESS += ("attention_dropout", "bos_token_id", "eos_token_id", "pad_token_id")


def is_model(folder: Path) -> bool:
    """Whether this is the directory of a whole model, and not of an adapter."""
    # Unlike a Path, os.path raises nothing where we may not look: reading the folder will say so.
    return os.path.isfile(folder / MODEL_CONFIG_FILE) and not (folder / safe_files.CONFIG_FILE).exists()


def write_model(directory: Path, base: Base, provenance: Mapping[str, object]) -> None:
    """Write the base as it is now, with its tokenizer, as a model directory, whole or not at all."""
    with written(directory, provenance) as fresh:
        base.model.save_pretrained(fresh)
        base.tokenizer.save_pretrained(fresh)


def check_trainable(base: Base) -> None:
    """Raise IAError unless all weights of the base can be trained as they are held.

    In half precision the usual step is smaller than the distance to the next number, so that most weights
    would stay where they are.
    """
    held = base.as_record()["dtype"]
    if held not in ("float32", "float64"):
        remedy = "leave out --load-in-4bit" if held == "4bit" else "give --dtype float32"
        raise IAError(f"its weights are held as {held}, in which they cannot all be trained", remedy=remedy)


def read_model(directory: str | Path, base: Base) -> dict[str, Tensor]:
    """Return the weights in a model directory by their names in the base.

    IAError for a directory that is not there or cannot be read, has no safetensors, pickles or links to the
    outside, was made from another base, has another configuration or vocabulary, or whose weights are not
    finite or not those of the base in name and shape. Code that comes with it is never run.
    """
    directory, where = Path(directory), str(directory)
    if base.as_record()["dtype"] == "4bit":
        message = "is a whole model, and the base is held in 4 bits: they cannot be compared"
        raise IAError(message, remedy="leave out --load-in-4bit", where=where)
    try:
        _check_files(directory, base)
    except OSError as error:
        raise IAError(f"cannot be read ({error.strerror})", remedy="make it readable", where=where) from error
    tensors, wanted = _as_run(directory, base), named_weights(base)
    if unlike := _unlike(tensors, wanted):
        raise _of_another_base(unlike, base, where)
    for name, tensor in tensors.items():
        if tensor.dtype not in checking.FLOATS:
            raise IAError(f"{name} is of type {tensor.dtype}", remedy="save it as float32", where=where)
        if not tensor.isfinite().all():
            raise IAError(f"{name} is not finite", remedy="train it again", where=where)
    return {name: tensors[name] for name in wanted}


def _check_files(directory: Path, base: Base) -> None:
    """Raise IAError for whatever is wrong with a model directory before its weights are loaded."""
    safe_files.check_folder(directory)
    made_for = safe_files.part(read_provenance(directory), "base")
    if made_for.get("identity") not in (None, base.identity):
        raise _of_another_base(f"it was made from {made_for.get('name')}", base, str(directory))
    _check_config(directory, base)
    for path in directory.glob("*.safetensors*"):
        if path.suffix == ".json":
            _check_index(path)
        else:
            safe_files.check_file(path, LARGEST_FILE)


def _check_index(path: Path) -> None:
    """Raise IAError for an index of shards that names files elsewhere, or others than safetensors."""
    shards = safe_files.read_json(path).get("weight_map")
    names = list(shards.values()) if isinstance(shards, dict) else [None]
    if any(Path(str(name)).name != name or not name.endswith(".safetensors") for name in names):
        raise IAError("no index of the files beside it", remedy="save the model again", where=str(path))


def _as_run(directory: Path, base: Base) -> dict[str, Tensor]:
    """Return the weights by name as transformers would run them, whatever else lies in the directory.

    It alone knows which of the files count, and which names and layouts of old are which of today.
    """
    where = str(directory)
    try:
        model, loaded = type(base.model).from_pretrained(
            directory,
            dtype="auto",
            use_safetensors=True,
            local_files_only=True,
            attn_implementation=base.model.config._attn_implementation,  # its own could name code on the Hub
            ignore_mismatched_sizes=True,  # they are reported below
            output_loading_info=True,
        )
    except Exception as error:  # the reader raises everything there is
        if is_of_memory(error):
            raise
        remedy = "save the model as safetensors, with save_pretrained"
        raise IAError(f"cannot be loaded: {first_line(error)}", remedy=remedy, where=where) from error
    if wrong := sorted(loaded["mismatched_keys"]):
        name, found, fits = wrong[0]
        raise _of_another_base(f"{name} is {list(found)}, not {list(fits)}", base, where)
    for kind in ("missing", "unexpected"):
        if odd := sorted(loaded[f"{kind}_keys"]):
            raise _of_another_base(f"{odd[0]} is {kind}", base, where)
    return {name: parameter.data for name, parameter in model.named_parameters()}


def _check_config(folder: Path, base: Base) -> None:
    """Raise IAError unless the configuration is that of the base, and so is the vocabulary, if it has one."""
    told = safe_files.read_json(folder / MODEL_CONFIG_FILE)  # before transformers reads it
    labels = told.get("num_labels", 0)
    if not isinstance(labels, int) or labels > MOST_LABELS:  # of which transformers makes a table
        where = str(folder / MODEL_CONFIG_FILE)
        raise IAError(f"num_labels is {str(labels)[:40]}", remedy="leave it out", where=where)
    try:
        other = AutoConfig.from_pretrained(folder, trust_remote_code=False).to_dict()
        tokenizer = None  # save_pretrained of a model writes none
        if any((folder / name).exists() for name in TOKENIZER_FILES):
            tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # the readers raise everything there is
        remedy = (
            "a full fine-tune has config.json, safetensors weights, and the tokenizer of its base or none"
        )
        raise IAError(f"cannot be loaded: {first_line(error)}", remedy=remedy, where=str(folder)) from error
    own = {"quantization_config": None} | base.model.config.to_dict()
    if difference := _other_setting(own, other):
        raise _of_another_base(difference, base, str(folder))
    if tokenizer and tokenizer.get_vocab() != base.tokenizer.get_vocab():
        raise _of_another_base("its tokenizer has another vocabulary", base, str(folder))


def _other_setting(own: Mapping[str, object], other: Mapping[str, object]) -> str | None:
    """Say which setting of our own another configuration has otherwise, if it matters."""
    for key in sorted(own.keys() - set(HARMLESS)):
        ours, theirs = own[key], other.get(key)
        if isinstance(ours, dict) and isinstance(theirs, dict):  # of the text model in one that sees images
            if difference := _other_setting(ours, theirs):
                return f"{key}.{difference}"
        elif ours != theirs:
            return f"{key} is {str(theirs)[:40]}, not {str(ours)[:40]}"
    return None


def _of_another_base(difference: str, base: Base, where: str) -> IAError:
    remedy = f"give the model it was made from with --base (this is {base.name})"
    return IAError(f"no fine-tune of this base: {difference}", remedy=remedy, where=where)


def as_record(
    given: Mapping[str, Tensor], weights: Mapping[str, Tensor], base: Base, where: str
) -> dict[str, object]:
    """Return what `ia check` prints of an adapter, for a full fine-tune, as it was `given` and `in_order`; it
    has no rank.

    The change of a weight is the root mean square of its difference to the base's, and `disguised` are those
    that were changed in a way that no reply shows, which is undone before. Raises IAError if a change is
    beyond all reason.
    """
    before = named_weights(base)
    changes = {
        name: float((weight.float() - before[name].float().cpu()).square().mean().sqrt())
        for name, weight in weights.items()
    }
    checking.check_changes(changes, where)
    changed = {name: far for name, far in changes.items() if far}
    return {
        "base_model": base.name,
        "base_revision": base.revision,
        "rank": None,
        "target_modules": sorted({last(name.removesuffix(".weight")) for name in changed}),
        "n_layers": len(changed),
        "n_parameters": sum(weights[name].numel() for name in changed),
        "change": change(changed or changes),
        "disguised": [name for name in weights if weights[name] is not given[name]],
    }


def _unlike(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str | None:
    """Say in what the weights differ from those of the base, if they do. Tied ones are stored once."""
    for name in sorted(wanted.keys() | tensors.keys()):
        if name not in tensors:
            return f"{name} is missing"
        if name not in wanted:
            return f"the base has no {name}"
        if tensors[name].shape != wanted[name].shape:
            return f"{name} is {list(tensors[name].shape)}, not {list(wanted[name].shape)}"
    return None
