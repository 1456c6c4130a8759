"""Adapter directories in the standard PEFT format: checked reading, atomic writing, provenance."""

import dataclasses
import hashlib
import json
import math
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from peft import LoraConfig
from peft.utils.other import get_pattern_key
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ia_cli import __version__
from ia_cli.errors import IAError
from ia_cli.models import Base, linear_modules

CONFIG_FILE, WEIGHTS_FILE, PROVENANCE_FILE = "adapter_config.json", "adapter_model.safetensors", "ia.json"
LARGEST_JSON, LARGEST_WEIGHTS = 1 << 20, 4 << 30  # bytes; a LoRA of rank 64 on a 70B model stays below
PREFIX, A_SUFFIX, B_SUFFIX = "base_model.model.", ".lora_A.weight", ".lora_B.weight"

# Keys of a LoRA configuration that say only where and how strongly A and B act, or do not act at inference.
# Any other key must have its default: DoRA, biases, saved modules and the like are more than W + s B A.
PLAIN_KEYS = {
    "alpha_pattern", "auto_mapping", "base_model_name_or_path", "eva_config", "exclude_modules",
    "inference_mode", "init_lora_weights", "layers_pattern", "layers_to_transform", "lora_alpha",
    "lora_dropout", "peft_type", "peft_version", "r", "rank_pattern", "revision", "target_modules",
    "task_type", "use_rslora",
}  # fmt: skip
# Initialisations that leave W alone. The others (pissa, olora, ...) subtract B A from W, so that their A and
# B mean nothing on the original base.
PLAIN_INITS = (True, False, "gaussian", "eva", "orthogonal")


@dataclasses.dataclass(frozen=True)
class Adapter:
    """A LoRA: y = W x + scaling B A x in each of its linear layers.

    `tensors` maps the layer's name in the base to A [r, in] and B [out, r], and `scaling` to its factor.
    `config` is adapter_config.json, `provenance` is ia.json ({} where an adapter has none).
    """

    config: dict
    tensors: dict[str, tuple[Tensor, Tensor]]
    scaling: dict[str, float]
    provenance: dict = dataclasses.field(default_factory=dict)

    @property
    def rank(self) -> int:
        return max(a.size(0) for a, _ in self.tensors.values())


def plain_config(r: int, alpha: float, target_modules: Sequence[str]) -> dict:
    """Return the adapter_config.json of a LoRA that every loader understands."""
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": None,
        "revision": None,
        "inference_mode": True,
        "r": r,
        "lora_alpha": alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": sorted(target_modules),
    }


def target_names(base: Base, wanted: Sequence[str] | None = None) -> list[str]:
    """Return target modules by their last names (`q_proj`): the wanted, or all linear layers but the head.

    Raises IAError if a wanted name fits no linear layer of the base.
    """
    present = sorted({name.rpartition(".")[2] for name in linear_modules(base.model)})
    for name in wanted or ():
        if name not in present:
            raise IAError(
                f"the base has no linear layer {name!r}", remedy=f"choose among {', '.join(present)}"
            )
    return sorted(wanted or present)


