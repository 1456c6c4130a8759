"""Folders of adapters and models as they are written: whole or not at all, and each by one run."""

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from ia_cli.directories import safe_files
from ia_cli.directories.safe_files import PROVENANCE_FILE
from ia_cli.errors import IAError
from ia_cli.paths import held, same

UNFINISHED = ".unfinished-"  # begins the name of what is being written


def check_free(directory: Path, stage: str) -> None:
    """Raise IAError if something stands at this path that this stage did not write, or we stand there."""
    safe_files.check_name(directory)
    if directory.is_symlink() and not directory.exists():
        raise IAError("is a link to nothing", remedy="choose another --out", where=str(directory))
    origin = directory / PROVENANCE_FILE
    ours = origin.is_file() and safe_files.read_json(origin).get("stage") == stage
    if directory.exists() and not ours:
        raise IAError(
            f"exists and was not made by `ia {stage}`", remedy="choose another --out", where=str(directory)
        )
    if same(directory, Path.cwd()):
        message = "is the current folder, which cannot be replaced"
        raise IAError(message, remedy="go to another one, and name it", where=str(directory))


def make_folder(directory: Path) -> None:
    """Make the folder for adapters; IAError if nothing can be written there, now and not after training."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=directory, prefix=UNFINISHED):
            pass
    except OSError as error:
        message = f"nothing can be written there ({error.strerror})"
        raise IAError(message, remedy="choose another --out", where=str(directory)) from None


@contextlib.contextmanager
def scratch(parent: Path) -> Iterator[Path]:
    """Yield a new folder to write in, held as long as that takes; it is gone afterwards."""
    with tempfile.TemporaryDirectory(dir=parent, prefix=UNFINISHED) as folder, held(Path(folder)):
        yield Path(folder)


@contextlib.contextmanager
def written(directory: Path, provenance: Mapping[str, object]) -> Iterator[Path]:
    """Yield a new folder to fill, which then gets its ia.json and stands at `directory`, whole or not at all.

    What the same stage wrote there earlier is replaced; IAError if the name is taken by anything else.
    """
    check_free(directory, str(provenance["stage"]))
    directory = directory.resolve()  # what a link leads to is replaced, not the link
    directory.parent.mkdir(parents=True, exist_ok=True)
    with scratch(directory.parent) as folder:
        fresh = folder / "new"
        fresh.mkdir()
        yield fresh
        (fresh / PROVENANCE_FILE).write_text(json.dumps(provenance, indent=2) + "\n", encoding="utf-8")
        put_in_place(fresh, directory)


def clear_unfinished(folder: Path) -> None:
    """Remove what runs that were killed had begun to write in a folder, and not what others write now."""
    for left in folder.glob(f"{UNFINISHED}*"):
        with contextlib.suppress(OSError), held(left):
            shutil.rmtree(left)


def put_in_place(fresh: Path, directory: Path) -> None:
    """Give a finished directory its name, flushed to the disk; what had the name goes where it was made."""
    for path in filter(Path.is_file, fresh.rglob("*")):
        shutil.copymode(fresh / PROVENANCE_FILE, path)  # safetensors lets nobody else read its files
    for path in (*fresh.rglob("*"), fresh):
        _flush(path)
    old = fresh.with_name("old")
    try:
        if directory.exists():
            directory.rename(old)
        fresh.rename(directory)
    except BaseException:  # an interruption between the two
        if old.exists() and not directory.exists():
            old.rename(directory)
        raise
    _flush(directory.parent)


def _flush(path: Path) -> None:
    """Have the disk hold the file or directory before anything that follows."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
