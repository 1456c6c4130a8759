"""Who owns standard output: it carries records, and what libraries print goes to standard error."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, BinaryIO

from ia_cli import processes
from ia_cli.errors import IAError


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
