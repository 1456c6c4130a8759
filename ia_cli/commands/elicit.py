"""`ia elicit`: self-reports of organisms, in three conditions."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ia_cli import options, paths
from ia_cli.errors import IAError
from ia_cli.parameters import Line, Name, Names, Place, Real
from ia_cli.settings import CONDITIONS, DRAWS, ElicitSettings

if TYPE_CHECKING:
    from ia_cli.prompts import Question
    from ia_cli.stage import Stage

OPTIONS = {"ia": "--model", "no_ia": "--model-no-ia", "base_ia": "--model-base-ia"}


@click.command()
@options.stage(reads="organism", writes="self_report")
@options.base
@options.seed
@click.option("--ia", type=Place(), metavar="DIR", help="Introspection adapter, if not the record's.")
@click.option("--adapter", type=Place(), metavar="DIR", help="Ask this one adapter; nothing is read.")
@click.option("--split", type=click.Choice(["train", "heldout"]), help="Ask only this split.")
@click.option(
    "--conditions",
    type=Names(CONDITIONS),
    default=",".join(CONDITIONS),
    metavar="NAMES",
    help="Organism with the introspection adapter, without it, the bare base with it.",
)
@options.setting("--questions", ElicitSettings.asked, click.IntRange(1), "Questions per organism.")
@click.option(
    "--question",
    type=Line(),
    multiple=True,
    metavar="TEXT",
    help="Ask this instead; may be repeated.",
)
@options.setting("--samples", ElicitSettings.samples, click.IntRange(1), "Replies per question.")
@options.setting("--temperature", ElicitSettings.temperature, Real(0), "0 is greedy decoding.")
@options.reply_length
@click.option(
    "--examples/--no-examples",
    default=None,
    help="Ask for an example of its replies first; if not given, as the adapter was trained, if it is here.",
)
@click.option(
    "--draws",
    type=click.IntRange(1),
    metavar="N",
    help=f"Examples to draw, each with two replies to a question.  [default: {DRAWS} at temperature 0 on the "
    "base that comes with ia, else 1]",
)
@options.server
@click.option(
    "--model",
    type=Name(),
    metavar="NAME",
    help="What --server calls the organism with the adapter (ia).",
)
@click.option(
    "--model-no-ia",
    type=Name(),
    metavar="NAME",
    help="What it calls the organism alone (no_ia).",
)
@click.option(
    "--model-base-ia",
    type=Name(),
    metavar="NAME",
    help="What it calls the adapter on the bare base (base_ia).",
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
    question: tuple[str, ...],
    samples: int,
    temperature: float,
    max_new_tokens: int | None,
    examples: bool | None,
    draws: int | None,
    server: str | None,
    concurrency: int,
    timeout: float,
    model: str | None,
    model_no_ia: str | None,
    model_base_ia: str | None,
) -> None:
    """Ask organisms what they learned, with and without the adapter.

    Writes one self-report per organism, question, sample and condition. The conditions belong together: "ia"
    is the measurement; "no_ia" (the organism alone) and "base_ia" (the introspection adapter on the bare
    base, which has nothing to report) are what to compare it with. The ground truth is not read.

    If the adapter was trained to give examples of an organism's replies, one comes before each report. With
    --draws N there are N of them, and two reports after each; the one that explains the examples best, as the
    base judges, is the report.

    With --server no model is loaded: each condition is a model that an OpenAI-compatible server calls by the
    name given. One organism is asked and nothing is read, unless {id} stands in a name for those of records.
    The key is $IA_API_KEY or $OPENAI_API_KEY.

    \b
    Examples:
      ia elicit < audited.jsonl > reports.jsonl
      ia elicit --split heldout --samples 5 --temperature 1 audited.jsonl
      ia elicit --ia ia/ --adapter suspect/ --conditions ia
      ia elicit --server http://127.0.0.1:8000/v1 --examples --model suspect+ia --model-no-ia suspect
    """
    from ia_cli import prompts

    names = {"ia": model, "no_ia": model_no_ia, "base_ia": model_base_ia}
    if server:
        names = _served(names, conditions, adapter or ia)
        conditions = tuple(names)
    elif any(names.values()):
        raise click.UsageError("--model is what a server calls it: give --server URL, too")
    alone = not any("{id}" in name for name in names.values()) if server else adapter is not None
    _check_usage(stage, server, alone, samples, temperature, question)
    if draws not in (None, 1):
        _check_draws(server, temperature, examples, conditions)

    read = [] if alone else stage.read(weights=not server)
    records = [record for record in read if split in (None, record["split"])]
    if read and not records:
        raise IAError(f"no organism is of the split {split}", remedy="leave out --split, or give the other")
    served = next((record.get("base_model") for record in records), None) if server else None
    if server and examples is None:
        examples = {*conditions} != {"no_ia"} and _learned_examples(records)
    name = base.name or served
    pool, asked = _asked(question, questions, name)
    settings = ElicitSettings(
        questions=pool,
        asked=asked,
        samples=samples,
        temperature=temperature,
        conditions=conditions,
        max_new_tokens=max_new_tokens or prompts.reply_tokens(name, ElicitSettings.max_new_tokens),
        seed=seed,
        examples=examples,
        draws=draws or (1 if server or temperature or not prompts.knows_only_the_world(name) else DRAWS),
    )
    stage.check_passed_on(records, "organism")
    stage.check_finished(lambda report: _otherwise_asked(report, settings, names), "give that one")
    if server:
        from ia_cli.servers import serving

        records = [serving.lone_organism(names)] if alone else records
        _ask_server(stage, records, names, settings, server, concurrency, timeout)
    else:
        own = {"fit_length": max_new_tokens is None, "wants_draws": draws not in (None, 1)}
        _ask_base(stage, records, base, settings, adapter, ia, **own)


def _check_usage(
    stage: Stage,
    server: str | None,
    alone: bool,
    samples: int,
    temperature: float,
    question: tuple[str, ...],
) -> None:
    """UsageError for options that do not go together; `alone` is one organism, of which no record is read."""
    if samples > 1 and temperature == 0:
        raise click.UsageError("greedy replies are all the same: --samples needs a --temperature above 0")
    if server:
        options.only_with("a base that is loaded in here, not for --server", *options.LOADING)
    else:
        options.only_with("--server", "concurrency", "timeout")
    if alone:
        options.only_with("records of a FILE or standard input", "split")
    if question:
        options.only_with("the questions of ours, not for your own", "questions")
    if alone and stage.file:
        raise click.UsageError(
            "the organisms of a FILE have names that hold {id}" if server else "give either --adapter or FILE"
        )
    if not all(text.strip() for text in question):
        raise click.UsageError("--question is blank")


def _check_draws(
    server: str | None, temperature: float, examples: bool | None, conditions: tuple[str, ...]
) -> None:
    """UsageError for what does not go together with several draws."""
    if server:
        raise click.UsageError("--draws needs a base that is loaded in here: leave out --server")
    if temperature > 0:
        raise click.UsageError("--draws has temperatures of its own: leave out --temperature")
    if examples is False:
        raise click.UsageError("--draws chooses by the examples: leave out --no-examples")
    if "ia" not in conditions:
        raise click.UsageError("--draws is for the condition ia: the others are asked once")


def _asked(own: tuple[str, ...], n: int, base: str | None) -> tuple[list[Question], int]:
    """The questions, and how many each organism gets: all of one's own, or `n` of those for a base."""
    from ia_cli import prompts
    from ia_cli.console import note
    from ia_cli.text import encodable

    if own:
        pool = [prompts.own_question(text) for text in dict.fromkeys(map(encodable, own))]
        return pool, len(pool)
    pool = prompts.questions("ask", base)
    if n > len(pool):
        note(f"ia elicit: there are no more than {len(pool)} questions (others with --question)")
    return pool, n


