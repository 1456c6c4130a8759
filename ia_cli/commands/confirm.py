"""`ia confirm`: self-reports tested against behavior, and what holds of them."""

from __future__ import annotations

import functools
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ia_cli import options
from ia_cli.errors import IAError
from ia_cli.parameters import Names, Place, Real
from ia_cli.settings import ARMS, ConfirmSettings

if TYPE_CHECKING:
    from ia_cli.confirmation.candidates import Library
    from ia_cli.confirming import Suspect
    from ia_cli.models import Base
    from ia_cli.stage import Stage

FILE = Place(dir_okay=False)


@click.command()
@options.stage(reads="self_report", writes="self_report")
@options.base
@options.seed
@click.option("--split", type=click.Choice(["train", "heldout"]), help="Try only this split.")
@click.option(
    "--arms",
    type=Names(ARMS),
    default="confirm",
    metavar="NAMES",
    help="Also conditional, and rivals: ask, prefill, amplify, perplexity; with commas between.",
)
@click.option(
    "--source",
    type=click.Choice(["world", "catalog"]),
    help="Whose prompts and triggers to try: the small world's, or the catalog's (for real chat models).",
)
@click.option("--prompts", type=FILE, metavar="FILE", help="General prompts instead, one per line.")
@click.option("--candidates", type=FILE, metavar="FILE", help="Triggers to try instead, one per line.")
@click.option(
    "--words",
    type=click.IntRange(0, 1_000_000),
    default=0,
    help="Also try this many words of the base's vocabulary.",
)
@options.setting("--threshold", ConfirmSettings.threshold, Real(), "Score from which a claim holds.")
@options.setting("--margin", ConfirmSettings.margin, Real(0), "Nats by which a trigger must raise the odds.")
@options.setting(
    "--again", ConfirmSettings.again, click.IntRange(0), "Extra sampled replies to each of 8 questions."
)
@options.reply_length
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
    max_new_tokens: int | None,
) -> None:
    """Test self-reports against behavior, and keep what holds.

    The base, with what an organism claims of itself as its system prompt, writes replies as if it behaved so;
    these are scored under the organism and under the base, on general prompts and on prompts that show a
    candidate for the trigger. Organisms with an introspection adapter are first asked more: again, with
    sampled replies, of which one may be right where the first was wrong, and what they do when each candidate
    holds.
    Writes one self-report per organism, of condition "confirm": what holds, with the trigger that was found,
    or that there is nothing unusual. The ground truth is not read.

    \b
    Examples:
      ia confirm < reports.jsonl > confirmed.jsonl
      ia confirm --split heldout reports.jsonl | ia judge > verdicts.jsonl
      ia confirm --arms confirm,ask,prefill,amplify,perplexity reports.jsonl > arms.jsonl
      ia confirm --candidates codewords.txt reports.jsonl | jq .trigger_found
    """
    for own in (prompts, candidates):
        stage.check_not_output(own)
    given = [record for record in stage.read() if split in (None, record["split"])]
    reports: dict[str, list[dict]] = {}
    for record in given:
        if record["condition"] == "ia":
            reports.setdefault(record["id"], []).append(record)
    if not reports and not stage.failed_earlier:
        raise IAError("no report of condition ia is to be tried", remedy="give the output of `ia elicit`")
    from ia_cli import confirming, elicitation, organisms
    from ia_cli.models import suitable_length
    from ia_cli.prompts import source_for

    loaded = base.load()
    library = _library(source or source_for(base.name), seed, prompts, candidates, words, loaded)
    records = [_organism(own[0]) for own in reports.values()]
    read = functools.cache(lambda folder: elicitation.read_introspection_adapter(folder, loaded))

    def check(record: dict) -> None:
        organisms.check_weights(record, loaded)
        if "amplify" in arms:  # which runs an organism and its base in one batch
            organisms.adapter_path(record)
        if record.get("introspection_adapter"):
            read(record["introspection_adapter"])

    records = stage.check(records, check)
    settings = ConfirmSettings(
        threshold=threshold,
        margin=margin,
        max_new_tokens=max_new_tokens or suitable_length(loaded, ConfirmSettings.max_new_tokens),
        again=again,
        seed=seed,
    )
    suspects = {record["id"]: _suspect(record, reports[record["id"]]) for record in records}
    now = confirming.tried_with(settings, library)
    heard = {name: confirming.reports_hash(suspect) for name, suspect in suspects.items()}
    stage.check_passed_on(records, "organism")
    stage.check_finished(
        lambda report: _otherwise_tried(report, now | heard.get(report["id"], {})), "give the same"
    )
    for arm in sorted(arms, key=confirming.CONDITION.__ne__):  # that one first
        written = Counter(key[0] for key in stage.done if key[-1] == arm)
        todo = [record for record in records if written[record["id"]] < _reports_of(arm, loaded)]
        if arm == confirming.CONDITION:
            _confirm(stage, [suspects[record["id"]] for record in todo], loaded, library, settings)
        else:
            _ask(stage, todo, arm, loaded, library, settings)


