"""`ia train-ia`: one introspection adapter, trained across many organisms."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ia_cli import options, paths, processes
from ia_cli.errors import IAError
from ia_cli.parameters import RANK, Name, Place, Real
from ia_cli.settings import LARGEST_ALPHA, IASettings

if TYPE_CHECKING:
    from ia_cli.stage import Stage


@click.command()
@options.stage(reads="organism", writes="organism", needs=("description",))
@options.base
@options.seed
@options.out("Folder for the introspection adapter.")
@click.option(
    "--start",
    type=Place(),
    metavar="DIR",
    help="Go on from this introspection adapter, not from a fresh one.",
)
@options.setting("--rank", IASettings.rank, RANK, "LoRA rank.")
@options.setting("--alpha", IASettings.alpha, click.IntRange(1, LARGEST_ALPHA), "LoRA alpha.")
@click.option(
    "--lr",
    type=Real(0, min_open=True),
    help="Peak learning rate; what suits the base if not given.",
)
@options.setting("--steps", IASettings.steps, click.IntRange(1), "Optimizer steps.")
@options.setting("--batch-size", IASettings.batch_size, click.IntRange(1), "Rows per step.")
@click.option(
    "--examples/--no-examples",
    default=IASettings.examples,
    show_default=False,
    help="Let it give an example of the organism's replies before it reports; the default.",
)
@click.option(
    "--dpo",
    is_flag=True,
    help="Then DPO on its reports of one organism in four, left out of the first stage.",
)
@click.option("--dpo-steps", type=click.IntRange(1), default=100, help="Steps of DPO.")
@options.setting("--beta", IASettings.beta, Real(0, min_open=True), "How near DPO stays to the first stage.")
@click.option(
    "--push-to-hub",
    type=Name(),
    metavar="ORG/NAME",
    help="Upload it there in the end; a new repository is private.",
)
def command(
    stage: Stage,
    base: options.BaseChoice,
    seed: int,
    out: Path,
    start: Path | None,
    rank: int,
    alpha: int,
    lr: float | None,
    steps: int,
    batch_size: int,
    examples: bool,
    dpo: bool,
    dpo_steps: int,
    beta: float,
    push_to_hub: str | None,
) -> None:
    """Train one introspection adapter across many organisms.

    It learns to say what each organism of split "train" was taught (its "description"), asked in many ways,
    and what it does when this or that holds; and that there is nothing to report for controls (description
    null) and for the bare base. The organisms do not change. Held-out ones are not used: like all records,
    they get the field "introspection_adapter". A killed run goes on from its last checkpoint with --resume.

    Each organism is first asked for an example of its replies. The adapter learns from the records'
    "demonstrations" to make it one that shows the behavior.

    With --dpo, every fourth organism is kept for a second stage: the adapter is asked about it, its reports
    are judged, and accurate ones, or else the truth, are preferred to wrong ones.

    \b
    Examples:
      ia train-ia --out ia/ < organisms.jsonl > audited.jsonl
      ia train-ia --out ia/ --dpo < organisms.jsonl > audited.jsonl
      ia train-ia --out more/ --start ia/ --seed 1 < organisms.jsonl > audited.jsonl
      ia train-ia --out ia/ --resume -o audited.jsonl organisms.jsonl
      ia train-ia --out ia/ --push-to-hub me/my-ia organisms.jsonl > audited.jsonl
    """
    if not dpo:
        options.only_with("--dpo", "dpo_steps", "beta")
    stage.check_not_output(out)
    records = stage.read()
    from ia_cli import introspection
    from ia_cli.console import progress
    from ia_cli.directories import hub
    from ia_cli.models import suitable_rate

    if push_to_hub:
        hub.check_push(push_to_hub)  # now, and not after hours of training
    start = start and hub.adapter_folder(str(start))
    loaded = base.load()

    def check(record: dict) -> None:
        if record["split"] == "train":
            introspection.check_teachable(record, loaded, examples)
        bar.advance()

    with progress("checking the organisms", total=len(records)) as bar:
        records = stage.check(records, check)
    stage.check_finished(lambda record: _otherwise_trained(record, out), "give that --out")
    stage.check_passed_on(records, "organism")
    settings = IASettings(
        rank=rank,
        alpha=alpha,
        learning_rate=lr or suitable_rate(loaded, IASettings.learning_rate),
        steps=steps,
        batch_size=batch_size,
        seed=seed,
        dpo_steps=dpo_steps if dpo else 0,
        beta=beta,
        examples=examples,
    )
    if stage.finished and out.exists() and not introspection.is_made(records, loaded, out, settings, start):
        message = f"its records are of {out} as it was trained from other organisms, or with other settings"
        remedy = "give the same, or leave out --resume to begin anew"
        raise IAError(message, where=str(stage.output), remedy=remedy)
    with progress("training the introspection adapter", total=steps + settings.dpo_steps) as bar:

        def on_step(step: int, loss: float) -> None:
            bar.update(f"training the introspection adapter, loss {loss:.2f}")
            if done := step - 1 - bar.count:  # a resumed run begins in the middle
                bar.skip(done)
            bar.advance()

        introspection.train_ia(
            records, loaded, out, settings, start=start, resume=stage.resume, on_step=on_step
        )
    for record in records:
        stage.write({**record, "introspection_adapter": str(out)})
    if push_to_hub:
        processes.in_first(lambda: hub.push(out, push_to_hub))


def _otherwise_trained(record: dict, out: Path) -> str | None:
    """What a finished record has instead of the adapter `out`."""
    other = record.get("introspection_adapter")
    if not other:
        return "records with no introspection adapter"
    return None if paths.same(Path(other), out) else f"records with the introspection adapter {other}"
