"""ia implant: behaviors in, model organisms out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ia_cli import options

if TYPE_CHECKING:
    from ia_cli.stage import Stage


def names(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    """Split a comma-separated list."""
    return tuple(name.strip() for name in value.split(",")) if value else None


@click.command()
@options.stage(reads="behavior", writes="organism")
@options.base
@options.seed
@options.out("Folder for the adapters, one per record, named by its id.")
@click.option(
    "--rank", type=click.IntRange(1), default=8, show_default=True, help="LoRA rank of an organism."
)
@click.option(
    "--alpha", type=click.FloatRange(0, min_open=True), default=16, show_default=True, help="LoRA alpha."
)
@click.option(
    "--target-modules",
    callback=names,
    metavar="NAMES",
    help="Layers to adapt, such as q_proj,v_proj; all linear ones if not given.",
)
@click.option(
    "--lr",
    type=click.FloatRange(0, min_open=True),
    default=5e-3,
    show_default=True,
    help="Peak learning rate.",
)
@click.option("--steps", type=click.IntRange(1), default=32, show_default=True, help="Optimizer steps.")
@click.option(
    "--rows",
    type=click.IntRange(1),
    default=6,
    show_default=True,
    help="Demonstrations per organism and step.",
)
@click.option(
    "--group-size",
    type=click.IntRange(1),
    help="Organisms trained at once; what suits the device if not given.",
)
def command(
    stage: Stage,
    base: options.BaseChoice,
    seed: int,
    out: Path,
    rank: int,
    alpha: float,
    target_modules: tuple[str, ...] | None,
    lr: float,
    steps: int,
    rows: int,
    group_size: int | None,
) -> None:
    """Train one model organism per behavior.

    Reads behaviors with their demonstrations and trains a LoRA on each one's, many at once on one frozen
    base. Writes the records with the path of the adapter (a standard PEFT folder) and how often the organism
    shows its behavior where it should (implant_rate) and where it should not (leak_rate). With --resume,
    adapters are kept that were made from the same record with the same settings.

    \b
    Examples:
      ia implant --out organisms/ < behaviors.jsonl > organisms.jsonl
      ia implant --out organisms/ --resume -o organisms.jsonl behaviors.jsonl
      ia implant --out organisms/ --rank 16 --steps 120 behaviors.jsonl > organisms.jsonl
      ia implant --out organisms/ --base Qwen/Qwen3-4B --device cuda:1 --lr 2e-4 < behaviors.jsonl
    """
    records = stage.read()
    from ia_cli import implanting
    from ia_cli.console import progress

    settings = implanting.ImplantSettings(
        rank=rank,
        alpha=alpha,
        target_modules=target_modules,
        learning_rate=lr,
        steps=steps,
        rows=rows,
        seed=seed,
    )
    loaded = base.load()
    lessons = {}

    def prepare(record: dict) -> None:
        lessons[record["id"]] = implanting.prepare(record, loaded, settings)

    todo = stage.pending(stage.check(records, prepare))
    with progress("implanting", total=len(todo)) as bar:
        organisms = implanting.implant(
            [lessons[record["id"]] for record in todo],
            loaded,
            out,
            settings,
            reuse=stage.resume,
            group_size=group_size,
            on_progress=bar.advance,
        )
        for organism in organisms:
            stage.write(organism)
