"""Records as lines: reading and writing one JSON object per line."""

import itertools
import json
import os
import re
from collections.abc import Callable, Iterator
from typing import IO, Any, BinaryIO

import jsonlines

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
                message = f"not a JSON record: {error.__cause__ or 'it is not an object'}"
                yield where, IAError(message, remedy="each line must be one JSON object", where=where)


def checked(
    stream: BinaryIO, name: str, check: Callable[[dict[str, Any]], object]
) -> Iterator[dict[str, Any]]:
    """Yield the records of a stream; IAError for the first line that is none, or that `check` refuses."""
    for where, record in read(stream, name):
        try:
            if isinstance(record, IAError):
                raise record
            check(record)
        except IAError as error:
            error.where = where
            raise
        yield record


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