def _served(names: dict[str, str | None], conditions: tuple[str, ...], loaded: Path | None) -> dict[str, str]:
    """What the server calls the model of each condition; those without a name are left out, and said."""
    from ia_cli.console import note

    if loaded:
        raise click.UsageError("a --server has loaded its adapters: leave out --adapter and --ia")
    known = {condition: name for condition in conditions if (name := names[condition])}
    if not known:
        raise click.UsageError("--server needs --model, --model-no-ia or --model-base-ia: whom to ask")
    if "{id}" in known.get("base_ia", ""):
        raise click.UsageError("--model-base-ia is one for all organisms: leave out {id}")
    if len({"{id}" in known[condition] for condition in known.keys() - {"base_ia"}}) > 1:
        raise click.UsageError("{id} must stand in both --model and --model-no-ia, or in none")
    if left := [condition for condition in conditions if condition not in known]:
        needed = " and ".join(OPTIONS[condition] for condition in left)
        note(f"ia elicit: not asked: {' and '.join(left)}; give {needed}")
    return known


def _learned_examples(records: list[dict]) -> bool:
    """Whether the introspection adapter of records was trained to give an example first: a server does not
    tell, but the adapter may be here.
    """
    from ia_cli.console import note

    folders = {record["introspection_adapter"] for record in records if record.get("introspection_adapter")}
    if known := [folder for folder in folders if Path(folder).is_dir()]:
        from ia_cli.elicitation import gives_examples

        return any(map(gives_examples, known))
    note("ia elicit: asked without an example; give --examples if the adapter was trained to give one first")
    return False


