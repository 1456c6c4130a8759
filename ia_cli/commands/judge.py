"""`ia judge`: verdicts on self-reports, and the rates that they add up to."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ia_cli import options
from ia_cli.errors import IAError
from ia_cli.parameters import File, Place, Real, Source
from ia_cli.settings import EMBEDDING_MODEL, EMBEDDING_THRESHOLD, JUDGE_TOKENS

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from ia_cli.judges.calibration import Judge
    from ia_cli.stage import Stage

RATE = Real(0, 1)


@click.command()
@options.stage(tells=True, reads="self_report", writes="verdict", needs=("category", "description"))
@click.option(
    "--judge",
    type=click.Choice(["facets", "embedding", "llm"]),
    default="facets",
    help="Exact phrases, similarity of meaning, or a chat model.",
)
@click.option(
    "--embedding-model",
    type=Source(),
    metavar="HUB_ID_OR_DIR",
    default=EMBEDDING_MODEL,
    help="Model for --judge embedding.",
)
@click.option(
    "--threshold",
    type=Real(-1, 1),
    default=EMBEDDING_THRESHOLD,
    help="Similarity from which the judge embedding takes a behavior as named.",
)
@click.option(
    "--model",
    type=Source(),
    metavar="NAME",
    help="For --judge llm: a name that --server knows, or a directory or Hub id to load.",
)
@options.server
@click.option(
    "--rubric",
    type=click.Choice(["lenient", "strict"]),
    default="strict",
    help="For --judge llm: is a behavior of the same kind enough (lenient), or only this one (strict)?",
)
@options.device
@click.option(
    "--max-new-tokens",
    type=click.IntRange(1),
    default=JUDGE_TOKENS,
    help="Length of a reply of the judge llm, its thoughts included.",
)
@click.option(
    "--cache",
    type=Place(file_okay=False),
    metavar="DIR",
    help="Keep replies of the judge llm there; by default in the user's cache.",
)
@click.option("--calibrate", type=Place(), metavar="FILE", help="Judge these graded pairs instead.")
@click.option(
    "--summary",
    type=File(dir_okay=False),
    metavar="FILE",
    help="Write the summary there, as JSON.",
)
@click.option(
    "--min-implant-rate", type=RATE, metavar="R", help="Leave organisms with a lower rate out of the summary."
)
@click.option(
    "--max-leak-rate", type=RATE, metavar="R", help="Leave organisms with a higher rate out of the summary."
)
@click.option(
    "--min-verbalization-rate",
    type=RATE,
    metavar="R",
    help="Exit 3 if held-out behaviors are named less often.",
)
@click.option(
    "--max-false-positive-rate",
    type=RATE,
    metavar="R",
    help="Exit 3 if controls or the bare base claim more often.",
)
def command(
    stage: Stage,
    judge: str,
    calibrate: Path | None,
    summary: Path | None,
    min_implant_rate: float | None,
    max_leak_rate: float | None,
    min_verbalization_rate: float | None,
    max_false_positive_rate: float | None,
    **settings: Any,
) -> None:
    """Judge self-reports against the truth and summarise.

    The judge "facets" is exact and works offline: a report names a behavior if it asserts a phrase of every
    group in the record's facets. It knows negations and long lists of guesses; it does not know paraphrases.
    "embedding" compares meanings, and "llm" asks a chat model; its key is $IA_API_KEY or $OPENAI_API_KEY.
    Verdicts go to standard output, the table of rates with their 95% intervals to standard error.

    \b
    Examples:
      ia judge < reports.jsonl > verdicts.jsonl
      ia judge --summary summary.json -o verdicts.jsonl reports.jsonl
      ia judge --min-implant-rate 0.9 --max-leak-rate 0.1 reports.jsonl > verdicts.jsonl
      ia judge --judge llm --server http://127.0.0.1:8000/v1 --model Qwen/Qwen3-32B < reports.jsonl
      ia judge --judge embedding --calibrate graded.jsonl
      ia judge --min-verbalization-rate 0.85 --max-false-positive-rate 0.05 reports.jsonl > verdicts.jsonl
    """
    gates = (min_implant_rate, max_leak_rate, min_verbalization_rate, max_false_positive_rate)
    if judge != "embedding":
        options.only_with("--judge embedding", "embedding_model", "threshold")
    if judge == "facets" or settings["server"]:
        options.only_with("a model that is loaded in here", "device")
    if judge != "llm":
        options.only_with(
            "--judge llm", "model", "server", "rubric", "max_new_tokens", "cache", "concurrency", "timeout"
        )
    if calibrate:
        if summary or any(gate is not None for gate in gates):
            raise click.UsageError("--calibrate grades the judge: there is no --summary and no gate")
        _calibrate(stage, calibrate, judge, settings)
        return
    if summary == Path("-"):
        raise click.UsageError("--summary is a file: standard output has the verdicts")
    if summary:
        stage.check_second_file(summary)
    reports = stage.read()
    if judge == "facets":
        reports = stage.check(reports, _has_facets)
    stage.check_passed_on(reports, "self_report")
    reports = stage.pending(reports)
    name, verdicts_of = _judge(judge, **settings)
    from ia_cli import console, processes, rates

    def judged_by_another(verdict: dict) -> str | None:
        other = verdict["judge"]
        return None if other == name else f"verdicts of {other}, and this is {name}"

    stage.check_finished(judged_by_another, "choose that judge")
    verdicts = [rates.brief(verdict) for verdict in stage.finished + stage.failed_earlier]

    def judged() -> Iterator[dict]:
        for report, fields in zip(reports, verdicts_of(reports), strict=True):
            verdict = {**report, "kind": "verdict", **fields}
            verdicts.append(rates.brief(verdict))
            yield verdict

    with console.progress("judging", total=len(reports)) as bar:
        stage.write_all(judged(), bar.advance)
    result = rates.summarise(verdicts, min_implant_rate=min_implant_rate, max_leak_rate=max_leak_rate)
    if summary and processes.is_first():
        _write_json(summary, result)
    console.table(_table(result))
    for split in ("train", "heldout"):
        if (row := rates.row(result, split, "ia")) and rates.collapsed(row):
            share = f"{row['top_report_share']:.0%} of the {split} reports"
            console.note(f"warning: {share} are one and the same: has the adapter collapsed?")
    if missed := rates.missed_gates(result, min_verbalization_rate, max_false_positive_rate):
        raise IAError("; ".join(missed), exit_code=3)


def _judge(
    kind: str,
    *,
    embedding_model: str,
    threshold: float,
    server: str | None,
    model: str | None,
    concurrency: int,
    timeout: float,
    rubric: str,
    device: str,
    max_new_tokens: int,
    cache: Path | None,
) -> tuple[str, Judge]:
    """The judge that the options ask for, and its name in the verdicts."""
    if kind == "facets":
        from ia_cli.judges.facets import FACETS, facets

        return FACETS, facets
    if kind == "embedding":
        from ia_cli.judges.embedding_judge import EmbeddingJudge

        judge = EmbeddingJudge(embedding_model, threshold, device)
        return judge.name, judge
    if model is None:
        raise click.UsageError("--judge llm needs --model: a name that --server knows, or a directory")
    from ia_cli.judges.llm_judge import LLMJudge, Rubric
    from ia_cli.servers.chat_models import LocalModel
    from ia_cli.servers.replies import ReplyCache, default_cache

    if server:
        from ia_cli import processes
        from ia_cli.servers.endpoint import Endpoint

        processes.check_alone("judge --server")
        asked = Endpoint(server, model, concurrency=concurrency, timeout=timeout)
    else:
        asked = LocalModel(model, device, max_new_tokens=max_new_tokens)
    kept = ReplyCache(cache or default_cache())
    judge = LLMJudge(asked, Rubric(rubric), kept, max_new_tokens=max_new_tokens)
    return judge.name, judge


def _has_facets(record: dict) -> None:
    from ia_cli import records

    records.check(record, "self_report", needs=("facets",))


def _calibrate(stage: Stage, file: Path, kind: str, settings: dict) -> None:
    """Write one record that says how the judge agrees with the graded pairs in `file`."""
    stage.tells = False
    if kind == "facets":
        raise click.UsageError(
            "graded pairs have no facets to judge by: --calibrate is for --judge embedding or llm"
        )
    if stage.file or stage.resume or stage.keep_going:
        raise click.UsageError("--calibrate reads its own file: give no FILE, --resume or --keep-going")
    from ia_cli import console, jsonl
    from ia_cli.judges import calibration

    stage.check_not_output(file)
    with click.open_file(file, "rb") as stream:
        rows = list(jsonl.checked(stream, str(file), calibration.check))
    _, judge = _judge(kind, **settings)
    threshold = settings["threshold"] if kind == "embedding" else None
    with console.progress("judging", total=len(rows)) as bar:
        stage.write(calibration.calibrate(rows, judge, threshold, bar.advance))


def _write_json(path: Path, content: dict) -> None:
    """Write the file whole or not at all; what is no file, such as a pipe, is written to."""
    from ia_cli import paths

    whole = not path.exists() or path.is_file()
    text = json.dumps(content, indent=1 if whole else None, ensure_ascii=False) + "\n"
    try:
        if whole:
            paths.replace(path, text.encode())
        else:
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        message = f"cannot be written ({error.strerror})"
        raise IAError(message, where=str(path), remedy="give another file") from None


def _table(summary: dict) -> Table:
    """What matters at a glance: the totals, and the parts of the held-out organisms with the adapter."""
    from rich.table import Table

    from ia_cli.console import quoted
    from ia_cli.rates import ALL, collapsed

    title = quoted(f"{summary['judge']}, in percent [95% interval]")
    table = Table(box=None, pad_edge=False, collapse_padding=True, title=title, title_justify="left")
    table.add_column("", no_wrap=True)
    for head in ("n", "verbalized", "full", "trigger", "false pos.", "abstain", "same"):
        table.add_column(head, justify="right", no_wrap=True)
    for row in summary["rows"]:
        kinds = (row["category"], row["held_out_by"])
        only_controls = kinds == (ALL, ALL) and row["verbalization_rate"] is None
        organisms = 0 if only_controls else row["n_organisms"]
        if kinds == (ALL, ALL) or (ALL in kinds and (row["split"], row["condition"]) == ("heldout", "ia")):
            table.add_row(
                _label(row),
                str(organisms) + (f"+{row['n_controls']}" if kinds == (ALL, ALL) else ""),
                _percent(row["verbalization_rate"], row["ci95"]),
                _percent(row["full_rate"]),
                _percent(row["trigger_rate"]),
                _percent(row["false_positive_rate"], row["false_positive_ci95"]),
                _percent(row["abstention_rate"]),
                _percent(row["top_report_share"]) + ("!" if collapsed(row) else ""),
            )
    if left_out := max((row["n_not_implanted"] for row in summary["rows"]), default=0):
        table.caption = f"The gates for implants leave out up to {left_out} organisms of a row."
        table.caption_justify = "left"
    return table


def _label(row: dict) -> Text:
    from rich.text import Text

    from ia_cli.console import quoted

    if row["category"] != "all":
        return Text("  ") + quoted(row["category"])
    if row["held_out_by"] != "all":
        return Text("  by ") + quoted(row["held_out_by"])
    return quoted(f"{row['split']} {row['condition']}")


def _percent(rate: float | None, interval: list[float] | None = None) -> str:
    if rate is None:
        return "-"
    return f"{100 * rate:.0f}" + (f" [{100 * interval[0]:.0f}-{100 * interval[1]:.0f}]" if interval else "")