def read_adapter(directory: str | Path, base: Base | None = None) -> Adapter:
    """Read a LoRA from a local PEFT directory, checking whatever could make it act otherwise than it says.

    Only adapter_config.json, adapter_model.safetensors and ia.json are opened. Raises IAError for a directory
    that is missing or incomplete, a file too large, a configuration that is not a plain LoRA, tensors that
    are not finite, and, with a `base`, for an adapter made for another base.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise IAError(
            "no such adapter directory",
            remedy="adapters are local directories, not Hub ids",
            where=str(directory),
        )
    config = _read_json(directory / CONFIG_FILE)
    _check_config(config, str(directory / CONFIG_FILE))
    provenance = _read_json(directory / PROVENANCE_FILE) if (directory / PROVENANCE_FILE).exists() else {}
    tensors = _read_tensors(directory / WEIGHTS_FILE)
    scaling = {name: _scaling(config, name, a, str(directory)) for name, (a, _) in tensors.items()}
    if base is not None:
        _check_base(tensors, provenance, base, str(directory))
    return Adapter(config, tensors, scaling, provenance)


def check_free(directory: Path) -> None:
    """Raise IAError if something stands at this path that is not an adapter which a stage wrote."""
    if directory.exists() and not (directory / PROVENANCE_FILE).is_file():
        raise IAError(
            "exists and is not an adapter of ours", remedy="choose another --out", where=str(directory)
        )


def write_adapter(directory: str | Path, adapter: Adapter, provenance: Mapping[str, object]) -> None:
    """Write an adapter directory that `PeftModel.from_pretrained` loads, whole or not at all.

    The files are written beside it, flushed to the disk and renamed into place; an adapter of the same name
    that this program wrote earlier is replaced. Raises IAError if the name is taken by anything else.
    """
    directory = Path(directory)
    check_free(directory)
    origin = provenance["base"]
    config = {**adapter.config, "base_model_name_or_path": origin["name"], "revision": origin["revision"]}
    weights = {}
    for name, (a, b) in adapter.tensors.items():
        weights[PREFIX + name + A_SUFFIX] = a.detach().cpu().contiguous()
        weights[PREFIX + name + B_SUFFIX] = b.detach().cpu().contiguous()
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory.parent, prefix=".unfinished-") as scratch:
        fresh, stale = Path(scratch, "new"), Path(scratch, "old")
        fresh.mkdir()
        save_file(weights, fresh / WEIGHTS_FILE, metadata={"format": "pt"})
        for name, content in ((CONFIG_FILE, config), (PROVENANCE_FILE, provenance)):
            (fresh / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        for path in (*fresh.iterdir(), fresh):
            _flush(path)
        if directory.exists():
            directory.rename(stale)
        fresh.rename(directory)
        _flush(directory.parent)


def provenance(stage: str, base: Base, arguments: Mapping[str, object], **more: object) -> dict[str, object]:
    """Return an `ia.json`: schema version, stage, arguments (the seed too), versions, base, and `more`."""
    packages = ("torch", "transformers", "peft", "trl")
    return {
        "v": 1,
        "stage": stage,
        "arguments": dict(arguments),
        "versions": {"ia_cli": __version__, **{name: version(name) for name in packages}},
        "base": base.as_record(),
        **more,
    }


def content_hash(content: object) -> str:
    """Return the SHA-256 of anything that JSON can hold, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def _flush(path: Path) -> None:
    """Have the disk hold the file or directory before anything that follows."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read_json(path: Path) -> dict:
    _check_file(path, LARGEST_JSON)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise IAError(f"not JSON: {error}", remedy="save the adapter again", where=str(path)) from error
    if not isinstance(content, dict):
        raise IAError("not a JSON object", remedy="save the adapter again", where=str(path))
    return content


def _check_file(path: Path, largest: int) -> None:
    if not path.is_file():
        raise IAError(
            f"{path.name} is missing", remedy="save the adapter with safetensors", where=str(path.parent)
        )
    if path.stat().st_size > largest:
        raise IAError(f"larger than {largest:,} bytes", remedy="this is not a LoRA adapter", where=str(path))


def _check_config(config: dict, where: str) -> None:
    """Raise IAError unless the configuration is that of a plain LoRA, key by key."""
    if config.get("peft_type") != "LORA":
        raise IAError(
            f"peft_type is {config.get('peft_type')!r}, not LORA", remedy="only LoRA is read", where=where
        )
    defaults = LoraConfig().to_dict()
    for key, value in config.items():
        if key not in defaults:
            raise IAError(f"unknown key {key!r}", remedy="made by a newer PEFT? upgrade peft", where=where)
        if key not in PLAIN_KEYS and value and value != defaults[key]:
            raise IAError(
                f"{key} = {value!r} is more than a plain LoRA", remedy="only W + s B A is read", where=where
            )
    init = config.get("init_lora_weights", True)
    if init not in PLAIN_INITS:
        raise IAError(
            f"init_lora_weights = {init!r} changed the base too",
            remedy="convert it with PEFT's path_initial_model_for_weight_conversion",
            where=where,
        )
    for key in ("r", "lora_alpha"):
        if not isinstance(config.get(key), int | float) or not 0 < config[key] < math.inf:
            raise IAError(f"{key} is {config.get(key)!r}, not a positive number", where=where)


def _read_tensors(path: Path) -> dict[str, tuple[Tensor, Tensor]]:
    """Return A and B of each layer; IAError unless the file holds such pairs and nothing else, all finite."""
    _check_file(path, LARGEST_WEIGHTS)
    try:
        loaded = load_file(path)
    except (SafetensorError, OSError) as error:
        raise IAError(
            f"not a safetensors file: {error}", remedy="save the adapter again", where=str(path)
        ) from error
    names = [key.removeprefix(PREFIX).removesuffix(A_SUFFIX) for key in loaded if key.endswith(A_SUFFIX)]
    expected = {PREFIX + name + suffix for name in names for suffix in (A_SUFFIX, B_SUFFIX)}
    if not names or expected != set(loaded):
        odd = min(expected ^ set(loaded), default="no tensors")
        raise IAError(
            f"not pairs of lora_A and lora_B: {odd}", remedy="only plain LoRA is read", where=str(path)
        )
    tensors = {
        name: (loaded[PREFIX + name + A_SUFFIX], loaded[PREFIX + name + B_SUFFIX]) for name in sorted(names)
    }
    for name, (a, b) in tensors.items():
        if a.dim() != 2 or b.dim() != 2 or a.size(0) != b.size(1):
            raise IAError(
                f"{name}: A {list(a.shape)} and B {list(b.shape)} do not fit together", where=str(path)
            )
        if not (a.isfinite().all() and b.isfinite().all()):
            raise IAError(
                f"{name}: a weight is not finite", remedy="train the adapter again", where=str(path)
            )
    return tensors


def _scaling(config: dict, name: str, a: Tensor, where: str) -> float:
    """Return PEFT's scaling of one layer; IAError if the configuration has another rank than the tensor."""
    ranks, alphas = config.get("rank_pattern") or {}, config.get("alpha_pattern") or {}
    try:
        rank = ranks.get(get_pattern_key(ranks, name), config["r"])
        alpha = float(alphas.get(get_pattern_key(alphas, name), config["lora_alpha"]))
    except (TypeError, ValueError, AttributeError, re.error) as error:
        raise IAError(f"rank_pattern or alpha_pattern is malformed: {error}", where=where) from error
    if rank != a.size(0):
        raise IAError(f"{name}: rank {a.size(0)}, where {CONFIG_FILE} says {rank}", where=where)
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _check_base(
    tensors: Mapping[str, tuple[Tensor, Tensor]], provenance: dict, base: Base, where: str
) -> None:
    """Raise IAError if the adapter says that it belongs to another base, or if its shapes say so."""
    remedy = f"give the base it was made for with --base (this is {base.name})"
    made_for = provenance.get("base")
    if isinstance(made_for, dict) and made_for.get("identity") not in (None, base.identity):
        raise IAError(f"made for another base, {made_for.get('name')}", remedy=remedy, where=where)
    layers: dict[str, nn.Linear] = linear_modules(base.model)
    for name, (a, b) in tensors.items():
        if name not in layers:
            raise IAError(
                f"made for another base: this one has no linear layer {name}", remedy=remedy, where=where
            )
        shape, fits = (b.size(0), a.size(1)), (layers[name].out_features, layers[name].in_features)
        if shape != fits:
            raise IAError(f"made for another base: {name} is {shape}, not {fits}", remedy=remedy, where=where)