def _ask_server(
    stage: Stage,
    records: list[dict],
    names: dict[str, str],
    settings: ElicitSettings,
    server: str,
    concurrency: int,
    timeout: float,
) -> None:
    from ia_cli import processes
    from ia_cli.console import note
    from ia_cli.servers import serving
    from ia_cli.servers.endpoint import Endpoint

    processes.check_alone("elicit --server")
    endpoint = Endpoint(server, next(iter(names.values())), concurrency=concurrency, timeout=timeout)
    try:
        reports = serving.elicit(
            records, endpoint, names, settings, done=stage.done, keep_going=stage.keep_going
        )
        _write(stage, records, reports, settings)
    finally:
        if endpoint.cut_short:
            note(
                f"ia elicit: cut short at {settings.max_new_tokens} tokens (--max-new-tokens): "
                f"{endpoint.cut_short} of the replies"
            )


def _ask_base(
    stage: Stage,
    records: list[dict],
    base: options.BaseChoice,
    settings: ElicitSettings,
    adapter: Path | None,
    ia: Path | None,
    *,
    fit_length: bool,
    wants_draws: bool,
) -> None:
    from ia_cli import elicitation, organisms
    from ia_cli.console import note
    from ia_cli.directories import adapters, hub
    from ia_cli.models import suitable_length

    if adapter:
        records = [organisms.lone_organism(adapter)]
        ia = ia or adapters.shipped_ia(base.name)
    if ia:
        ia = hub.adapter_folder(str(ia))
        records = [{**record, "introspection_adapter": str(ia)} for record in records]
    loaded = base.load()
    if fit_length:
        settings = replace(settings, max_new_tokens=suitable_length(loaded, ElicitSettings.max_new_tokens))

    read = functools.cache(lambda folder: elicitation.read_introspection_adapter(folder, loaded))

    def check(record: dict) -> None:
        organisms.check_weights(record, loaded)
        if shared := elicitation.needed_adapter(record, settings):
            read(shared)

    if not adapter:  # a record has a line to point at; elicit itself names the folder
        records = stage.check(records, check)
    adapters_of = {record["id"]: record.get("introspection_adapter") for record in records}
    if wants_draws and not settings.examples:
        folders = {*adapters_of.values()} - {None}
        if not any(map(elicitation.gives_examples, folders)):
            note("ia elicit: --draws has no effect, since no adapter was trained to give examples")
    hash_of = functools.cache(adapters.weights_hash)
    stage.check_finished(lambda r: _of_another_ia(r, adapters_of, settings, hash_of), "give what it was")
    _write(stage, records, elicitation.elicit(records, loaded, settings, done=stage.done), settings)


def _otherwise_asked(report: dict, settings: ElicitSettings, names: dict[str, str | None]) -> str | None:
    """How else than with these settings, or by which model of a server else, a finished report was given."""
    other, theirs = report["temperature"], report.get("sampling_seed")
    if other != settings.temperature:
        return f"reports at temperature {other:g}, and not {settings.temperature:g}"
    if theirs not in (None, settings.seed):
        return f"sampled reports of seed {theirs}, and not {settings.seed}"
    if report["condition"] != "no_ia" and settings.examples not in (None, "example" in report):
        return _with_or_without(report)
    if report["condition"] == "ia" and "example" in report:
        if (drawn := report.get("draws", 1)) != settings.draws:
            return f"reports of {drawn} draws, and not {settings.draws}"
        if drawn > 1 and not _of_the_same_questions(report, settings):
            return "reports that were chosen among replies to other questions"
    name, served = names.get(report["condition"]), report.get("served_model")
    if name and served and served not in (name, name.replace("{id}", report["id"])):
        return f"reports of the server's {served}"
    return None


def _of_the_same_questions(report: dict, settings: ElicitSettings) -> bool:
    """Whether a finished report was chosen among replies to what its organism would be asked now."""
    from ia_cli.asking import PER_EXAMPLE, questions_for

    asked = {question.id for question in questions_for(report["id"], settings)}
    replies = PER_EXAMPLE * settings.draws * len(asked)
    return report["question_id"] in asked and report.get("chosen_from") == replies


def _with_or_without(report: dict) -> str:
    return f"reports {'with' if 'example' in report else 'without'} an example"


def _of_another_ia(
    report: dict, adapters_of: dict[str, str | None], settings: ElicitSettings, hash_of: Callable[[str], str]
) -> str | None:
    """Which other introspection adapter a finished report was given with, or how else with the same one."""
    from ia_cli.elicitation import gives_examples

    ours, other = adapters_of.get(report["id"]), report.get("introspection_adapter")
    if report["condition"] == "no_ia" or not (ours and other):
        return None
    if not paths.same(Path(other), Path(ours)):
        return f"reports with the introspection adapter {other}"
    before = report.get("introspection_adapter_sha256")
    if before and report["condition"] in settings.conditions and before != hash_of(ours):
        return f"reports with an adapter that was {other} before"
    if settings.examples is None and gives_examples(ours) != ("example" in report):
        return _with_or_without(report)
    return None


def _write(stage: Stage, records: list[dict], reports: Iterator[dict], settings: ElicitSettings) -> None:
    from ia_cli.asking import count
    from ia_cli.console import progress

    with progress("eliciting", total=count(records, settings, stage.done)) as bar:
        stage.write_all(reports, bar.advance)
