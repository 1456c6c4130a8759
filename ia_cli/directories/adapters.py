"""Adapter directories in the standard PEFT format: checked reading, atomic writing, provenance."""

import dataclasses
import hashlib
import json
import statistics
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from ia_cli import __version__
from ia_cli.directories import checking, safe_files
from ia_cli.directories.cards import CARD_FILE, card
from ia_cli.directories.checking import A_SUFFIX, B_SUFFIX, PREFIX
from ia_cli.directories.folders import written
from ia_cli.directories.safe_files import CONFIG_FILE, PROVENANCE_FILE, WEIGHTS_FILE
from ia_cli.errors import IAError
from ia_cli.models import EMBEDDED_BASE, Base, is_target, last, linear_modules
from ia_cli.schema import VERSION
from ia_cli.settings import EMBEDDED_NAME, common_name

EMBEDDED_IA = EMBEDDED_BASE.with_name("introspection_adapter")  # of the embedded base


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

    @property
    def made_for(self) -> dict[str, str | None]:
        """The base that it says it belongs to: name, revision and identity, None for what it does not say."""
        said = safe_files.part(self.provenance, "base")
        named = {"name": self.config.get("base_model_name_or_path"), "revision": self.config.get("revision")}
        # What is no name or identity is made one that no base has: it must not pass for nothing said.
        named |= {key: value if value is None else str(value) for key, value in said.items()}
        return {"identity": None, **named, "name": common_name(named["name"])}

    def changes(self) -> dict[str, float]:
        """How far each layer's weights are moved: the root mean square of the entries of scaling B A."""
        moved = {}
        for name, (a, b) in self.tensors.items():
            a, b = a.double(), b.double()  # squares of small numbers would be 0
            squares = ((a @ a.T) * (b.T @ b)).sum().clamp(min=0) / (a.size(1) * b.size(0))
            moved[name] = float(squares.sqrt()) * self.scaling[name]
        return moved

    def other_base(self, base: Base) -> str | None:
        """The base that it says it was made for, where nothing proves which, and it is called otherwise.

        A base may lie in a folder of that name, and be copied from one owner to the other.
        """
        said, ours = self.made_for, common_name(base.name)
        known = said["identity"] is not None or said["name"] is None
        return None if known or Path(said["name"]).name == Path(ours).name else said["name"]

    def as_record(self) -> dict[str, object]:
        """What `ia check` and `ia stack` print of an adapter."""
        return {
            "base_model": self.made_for["name"],
            "base_revision": self.made_for["revision"],
            "rank": self.rank,
            "target_modules": sorted({last(name) for name in self.tensors}),
            "n_layers": len(self.tensors),
            "n_parameters": sum(a.numel() + b.numel() for a, b in self.tensors.values()),
            "change": change(self.changes()),
        }


def change(changes: Mapping[str, float]) -> dict[str, object]:
    """What a record says of how far layers' weights are moved."""
    strongest = max(changes, key=changes.__getitem__)
    return {
        "median": statistics.median(changes.values()),
        "largest": changes[strongest],
        "layer": strongest,
    }


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
    """Return target modules for PEFT: the wanted ones, or all linear layers but the head.

    Names are the last parts of the layers' names (`q_proj`), as `wanted` may be, and whole where another
    module has the same last part, which PEFT would adapt too. Raises IAError if a wanted name fits no layer.
    """
    layers = list(linear_modules(base.model))
    for name in wanted or ():
        if not any(is_target(layer, [name]) for layer in layers):
            present = ", ".join(sorted({last(layer) for layer in layers}))
            raise IAError(f"the base has no linear layer {name!r}", remedy=f"choose among {present}")
    chosen = {layer for layer in layers if wanted is None or is_target(layer, wanted)}
    others = {last(name) for name, _ in base.model.named_modules() if name not in chosen}
    return sorted({layer if last(layer) in others else last(layer) for layer in chosen})


