"""Two or more LoRAs as one plain LoRA, for programs that serve one adapter at a time.

s1 B1 A1 + s2 B2 A2 is [s1 B1, s2 B2] times A1 over A2, so that the sum is again a LoRA, whose rank is the sum
of the ranks. Each one's own scaling (alpha, rsLoRA, patterns) goes into its B, as far as float16 holds it;
the result has the scaling 1.
"""

import dataclasses
import math
import re
from collections.abc import Sequence
from functools import reduce
from itertools import combinations
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import pad

from ia_cli.directories import checking
from ia_cli.directories.adapters import (
    Adapter,
    check_readable,
    content_hash,
    plain_config,
    provenance,
    read_adapter,
    weights_hash,
    write_adapter,
)
from ia_cli.directories.folders import check_free
from ia_cli.directories.hub import adapter_folder
from ia_cli.errors import IAError
from ia_cli.models import Base, last
from ia_cli.paths import same
from ia_cli.settings import LARGEST_RANK

SERVED_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # what --max-lora-rank of vLLM can be


def stack_folders(
    names: Sequence[str | Path], out: Path, *, rank: int | None = None, base: Base | None = None
) -> Adapter:
    """Stack adapters (directories, or ORG/NAME@COMMIT) into a new one, `out`, and return what is in it.

    With a `base`, every adapter is checked against it; without, against what the others say of theirs. Raises
    IAError for an adapter that is not a plain LoRA, for different bases, and if `out` holds anything but an
    earlier stack.
    """
    check_free(out, "stack")
    folders = [adapter_folder(str(name)) for name in names]
    if any(same(out, folder) for folder in folders):
        raise IAError("is one of those to stack", remedy="choose another --out", where=str(out))
    adapters = [read_adapter(folder, base) for folder in folders]
    made_for = base or common_base(adapters)
    if base is None:
        _check_names(folders, adapters)
    parents = [
        {"id": folder.resolve().name if folder == Path(name) else str(name), "sha256": weights_hash(folder)}
        for name, folder in zip(names, folders, strict=True)
    ]
    stacked = stack(adapters, rank)
    if stacked.rank > LARGEST_RANK:
        message = f"together they have rank {stacked.rank}, more than {LARGEST_RANK}"
        raise IAError(message, remedy="stack fewer, or adapters of lower rank")
    check_readable(stacked)
    origin = provenance(
        "stack", made_for, {"rank": rank}, input_sha256=content_hash(parents), parents=parents
    )
    write_adapter(out, stacked, origin)
    return dataclasses.replace(stacked, provenance=origin)


def stack(adapters: Sequence[Adapter], rank: int | None = None) -> Adapter:
    """Return one LoRA that changes every layer as all `adapters` together do, up to the rounding of its B.

    It has one rank in all layers, padded with zeros: `rank`, by default the smallest that fits. Its weights
    are float32, or float64 where theirs are. Raises IAError if `rank` is too small, or if the shapes show
    that the adapters belong to different bases.
    """
    names = sorted({name for adapter in adapters for name in adapter.tensors})
    layers = {name: _join(name, [one for one in adapters if name in one.tensors]) for name in names}
    needed = max(a.size(0) for a, _ in layers.values())
    r = rank or needed
    if r < needed:
        raise IAError(
            f"together the adapters have rank {needed}, more than {r}", remedy=f"give --rank {needed} or more"
        )
    tensors = {
        name: (pad(a, (0, 0, 0, r - a.size(0))), pad(b, (0, r - b.size(1))))
        for name, (a, b) in layers.items()
    }
    return Adapter(plain_config(r, r, _targets(adapters, names)), tensors, dict.fromkeys(names, 1.0))


def common_base(adapters: Sequence[Adapter]) -> dict[str, str | None]:
    """Return the base of all adapters, as far as they say; IAError if two say different things.

    What counts is the identity, and the name where one of the two has no identity.
    """
    said = [adapter.made_for for adapter in adapters]
    for one, other in combinations(said, 2):
        key = "identity" if one["identity"] and other["identity"] else "name"
        if one[key] and other[key] and one[key] != other[key]:
            raise IAError(
                f"made for different bases, {one['name']} and {other['name']}",
                remedy="if these are the same, --base checks both against it",
            )
    return max(said, key=lambda base: (base["identity"] is not None, base["name"] is not None))


def _check_names(folders: Sequence[Path], adapters: Sequence[Adapter]) -> None:
    """Raise IAError if what comes before the number of a layer differs: PEFT knows old names, we do not."""
    stems = [{re.split(r"\.\d+\.", name)[0] for name in adapter.tensors} for adapter in adapters]
    for folder, stem in zip(folders[1:], stems[1:], strict=True):
        if stem.isdisjoint(stems[0]):
            message = f"calls its layers {min(stem)}..., where {folders[0]} calls them {min(stems[0])}..."
            raise IAError(message, remedy="--base checks both against it", where=str(folder))


def served_rank(rank: int) -> int | None:
    """Return the smallest --max-lora-rank with which vLLM serves an adapter of this rank, if there is one."""
    return next((served for served in SERVED_RANKS if served >= rank), None)


def _join(name: str, adapters: Sequence[Adapter]) -> tuple[Tensor, Tensor]:
    """Return A [sum of r, in] and B [out, sum of r] of one layer, each B times its scaling."""
    pairs = [adapter.tensors[name] for adapter in adapters]
    shapes = [(b.size(0), a.size(1)) for a, b in pairs]
    if len(set(shapes)) > 1:
        sizes = " and ".join(map(str, dict.fromkeys(shapes)))
        remedy = "stack adapters of one base; `ia check --base` says whose they are"
        raise IAError(f"made for different bases: {name} is {sizes}", remedy=remedy)
    dtype = reduce(torch.promote_types, (tensor.dtype for pair in pairs for tensor in pair), torch.float32)
    both = [_evenly(a, b, one.scaling[name]) for one, (a, b) in zip(adapters, pairs, strict=True)]
    return torch.cat([a.to(dtype) for a, _ in both]), torch.cat([b.to(dtype) for _, b in both], dim=1)


def _evenly(a: Tensor, b: Tensor, scaling: float) -> tuple[Tensor, Tensor]:
    """Return A and B with their scaling folded into B; what is too large for float16 there goes into A."""
    b = b.double() * scaling
    beyond = float(b.abs().max()) / checking.LARGEST_WEIGHT
    power = 2.0 ** math.ceil(math.log2(beyond)) if beyond > 1 else 1.0  # which rounds nothing
    return a.double() * power, b / power


def _targets(adapters: Sequence[Adapter], names: Sequence[str]) -> list[str]:
    """Return target_modules: last names, unless one of the adapters picks single layers; then full names."""
    for adapter in adapters:
        targets = adapter.config["target_modules"]
        picks = [adapter.config.get(key) for key in ("layers_to_transform", "exclude_modules")]
        by_last_name = isinstance(targets, list) and not any("." in target for target in targets)
        if not by_last_name or any(pick not in (None, []) for pick in picks):
            return list(names)
    return sorted({last(name) for name in names})
