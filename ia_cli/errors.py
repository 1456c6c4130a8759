"""The one error for users: a single line that says what is wrong, where, and what to do about it."""

import contextlib
import re
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError

LONGEST = 400  # characters of a message: what a stranger's file says can be endless
_OF_MEMORY = re.compile(r"can't allocate memory|out of memory")  # in what torch raises, on a CPU and a GPU


class IAError(Exception):
    """Something a user can put right. `ia` prints it as one line, without a traceback.

    message: what is wrong; remedy: what to do; where: "file:line" or a path; exit_code: what `ia` exits with.
    str() is "where: message; remedy".
    """

    def __init__(
        self, message: str, *, remedy: str | None = None, where: str | None = None, exit_code: int = 1
    ) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.where = where
        self.exit_code = exit_code

    def __str__(self) -> str:
        text = "; ".join(part for part in (_cut(self.message), self.remedy) if part)
        return one_line(f"{_cut(self.where)}: {text}" if self.where else text)


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else text[:LONGEST] + "..."


def one_line(text: str) -> str:
    """`text` without line breaks and control characters: what a record says cannot steer a terminal."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in " ".join(text.split()))


def is_of_memory(error: BaseException) -> bool:
    """Whether an error means too little memory, for Python or for torch on a CPU or a GPU."""
    return isinstance(error, MemoryError) or bool(_OF_MEMORY.search(str(error)))


def of_memory(where: str | None = None) -> IAError:
    """The error for too little memory."""
    remedy = "give --dtype bfloat16, smaller batches, or less at once, if the command takes them"
    return IAError("there is not enough memory", remedy=remedy, where=where)


def first_line(error: BaseException) -> str:
    """What a library's error says in its first line, with the next where that ends in a colon, or its name if
    it says nothing.
    """
    first, *others = (str(error).strip() or type(error).__name__).splitlines()
    return f"{first} {others[0].strip()}" if first.endswith(":") and others else first


def first_problem(error: "ValidationError") -> tuple[str, str]:
    """Where the first thing wrong is, such as "facets.action", and what pydantic says of it."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    return ".".join(map(str, first["loc"])), first["msg"].removeprefix("Value error, ")


def complain(command: str, problem: object) -> None:
    """Print "ia COMMAND: problem" on standard error, if anybody reads it: the exit status says it, too."""
    with contextlib.suppress(OSError):
        print(f"ia {command}: {problem}", file=sys.stderr, flush=True)
