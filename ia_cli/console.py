"""What people see, all of it on standard error: notes, warnings of the libraries, and progress."""

import contextlib
import logging
import os
import sys
import time
import warnings
from collections.abc import Iterator
from typing import Any

from rich import progress as bars
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from ia_cli import interrupts
from ia_cli.errors import one_line

UNWRAPPED = 10_000  # characters of a line where there is no terminal: nothing is wrapped in files and pipes

console = Console(stderr=True, highlight=False)
if not console.is_terminal:
    console.width = UNWRAPPED

PLAIN_EVERY = 10.0  # seconds between progress lines where there is no terminal
EARLIEST = 0.01  # of the steps: how far it must be for the time that is left to be known

_quiet = False
_moving = False  # whether a bar that redraws itself has the screen to itself


def setup(*, quiet: bool = False, verbose: bool = False) -> None:
    """Set how much is said; before a library that talks is imported, and while `sys.stdout` is our own.

    quiet: no notes and no progress; verbose: what the libraries log and warn of, too.
    """
    global _quiet, _moving
    _quiet = quiet
    _moving = console.is_terminal and not sys.stdout.isatty()
    logging.setLogRecordFactory(_on_one_line)
    logging.basicConfig(level=logging.INFO if verbose else logging.ERROR, format="%(name)s: %(message)s")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if not verbose:
        warnings.simplefilter("ignore")
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "critical")
        for library in ("HF_HUB", "HF_DATASETS"):
            os.environ.setdefault(f"{library}_DISABLE_PROGRESS_BARS", "1")


def _on_one_line(*args: Any, **fields: Any) -> logging.LogRecord:
    """A record of a log: libraries quote what is in files, which must steer no terminal."""
    record = logging.LogRecord(*args, **fields)
    try:
        said = record.getMessage()
    except Exception:  # arguments that do not fit, which the handlers would tell of
        said = str(record.msg)
    if record.exc_info and record.exc_info[1]:
        said = f"{said}: {record.exc_info[1]!r}"
    record.msg, record.args, record.exc_info, record.stack_info = one_line(said), (), None, None
    return record


def note(text: RenderableType) -> None:
    """Say something that is no error; silent with -q."""
    if not _quiet:
        with contextlib.suppress(OSError):  # nobody reads it, or the disk of the log is full
            console.print(text, markup=False, soft_wrap=True)


def table(rows: Table) -> None:
    """Say a table as `note` does, in full width however narrow the terminal is: no number may lose digits."""
    width = console.measure(rows, options=console.options.update(width=UNWRAPPED)).maximum
    if not _quiet:
        with contextlib.suppress(OSError):
            Console(stderr=True, highlight=False, width=max(width, console.width)).print(rows, crop=False)


def quoted(text: str) -> Text:
    """What a model or a file says, on one line that wraps: no markup is read, no escape sequence obeyed."""
    return Text(one_line(text), no_wrap=False, overflow="fold")


class Progress:
    """How far something is: silent, as lines every ten seconds, or as a bar."""

    def __init__(self, description: str, total: int | None) -> None:
        self.description = description
        self.total = total
        self.count = 0
        self.skipped = 0

    def skip(self, n: int) -> None:
        """Count n steps that an earlier run did; they say nothing of the time that is left."""
        self.count += n
        self.skipped += n

    def advance(self, n: int = 1) -> None:
        """Count n more steps."""
        interrupts.check()
        self.count += n
        self.show()

    def update(self, description: str) -> None:
        """Say what is going on now."""
        self.description = description
        self.show()

    def show(self) -> None:
        """Bring what is shown up to date."""


class Lines(Progress):
    """For a log file: a line every ten seconds."""

    def __init__(self, description: str, total: int | None) -> None:
        super().__init__(description, total)
        self.started = self.shown = time.monotonic()

    def show(self) -> None:
        now = time.monotonic()
        if now - self.shown < PLAIN_EVERY or self.count == self.total:  # what comes next says that it is done
            return
        self.shown = now
        elapsed = now - self.started
        line = f"{self.description}: {self.count}{f'/{self.total}' if self.total else ''}, {elapsed:.0f} s"
        done = self.count - self.skipped
        if self.total and done > EARLIEST * self.total:  # the first of many that come together tells nothing
            line += f", about {elapsed * (self.total - self.count) / done:.0f} s left"
        note(line)


class Bar(Progress):
    """For a terminal: a bar with the time it took and the time it will take."""

    def __init__(self, description: str, total: int | None, screen: bars.Progress) -> None:
        super().__init__(description, total)
        self.screen = screen
        self.task = screen.add_task(description, total=total)

    def skip(self, n: int) -> None:
        super().skip(n)
        self.screen.reset(self.task, completed=self.count)

    def show(self) -> None:
        self.screen.update(self.task, completed=self.count, description=self.description)


@contextlib.contextmanager
def progress(description: str, total: int | None = None) -> Iterator[Progress]:
    """Show how far something is while the block runs; total None if nobody knows."""
    if _quiet:
        yield Progress(description, total)
    elif not _moving:
        yield Lines(description, total)
    else:
        columns = (
            bars.TextColumn("{task.description}", markup=False),
            bars.BarColumn(),
            bars.MofNCompleteColumn(),
            bars.TimeElapsedColumn(),
            bars.TextColumn("left"),
            bars.TimeRemainingColumn(),
        )
        with bars.Progress(*columns, console=console, refresh_per_second=4) as screen:
            yield Bar(description, total, screen)
