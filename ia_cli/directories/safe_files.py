"""What may be opened of a directory that a stranger made: files inside it, of a sane size, and no pickles."""

import os
from pathlib import Path
from typing import Any

from ia_cli import jsonl
from ia_cli.errors import IAError

CONFIG_FILE, WEIGHTS_FILE, PROVENANCE_FILE = "adapter_config.json", "adapter_model.safetensors", "ia.json"
PICKLES = ("adapter_model.bin", "adapter_model.pt", "pytorch_model.bin")  # what loaders fall back to
LARGEST_JSON, LARGEST_WEIGHTS = 16 << 20, 16 << 30  # bytes; a LoRA of rank 256 on a 70B model stays below


def check_name(path: Path) -> None:
    """Raise IAError for a path that safetensors could not open."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise IAError("its name is not UTF-8", remedy="give it another name", where=str(path)) from None


def check_folder(directory: Path) -> None:
    """Raise IAError for a directory that is not there, holds pickled weights, or links to the outside."""
    check_name(directory)
    where = str(directory)
    if not directory.is_dir():
        if directory.is_file():
            raise IAError("is a file", remedy="give the directory that it is in", where=where)
        remedy = "give a local directory, or ORG/NAME@COMMIT for one on the Hub (all 40 digits)"
        raise IAError("no such adapter directory", remedy=remedy, where=where)
    home = Path(os.path.realpath(directory))
    inside = [home]
    if home.parent.name == "snapshots":  # the Hub's cache: files are links into blobs/, beside snapshots/
        inside.append(home.parent.parent / "blobs")
    for path in sorted(directory.iterdir()):
        if path.name in PICKLES:
            remedy = "save it as safetensors and delete this"
            raise IAError("a pickle, which can run code", remedy=remedy, where=str(path))
        real = Path(os.path.realpath(path))
        if not any(real.is_relative_to(folder) for folder in inside):
            remedy = "put the file itself there"
            raise IAError("links to something outside of its folder", remedy=remedy, where=str(path))


def read_json(path: Path) -> dict[str, Any]:
    """Return a JSON object; IAError for anything else: too large, too deep, or with NaN or infinity in it."""
    check_file(path, LARGEST_JSON)
    try:
        content = jsonl.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise IAError(f"not JSON: {error}", remedy="save it again", where=str(path)) from error
    if not isinstance(content, dict):
        raise IAError("not a JSON object", remedy="save it again", where=str(path))
    return content


def part(content: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the object of this name in a JSON object; {} where there is none, or something else."""
    found = content.get(name)
    return found if isinstance(found, dict) else {}


def check_file(path: Path, largest: int) -> None:
    """Raise IAError for a file that is not there, or too large to be opened."""
    if os.path.lexists(path) and not path.is_file():
        raise IAError("not a regular file", remedy="put the file itself there", where=str(path))
    if not path.is_file():
        raise IAError(f"{path.name} is missing", remedy=_where_instead(path), where=str(path.parent))
    if path.stat().st_size > largest:
        raise IAError(f"larger than {largest:,} bytes", remedy="this is not a LoRA adapter", where=str(path))


def _where_instead(path: Path) -> str:
    """A remedy for a file that is not there."""
    if path.name == CONFIG_FILE and (path.parent / "config.json").exists():
        return "this looks like a whole model, which `ia audit` takes"
    others = sorted(path.parent.glob(f"*/{path.name}"))
    return f"did you mean {others[0].parent}?" if others else "save the adapter with safetensors"
