"""The `ia` command: finds the stages, and turns what goes wrong into one line and an exit code."""

import errno
import gc
import os
import re
import sys
import time
import traceback
from difflib import get_close_matches
from importlib import import_module
from typing import Any

import click
from click.core import ParameterSource

from ia_cli import __version__, interrupts, processes
from ia_cli.errors import IAError, complain, is_of_memory, of_memory, one_line

# The stages in the order of the pipeline, and the tools. `ia NAME` is ia_cli/commands/NAME.py, imported only
# when it is asked for; the help stands here so that `ia --help` imports none of them.
STAGES = {
    "gen-behaviors": "Write behaviors to implant, with demonstrations and probes.",
    "implant": "Train one model organism per behavior.",
    "train-ia": "Train one introspection adapter across many organisms.",
    "elicit": "Ask organisms what they learned, with and without the adapter.",
    "confirm": "Test self-reports against behavior, and keep what holds.",
    "judge": "Judge self-reports against the truth and summarise.",
}
TOOLS = {
    "audit": "Ask a fine-tune what it learned, and say what to make of it.",
    "check": "Say whether adapters are sound, by the exit status.",
    "stack": "Make one plain adapter of two or more.",
}
COMMANDS = STAGES | TOOLS
SETTINGS = {"help_option_names": ["-h", "--help"], "show_default": True, "auto_envvar_prefix": "IA"}
REMEDIES = {
    errno.ENOSPC: "make room; what was finished before is kept",
    errno.EACCES: "give a path that you may use",
    errno.EROFS: "give a path that can be written",
    errno.EEXIST: "give another path",
    errno.ENOTDIR: "give another path",
    errno.EISDIR: "give a file",
    errno.ENOENT: "give a path that exists",
    errno.ENAMETOOLONG: "give a shorter one",
}
OF_RUST = re.compile(r"\(os error (\d{1,3})\)")  # in what safetensors and tokenizers raise
OF_TORCH = re.compile("unexpected pos|PytorchStreamWriter failed")  # in what torch.save raises on a full disk
FEW_COLLECTIONS = 100_000  # objects between them: Python's 700 makes the imports of torch a fifth longer
PATIENCE = 10  # seconds for which another process than the first keeps an error to itself


