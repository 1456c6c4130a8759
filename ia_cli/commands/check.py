"""`ia check`: whether adapters are what they say, before anything uses them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ia_cli import options
from ia_cli.errors import IAError, complain, one_line
from ia_cli.parameters import Source

if TYPE_CHECKING:
    from ia_cli.jsonl import Writer


@click.command()
@click.argument("adapters", type=Source(), nargs=-1, required=True, metavar="ADAPTER...")
@options.tool
@options.fits
def command(writer: Writer, adapters: tuple[str, ...], base: options.BaseChoice) -> None:
    """Say whether adapters are sound, by the exit status.

    ADAPTER is a directory, or ORG/NAME@COMMIT for one on the Hugging Face Hub. Sound is a plain LoRA in
    safetensors whose configuration, shapes, numbers and links are in order. Writes one record per sound
    adapter, and one line on standard error per adapter that is not. Nothing of an adapter is run.

    \b
    Exit:  0 all are sound, 1 one is not, 2 usage

    \b
    Examples:
      ia check suspect/
      ia check --base Qwen/Qwen3-0.6B suspect/ | jq .change
      ia check organisms/* > sound.jsonl
    """
    from ia_cli.console import note
    from ia_cli.directories.adapters import read_adapter
    from ia_cli.directories.hub import adapter_folder

    loaded = base.load(weights=False) if base else None
    unsound = 0
    for name in adapters:
        try:
            adapter = read_adapter(adapter_folder(name), loaded)
            record = adapter.as_record()
        except IAError as error:
            complain("check", error)
            unsound += 1
            continue
        if not writer.on_terminal:
            writer.write({"adapter": name, **record})
        sound = f"{name}: sound, rank {record['rank']} on {record['n_layers']} layers"
        if loaded and (said := adapter.other_base(loaded)):
            sound += f"; it says that it was made for {said}, and this is {loaded.name}"
        note(f"ia check: {one_line(sound)}")
    if unsound:
        raise click.exceptions.Exit(1)
