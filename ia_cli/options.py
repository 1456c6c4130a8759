"""The options that stages share, so that each is spelled, explained and handled in one place."""

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

seed = click.option(
    "--seed", envvar="IA_SEED", default=0, show_default=True, help="Seed of everything that is random."
)
base = click.option(
    "--base",
    envvar="IA_BASE",
    metavar="HUB_ID_OR_DIR",
    help="Base model; the one that comes with ia if not given.",
)

fits = click.option(
    "--base", envvar="IA_BASE", metavar="HUB_ID_OR_DIR", help="Load this base model and see that it fits."
)


def out(help: str) -> Decorator:
    """`--out DIR`, required: the folder that a stage puts adapters in."""
    return click.option(
        "--out", type=click.Path(file_okay=False, path_type=Path), required=True, metavar="DIR", help=help
    )


def _path(context: click.Context, parameter: click.Parameter, value: str | None) -> Path | None:
    """None for `-`, the standard stream."""
    return None if value in (None, "-") else Path(value)


_file = click.argument("file", required=False, callback=_path)
_output = click.option(
    "-o", "--output", metavar="FILE", callback=_path, help="Write records there instead of standard output."
)
_resume = click.option("--resume", is_flag=True, help="Continue the output of an earlier run (needs -o).")
_keep_going = click.option(
    "--keep-going", is_flag=True, help="Go on without records that are bad or fail; exit 3."
)
_quiet = click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
_verbose = click.option("-v", "--verbose", is_flag=True, help="Show what the libraries log, too.")


def stage(*, writes: str, reads: str | None = None, needs: tuple[str, ...] = ()) -> Decorator:
    """Make a function the body of a stage: it gets a `Stage` first, then its own options.

    reads, writes: kinds of record; needs: fields that the kind can do without and this stage cannot. A stage
    that reads gets FILE and --keep-going; every stage -o, --resume, -q and -v.
    """
    shared = [_output, _resume, _quiet, _verbose]
    if reads is not None:
        shared = [_file, _output, _resume, _keep_going, _quiet, _verbose]

    def decorate(body: Callable[..., None]) -> Callable[..., Any]:
        @click.pass_context
        @wraps(body)
        def run(
            context: click.Context,
            output: Path | None,
            resume: bool,
            quiet: bool,
            verbose: bool,
            file: Path | None = None,
            keep_going: bool = False,
            **own: Any,
        ) -> None:
            from ia_cli import console  # here, because --help needs neither rich nor pydantic
            from ia_cli.stage import Stage

            if resume and output is None:
                raise click.UsageError("--resume needs -o FILE: the output that it continues")
            console.setup(quiet=quiet, verbose=verbose)
            with Stage(
                name=context.info_name,
                reads=reads,
                writes=writes,
                needs=needs,
                file=file,
                output=output,
                resume=resume,
                keep_going=keep_going,
            ) as run_of_stage:
                body(run_of_stage, **own)
            context.exit(run_of_stage.exit_code)

        for option in reversed(shared):
            run = option(run)
        return run

    return decorate


def tool(body: Callable[..., None]) -> Callable[..., Any]:
    """Make a function the body of a command that reads no records.

    It gets a `jsonl.Writer` to standard output first, then its own options; -q and -v are added.
    """

    @wraps(body)
    def run(quiet: bool, verbose: bool, **own: Any) -> None:
        from ia_cli import console, jsonl

        console.setup(quiet=quiet, verbose=verbose)
        with jsonl.own_stdout() as stream:
            body(jsonl.Writer(stream), **own)

    return _quiet(_verbose(run))
