"""The options that stages share, so that each is spelled, explained and handled in one place."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ia_cli.parameters import File, Name, Place, Real, Source, of_64_bits
from ia_cli.settings import CONCURRENCY, TIMEOUT

if TYPE_CHECKING:
    from ia_cli.models import Base

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


seed = click.option(
    "--seed",
    envvar="IA_SEED",
    default=0,
    callback=of_64_bits,
    help="Seed of everything that is random.",
)


@dataclass(frozen=True)
class BaseChoice:
    """The base model that the command line names, and how to load it; false if it names none."""

    name: str | None
    revision: str | None
    dtype: str = "auto"
    device: str = "auto"
    attn_implementation: str | None = None
    load_in_4bit: bool = False

    def __bool__(self) -> bool:
        return self.name is not None

    def load(self, *, weights: bool = True) -> Base:
        """The model itself, or its layers without `weights`; the embedded one if none is named."""
        from ia_cli.models import load_base

        return load_base(**vars(self), weights=weights)


device = click.option(
    "--device",
    envvar="IA_DEVICE",
    default="auto",
    help="Such as cuda:1; auto is CUDA, else MPS, else the CPU.",
)

_loading = [
    click.option(
        "--dtype",
        type=click.Choice(["auto", "float32", "bfloat16", "float16"]),
        default="auto",
        help="Type of the base's weights; auto is as they are stored.",
    ),
    device,
    click.option(
        "--attn-implementation",
        type=click.Choice(["eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention"]),
        help="How attention is computed; what suits the base if not given.",
    ),
    click.option("--load-in-4bit", is_flag=True, help="Hold the base in 4 bits (CUDA and bitsandbytes)."),
]


def _base(help: str, more: Sequence[Decorator]) -> Decorator:
    """`--base` and `more` that says how to load it; the function gets it as one BaseChoice, `base`."""
    shared = [
        click.option("--base", type=Source(), envvar="IA_BASE", metavar="HUB_ID_OR_DIR", help=help),
        click.option(
            "--revision", type=Name(), metavar="REV", help="Branch, tag or commit of a --base on the Hub."
        ),
        *more,
    ]

    def decorate(body: Callable[..., None]) -> Callable[..., Any]:
        @wraps(body)
        def run(*arguments: Any, **own: Any) -> None:
            own["name"] = own.pop("base")
            named = [field.name for field in fields(BaseChoice) if field.name in own]
            choice = BaseChoice(**{name: own.pop(name) for name in named})
            if choice.revision and not choice:
                raise click.UsageError("--revision needs --base: the base that it is a revision of")
            body(*arguments, base=choice, **own)

        for option in reversed(shared):
            run = option(run)
        return run

    return decorate


LOADING = [field.name for field in fields(BaseChoice) if field.name != "name"]  # what says how

base = _base("Base model; the one that comes with ia if not given.", _loading)
fits = _base("See that it fits the layers of this base model, whose weights are not loaded.", [])

_server = [
    click.option("--server", type=Name(), metavar="URL", help="Ask this OpenAI-compatible server."),
    click.option(
        "--concurrency",
        type=click.IntRange(1),
        default=CONCURRENCY,
        help="Concurrent requests to the server.",
    ),
    click.option(
        "--timeout",
        type=Real(min=0, min_open=True),
        default=TIMEOUT,
        help="Seconds to wait for a reply; what fails is asked for again, a few times.",
    ),
]


def server(body: Callable[..., Any]) -> Callable[..., Any]:
    """--server, --concurrency and --timeout: what `endpoint.Endpoint` takes besides a model."""
    for option in reversed(_server):
        body = option(body)
    return body


def setting(flag: str, default: object, type: click.ParamType, help: str) -> Decorator:
    """An option for one of `settings`, with its default."""
    return click.option(flag, type=type, default=default, help=help)


reply_length = click.option(
    "--max-new-tokens", type=click.IntRange(1), help="Length of a reply; what suits the base if not given."
)


def only_with(what: str, *names: str) -> None:
    """UsageError if the command line gives one of these options, which do nothing without `what`."""
    context = click.get_current_context()
    for option in context.command.params:
        source = context.get_parameter_source(option.name)
        if option.name in names and source is click.core.ParameterSource.COMMANDLINE:
            raise click.UsageError(f"{option.opts[-1]} is for {what}")


def out(help: str) -> Decorator:
    """`--out DIR`, required: the folder that a stage puts adapters in."""
    return click.option("--out", type=Place(file_okay=False), required=True, metavar="DIR", help=help)


def _path(context: click.Context, parameter: click.Parameter, value: Path | None) -> Path | None:
    """None for `-`, the standard stream."""
    return None if value == Path("-") else value


def _output_path(context: click.Context, parameter: click.Parameter, value: Path | None) -> Path | None:
    """None for `-`, and for what is standard output under another name, such as /dev/stdout."""
    path = _path(context, parameter, value)
    try:
        return None if path and os.path.samestat(path.stat(), os.fstat(1)) else path
    except OSError:  # it is still to be made, or there is no standard output
        return path


_file = click.argument("file", type=Place(), required=False, callback=_path)
_output = click.option(
    "-o",
    "--output",
    type=File(),
    metavar="FILE",
    callback=_output_path,
    help="Write records there instead of standard output.",
)
_resume = click.option("--resume", is_flag=True, help="Continue the output of an earlier run (needs -o).")
_keep_going = click.option(
    "--keep-going", is_flag=True, help="Skip records that are bad or fail, and exit 3."
)
_quiet = click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
_verbose = click.option("-v", "--verbose", is_flag=True, help="Show what the libraries log, too.")


def stage(
    *, writes: str, reads: str | None = None, needs: tuple[str, ...] = (), tells: bool = False
) -> Decorator:
    """Make a function the body of a stage: it gets a `Stage` first, then its own options.

    reads, writes: kinds of record; needs: fields that the kind can do without and this stage cannot; tells:
    on a terminal, what it says on standard error takes the place of its records. A stage that reads gets
    FILE; every stage -o, --resume, --keep-going, -q and -v.
    """
    shared = [_output, _resume, _keep_going, _quiet, _verbose]
    if reads is not None:
        shared.insert(0, _file)

    def decorate(body: Callable[..., None]) -> Callable[..., Any]:
        @click.pass_context
        @wraps(body)
        def run(
            context: click.Context,
            output: Path | None,
            resume: bool,
            quiet: bool,
            verbose: bool,
            keep_going: bool,
            file: Path | None = None,
            **own: Any,
        ) -> None:
            from ia_cli import console  # here, because --help needs neither rich nor pydantic
            from ia_cli.stage import Stage

            _check_resume(resume, output)
            console.setup(quiet=quiet, verbose=verbose)
            with Stage(
                name=context.info_name,
                reads=reads,
                writes=writes,
                needs=needs,
                tells=tells,
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


def _check_resume(resume: bool, output: Path | None) -> None:
    if resume and output is None:
        raise click.UsageError("--resume needs -o FILE: the output that it continues")


def writes(kind: str, *, fields: Sequence[str]) -> Decorator:
    """Make a function the body of a command that reads no records, and writes some of `kind`.

    It gets a `record_files.Output` first, whose `fields` hold paths, then its own options; -o, --resume, -q
    and -v are added.
    """

    def decorate(body: Callable[..., None]) -> Callable[..., Any]:
        @wraps(body)
        def run(output: Path | None, resume: bool, quiet: bool, verbose: bool, **own: Any) -> None:
            from ia_cli import console
            from ia_cli.record_files import Output

            _check_resume(resume, output)
            console.setup(quiet=quiet, verbose=verbose)
            with Output(output, kind, resume=resume, fields=fields) as place:
                body(place, **own)

        for option in (_verbose, _quiet, _resume, _output):
            run = option(run)
        return run

    return decorate


def tool(body: Callable[..., None]) -> Callable[..., Any]:
    """Make a function the body of a command that reads no records.

    It gets a `jsonl.Writer` to standard output first, then its own options; -q and -v are added.
    """

    @wraps(body)
    def run(quiet: bool, verbose: bool, **own: Any) -> None:
        from ia_cli import console, jsonl, stdout

        console.setup(quiet=quiet, verbose=verbose)
        stdout.check_stdout()
        with stdout.own_stdout() as stream:
            body(jsonl.Writer(stream), **own)

    return _quiet(_verbose(run))
