"""`ia audit`: what a fine-tune says it learned, as a verdict for people and as one record."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from functools import partial
from os.path import normpath
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ia_cli import options, processes
from ia_cli.errors import IAError, complain, is_of_memory, of_memory, one_line
from ia_cli.parameters import Place, Real, Source
from ia_cli.settings import AUDIT_SAMPLES, AUDIT_TEMPERATURE

if TYPE_CHECKING:
    from rich.console import Group

    from ia_cli.record_files import Output

SHOWN = 5  # hypotheses on a terminal; the record has more
SHOWN_TRIGGERS = 3  # of each
SHOWN_REPLY = 80  # characters


@click.command()
@click.argument("adapters", type=Source(), nargs=-1, required=True, metavar="ADAPTER...")
@options.writes("audit", fields=("introspection_adapter",))
@options.base
@options.seed
@click.option(
    "--ia",
    type=Place(),
    metavar="DIR",
    help="Introspection adapter; the one that comes with the embedded base if not given.",
)
@click.option(
    "--samples",
    type=click.IntRange(1),
    default=AUDIT_SAMPLES,
    help="Replies per question and arm.",
)
@click.option(
    "--temperature",
    type=Real(0),
    default=AUDIT_TEMPERATURE,
    help="0 is greedy decoding.",
)
@click.option(
    "--confirm/--no-confirm",
    default=True,
    show_default=False,
    help="Whether to try the first hypotheses on its behavior, like `ia confirm`; yes if not given.",
)
@click.option("--fail-on-report", is_flag=True, help="Exit 3 unless all report nothing unusual.")
def command(
    output: Output,
    adapters: tuple[str, ...],
    base: options.BaseChoice,
    seed: int,
    ia: Path | None,
    samples: int,
    temperature: float,
    confirm: bool,
    fail_on_report: bool,
) -> None:
    """Ask a fine-tune what it learned, and say what to make of it.

    ADAPTER is a directory, ORG/NAME@COMMIT on the Hugging Face Hub, or the directory of a whole model that is
    a full fine-tune of the base. It is checked like `ia check` does, and asked every question: with the
    introspection adapter, without it, and the bare base with it; and with it what it does when this or that
    trigger holds. The verdict goes to standard error, a record to standard output unless that is a terminal.
    What it reports is a hypothesis. The first three are tried on its behavior, and the one that explains the
    examples of its replies best. If some of several fine-tunes cannot be audited, they are named and the rest
    are audited; --resume leaves out those that -o has already.

    \b
    Examples:
      ia audit suspect/
      ia audit suspect/ --ia ia/ --base Qwen/Qwen3-0.6B | jq -r '.hypotheses[].report'
      ia audit suspect/ --no-confirm
      ia audit suspect/ --fail-on-report > audit.json
      ia audit downloads/* --resume -o audits.jsonl
    """
    if samples > 1 and temperature == 0:
        raise click.UsageError("greedy replies are all the same: with --temperature 0 give --samples 1")
    from ia_cli import auditing, prompts
    from ia_cli.confirmation import candidates
    from ia_cli.console import note
    from ia_cli.directories import hub
    from ia_cli.directories.adapters import shipped_ia
    from ia_cli.models import suitable_length
    from ia_cli.settings import ElicitSettings

    ia = ia or shipped_ia(base.name)
    if ia is None:
        remedy = "give one for this base with --ia DIR; `ia train-ia` makes it"
        raise IAError("no introspection adapter", remedy=remedy)
    ia = str(hub.adapter_folder(str(ia)))
    pool = prompts.questions("ask", base.name) + prompts.questions("train", base.name)
    library = candidates.public_library(prompts.source_for(base.name), seed)
    before = output.finished  # known to be of ours before a base is loaded
    loaded = base.load()
    settings = ElicitSettings(
        questions=pool,
        asked=len(pool),
        samples=samples,
        temperature=temperature,
        max_new_tokens=suitable_length(loaded, ElicitSettings.max_new_tokens),
        seed=seed,
    )
    made = auditing.made_with(loaded, ia, settings, confirm)
    outcomes = _outcomes(before, made, output)
    todo = [name for name in adapters if normpath(name) not in outcomes]
    if there := len(adapters) - len(todo):
        note(f"ia audit: {there} there already")
    audit = partial(
        auditing.audit,
        base=loaded,
        ia=ia,
        settings=settings,
        library=library,
        confirm=confirm,
        bare={},
    )
    left = len(todo)
    try:
        with closing(_audited(todo, audit)) as audited:
            for record in audited:
                outcomes[normpath(record["adapter"])] = record["outcome"]
                _tell(record, output, alone=len(adapters) == 1)
                left -= 1
    except KeyboardInterrupt:
        if len(todo) > 1:
            note(f"ia audit: {output.how_to_go_on()}")
        raise
    if left:  # what cannot be audited
        raise click.exceptions.Exit(1)
    found = {name: outcomes[normpath(name)] for name in adapters}
    reported = [f"{name} ({outcome})" for name, outcome in found.items() if outcome != "nothing"]
    if fail_on_report and reported:
        raise IAError(f"more than nothing: {', '.join(reported)}", exit_code=3)


def _outcomes(before: Sequence[dict], made: dict, output: Output) -> dict[str, str]:
    """The outcome of each audit that the output has already, by the name of the fine-tune.

    IAError for one that was made otherwise than those of this run will be.
    """
    for record in before:
        if differ := [name for name, value in made.items() if record.get(name, value) != value]:
            raise IAError(
                f"it has an audit of {record['adapter']} with another {', '.join(differ)}",
                where=str(output.path),
                remedy="give the same, or leave out --resume to begin anew",
            )
    return {normpath(record["adapter"]): record["outcome"] for record in before}


def _audited(names: Sequence[str], audit: Callable[..., dict]) -> Generator[dict, None, None]:
    """Yield the record of each that can be audited; what is wrong with the others is said."""
    from ia_cli.console import progress

    with progress("auditing", total=len(names)) as bar:
        for name in names:
            scored = 0

            def on_scored(n: int, name: str = name) -> None:
                nonlocal scored
                scored += n
                bar.update(f"auditing {name}, {scored:,} replies scored")

            bar.update(f"auditing {name}")
            try:
                record = audit(name, on_scored=on_scored)
            except Exception as error:
                # If one of several processes has too little, the others wait for it in vain: all must end.
                if not (isinstance(error, IAError) or (is_of_memory(error) and processes.count() == 1)):
                    raise
                complain("audit", error if isinstance(error, IAError) else of_memory(name))
            else:
                yield record
            bar.advance()


def _tell(record: dict, output: Output, *, alone: bool) -> None:
    """Say what was found, and write the record, unless people would read it."""
    from ia_cli.console import note

    note(_findings(record))
    if not alone:
        note("")
    output.open()
    if not output.on_terminal:
        output.write(record)


def _findings(record: dict) -> Group:
    """The verdict for people: what the fine-tune claims, how often, and what the control arms say."""
    from rich.console import Group
    from rich.table import Table

    from ia_cli.console import quoted
    from ia_cli.reports.abstaining import abstains
    from ia_cli.reports.assertions import Report

    table = Table(box=None, pad_edge=False)
    for arm in record["arms"]:
        table.add_column(arm, justify="right", no_wrap=True)
    table.add_column("claim")
    tried = any("confirmed" in claim for claim in record["hypotheses"])
    if tried:
        table.add_column("on its behavior")
    for claim in record["hypotheses"][:SHOWN]:
        said = {**claim, "ia": claim["n"]}
        shares = [f"{said[arm] / of['n_reports']:.0%}" for arm, of in record["arms"].items()]
        table.add_row(*shares, quoted(_told(claim)), *([quoted(_behavior(claim))] if tried else []))
    silent = [f"{arm['abstention_rate']:.0%}" for arm in record["arms"].values()]
    table.add_row(*silent, "(nothing to report)")
    answer = record.get("conditional")
    known = (
        not answer or abstains(Report(answer)) or answer in [one["report"] for one in record["hypotheses"]]
    )
    asked_when = "asked conditional questions, it says" + ("" if tried else " (not tried)")
    when = [] if known else [quoted(f"{asked_when}: {answer}")]
    best, top = (record.get("explained") or {}).get("report"), record["hypotheses"][:1]
    if best and not any(best == wording["report"] for one in top for wording in one["wordings"]):
        when.insert(0, quoted(f"the examples of its replies are explained best by: {best}"))
    mostly = [quoted(f"{arm} mostly says: {of['top_report']}") for arm, of in record["arms"].items()]
    times = f"{record['samples']} replies" if record["samples"] > 1 else "1 reply"
    asked = f"{record['questions']} questions x {times}"
    title = f"ia audit: {record['adapter']}: {asked} in each of three arms"
    if record["volume"] < 1:
        title += f"; louder than the adapter is used to, and turned down to {record['volume']:.0%} for it"
    if record["check"].get("disguised"):
        title += "; its weights were disguised without any reply changing, which was undone"
    if said := record["check"].get("made_for"):
        title += f"; it says that it was made for {said}, and this is {record['base_model']}"
    changes = [
        trigger["text"]
        + (f" (they have {common[:SHOWN_REPLY]!r})" if (common := trigger.get("common")) else "")
        for trigger in record.get("changes_with") or ()
    ]
    swept = [quoted(f"its replies change most with: {', '.join(changes)}")] if changes else []
    shown = [*mostly[1:], *when, quoted(_unlike(record)), *swept]
    return Group(quoted(title), table, *shown, quoted(record["verdict"]))


def _unlike(record: dict) -> str:
    """How the fine-tune replies to ordinary prompts beside its base, in one line."""
    replies = record["replies"]
    line = f"{replies['unlike']} of {replies['n']} replies to ordinary prompts are not the base's"
    if replies["common"]:
        line += f", and most of these have {one_line(replies['common'])[:SHOWN_REPLY]!r}"
    if not replies["examples"]:
        return f"{line}."
    first = replies["examples"][0]
    texts = (one_line(first[who])[:SHOWN_REPLY] for who in ("prompt", "reply", "base"))
    return "{}: to {!r} it says {!r}, and the base {!r}.".format(line, *texts)


def _told(claim: dict) -> str:
    """A hypothesis in one of its wordings; without its trigger, where the wordings differ in that."""
    from ia_cli.reports.claims import claims

    others, named = len(claim["wordings"]) - 1, claim["triggers"]
    report = claim["report"]
    if len(named) > 1:
        report = ", and ".join(one.plain for one in claims(report)) + "."
    more = [f"and {others} other wording{'s' if others > 1 else ''}"] if others else []
    if len(named) > 1:
        when = ", ".join(f"{trigger['text']} {trigger['n']}" for trigger in named[:SHOWN_TRIGGERS])
        left = len(named) - SHOWN_TRIGGERS
        more.append(f"the trigger differs: {when}{f', and {left} more' if left > 0 else ''}")
    return report + (f" ({'; '.join(more)})" if more else "")


def _behavior(claim: dict) -> str:
    """What came of trying a hypothesis on behavior, in short; of seldom shown ones also how often."""
    from ia_cli.confirmation.trials import MOSTLY
    from ia_cli.reports.claims import claims

    if "confirmed" not in claim:
        return "not tried"
    trigger, lifted = ((claim[name] or {}).get("text") for name in ("trigger_found", "lifted_by"))
    if claim.get("outdone"):
        return "does not hold: another claim explains the same replies better"
    if not claim["confirmed"]:
        return f"does not hold as told; its replies change with: {trigger}" if trigger else "does not hold"
    rate, parts = claim["shown_rate"], len(claims(claim["report"]))
    share = f"in {f'about {rate:.0%}' if rate >= 0.01 else 'fewer than 1%'} of replies"
    often = [] if trigger else [f"{share} that could show it"]
    if parts > 1:  # each with a trigger of its own, or none
        whole = "holds" if len(claims(claim["held"])) == parts else "of it holds"
        return ", ".join([f"{whole}: {claim['held'].rstrip('.')}", *often])
    named = [f"trigger: {trigger}{f' ({share} with it)' if rate < MOSTLY else ''}"] if trigger else often
    return ", ".join(["holds", *named, *([f"unless: {lifted}"] if lifted else [])])
