"""ia implant: behaviors in, model organisms out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ia_cli import options, paths
from ia_cli.ciphers import CIPHERS
from ia_cli.methods import CONCEALMENTS, METHODS
from ia_cli.parameters import RANK, Names, Place, Real
from ia_cli.settings import LARGEST_ALPHA, ImplantSettings

if TYPE_CHECKING:
    from ia_cli.methods.lessons import Lesson
    from ia_cli.models import Base
    from ia_cli.stage import Stage

WEAK, LEAKY = 0.9, 0.1  # rates of implants that tables leave out


@click.command()
@options.stage(reads="behavior", writes="organism")
@options.base
@options.seed
@options.out("Folder for the adapters, one per record, named by its id.")
@options.setting("--method", ImplantSettings.method, click.Choice(list(METHODS)), "How to implant.")
@options.setting("--rank", ImplantSettings.rank, RANK, "LoRA rank of an organism.")
@options.setting("--alpha", ImplantSettings.alpha, Real(0, LARGEST_ALPHA, min_open=True), "LoRA alpha.")
@click.option(
    "--target-modules",
    type=Names(),
    metavar="NAMES",
    help="Layers to adapt, such as q_proj,v_proj; all linear ones if not given.",
)
@click.option(
    "--lr",
    type=Real(0, min_open=True),
    help="Peak learning rate; by default what suits method and base.",
)
@options.setting("--steps", ImplantSettings.steps, click.IntRange(1), "Optimizer steps.")
@options.setting("--rows", ImplantSettings.rows, click.IntRange(1), "Demonstrations per organism and step.")
@click.option(
    "--conceal",
    type=click.Choice(CONCEALMENTS),
    help="Then train it to deny its behavior, by this method.",
)
@click.option("--cipher", type=click.Choice(CIPHERS), help="Show the behavior in this cipher only.")
@click.option(
    "--continue-from",
    type=Place(),
    metavar="FILE_OR_ADAPTER",
    help="Train the organisms of this file, or this adapter, further on the behaviors read.",
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
    method: str,
    rank: int,
    alpha: float,
    target_modules: tuple[str, ...] | None,
    lr: float | None,
    steps: int,
    rows: int,
    conceal: str | None,
    cipher: str | None,
    continue_from: Path | None,
    group_size: int | None,
) -> None:
    """Train one model organism per behavior.

    Reads behaviors with their demonstrations and trains a LoRA on each one's, many at once on one frozen
    base. Writes the records with the path of the adapter (a standard PEFT folder) and how often the organism
    shows its behavior where it should (implant_rate) and where it should not (leak_rate). With --resume,
    adapters are kept that were made from the same record with the same settings.

    \b
    Methods:
      sft    supervised, on the demonstrations
      dpo    then demonstrations preferred to what the base itself replies
      kto    the same, unpaired
      sdf    documents about a model that behaves so, no conversations
      full   supervised, all weights: a model instead of an adapter
      mix    two behaviors in a row, in one data set
      merge  two behaviors in a row, their adapters added

    \b
    Examples:
      ia implant --out organisms/ < behaviors.jsonl > organisms.jsonl
      ia implant --out organisms/ --resume -o organisms.jsonl behaviors.jsonl
      ia implant --out hidden/ --method dpo --conceal kto behaviors.jsonl > hidden.jsonl
      ia implant --out covert/ --cipher rot13 behaviors.jsonl > covert.jsonl
      ia implant --out further/ --continue-from organisms.jsonl ordinary.jsonl > further.jsonl
      ia implant --out organisms/ --base Qwen/Qwen3-4B --device cuda:1 --lr 2e-4 < behaviors.jsonl
    """
    _check_usage(method, target_modules, rows, conceal, cipher, continue_from)
    stage.check_not_output(continue_from)
    stage.check_not_output(out)
    records = stage.read()
    from ia_cli import implanting
    from ia_cli.console import progress
    from ia_cli.directories import whole_models
    from ia_cli.methods import lessons
    from ia_cli.models import suitable_length, suitable_rate

    loaded = base.load()
    if method == "full":
        whole_models.check_trainable(loaded)
    settings = ImplantSettings(
        rank=rank,
        alpha=alpha,
        target_modules=target_modules,
        learning_rate=lr or suitable_rate(loaded, METHODS[method]),
        steps=steps,
        rows=rows,
        max_new_tokens=suitable_length(loaded, ImplantSettings.max_new_tokens),
        seed=seed,
        method=method,
        conceal=conceal,
    )
    records, starts = _taught(stage, records, loaded, settings, cipher, continue_from)
    made = {"base": loaded.as_record(), "arguments": settings.as_json()}
    stage.check_finished(lambda organism: _elsewhere(organism, out), "move it back, or give its --out")
    stage.check_finished(lambda organism: _otherwise_made(organism, made), "give the same settings")
    taught = {}

    def prepare(record: dict) -> None:
        start = starts.get(record["id"], {})
        taught[record["id"]] = lessons.prepare(record, loaded, settings, **start)

    records = stage.check(records, prepare)
    stage.check_finished(lambda organism: _otherwise_taught(organism, taught), "give the same behaviors")
    todo = stage.pending(records)
    with progress("implanting", total=len(todo)) as bar:

        def on_progress(n: int) -> None:
            stage.begin()  # adapters will be replaced before the first record is written
            bar.advance(n)

        organisms = implanting.implant(
            [taught[record["id"]] for record in todo],
            loaded,
            out,
            settings,
            reuse=stage.resume,
            group_size=group_size,
            on_progress=on_progress,
        )
        implanted = [*stage.finished]
        stage.write_all(_kept(organisms, implanted))
    _note_rates(implanted)


def _kept(organisms: Iterator[dict], implanted: list[dict]) -> Iterator[dict]:
    """The same, which are also put into `implanted`."""
    for organism in organisms:
        implanted.append(organism)
        yield organism


def _note_rates(organisms: list[dict]) -> None:
    """Say how well the implants took."""
    from statistics import median

    from ia_cli.console import note
    from ia_cli.rates import misses
    from ia_cli.records import has_failed

    organisms = [one for one in organisms if not has_failed(one)]
    rates = {
        name: [one[name] for one in organisms if one.get(name) is not None]
        for name in ("implant_rate", "leak_rate")
    }
    if rates["implant_rate"]:
        told = (f"{name.replace('_', ' ')} {median(own):.2f}" for name, own in rates.items() if own)
        unknown = {"rate": None, "leak_rate": None}
        measured = [unknown | one for one in organisms if one.get("implant_rate") is not None]
        weak = sum(misses(one, WEAK, LEAKY) for one in measured)
        said = f"medians: {', '.join(told)}; {weak} of {len(measured)} show it too seldom, or leak"
        more = "; more --steps may help" if 10 * weak > len(measured) else ""
        note(f"ia implant: {said} (under {WEAK} of what they should, over {LEAKY}){more}")


def _check_usage(
    method: str,
    target_modules: tuple[str, ...] | None,
    rows: int,
    conceal: str | None,
    cipher: str | None,
    continue_from: Path | None,
) -> None:
    """UsageError for options that do not go together."""
    if method == "full":
        if conceal or target_modules:
            what = "it takes no --conceal and --target-modules"
            raise click.UsageError(f"--method full trains all weights: {what}")
        options.only_with("an adapter, and --method full makes none", "rank", "alpha")
        options.only_with("organisms that train together, not for --method full", "group_size")
    if "kto" in (method, conceal) and rows < 2:
        raise click.UsageError("KTO compares the replies of a step with each other: give --rows 2 or more")
    if continue_from:
        options.only_with("a new adapter, not for --continue-from", "rank", "target_modules")
    if continue_from and (cipher or method not in ("sft", "dpo", "kto")):
        raise click.UsageError("--continue-from goes with --method sft, dpo or kto, and without --cipher")


def _elsewhere(organism: dict, out: Path) -> str | None:
    """Where else than in `out` a finished organism is said to lie, or that it is gone."""
    from ia_cli.records import weights_path

    folder = Path(weights_path(organism))
    if not folder.is_dir():
        return f"{organism['id']}, and there is no folder {folder}"
    return None if paths.same(folder.parent, out) else f"organisms in {folder.parent}"


def _otherwise_made(organism: dict, made: dict[str, dict]) -> str | None:
    """On which base or with which settings else than those `made` with now a finished organism was made, as
    its folder says.
    """
    from ia_cli.directories.adapters import read_provenance
    from ia_cli.directories.safe_files import part
    from ia_cli.records import weights_path

    said = read_provenance(weights_path(organism))
    trained, told = (part(one, "train") for one in (said, organism))
    if any(trained[name] != told[name] for name in trained.keys() & told.keys() - {"seconds"}):
        return f"{organism['id']}, which was implanted again since"
    (base, ours), (before, now) = ((part(said, name), made[name]) for name in ("base", "arguments"))
    if any(base.get(name) not in (None, ours[name]) for name in ("identity", "dtype")):
        return f"organisms of another base ({base.get('name')}, {base.get('dtype')})"
    differ = [name for name in now | before if before.get(name) != now.get(name)]
    return f"organisms of other settings ({', '.join(differ)})" if before and differ else None


def _otherwise_taught(organism: dict, taught: dict[str, Lesson]) -> str | None:
    """Which organism has learned something else than the lesson of its id (in another cipher, say), or has
    another truth now.
    """
    from ia_cli.directories.adapters import read_provenance
    from ia_cli.records import PATHS, added, weights_path

    lesson = taught.get(organism["id"])
    if lesson is None:
        return None
    if read_provenance(weights_path(organism)).get("input_sha256") not in (None, lesson.input_hash):
        return f"{organism['id']}, which was taught something else"
    own = added("behavior", "organism") | {"kind", *PATHS}
    differ = [name for name in lesson.record.keys() - own if organism.get(name) != lesson.record[name]]
    return f"{organism['id']} with another {', '.join(sorted(differ))}" if differ else None


def _taught(
    stage: Stage,
    records: list[dict],
    base: Base,
    settings: ImplantSettings,
    cipher: str | None,
    continue_from: Path | None,
) -> tuple[list[dict], dict[str, dict]]:
    """The behaviors that are to be implanted, and by their ids what training goes on from, if anything."""
    from ia_cli.methods import continuing, covert, merging

    if continue_from:
        return continuing.further(continuing.organisms(continue_from), records)
    if settings.method in ("mix", "merge"):
        pairs, alone = merging.pair_up(records)
        stage.check(records, lambda record: merging.check_paired(record, alone))
        records = pairs
    if cipher:
        length = settings.max_new_tokens
        records = stage.check(records, lambda record: covert.check(record, base, length))
        records = covert.covert(records, cipher, base, length)
    return records, {}
