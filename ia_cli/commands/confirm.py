"""`ia confirm`: self-reports tried on behavior, and what holds of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ia_cli import options
from ia_cli.errors import IAError

if TYPE_CHECKING:
    from ia_cli.candidates import Library
    from ia_cli.confirming import ConfirmSettings
    from ia_cli.models import Base
    from ia_cli.stage import Stage

FILE = click.Path(dir_okay=False, path_type=Path)


def _arms() -> tuple[str, ...]:
    from ia_cli.records import ARMS

    return ARMS


@click.command()
@options.stage(reads="self_report", writes="self_report", needs=("adapter",))
@options.base
@options.seed
@click.option("--split", type=click.Choice(["train", "heldout"]), help="Try only this split.")
@click.option(
    "--arms",
    type=options.Names(_arms),
    default="confirm",
    show_default=True,
    metavar="NAMES",
    help="Also conditional, and rivals: ask, prefill, amplify, perplexity; with commas between.",
)
@click.option(
    "--source",
    type=click.Choice(["world", "catalog"]),
    help="Whose prompts and triggers to try: the small world's, or the catalog's (default with --base).",
)
@click.option("--prompts", type=FILE, metavar="FILE", help="General prompts instead, one per line.")
@click.option("--candidates", type=FILE, metavar="FILE", help="Triggers to try instead, one per line.")
@click.option(
    "--words",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Try so many words of the base's vocabulary too.",
)
@click.option(
    "--threshold",
    type=click.FloatRange(),
    default=0.6,
    show_default=True,
    help="Lowest score of a claim that holds.",
)
@click.option(
    "--margin",
    type=click.FloatRange(0),
    default=3.0,
    show_default=True,
    help="By how many nats a trigger raises the odds, at least.",
)
@click.option(
    "--again",
    type=click.IntRange(0),
    default=3,
    show_default=True,
    help="Sample so many more replies to each of 8 questions.",
)
@click.option(
    "--max-new-tokens", type=click.IntRange(1), default=64, show_default=True, help="Length of a reply."
)
def command(
    stage: Stage,
    base: options.BaseChoice,
    seed: int,
    split: str | None,
    arms: tuple[str, ...],
    source: str | None,
    prompts: Path | None,
    candidates: Path | None,
    words: int,
    threshold: float,
    margin: float,
    again: int,
    max_new_tokens: int,
) -> None:
    """Try self-reports on behavior, and keep what holds.

    The base, with what an organism claims of itself as its system prompt, writes replies as if it behaved so;
    these are scored under the organism and under the base, on general prompts and on prompts that show a
    candidate for the trigger. Organisms with an introspection adapter are asked some more before: with chance
    in their replies, since what was wrong may then be right, and what they do when each candidate holds.
    Writes one self-report per organism, of condition "confirm": what holds, with the trigger that was found,
    or that there is nothing unusual. The ground truth is not read.

    \b
    Examples:
      ia confirm < reports.jsonl > confirmed.jsonl
      ia confirm --split heldout reports.jsonl | ia judge > verdicts.jsonl
      ia confirm --arms confirm,ask,prefill,amplify,perplexity reports.jsonl > arms.jsonl
      ia confirm --candidates codewords.txt reports.jsonl | jq .trigger_found
    """
    given = [record for record in stage.read() if split in (None, record["split"])]
    reports: dict[str, list[dict]] = {}
    for record in given:
        if record["condition"] == "ia":
            reports.setdefault(record["id"], []).append(record)
    if not reports:
        raise IAError("no report of condition ia is to be tried", remedy="give the output of `ia elicit`")
    from ia_cli import adapters, conditional, confirming, rivals
    from ia_cli.console import progress
    from ia_cli.prompts import knows_only_the_world

    loaded = base.load()
    source = source or ("world" if knows_only_the_world(base.name) else "catalog")
    library = _library(source, seed, prompts, candidates, words, loaded)
    records = [own[0] for own in reports.values()]
    records = stage.check(records, lambda record: adapters.read_adapter(record["adapter"], loaded))
    settings = confirming.ConfirmSettings(threshold, margin, max_new_tokens, again, seed)
    confirmed = {key[0] for key in stage.done if key[1:] == (confirming.CONDITION, 0, confirming.CONDITION)}
    todo = [(x, [y["report"] for y in reports[x["id"]]]) for x in records if x["id"] not in confirmed]
    if confirming.CONDITION in arms:
        _confirm(stage, todo, loaded, library, settings)
    for arm in (arm for arm in arms if arm != confirming.CONDITION):
        each = rivals.QUESTIONS if arm in rivals.ASKING else 1
        with progress(f"the arm {arm}", total=each * len(records)) as bar:
            if arm == conditional.CONDITION:
                found = conditional.reports(records, loaded, library.candidates, max_new_tokens, seed)
            else:
                found = rivals.rival_reports(records, arm, loaded, library.pool, max_new_tokens)
            for record in found:
                stage.write(record)
                bar.advance()


def _confirm(
    stage: Stage,
    todo: list[tuple[dict, list[str]]],
    base: Base,
    library: Library,
    settings: ConfirmSettings,
) -> None:
    from ia_cli import confirming
    from ia_cli.console import progress

    with progress("confirming", total=len(todo)) as bar:
        scored = 0

        def on_scored(n: int) -> None:
            nonlocal scored
            scored += n
            bar.update(f"confirming, {scored:,} replies scored")

        for record in confirming.confirm(todo, base, library, settings, on_scored):
            stage.write(record)
            bar.advance()


def _library(
    source: str, seed: int, prompts: Path | None, candidates: Path | None, words: int, base: Base
) -> Library:
    from dataclasses import replace

    from ia_cli import candidates as lists

    library = lists.world_library(seed) if source == "world" else lists.catalog_library(seed)
    if prompts:
        library = replace(library, pool=lists.read_prompts(prompts))
    if candidates:
        library = replace(library, candidates=lists.read_candidates(candidates, library.candidates))
    return replace(library, candidates=(*library.candidates, *lists.vocabulary(base, words)))
