"""One run of a stage: it reads its input whole, writes records as they are done, and owns the exit code."""

import os
import sys
import time
from collections import deque
from collections.abc import Callable, Generator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import Any, NamedTuple, Self

import click

from ia_cli import console, interrupts, jsonl, paths, records
from ia_cli.errors import IAError, complain
from ia_cli.record_files import Output, check_writable, open_input, open_paths
from ia_cli.records import Record

MOST_COMPLAINTS = 20  # about bad lines, each in full


class Waiting(NamedTuple):
    """A record that failed, `here` (in `check`) or earlier, to be written at its place in the input."""

    position: int
    record: Record
    here: bool


class Line(NamedTuple):
    """Where a record was read: its place in the order of the input, and "file:line"."""

    position: int
    where: str


@dataclass
class Stage:
    """The input, the output and the books of one run; used as a context manager around the work.

    name: of the command, for messages; reads, writes: kinds of record; needs: fields the kind can do without
    and the stage cannot; tells: whether people on a terminal get what it says, and no records; file: input,
    None for stdin; output: None for stdout; resume: continue `output`; keep_going: go on without what is bad
    or fails.
    """

    name: str
    writes: str
    reads: str | None = None
    needs: tuple[str, ...] = ()
    tells: bool = False
    file: Path | None = None
    output: Path | None = None
    resume: bool = False
    keep_going: bool = False

    written: int = field(default=0, init=False)
    failed: int = field(default=0, init=False)
    bad: int = field(default=0, init=False)
    passed_on: int = field(default=0, init=False)

    def __enter__(self) -> Self:
        self._started = time.monotonic()
        self._lines: dict[tuple[Any, ...], Line] = {}
        self._first_lines: dict[str, Line] = {}  # of each id
        self._complained = 0  # about how many bad lines
        self._unreadable = 0  # lines that are no JSON
        self._reading = False  # the input, now
        self._waiting: deque[Waiting] = deque()  # not written yet, in the order of the input
        self._failed_keys: set[tuple[Any, ...]] = set()
        self._resources = ExitStack()
        self._output = self._resources.enter_context(Output(self.output, self.writes, resume=self.resume))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        with self._resources:
            whole = error is None or getattr(error, "exit_code", 1) == 3  # a gate that was not met
            if whole:
                self._output.open()
                self._pass_on(before=len(self._lines) + 1)  # all
            if whole or self.written:
                console.note(f"ia {self.name}: {self}")
            interrupted = isinstance(error, KeyboardInterrupt) or interrupts.exit_code()
            if not whole and interrupted and not self._reading:
                console.note(f"ia {self.name}: {self._output.how_to_go_on()}")

    def __str__(self) -> str:
        """How it ended, such as "256 written, 2 failed, in 41 s"."""
        counts = [
            (self.failed, "failed"),
            (self.bad, "bad left out"),
            (self.passed_on, "failed earlier"),
            (len(self.finished), "there already"),
        ]
        hidden = self.tells and self._output.on_terminal
        parts = [f"{self.written} {'done' if hidden else 'written'}"] + [
            f"{count} {what}" for count, what in counts if count
        ]
        return ", ".join(parts) + f", in {time.monotonic() - self._started:.0f} s"

    @property
    def exit_code(self) -> int:
        """0, or 3 if the output lacks something."""
        return 3 if self.failed or self.bad or self.passed_on else 0

    @property
    def finished(self) -> list[Record]:
        """The records that `output` holds from an earlier run, with paths that can be opened as they are. Ask
        when the input has been checked.
        """
        return self._output.finished

    @property
    def done(self) -> set[tuple[Any, ...]]:
        """Their keys."""
        return self._output.done

    def read(self, *, weights: bool = True) -> list[Record]:
        """The whole input, checked, in order; paths in the records can be opened as they are. Organisms must
        have their folders, unless `weights` are not needed.

        Every bad line is reported; then the run ends with exit 1, or with `keep_going` the good ones are
        returned. Records that failed in an earlier stage are not returned but written in their place. IAError
        for an empty input; the usage and exit 2 if there is only a terminal to read from.
        """
        if self.file is None and (sys.stdin is None or sys.stdin.isatty()):
            raise click.UsageError(
                "no input: give a FILE, or pipe records in", click.get_current_context(silent=True)
            )
        source = paths.place(self.file, sys.stdin, "stdin")
        if paths.same(source.file, self._output.place.file):
            raise IAError(
                "input and output are the same file", where=source.name, remedy="give -o another name"
            )
        good = []
        self._reading = True
        with open_input(self.file) as stream:
            for where, record in jsonl.read(stream, source.name):
                self._unreadable += isinstance(record, IAError)
                try:
                    self._admit(record, where, source.folder, weights)
                    good.append(record)
                except IAError as error:
                    self._reject(error, where)
        self._reading = False
        if not good and not self.bad:
            maker = records.MAKER[self.reads]
            raise IAError(
                "there are no records in it", where=source.name, remedy=f"give it the output of `{maker}`"
            )
        self._stop_if_bad(good)
        # What an earlier run finished is not written a second time, as failed.
        self._waiting = deque(one for one in self._waiting if records.key(one.record) not in self.done)
        return [record for record in good if not records.has_failed(record)]

    def check(self, given: list[Record], test: Callable[[Record], object]) -> list[Record]:
        """The records for which `test` raises no IAError. The others end the run, or fail with `keep_going`:
        they are written with the error, in their place.
        """
        if not given:  # all that could be read failed earlier, and is passed on
            return []
        good, failed = [], []
        for record in given:
            try:
                test(record)
                good.append(record)
            except IAError as error:
                line = self._line(record)  # none for what was made of two records
                position = line.position if line else len(self._lines)
                if records.key(record) not in self.done:
                    failed.append(Waiting(position, records.with_error(record, error), here=True))
                self._reject(error, self.where(record))
        self._stop_if_bad(good)
        self.bad -= len(failed)
        self.failed += len(failed)
        self._waiting = deque(sorted([*self._waiting, *failed], key=attrgetter("position")))
        return good

    def check_finished(self, other: Callable[[Record], str | None], remedy: str) -> None:
        """Before any work: raise IAError where `other` names what a finished record has otherwise than those
        of this run would.
        """
        for record in self.finished:
            if found := other(record):
                remedy = f"{remedy}, or leave out --resume to begin anew"
                raise IAError(f"it has {found}", where=str(self.output), remedy=remedy)

    def check_passed_on(self, given: list[Record], kind: str) -> None:
        """Before any work: raise IAError for a finished record that was made from another record of `kind`
        than `given` has now: the fields that are passed on must be the same in both.
        """
        own = records.added(kind, self.writes) | {"kind", *records.PATHS}
        key = itemgetter("id") if kind == "organism" else records.key  # an organism has many reports
        before = {key(record): record for record in given}

        def other(record: Record) -> str | None:
            source = before.get(key(record), record)
            named = (source.keys() | record.keys()) - own
            differ = [name for name in named if record.get(name) != source.get(name)]
            return f"{record['id']} with another {', '.join(sorted(differ))}" if differ else None

        self.check_finished(other, "give the input that it was made from")

    @property
    def failed_earlier(self) -> list[Record]:
        """What failed in an earlier stage, or in `check`, and is not written yet; all of it, until the first
        `write`.
        """
        return [one.record for one in self._waiting]

    def pending(self, given: list[Record]) -> list[Record]:
        """The records that are not finished yet, for a stage that writes one for each that it reads."""
        return [record for record in given if records.key(record) not in self.done]

    def where(self, record: Record) -> str | None:
        """The "file:line" that a record, or the organism it reports on, was read from."""
        line = self._line(record)
        return line.where if line else None

    def write(self, record: Record) -> None:
        """Write a record, unless it is finished. One that failed ends the run unless `keep_going`."""
        interrupts.check()
        if records.key(record) in self.done:
            return
        if records.has_failed(record):
            error = IAError(record["error"]["message"], where=self.where(record))
            if not self.keep_going:
                error.remedy = "--keep-going goes on without it"
                raise error
            complain(self.name, error)
            self.failed += 1
        if line := self._line(record):
            self._pass_on(before=line.position)
        self._put(record)
        self.written += 1

    def begin(self) -> None:
        """Empty the output, unless it is continued: from now on what an earlier run wrote there is untrue."""
        self._output.open()

    def write_all(
        self, made: Generator[Record, None, None], on_written: Callable[[], object] = lambda: None
    ) -> None:
        """Write records as they are made. Where that fails whoever makes them is stopped: it may hold the
        base, or requests to a server that nobody waits for any more.
        """
        with closing(made):
            for record in made:
                self.write(record)
                on_written()

    def _admit(self, record: Record | IAError, where: str, folder: Path, weights: bool) -> None:
        """Raise IAError unless this is a record to work on; make its paths ones that open from here."""
        if isinstance(record, IAError):
            raise record
        records.check(record, self.reads, self.needs, becomes=self.writes)
        key = records.key(record)
        if records.has_failed(record) and key in self._failed_keys:
            return  # `cat reports arms` has what failed before either in both
        if key in self._lines:
            name = ", ".join(map(str, key))
            raise IAError(
                f"{name} is at {self._lines[key].where} already",
                remedy="keep one, or give it an id of its own",
            )
        open_paths(record, folder)
        if records.has_failed(record):
            self._waiting.append(Waiting(len(self._lines), record, here=False))
            self._failed_keys.add(key)
        elif weights and self.reads == "organism" and not os.path.isdir(lies := records.weights_path(record)):
            raise IAError(
                f"there is no folder {lies}",
                remedy="run `ia implant`, or move it back (paths start at the records' file, in a pipe here)",
            )
        self._lines[key] = Line(len(self._lines), where)
        self._first_lines.setdefault(record["id"], self._lines[key])

    def _reject(self, error: IAError, where: str | None) -> None:
        places = dict.fromkeys(place for place in (where, error.where) if place)
        error.where = ": ".join(places)
        self.bad += 1
        if self.bad <= MOST_COMPLAINTS:
            complain(self.name, error)

    def _stop_if_bad(self, good: list[Record]) -> None:
        if (more := self.bad - max(MOST_COMPLAINTS, self._complained)) > 0:
            remedy = "`jq -c`, with -c, writes one record a line" if self._unreadable == self.bad else None
            complain(self.name, IAError(f"{more} more bad lines", remedy=remedy))
        self._complained = self.bad
        if self.bad and not (self.keep_going and good):
            raise click.exceptions.Exit(1)

    def check_second_file(self, path: Path) -> None:
        """Before any work: raise IAError unless a second file can be written, beside input and output."""
        check_writable(path)
        self.check_not_output(path)
        given = self.file or (sys.stdin and paths.place(None, sys.stdin, "stdin").file)
        if paths.same(path, given):
            raise IAError("is the input", where=str(path), remedy="give another file")

    def check_not_output(self, path: Path | None) -> None:
        """Before any work: raise IAError if what is read or written besides is the output."""
        self._output.check_is_not(path)

    def _line(self, record: Record) -> Line | None:
        return self._lines.get(records.key(record)) or self._first_lines.get(record["id"])

    def _pass_on(self, before: int) -> None:
        """Write the records that failed earlier and stand before this position in the input."""
        while self._waiting and self._waiting[0].position < before:
            _, record, here = self._waiting.popleft()
            self._put(record)
            self.passed_on += not here

    def _put(self, record: Record) -> None:
        self._output.open()
        if not (self.tells and self._output.on_terminal):
            self._output.write(record)