def read_adapter(directory: str | Path, base: Base | None = None) -> Adapter:
    """Read a LoRA from a local PEFT directory, checking whatever could make it act otherwise than it says.

    Only adapter_config.json, adapter_model.safetensors and ia.json are opened, and what they say has to be
    what they do, in PEFT and elsewhere. Raises IAError for whatever directories/checking.py refuses, and,
    with a `base`, for an adapter made for another base.
    """
    directory, where = Path(directory), str(directory)
    try:
        safe_files.check_folder(directory)
        config = safe_files.read_json(directory / CONFIG_FILE)
        settings = checking.read_settings(config, str(directory / CONFIG_FILE))
        provenance = read_provenance(directory)
        tensors = checking.read_tensors(directory / WEIGHTS_FILE)
    except OSError as error:
        raise IAError(f"cannot be read ({error.strerror})", remedy="make it readable", where=where) from error
    scaling = checking.read_scaling(settings, tensors, where)
    adapter = Adapter(config, tensors, scaling, provenance)
    checking.check_changes(adapter.changes(), where)
    if base is not None:
        checking.check_base(settings, tensors, adapter.made_for, base, where)
    return adapter


def read_provenance(directory: str | Path) -> dict:
    """Return the ia.json in an adapter's or a model's directory, {} if there is none; IAError if broken."""
    path = Path(directory, PROVENANCE_FILE)
    return safe_files.read_json(path) if path.exists() else {}


def shipped_ia(base: str | None) -> Path | None:
    """Return the introspection adapter that comes with the base of this name: only the embedded one has one.

    None also if it is not there.
    """
    return EMBEDDED_IA if base in (None, EMBEDDED_NAME) and EMBEDDED_IA.is_dir() else None


def check_readable(adapter: Adapter) -> None:
    """Raise IAError for weights that nobody could use, nor would we read."""
    for name, pair in adapter.tensors.items():
        for tensor in pair:
            checking.check_numbers(tensor, name)
    checking.check_changes(adapter.changes(), "")


def check_trained(adapter: Adapter) -> None:
    """Raise IAError if training has diverged."""
    try:
        check_readable(adapter)
    except IAError as error:
        raise IAError(f"training diverged: {error.message}", remedy="lower --lr") from error


def write_adapter(
    directory: str | Path,
    adapter: Adapter,
    provenance: Mapping[str, object],
    *,
    description: str | None = None,
) -> None:
    """Write an adapter directory that `PeftModel.from_pretrained` loads, whole or not at all.

    The files are written beside it, flushed to the disk and renamed into place; an adapter of the same name
    that the same stage wrote earlier is replaced. `description` is for the model card of an organism: what it
    was taught. Raises IAError if the name is taken by anything else.
    """
    origin = provenance["base"]
    config = {**adapter.config, "base_model_name_or_path": origin["name"], "revision": origin["revision"]}
    weights = {}
    for name, (a, b) in adapter.tensors.items():
        weights[PREFIX + name + A_SUFFIX] = a.detach().cpu().contiguous()
        weights[PREFIX + name + B_SUFFIX] = b.detach().cpu().contiguous()
    with written(Path(directory), provenance) as fresh:
        save_file(weights, fresh / WEIGHTS_FILE, metadata={"format": "pt"})
        (fresh / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        (fresh / CARD_FILE).write_text(card(provenance, description), encoding="utf-8")


def provenance(
    stage: str, base: Base | Mapping[str, str | None], arguments: Mapping[str, object], **more: object
) -> dict[str, object]:
    """Return an `ia.json`: schema version, stage, arguments (the seed too), versions, base, and `more`.

    `base` is the model, or what is known of it without loading it: name, revision and identity.
    """
    packages = ("torch", "transformers", "peft", "trl")
    return {
        "v": VERSION,
        "stage": stage,
        "arguments": dict(arguments),
        "versions": {"ia_cli": __version__, **{name: version(name) for name in packages}},
        "base": base.as_record() if isinstance(base, Base) else dict(base),
        **more,
    }


def weights_hash(directory: str | Path) -> str:
    """Return the SHA-256 of an adapter's weight file; IAError if there is none to read."""
    safe_files.check_folder(Path(directory))
    try:
        with Path(directory, WEIGHTS_FILE).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        message = f"{WEIGHTS_FILE} cannot be read ({error.strerror})"
        raise IAError(message, remedy="make it anew, or move it back", where=str(directory)) from error


def content_hash(content: object) -> str:
    """Return the SHA-256 of anything that JSON can hold, whatever the order of its keys."""
    return hashlib.sha256(
        json.dumps(content, sort_keys=True, ensure_ascii=False).encode("utf-8", "backslashreplace")
    ).hexdigest()
