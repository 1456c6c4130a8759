"""Reading and writing records, one JSON object per line; and who owns standard output.

Standard output carries records and nothing else: `own_stdout` takes it away from every library that prints.
"""

import fcntl
import itertools
import json
import os
import re
import secrets
import shutil
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO

import jsonlines

from ia_cli import processes
from ia_cli.errors import IAError

MAX_LINE = 64 << 20  # no record comes near it, and an endless line must not fill the memory
MAX_DIGITS = 4000  # of an integer: Python reads a few more
MAX_DEPTH = 64  # levels of lists and objects; a record has about five


def read(stream: BinaryIO, name: str) -> Iterator[tuple[str, dict[str, Any] | IAError]]:
    """Yield ("name:line", record) for every line that is not blank; what is no record is an IAError.

    Nothing in the stream makes it raise: invalid UTF-8, NaN, and lines or nesting without end are errors too.
    """
    reader = jsonlines.Reader(_lines(stream), loads=loads)
    for number in itertools.count(1):
        where = f"{name}:{number}"
        try:
            yield where, reader.read(type=dict)
        except EOFError:
            return
        except jsonlines.InvalidLineError as error:
            if error.line.strip():
                reason = str(error.__cause__ or "it is not an object")
                yield (
                    where,
                    IAError(
                        f"not a JSON record: {reason}",
                        remedy="each line must be one JSON object",
                        where=where,
                    ),
                )


def _lines(stream: BinaryIO) -> Iterator[bytes]:
    """The lines of `stream`; of one that is too long only the beginning, which `loads` then refuses."""
    while line := stream.readline(MAX_LINE):
        yield line
        while line and not line.endswith(b"\n"):
            line = stream.readline(MAX_LINE)


def loads(text: str) -> Any:
    """`json.loads`, with ValueError for everything that could not be written again as JSON, or is a bomb."""
    if len(text) >= MAX_LINE:
        raise ValueError(f"the line is longer than {MAX_LINE >> 20} MiB")
    try:
        value = json.loads(text, parse_constant=_finite, parse_float=_finite, parse_int=_integer)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [child for item in level for child in _children(item)]
    if level:
        raise ValueError("it is nested too deeply")
    return value


def _finite(text: str) -> float:
    if not abs(number := float(text)) < float("inf"):
        raise ValueError(f"{text[:20]} is not a finite number")
    return number


def _integer(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ValueError(f"{text[:20]}... is a number of {len(text)} digits")
    return int(text)


def _children(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


# Beside those below a space, which JSON escapes: what can steer a terminal that a line is shown on.
_STEERING = re.compile("[\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def encode(record: dict[str, Any]) -> bytes:
    """One line of JSON with its line break. Unicode stays readable; ValueError for NaN and infinity."""
    text = json.dumps(record, ensure_ascii=False, allow_nan=False)
    text = _STEERING.sub(lambda found: json.dumps(found[0])[1:-1], text)
    # A lone surrogate, legal as \ud800 in JSON, has no UTF-8: backslashreplace writes just that escape back.
    return text.encode("utf-8", "backslashreplace") + b"\n"


def replace(path: Path, content: bytes) -> None:
    """Give a file this content in one step, or leave it as it is. OSError if that cannot be."""
    target = path.resolve()
    unfinished = target.with_name(f".{target.name}.{secrets.token_hex(8)}.tmp")
    stream = open(unfinished, "xb")  # no file of the user's, and no link to one
    try:
        with stream:
            stream.write(content)
        if target.exists():
            shutil.copymode(target, unfinished)
        os.replace(unfinished, target)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


class Writer:
    """Writes records to a binary stream, each a whole line, and flushed: a kill tears at most the last."""

    def __init__(self, stream: IO[bytes], name: str = "stdout") -> None:
        self._stream, self._name = stream, name

    @property
    def on_terminal(self) -> bool:
        """Whether people read what is written, and not a program or a file."""
        return self._stream.isatty()

    def write(self, record: dict[str, Any]) -> None:
        """Write one record. BrokenPipeError when the reader has gone away."""
        line = encode(record)
        try:
            self._stream.write(line)
            self._stream.flush()
        except OSError as error:
            # What is still buffered would be tried, and reported, again at exit: let it go nowhere.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
            if not isinstance(error, BrokenPipeError):
                error.filename = self._name
            raise


@contextmanager
def own_stdout() -> Iterator[BinaryIO]:
    """Yield standard output, for records; meanwhile descriptor 1 and `sys.stdout` lead to standard error."""
    text = sys.stdout
    text.flush()
    sys.stdout = sys.stderr
    try:
        if not _is_descriptor(text, 1):  # captured in memory, by a test
            yield text.buffer
            return
        ours = os.dup(1)
        os.dup2(2, 1)
        try:
            with os.fdopen(ours, "wb", closefd=False) as stream:
                yield stream
        finally:
            os.dup2(ours, 1)
            os.close(ours)
    finally:
        sys.stdout = text


def check_stdout() -> None:
    """Raise IAError if whoever started us has closed standard output: `main` put /dev/null in its place."""
    if processes.is_first() and getattr(sys.stdout, "name", None) == os.devnull:
        raise IAError("standard output is closed", remedy="redirect it to a file or a pipe")


def _is_descriptor(stream: IO[str], number: int) -> bool:
    try:
        return stream.fileno() == number
    except (OSError, ValueError):
        return False


@dataclass(frozen=True)
class Place:
    """Where records come from or go to: what to call it, and the file, None for a pipe or a terminal."""

    name: str
    file: Path | None

    @property
    def folder(self) -> Path:
        """What the paths in its records are relative to."""
        return self.file.parent if self.file else Path.cwd()


def place(path: Path | None, stream: IO[str], name: str) -> Place:
    """The place of FILE `path`, perhaps a pipe by name, or else of a standard stream: the file that it is
    redirected to, or `name`.
    """
    if path is not None:
        return Place(str(path), path.resolve() if path.is_file() or not path.exists() else None)
    file = _redirected(stream)
    if file is None:
        return Place(name, None)
    here = Path.cwd()
    return Place(str(file.relative_to(here) if file.is_relative_to(here) else file), file)


def same(one: Path | None, other: Path | None) -> bool:
    """Whether two paths lead to one file or folder, by whatever name; None leads nowhere."""
    if not (one and other):
        return False
    return one.resolve() == other.resolve() or (one.exists() and other.exists() and one.samefile(other))


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Keep other runs out of a file or folder; BlockingIOError if one is in it."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except PermissionError:  # a file that can be written and not read
        yield
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if isinstance(error, BlockingIOError):
                raise  # and where a file system has no locks, nobody is kept out
        yield
    finally:
        os.close(descriptor)


def _redirected(stream: IO[str]) -> Path | None:
    """The file behind a redirected stream; None for a pipe or a terminal, and outside Linux."""
    try:
        status = os.fstat(stream.fileno())
        if stat.S_ISREG(status.st_mode) and status.st_nlink:
            return Path(os.readlink(f"/proc/self/fd/{stream.fileno()}"))
    except (OSError, ValueError):
        pass
    return None


def resolve(path: str, folder: Path) -> str:
    """A path from a record of `folder`, as one that can be opened from here."""
    return path if os.path.isabs(path) else os.path.relpath(folder / path)


def relativise(path: str, folder: Path) -> str:
    """A path as a record in `folder` says it: relative, unless it was given absolute and lies elsewhere."""
    whole = os.path.abspath(path)
    if os.path.isabs(path) and not Path(whole).is_relative_to(folder):
        return path
    return os.path.relpath(whole, folder)
