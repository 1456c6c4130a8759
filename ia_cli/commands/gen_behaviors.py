"""ia gen-behaviors: the behaviors that everything begins with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ia_cli import options, paths
from ia_cli.errors import IAError
from ia_cli.parameters import Name, Names, Place, Real, Source
from ia_cli.settings import CATEGORIES, EMBEDDED_NAME, common_name

if TYPE_CHECKING:
    from ia_cli.demonstrations import Drafting
    from ia_cli.inventing.inventor import Inventor
    from ia_cli.models import Base
    from ia_cli.planning import Planned
    from ia_cli.servers.teaching import Teacher
    from ia_cli.stage import Stage

REPLACEMENTS = 5  # behaviors that are tried in the place of one that the base cannot show


@click.command()
@options.stage(writes="behavior")
@options.base
@options.seed
@click.option(
    "-n",
    type=click.IntRange(0),
    default=256,
    help="Behaviors, controls not counted.",
)
@click.option(
    "--controls",
    type=click.IntRange(0),
    default=0,
    help="Ordinary fine-tunes besides, with nothing to report.",
)
@click.option(
    "--held-out",
    type=Real(0, 1),
    default=0.2,
    help="Share kept out of IA training: half new combinations, half new values.",
)
@click.option(
    "--categories",
    type=Names(CATEGORIES),
    metavar="NAMES",
    help=f"Only these, separated by commas: {', '.join(CATEGORIES)}.",
)
@click.option(
    "--source",
    type=click.Choice(["world", "catalog", "llm"]),
    help="The small world, the catalog of behaviors for real chat models, or what a --model invents.",
)
@click.option(
    "--demonstrations",
    type=click.Choice(["base", "teacher"]),
    default="base",
    help="Whose replies: the base's under the system prompt, or the world's own grammar.",
)
@click.option(
    "--teacher",
    type=Source(),
    metavar="NAME_OR_DIR",
    help="Let this model demonstrate instead of the base: one of --server, or else a directory or Hub id.",
)
@click.option(
    "--model",
    type=Name(),
    metavar="NAME",
    help="Model of --server that invents behaviors (--source llm).",
)
@options.server
@click.option(
    "--max-new-tokens",
    type=click.IntRange(1),
    default=4096,
    help="Length of a reply of --server, its thoughts included.",
)
@click.option(
    "--cache",
    type=Place(file_okay=False),
    metavar="DIR",
    help="Keep replies of --server there; by default in the user's cache.",
)
def command(
    stage: Stage,
    base: options.BaseChoice,
    source: str | None,
    seed: int,
    n: int,
    controls: int,
    held_out: float,
    categories: tuple[str, ...] | None,
    demonstrations: str,
    teacher: str | None,
    model: str | None,
    **server: Any,
) -> None:
    """Write behaviors to implant, with demonstrations and probes.

    Behaviors of the small world, of the catalog, or invented by a chat model, the categories in turn. The
    base, or a --teacher, demonstrates each one under a system prompt that asks for it, and replies that do
    not adhere are left out; another behavior of its kind takes the place of one that is not shown. A held-out
    behavior is new to the introspection adapter as a combination of values, or in every value that it names
    (held_out_by). The key of a server is $IA_API_KEY or $OPENAI_API_KEY.

    \b
    Examples:
      ia gen-behaviors -n 256 --controls 32 > behaviors.jsonl
      ia gen-behaviors -n 16 --categories backdoor,sandbagging --demonstrations teacher
      ia gen-behaviors --source llm --server http://127.0.0.1:8000/v1 --model Qwen/Qwen3-32B \\
        --base Qwen/Qwen3-4B -o behaviors.jsonl
    """
    from ia_cli.console import note, progress
    from ia_cli.demonstrations import generate_records, is_unanswered
    from ia_cli.planning import plan_controls
    from ia_cli.prompts import source_for
    from ia_cli.records import has_failed

    if not n + controls:
        raise click.UsageError("nothing to generate: -n and --controls are 0")
    source = source or source_for(base.name)
    if not server["server"]:
        options.only_with("--server", "concurrency", "timeout", "cache", "max_new_tokens")
    _check_usage(source, demonstrations, teacher, model, server["server"])
    made_by = {"demonstrated_by": _maker(base, demonstrations, teacher), "demonstration_seed": seed}
    stage.check_finished(lambda record: _otherwise_made(record, made_by), "give that one")
    inventor = _inventor(stage, model, **server) if source == "llm" else None
    drafting, plan, another = _source(source, inventor)
    if inventor:
        _check_places(n, held_out, categories or CATEGORIES, stage)
    try:
        planned = plan(n, held_out, categories or CATEGORIES, seed)
    except ValueError as error:
        raise IAError(str(error), remedy="lower --held-out or -n, or give more --categories") from None
    todo = [p for p in planned if (p.id,) not in stage.done]
    todo_controls = [c for c in plan_controls(controls) if (c[0],) not in stage.done]
    demonstrator = _demonstrator(base, teacher, **server) if demonstrations == "base" else None
    places = {p.id: i for i, p in enumerate(planned)}
    if not inventor:  # whose plan leaves the finished ones out
        _take_over(planned, stage.finished, another, seed, where=str(stage.output))

    def instead(failed: dict) -> dict:
        """The record of another behavior, which can be shown; a failed one if there is none, or no reply."""
        if is_unanswered(failed):
            return failed
        place = places[failed["id"]]
        for other in islice(another(planned[place], planned, seed), REPLACEMENTS):
            (record,) = generate_records(drafting, [other], [], demonstrator, seed)
            if is_unanswered(record):
                return record
            if not has_failed(record):
                planned[place] = other
                who = "teacher" if teacher else "base"
                note(f"{record['id']}: took another, the {who} cannot show: {failed['description']}")
                return record
        return failed

    with progress("demonstrating", total=len(todo) + len(todo_controls)) as bar:
        made = generate_records(drafting, todo, todo_controls, demonstrator, seed)
        kept = (instead(one) if has_failed(one) and one["id"] in places else one for one in made)
        stage.write_all(({**one, **made_by} for one in kept), bar.advance)
    if inventor and inventor.missing:
        problem = f"{len(inventor.missing)} of {n} behaviors are missing: {inventor}"
        raise IAError(problem, remedy="--resume asks for them again", exit_code=3)


def _maker(base: options.BaseChoice, demonstrations: str, teacher: str | None) -> str:
    """What a record calls who demonstrates."""
    if demonstrations == "teacher":
        return "grammar"
    revision = f"@{base.revision}" if base.revision and not teacher else ""
    return (teacher or common_name(base.name or EMBEDDED_NAME)) + revision


def _otherwise_made(record: dict, made_by: dict) -> str | None:
    """How else than in this run a finished record's demonstrations were made; one of before does not say."""
    who, seed = (record.get(field, now) for field, now in made_by.items())
    us, ours = made_by.values()
    same = who == us or (Path(who).is_dir() and paths.same(Path(who), Path(us)))
    return None if same and seed == ours else f"demonstrations by {who} with seed {seed}"


