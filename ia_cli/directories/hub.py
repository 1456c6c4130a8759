"""Adapters on the Hugging Face Hub: reading one, at one commit (a branch may hold another tomorrow), and
uploading one.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from ia_cli.console import note
from ia_cli.directories.cards import CARD_FILE
from ia_cli.directories.safe_files import (
    CONFIG_FILE,
    LARGEST_JSON,
    LARGEST_WEIGHTS,
    PROVENANCE_FILE,
    WEIGHTS_FILE,
)
from ia_cli.errors import IAError, first_line

PINNED = re.compile(r"([\w.-]+/[\w.-]+)@([0-9a-f]{40})")
LARGEST = {CONFIG_FILE: LARGEST_JSON, PROVENANCE_FILE: LARGEST_JSON, WEIGHTS_FILE: LARGEST_WEIGHTS}


def adapter_folder(name: str) -> Path:
    """Return where an adapter lies: the directory itself, or the Hub's cache for ORG/NAME@COMMIT.

    Only the files that are read are downloaded, and none that is too large for its kind. Raises IAError if
    the Hub does not give them.
    """
    if not name.strip():
        raise IAError("the name of the adapter is empty", remedy="give its directory, or ORG/NAME@COMMIT")
    pinned = PINNED.fullmatch(name)
    if not pinned or Path(name).exists():
        return Path(name)
    from huggingface_hub import hf_hub_download, snapshot_download, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    repository, commit = pinned.groups()
    fetch = partial(snapshot_download, repository, revision=commit, allow_patterns=list(LARGEST))
    cached: list[str] = []  # what we have of it, or know not to be there: PEFT downloads no ia.json
    try:
        folder = Path(fetch(local_files_only=True))
        cached = [file for file in LARGEST if try_to_load_from_cache(repository, file, revision=commit)]
    except LocalEntryNotFoundError:
        pass
    if len(cached) == len(LARGEST):
        return folder
    try:
        for file in fetch(dry_run=True):
            if file.file_size is None or file.file_size > LARGEST[file.filename]:
                message = f"{file.filename} is larger than {LARGEST[file.filename]:,} bytes"
                raise IAError(message, remedy="this is not a LoRA adapter", where=name)
        folder = Path(fetch())
        if not (folder / PROVENANCE_FILE).exists():
            with suppress(EntryNotFoundError):  # which is kept in the cache: nobody need ask again
                hf_hub_download(repository, PROVENANCE_FILE, revision=commit)
        return folder
    except IAError:
        raise
    except Exception as error:  # what its HTTP library and Xet raise comes through, too
        if {CONFIG_FILE, WEIGHTS_FILE}.issubset(cached):
            note(f"ia: {name} is taken from the cache, which may lack its {PROVENANCE_FILE}")
            return folder
        message = f"not to be had from the Hub: {first_line(error.__cause__ or error)}"
        raise IAError(message, remedy="check the name, the commit and the network", where=name) from error


def check_push(repository: str) -> None:
    """Raise IAError unless the Hub can be reached and knows whose token we have."""
    from huggingface_hub import HfApi

    with _pushing(repository, "log in with `hf auth login` or set HF_TOKEN, and be online"):
        HfApi().whoami()


def push(directory: Path, repository: str) -> None:
    """Upload an adapter directory to ORG/NAME, which becomes a private repository if there is none.

    Raises IAError if the Hub does not take it.
    """
    from huggingface_hub import HfApi

    with _pushing(repository, f"it lies whole in {directory}: `hf upload {repository} {directory}`"):
        HfApi().create_repo(repository, private=True, exist_ok=True)
        files = [*LARGEST, CARD_FILE]
        HfApi().upload_folder(repo_id=repository, folder_path=directory, allow_patterns=files)


@contextmanager
def _pushing(repository: str, remedy: str) -> Iterator[None]:
    """Let what the Hub's client raises be one line."""
    try:
        yield
    except Exception as error:  # what its HTTP library raises comes through, too
        message = f"nothing can be pushed there: {first_line(error)}"
        raise IAError(message, remedy=remedy, where=repository) from error
