"""What is settled before a base is loaded: its folder and identity, its device, how its weights are held."""

import hashlib
import os
import re
from importlib.util import find_spec
from pathlib import Path

import torch
from transformers import BitsAndBytesConfig

from ia_cli import processes
from ia_cli.errors import IAError, first_line

HUB_FILES = ["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt"]  # no pickles, no code
COPIES = ["consolidated*", "*/*.safetensors"]  # of the weights, in formats that transformers does not read


def pick_device(name: str) -> torch.device:
    """Return a device by its name in torch, or the best there is for "auto"; IAError if it is not there.

    Of several processes each has a GPU of its own, unless "cuda:1", say, is asked for.
    """
    if name in ("auto", "cuda") and processes.count() > 1 and torch.cuda.is_available():
        name = f"cuda:{os.environ['LOCAL_RANK']}"
    elif name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.mps.is_available() else "cpu"
    remedy = "give --device auto, cpu, mps, cuda or, say, cuda:1"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise IAError(f"no such device: {name!r}", remedy=remedy) from error
    counts = {"cpu": 1, "mps": torch.mps.device_count(), "cuda": torch.cuda.device_count()}
    if (device.index or 0) >= counts.get(device.type, 0):
        raise IAError(f"this machine has no device {name!r}", remedy=remedy)
    return device


def four_bits(dtype: str, device: torch.device) -> BitsAndBytesConfig:
    """Return the usual way to hold weights in 4 bits (QLoRA); they are multiplied in `dtype`, or bfloat16."""
    if device.type != "cuda":
        remedy = "leave out --load-in-4bit; --dtype bfloat16 takes half the memory of float32"
        raise IAError(f"4 bits need CUDA, and the base goes to {device}", remedy=remedy)
    if find_spec("bitsandbytes") is None:
        raise IAError("4 bits need bitsandbytes", remedy="pip install bitsandbytes")
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16 if dtype == "auto" else getattr(torch, dtype),
    )


def local_folder(name: str, revision: str | None) -> Path:
    """Return the folder of a base: the directory itself, or the Hub's snapshot (downloaded on first use)."""
    if Path(name).is_dir():
        if revision:
            raise IAError("a directory has no revisions", remedy="leave out --revision", where=name)
        return Path(name)
    remedy = "give an existing directory or a Hub id such as Qwen/Qwen3-0.6B"
    if Path(name).is_absolute() or name.startswith(".") or name.count("/") != 1:
        raise IAError("no such directory", remedy=remedy, where=name)
    from huggingface_hub import snapshot_download

    try:
        files = {"allow_patterns": HUB_FILES, "ignore_patterns": COPIES}
        return Path(snapshot_download(name, revision=revision, **files))
    except Exception as error:  # what its HTTP library and Xet raise comes through, too
        message = f"no such directory, and not to be had from the Hub: {first_line(error)}"
        raise IAError(message, remedy=remedy, where=name) from error


def identity(folder: Path) -> str:
    """Return the SHA-256 of the SHA-256s of config.json and the weight files, in the order of their names.

    Only the files that transformers reads count: there may be a copy of the weights beside them.
    """
    digest = hashlib.sha256()
    weights = [path for path in sorted(folder.glob("*.safetensors")) if not path.match(COPIES[0])]
    for path in [folder / "config.json", *weights]:
        digest.update(_file_digest(path))
    return digest.hexdigest()


def _file_digest(path: Path) -> bytes:
    """The SHA-256 of a file: in the Hub's cache that of weights is their name, and they may be huge."""
    stored = path.resolve()
    if stored.parent.name == "blobs" and re.fullmatch("[0-9a-f]{64}", stored.name):
        return bytes.fromhex(stored.name)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
