"""The files of records of a stage: its input, and its output, which grows and can be continued."""

import io
import os
import shlex
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from typing import Any, BinaryIO, Self

from ia_cli import jsonl, paths, processes, records, stdout
from ia_cli.errors import IAError
from ia_cli.records import Record

Key = tuple[Any, ...]


def open_input(file: Path | None) -> AbstractContextManager[BinaryIO]:
    """FILE, or standard input, to read from; the same in all processes. IAError if it cannot be read."""
    if processes.count() > 1 and not (file and file.is_file()):  # a pipe gives all of it once
        return io.BytesIO(processes.in_first(lambda: _read_whole(file)))
    return _opened(file)


def _read_whole(file: Path | None) -> bytes:
    with _opened(file) as stream:
        return stream.read()


def _opened(file: Path | None) -> AbstractContextManager[BinaryIO]:
    if file is None:
        return nullcontext(sys.stdin.buffer)
    try:
        return open(file, "rb")
    except OSError as error:
        raise IAError(
            f"cannot be read ({error.strerror})",
            where=str(file),
            remedy="give a file of records, or pipe them in",
        ) from None


class Output:
    """The file that a run writes records into, or standard output; used as a context manager.

    path: None for standard output; kind: of the records; resume: continue what the file holds; fields: of a
    record, that hold paths, which the file has as they are seen from its folder. IAError on entering if it
    cannot be written, or if another run is writing it.
    """

    def __init__(
        self, path: Path | None, kind: str, *, resume: bool = False, fields: Sequence[str] = records.PATHS
    ) -> None:
        self.path, self.kind, self.resume, self.fields = path, kind, resume, fields
        self.place = paths.place(path, sys.stdout, "stdout")
        self._finished: list[Record] | None = None  # not looked for yet
        self._without_failed: bytes | None = None  # what the file is to hold before it is continued
        self._done: set[Key] = set()
        self._writer: jsonl.Writer | None = None
        self._held: int | None = None  # the inode of the file that is ours to write
        self._is_new = False  # whether the file was not there before
        # Asked now, since a process that implants a group of its own works as if it were the only one.
        self._is_ours = processes.is_first()
        self._resources = ExitStack()

    def __enter__(self) -> Self:
        if self.path:
            check_writable(self.path)
        else:
            stdout.check_stdout()
        if self.path and self._is_ours:
            # Made at once, so that no other run takes the same name and notices after hours.
            self._is_new = self.path.parent.is_dir() and not self.path.exists()
            if self._is_new:
                self.path.touch()
            self._hold()
        self._stdout = self._resources.enter_context(stdout.own_stdout())
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_new and not self._writer:
            self.path.resolve().unlink(missing_ok=True)  # not a link to it
        self._resources.close()

    @property
    def finished(self) -> list[Record]:
        """The records that it holds from an earlier run, with paths that can be opened as they are. Ask when
        the input has been checked.
        """
        self._read_finished()
        return self._finished

    @property
    def done(self) -> set[Key]:
        """Their keys."""
        self._read_finished()
        return self._done

    @property
    def on_terminal(self) -> bool:
        """Whether people read it, and not a program or a file; asked when it is open."""
        return self._writer is not None and self._writer.on_terminal

    def open(self) -> None:
        """Open it once, and only now that there is something to write: a run that fails before empties no
        file.
        """
        if self._writer:
            return
        self._read_finished()
        stream = self._stdout
        if not self._is_ours:
            stream = self._resources.enter_context(open(os.devnull, "wb"))
        elif self.path:
            if self._without_failed is not None:
                paths.replace(self.path, self._without_failed)
            stream = self._resources.enter_context(open(self.path, "ab" if self.resume else "wb"))
            self._hold()  # another file, if somebody has moved it
        self._writer = jsonl.Writer(stream, self.place.name)

    def write(self, record: Record) -> None:
        """Write a record into the open file, its paths as they are seen from there."""
        told = {
            name: paths.relativise(record[name], self.place.folder)
            for name in self.fields
            if record.get(name)
        }
        self._writer.write({**record, **told})

    def how_to_go_on(self) -> str:
        """How to continue a run that was interrupted. A file after ">" would be emptied."""
        if self.path and not (self.resume or self._is_new or self._writer):
            return f"nothing is written, and {self.place.name} is as it was: run the same again"
        if self.place.file:
            return f"to go on, run the same with --resume -o {shlex.quote(self.place.name)}"
        return "a run with -o FILE can be continued, with --resume"

    def check_is_not(self, path: Path | None) -> None:
        """Raise IAError if what is read or written besides is this output."""
        if paths.same(path, self.place.file) or paths.same(path, self.path):
            raise IAError("is the output", where=str(path), remedy="give -o another name")

    def _read_finished(self) -> None:
        """Look once for what an earlier run wrote, if it is to be continued."""
        if self._finished is not None:
            return
        self._finished = []
        if self.path and self.resume:
            earlier = processes.in_first(lambda: earlier_output(self.path, self.kind))
            self._finished, self._without_failed = earlier
            self._done = {records.key(record) for record in self._finished}
            for record in self._finished:
                open_paths(record, self.place.folder, self.fields)

    def _hold(self) -> None:
        """Keep other runs out of the file for as long as this one takes; IAError if one is writing it."""
        if not self.path.is_file() or self._held == (held := self.path.stat().st_ino):
            return
        try:
            self._resources.enter_context(paths.held(self.path))
        except BlockingIOError:
            remedy = "wait for it, or give -o another name"
            raise IAError("another run is writing it", where=str(self.path), remedy=remedy) from None
        self._held = held


def open_paths(record: Record, folder: Path, fields: Sequence[str] = records.PATHS) -> None:
    """Make the paths in a record of `folder` ones that open from here."""
    for path in fields:
        if record.get(path):
            record[path] = paths.resolve(record[path], folder)


def check_writable(path: Path) -> None:
    """Raise IAError unless this file can be written, or made."""
    if path.is_dir():
        raise IAError("is a directory", where=str(path), remedy="give a file")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        remedy = "make its folder, or give another file"
        raise IAError("cannot be written", where=str(path), remedy=remedy)


def earlier_output(path: Path, kind: str) -> tuple[list[Record], bytes | None]:
    """The finished records in an earlier run's output, and the content with which it can be continued; None
    if that is what it has.

    A last line that a kill tore off is cut; records that failed are taken out, so that they are tried again.
    IAError if anything else is in it than records of `kind`.
    """
    if not path.is_file():  # a pipe, or what is still to be made
        return [], None
    before = path.read_bytes()
    lines = list(jsonl.read(io.BytesIO(before), str(path)))
    if lines and not before.endswith(b"\n") and isinstance(lines[-1][1], IAError):
        lines.pop()  # torn off by a kill
    finished = []
    for where, record in lines:
        try:
            if isinstance(record, IAError):
                raise record
            records.check(record, kind)
        except IAError as error:
            error.where, error.remedy = where, "correct it, or leave out --resume to begin anew"
            raise
        if not records.has_failed(record):
            finished.append(record)
    after = b"".join(map(jsonl.encode, finished))
    return finished, after if after != before else None