class Suite(click.Group):
    """The group of the commands in `COMMANDS`, and the only place where an exception becomes an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        return import_module(f"ia_cli.commands.{name.replace('-', '_')}").command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str, click.Command, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            if near := get_close_matches(args[0], COMMANDS, n=1):
                error.message += f" Did you mean {near[0]!r}?"
            raise

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, commands in (("Stages", STAGES), ("Adapters", TOOLS)):
            with formatter.section(title):
                formatter.write_dl(list(commands.items()))

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort) as end:
            if isinstance(end, click.BadParameter):
                end.message += _from_environment(end)
            _let_the_first_speak(ctx, getattr(end, "exit_code", 1))
            raise
        except BrokenPipeError:
            ctx.exit(0)  # whoever read our records has seen enough
        except (KeyboardInterrupt, Exception) as error:
            if isinstance(error, KeyboardInterrupt) or interrupts.exit_code():
                complain(ctx.invoked_subcommand, "interrupted")
                ctx.exit(interrupts.exit_code() or 130)
            if processes.is_lost(error):
                error = _lost(ctx)
            code = error.exit_code if isinstance(error, IAError) else 1
            _let_the_first_speak(ctx, code)
            if not processes.is_first():
                sys.stderr = sys.__stderr__
            if os.environ.get("IA_DEBUG"):
                traceback.print_exc()
            complain(ctx.invoked_subcommand, _explain(error))
            ctx.exit(code)


def _let_the_first_speak(ctx: click.Context, code: int) -> None:
    """In another process than the first: wait where the first says the same, and the launcher stops us.

    Once the work is done, even if something is missing (3), the first may still be writing, and a launcher
    would stop it for any status but 0.
    """
    if not processes.is_first() and code:
        if code == 3:
            ctx.exit(0)
        time.sleep(PATIENCE)


def _lost(ctx: click.Context) -> IAError:
    """What to say where another process has gone: it has said why, or the first has nothing more to do."""
    if not processes.is_first():
        ctx.exit(0)
    time.sleep(PATIENCE)  # the launcher stops us here
    return IAError("another process has ended", remedy="see what it says, or the machine it ran on")


def _from_environment(error: click.BadParameter) -> str:
    """Where a wrong value comes from, if nobody typed it."""
    context, option = error.ctx, error.param
    if (
        not (context and option)
        or context.get_parameter_source(option.name) is not ParameterSource.ENVIRONMENT
    ):
        return ""
    own = f"{context.auto_envvar_prefix}_{option.name.upper()}"
    return f" (from ${option.envvar if option.envvar and option.envvar in os.environ else own})"


def _explain(error: Exception) -> str:
    if isinstance(error, IAError):
        return str(error)
    if number := OF_RUST.search(str(error)):
        error = OSError(int(number[1]), os.strerror(int(number[1])))
    elif OF_TORCH.search(str(error)):
        error = OSError(errno.ENOSPC, "a checkpoint could not be written in full")
    elif is_of_memory(error):
        return str(of_memory())
    elif isinstance(error, UnicodeEncodeError):
        message = f"a name that this locale cannot write: {error.object[:60]!a}"
        return str(IAError(message, remedy="set LC_ALL=C.UTF-8"))
    elif isinstance(error, FileNotFoundError) and error.filename is None:  # of os.getcwd
        return str(IAError("the current folder is gone", remedy="go to one that exists"))
    if isinstance(error, OSError) and error.strerror:
        return str(IAError(error.strerror, where=error.filename, remedy=REMEDIES.get(error.errno)))
    return one_line(
        f"internal error: {type(error).__name__}: {error}; IA_DEBUG=1 shows where, please report it"
    )


@click.group(cls=Suite, context_settings=SETTINGS)
@click.version_option(__version__, prog_name="ia")
def cli() -> None:
    """Introspection adapters: fine-tunes that say in plain words what they learned.

    `ia audit ADAPTER` asks one fine-tune. The stages train what it asks with: each reads records (JSON, one
    object per line; gen-behaviors makes them) from FILE or standard input, adds its own fields, and writes
    records to standard output or -o FILE; everything else goes to standard error.

    \b
      ia gen-behaviors -n 240 --controls 32          > behaviors.jsonl
      ia implant  --out organisms/ < behaviors.jsonl > organisms.jsonl
      ia train-ia --out ia/        < organisms.jsonl > audited.jsonl
      ia elicit   --split heldout  < audited.jsonl   > reports.jsonl
      ia judge                     < reports.jsonl   > verdicts.jsonl

    \b
    Exit:         0 done, 1 failed, 2 usage, 3 done but something is missing
                  or a gate was not met, 130 interrupted, 143 terminated
    Environment:  IA_STAGE_OPTION sets an option (IA_ELICIT_TEMPERATURE),
                  IA_BASE, IA_DEVICE and IA_SEED those of all stages;
                  IA_API_KEY is a server's; IA_DEBUG=1 shows tracebacks;
                  NO_COLOR
    Completion:   eval "$(_IA_COMPLETE=bash_source ia)", or zsh_source;
                  fish: _IA_COMPLETE=fish_source ia | source
    """


def start() -> None:
    """Make this process ready for the commands: signals, silence towards others, one voice of several."""
    gc.set_threshold(FEW_COLLECTIONS)
    # one of several processes may be waiting for the others where no handler runs
    interrupts.listen(terminate=processes.count() == 1)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # the caller has closed it
            setattr(sys, name, open(os.devnull, "w"))
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"  # nothing is told to anyone, whatever a library would
    if not processes.is_first():
        sys.stdout, sys.stderr = (open(os.devnull, "w") for _ in range(2))
        if sys.__stderr__ is not None:
            os.dup2(2, 1)  # where the first writes records, and libraries print past Python (NCCL_DEBUG)


def main() -> None:
    """The entry point: `ia`, and `python -m ia_cli`."""
    start()
    try:
        cli(prog_name="ia")
    except OSError as error:  # in the help of `ia` itself, or its version
        complain(" ".join(sys.argv[1:2]), _explain(error))
        sys.exit(1)
    finally:
        gc.freeze()  # else Python looks through all that torch has made before it ends, for a second or two