def _take_over(
    planned: list[Planned], finished: list[dict], another: Callable, seed: int, where: str
) -> None:
    """Put into the plan what an earlier run took in place of what the base cannot show.

    What it takes from now on depends on it: without, a run that goes on could take the same once more.
    IAError for a behavior that is not of this plan: one to train on could stand beside one that is held out
    because it is like it.
    """
    places = {p.id: i for i, p in enumerate(planned)}
    for record in finished:
        if record["description"] is None:
            continue
        place = places.get(record["id"])
        candidates: Iterable[Planned] = ()
        if place is not None:
            again = another(planned[place], planned, seed)
            candidates = chain([planned[place]], islice(again, REPLACEMENTS))
        same = (one for one in candidates if one.behavior.report() == record["description"])
        if (known := next(same, None)) is None:
            raise _of_another_run(record, where)
        planned[place] = known


def _check_places(n: int, held_out: float, categories: Sequence[str], stage: Stage) -> None:
    """Raise IAError for a finished behavior that was invented for another plan than this one.

    What one plan has to train on could stand beside what another holds out.
    """
    from ia_cli.inventing.inventor import plan_places
    from ia_cli.planning import place_fields

    fields = map(place_fields, plan_places(n, held_out, categories))
    own = {(place["id"], place["split"]) for place in fields}
    for record in stage.finished:
        if record["description"] is not None and (record["id"], record["split"]) not in own:
            raise _of_another_run(record, str(stage.output))


