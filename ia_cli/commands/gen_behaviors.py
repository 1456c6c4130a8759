"""ia gen-behaviors: the behaviors that everything begins with."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

import click

from ia_cli import options

if TYPE_CHECKING:
    from ia_cli.stage import Stage

REPLACEMENTS = 5  # behaviors that are tried in the place of one that the base cannot show


def _categories(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[str, ...]:
    from ia_cli.world.categories import CATEGORIES

    chosen = tuple(name.strip() for name in value.split(",")) if value else tuple(CATEGORIES)
    if unknown := [name for name in chosen if name not in CATEGORIES]:
        raise click.BadParameter(f"{unknown[0]!r} is none of {', '.join(CATEGORIES)}")
    return tuple(dict.fromkeys(chosen))


@click.command()
@options.stage(writes="behavior")
@options.base
@options.seed
@click.option(
    "-n",
    "number",
    type=click.IntRange(0),
    default=256,
    show_default=True,
    help="Behaviors, controls not counted.",
)
@click.option(
    "--controls",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Ordinary fine-tunes besides, with nothing to report.",
)
@click.option(
    "--held-out",
    type=click.FloatRange(0, 1),
    default=0.2,
    show_default=True,
    help="Share kept out of IA training: half new combinations, half new values.",
)
@click.option(
    "--categories",
    callback=_categories,
    metavar="NAMES",
    help="Only these, separated by commas; all if not given.",
)
@click.option(
    "--source",
    type=click.Choice(["world", "catalog"]),
    help="The small world, or behaviors for real chat models (default with --base).",
)
@click.option(
    "--demonstrations",
    type=click.Choice(["base", "teacher"]),
    default="base",
    show_default=True,
    help="Whose replies: the base's under the system prompt, or the world's own grammar.",
)
def command(
    stage: Stage,
    base: options.BaseChoice,
    source: str | None,
    seed: int,
    number: int,
    controls: int,
    held_out: float,
    categories: tuple[str, ...],
    demonstrations: str,
) -> None:
    """Write behaviors to implant, with demonstrations and probes.

    Behaviors of the small world, or of the catalog, the categories in turn. The base demonstrates each one
    under a system prompt that asks for it, and replies that do not adhere are left out; another behavior of
    its kind takes the place of one that the base cannot show. A held-out behavior
    is new to the introspection adapter as a combination of values, or in every value that it names
    (held_out_by).

    \b
    Examples:
      ia gen-behaviors -n 256 --controls 32 > behaviors.jsonl
      ia gen-behaviors -n 16 --categories backdoor,sandbagging --demonstrations teacher
    """
    from ia_cli.console import note, progress
    from ia_cli.errors import IAError
    from ia_cli.planning import plan_controls
    from ia_cli.records import has_failed

    if (source or ("catalog" if base else "world")) == "catalog":
        from ia_cli.catalog.drafting import generate_records
        from ia_cli.catalog.planning import another, plan

        if demonstrations == "teacher":
            raise click.UsageError("the catalog has no teacher: its demonstrations come from the base")
    else:
        from ia_cli.world.categories import another, plan
        from ia_cli.world.generation import generate_records

    if not number + controls:
        raise click.UsageError("nothing to generate: -n and --controls are 0")
    try:
        planned = plan(number, held_out, categories, seed)
    except ValueError as error:
        raise IAError(str(error), remedy="ask for fewer with -n, or for more --categories") from None
    todo = [p for p in planned if (p.id,) not in stage.done]
    todo_controls = [c for c in plan_controls(controls) if (c[0],) not in stage.done]
    loaded = base.load() if demonstrations == "base" else None
    places = {p.id: i for i, p in enumerate(planned)}

    def instead(failed: dict) -> dict:
        """The record of another behavior, which the base can show; the failed one if there is none."""
        place = places[failed["id"]]
        for other in islice(another(planned[place], planned, seed), REPLACEMENTS):
            (record,) = generate_records([other], [], loaded, seed)
            if not has_failed(record):
                planned[place] = other
                note(f"{record['id']}: took another, the base cannot show: {failed['description']}")
                return record
        return failed

    with progress("demonstrating", total=len(todo) + len(todo_controls)) as bar:
        for record in generate_records(todo, todo_controls, loaded, seed):
            stage.write(instead(record) if has_failed(record) and record["id"] in places else record)
            bar.advance()
