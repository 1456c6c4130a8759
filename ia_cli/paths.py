"""Paths: of records and in records, of files that are replaced whole, or locked against other runs."""

import fcntl
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO


def replace(path: Path, content: bytes) -> None:
    """Give a file this content in one step, or leave it as it is. OSError if it cannot be written."""
    target = path.resolve()
    unfinished = target.with_name(f".{target.name}.{secrets.token_hex(8)}.tmp")
    stream = open(unfinished, "xb")  # never a file of the user's, or a link to one
    try:
        with stream:
            stream.write(content)
        if target.exists():
            shutil.copymode(target, unfinished)
        os.replace(unfinished, target)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


@dataclass(frozen=True)
class Location:
    """Where records come from or go to: what to call it, and the file, None for a pipe or a terminal."""

    name: str
    file: Path | None

    @property
    def folder(self) -> Path:
        """What the paths in its records are relative to."""
        return self.file.parent if self.file else Path.cwd()


def place(path: Path | None, stream: IO[str], name: str) -> Location:
    """The place of FILE `path` (perhaps a named pipe), or else of a standard stream: the file to which it is
    redirected, or just `name`.
    """
    if path is not None:
        return Location(str(path), path.resolve() if path.is_file() or not path.exists() else None)
    file = _redirected(stream)
    if file is None:
        return Location(name, None)
    here = Path.cwd()
    return Location(str(file.relative_to(here) if file.is_relative_to(here) else file), file)


def same(one: Path | None, other: Path | None) -> bool:
    """Whether two paths lead to one file or folder, by whatever name; None leads nowhere."""
    if not (one and other):
        return False
    return one.resolve() == other.resolve() or (one.exists() and other.exists() and one.samefile(other))


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Keep other runs out of a file or folder; BlockingIOError if one is using it."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except PermissionError:  # a file that can be written but not read
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
    """A path from a record in `folder`, as one that can be opened from here."""
    return path if os.path.isabs(path) else os.path.relpath(folder / path)


def relativise(path: str, folder: Path) -> str:
    """A path as a record in `folder` gives it: relative, unless it is absolute and leads elsewhere."""
    whole = os.path.abspath(path)
    if os.path.isabs(path) and not Path(whole).is_relative_to(folder):
        return path
    return os.path.relpath(whole, folder)