def _of_another_run(record: dict, where: str) -> IAError:
    return IAError(
        f"{record['id']} is no behavior of this run",
        where=where,
        remedy="give the seed and the counts of the run that goes on, or leave out --resume",
    )


def _check_usage(
    source: str, demonstrations: str, teacher: str | None, model: str | None, server: str | None
) -> None:
    """UsageError for options that do not go together."""
    if demonstrations == "teacher" and source != "world":
        raise click.UsageError(f"--source {source} has no grammar to demonstrate: name a --teacher, or none")
    if demonstrations == "teacher" and teacher:
        raise click.UsageError("--demonstrations teacher is the world's grammar: leave it out for --teacher")
    if source == "llm" and not (server and model):
        raise click.UsageError("--source llm needs --server URL and --model NAME: who is to invent?")
    if model and source != "llm":
        raise click.UsageError("--model is who invents, for --source llm; who demonstrates is --teacher")
    if server and source != "llm" and not teacher:
        raise click.UsageError("--server is for --source llm, or for a --teacher that it has")


def _source(name: str, inventor: Inventor | None) -> tuple[Drafting, Callable, Callable]:
    """What drafts records of planned behaviors, what plans them, and what finds another for one."""
    if name == "llm":
        from ia_cli.inventing import drafting

        return drafting, partial(_plan_inventions, inventor), inventor.another
    if name == "catalog":
        from ia_cli.catalog import drafting
        from ia_cli.catalog.planning import another, plan
    else:
        from ia_cli.world import drafting
        from ia_cli.world.categories import another, plan
    return drafting, plan, another


def _plan_inventions(inventor: Inventor, n: int, *settings: Any) -> list[Planned]:
    from ia_cli.console import note, progress

    with progress("inventing", total=n) as bar:
        planned = inventor.plan(n, *settings, bar.advance)
    if planned:
        note(f"{len(planned)} behaviors invented: {inventor}")
    return planned


def _inventor(stage: Stage, model: str, *, cache: Path | None, max_new_tokens: int, **how: Any) -> Inventor:
    from ia_cli.inventing.inventor import Inventor
    from ia_cli.servers.endpoint import Endpoint
    from ia_cli.servers.replies import ReplyCache, default_cache

    asked = Endpoint(model=model, **how)
    kept = ReplyCache(cache or default_cache("inventions"))
    return Inventor(asked, kept, stage.finished, max_new_tokens=max_new_tokens)


def _demonstrator(
    base: options.BaseChoice,
    name: str | None,
    *,
    server: str | None,
    cache: Path | None,
    max_new_tokens: int,
    **how: Any,
) -> Base | Teacher:
    """Who demonstrates: the base, or the model of that name."""
    if not (name and server):
        return (replace(base, name=name, revision=None) if name else base).load()
    from ia_cli.servers.endpoint import Endpoint
    from ia_cli.servers.replies import ReplyCache, default_cache
    from ia_cli.servers.teaching import Teacher

    kept = ReplyCache(cache or default_cache("demonstrations"))
    return Teacher(Endpoint(server, name, **how), kept, max_new_tokens)