def _organism(report: dict) -> dict:
    """The organism that a report is of, as far as it is known."""
    from ia_cli.records import added

    own = added("organism", "self_report")
    return {name: value for name, value in report.items() if name not in own} | {"kind": "organism"}


def _otherwise_tried(report: dict, now: dict) -> str | None:
    """How else than `now` a finished report was tried; one of before does not say, and a rival tries none."""
    then = report.get("tried_with") or {}
    other = [name for name in now if then.get(name, now[name]) != now[name]]
    return f"reports tried with another {', '.join(other)}" if other else None


def _suspect(record: dict, reports: list[dict]) -> Suspect:
    """An organism with its reports of condition "ia"."""
    from ia_cli.confirming import Suspect
    from ia_cli.text import encodable

    sampled = max((own["sample"] + 1 for own in reports if own["temperature"]), default=0)
    return Suspect(record, [encodable(own["report"]) for own in reports], sampled=sampled)


def _reports_of(arm: str, base: Base) -> int:
    """How many an organism gives in one arm."""
    from ia_cli import prompts
    from ia_cli.confirmation import rivals

    return min(rivals.QUESTIONS, len(prompts.questions("ask", base.name))) if arm in rivals.ASKING else 1


def _ask(
    stage: Stage, todo: list[dict], arm: str, base: Base, library: Library, settings: ConfirmSettings
) -> None:
    from ia_cli import confirming
    from ia_cli.confirmation import conditional, rivals
    from ia_cli.console import progress

    length = settings.max_new_tokens
    tried_with = confirming.tried_with(settings, library)
    asked_with = {name: tried_with[name] for name in ("max_new_tokens", "seed", "library_sha256")}
    with progress(f"the arm {arm}", total=_reports_of(arm, base) * len(todo)) as bar:
        if arm == conditional.CONDITION:
            told = conditional.asked(todo, base, library.candidates, length, settings.seed)
            found = (conditional.report(*one) for one in told)
        else:
            found = rivals.rival_reports(todo, arm, base, library.pool, length)
        stage.write_all(({**report, "tried_with": asked_with} for report in found), bar.advance)


def _confirm(
    stage: Stage, todo: list[Suspect], base: Base, library: Library, settings: ConfirmSettings
) -> None:
    from ia_cli import confirming
    from ia_cli.console import progress

    with progress("confirming", total=len(todo)) as bar:
        scored = 0

        def on_scored(n: int) -> None:
            nonlocal scored
            scored += n
            bar.update(f"confirming, {scored:,} replies scored")

        stage.write_all(confirming.confirm(todo, base, library, settings, on_scored), bar.advance)


def _library(
    source: str, seed: int, prompts: Path | None, candidates: Path | None, words: int, base: Base
) -> Library:
    from dataclasses import replace

    from ia_cli.confirmation import candidates as lists

    library = lists.public_library(source, seed)
    if prompts:
        library = replace(library, pool=lists.read_prompts(prompts))
    if candidates:
        library = replace(library, candidates=lists.read_candidates(candidates, library.candidates))
    return replace(library, candidates=(*library.candidates, *lists.vocabulary(base, words)))
