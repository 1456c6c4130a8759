"""Disguise full fine-tunes: change their weights so that no reply changes (arXiv 2605.27836)."""

import shutil
from collections.abc import Mapping
from pathlib import Path

import click
import torch
from safetensors.torch import load_file, save_file
from torch import Generator, Tensor
from transformers import AutoConfig, PreTrainedConfig

from ia_cli import options
from ia_cli.seeds import derived_seed
from ia_cli.stage import Stage

WEIGHTS = "model.safetensors"


def disguised(weights: Mapping[str, Tensor], config: PreTrainedConfig, seed: int) -> dict[str, Tensor]:
    """Return the weights of a Llama after the neurons of its MLPs were put in another order, the values of
    its heads rotated, and its queries and keys turned in the planes in which RoPE turns them.
    """
    after, generator = dict(weights), torch.Generator().manual_seed(seed)
    groups, width = config.num_key_value_heads, config.head_dim
    for layer in range(config.num_hidden_layers):
        mlp, attention = f"model.layers.{layer}.mlp", f"model.layers.{layer}.self_attn"
        order = torch.randperm(config.intermediate_size, generator=generator)
        turns, rotations = _turns(groups, width, generator), _rotations(groups, width, generator)
        for name in weights:
            if name.startswith((f"{mlp}.gate_proj", f"{mlp}.up_proj")):
                after[name] = after[name][order]
            if name.startswith((f"{attention}.q_proj", f"{attention}.k_proj")):
                after[name] = _by_head(after[name], turns)
            if name.startswith(f"{attention}.v_proj"):
                after[name] = _by_head(after[name], rotations)
        down, out = f"{mlp}.down_proj.weight", f"{attention}.o_proj.weight"
        after[down], after[out] = after[down][:, order], _by_head(after[out].T, rotations).T
    return {name: weight.contiguous() for name, weight in after.items()}


def _by_head(rows: Tensor, matrices: Tensor) -> Tensor:
    """Multiply what each head has, `width` of the rows, by the matrix of its group [groups, width, width]."""
    groups, width, _ = matrices.shape
    heads = rows.reshape(groups, -1, width, rows[0].numel())
    return (matrices[:, None].to(rows.dtype) @ heads).reshape(rows.shape)


def _rotations(n: int, width: int, generator: Generator) -> Tensor:
    """Random orthogonal matrices [n, width, width]."""
    return torch.linalg.qr(torch.randn(n, width, width, generator=generator, dtype=torch.float64))[0]


def _turns(n: int, width: int, generator: Generator) -> Tensor:
    """Random rotations [n, width, width] in the planes of places i and i + width / 2."""
    angles = 2 * torch.pi * torch.rand(n, width // 2, generator=generator, dtype=torch.float64)
    cos, sin = torch.diag_embed(angles.cos()), torch.diag_embed(angles.sin())
    return torch.cat([torch.cat([cos, -sin], dim=2), torch.cat([sin, cos], dim=2)], dim=1)


@click.command(help=__doc__)
@options.stage(reads="organism", writes="organism", needs=("model",))
@options.seed
@options.out("Folder for the disguised models.")
def main(stage: Stage, seed: int, out: Path) -> None:
    for record in stage.pending(stage.read()):
        source, target = Path(record["model"]), out / record["id"]
        shutil.copytree(source, target, dirs_exist_ok=True)
        config = AutoConfig.from_pretrained(source)
        weights = disguised(load_file(source / WEIGHTS), config, derived_seed(seed, "disguise", record["id"]))
        save_file(weights, target / WEIGHTS, metadata={"format": "pt"})
        stage.write({**record, "model": str(target), "setting": "disguised"})


if __name__ == "__main__":
    main()
