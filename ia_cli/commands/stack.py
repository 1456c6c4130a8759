"""`ia stack`: an organism and its introspection adapter as one adapter that every engine serves."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ia_cli import options
from ia_cli.errors import one_line
from ia_cli.parameters import RANK, Source

if TYPE_CHECKING:
    from ia_cli.jsonl import Writer


@click.command()
@click.argument("adapters", type=Source(), nargs=-1, required=True, metavar="ADAPTER ADAPTER...")
@options.tool
@options.fits
@options.out("Folder for the one adapter.")
@click.option("--rank", type=RANK, help="Pad to this rank; the smallest that holds all if not given.")
def command(
    writer: Writer, adapters: tuple[str, ...], base: options.BaseChoice, out: Path, rank: int | None
) -> None:
    """Make one plain adapter of two or more.

    The result changes the base exactly as the adapters do together: it is one LoRA of one rank, with alpha
    equal to it, that PEFT, vLLM and llama.cpp load. What no LoRA can be exactly (DoRA, biases, saved modules)
    is refused. ADAPTER is a directory, or ORG/NAME@COMMIT on the Hugging Face Hub.

    \b
    Examples:
      ia stack suspect/ ia/ --out suspect+ia/
      ia stack suspect/ ia/ --out suspect+ia/ --rank 64 --base Qwen/Qwen3-0.6B
    """
    if len(adapters) < 2:
        raise click.UsageError("give two adapters or more")
    from ia_cli import processes
    from ia_cli.console import note
    from ia_cli.directories.stacking import served_rank, stack_folders

    loaded = base.load(weights=False) if base else None
    stacked = processes.in_first(lambda: stack_folders(adapters, out, rank=rank, base=loaded).as_record())
    if not writer.on_terminal:
        writer.write({"adapter": str(out), **stacked})
    rank = stacked["rank"]
    served = served_rank(rank)
    advice = f"vLLM needs --max-lora-rank {served}" if served else "more than vLLM serves"
    note(f"ia stack: {one_line(str(out))}: {len(adapters)} adapters as one of rank {rank} ({advice})")
