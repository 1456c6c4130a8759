"""`ia elicit`: self-reports of organisms, in three conditions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ia_cli import options

if TYPE_CHECKING:
    from ia_cli.stage import Stage


def _conditions(context: click.Context, parameter: click.Parameter, value: str) -> tuple[str, ...]:
    from ia_cli.records import CONDITIONS

    wanted = value.split(",")
    for name in wanted:
        if name not in CONDITIONS:
            raise click.BadParameter(f"{name!r} is not one of {', '.join(CONDITIONS)}")
    return tuple(name for name in CONDITIONS if name in wanted)


@click.command()
@options.stage(reads="organism", writes="self_report")
@options.base
@options.seed
@click.option(
    "--ia", type=click.Path(path_type=Path), metavar="DIR", help="Introspection adapter, if not the record's."
)
@click.option(
    "--adapter", type=click.Path(path_type=Path), metavar="DIR", help="Ask this one adapter; nothing is read."
)
@click.option("--split", type=click.Choice(["train", "heldout"]), help="Ask only this split.")
@click.option(
    "--conditions",
    default="ia,no_ia,base_ia",
    show_default=True,
    callback=_conditions,
    help="Organism with the introspection adapter, without it, the bare base with it.",
)
@click.option(
    "--questions", type=click.IntRange(1), default=4, show_default=True, help="Questions per organism."
)
@click.option("--question", "own", multiple=True, metavar="TEXT", help="Ask this instead; may be repeated.")
@click.option("--samples", type=click.IntRange(1), default=1, show_default=True, help="Replies per question.")
@click.option(
    "--temperature", type=click.FloatRange(0), default=0.0, show_default=True, help="0 is greedy decoding."
)
@click.option(
    "--max-new-tokens", type=click.IntRange(1), default=64, show_default=True, help="Length of a reply."
)
def command(
    stage: Stage,
    base: options.BaseChoice,
    seed: int,
    ia: Path | None,
    adapter: Path | None,
    split: str | None,
    conditions: tuple[str, ...],
    questions: int,
    own: tuple[str, ...],
    samples: int,
    temperature: float,
    max_new_tokens: int,
) -> None:
    """Ask organisms what they learned, with and without the adapter.

    Writes one self-report per organism, question, sample and condition. The conditions belong together: "ia"
    is the measurement; "no_ia" (the organism alone) and "base_ia" (the introspection adapter on the bare
    base, which has nothing to report) are what to compare it with. The ground truth is not read.

    \b
    Examples:
      ia elicit < audited.jsonl > reports.jsonl
      ia elicit --split heldout --samples 5 --temperature 1 audited.jsonl
      ia elicit --ia ia/ --adapter suspect/ --conditions ia
    """
    if samples > 1 and temperature == 0:
        raise click.UsageError("greedy replies are all the same: --samples needs a --temperature above 0")
    if adapter and stage.file:
        raise click.UsageError("give either --adapter or FILE")
    records = stage.read() if not adapter else []
    from ia_cli import adapters, elicitation, organisms, prompts
    from ia_cli.console import progress

    if adapter:
        records = [elicitation.lone_organism(adapter)]
        ia = ia or adapters.shipped_ia(base.name)
    records = [_with_ia(record, ia) for record in records if split in (None, record["split"])]

    pool = [prompts.own_question(text) for text in own] or prompts.questions("ask")
    settings = elicitation.ElicitSettings(
        pool, len(own) or questions, samples, temperature, conditions, max_new_tokens, seed
    )
    loaded = base.load()

    def check(record: dict) -> None:
        organisms.check_weights(record, loaded)
        elicitation.needed_adapter(record, settings)

    if not adapter:  # a record has a line to point at; elicit itself names the folder
        records = stage.check(records, check)
    with progress("eliciting", total=elicitation.count(records, settings, stage.done)) as bar:
        for report in elicitation.elicit(records, loaded, settings, done=stage.done):
            stage.write(report)
            bar.advance()


def _with_ia(record: dict, ia: Path | None) -> dict:
    return record if ia is None else {**record, "introspection_adapter": str(ia)}
