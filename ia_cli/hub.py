"""Adapters on the Hugging Face Hub, at one commit: a branch may hold another adapter tomorrow."""

import re
from functools import partial
from pathlib import Path

from ia_cli.checking import CONFIG_FILE, LARGEST_JSON, LARGEST_WEIGHTS, PROVENANCE_FILE, WEIGHTS_FILE
from ia_cli.errors import IAError

PINNED = re.compile(r"([\w.-]+/[\w.-]+)@([0-9a-f]{40})")
LARGEST = {CONFIG_FILE: LARGEST_JSON, PROVENANCE_FILE: LARGEST_JSON, WEIGHTS_FILE: LARGEST_WEIGHTS}


def adapter_folder(name: str) -> Path:
    """Return where an adapter lies: the directory itself, or the Hub's cache for ORG/NAME@COMMIT.

    Only the files that are read are downloaded, and none that is too large for its kind. Raises IAError if
    the Hub does not give them.
    """
    pinned = PINNED.fullmatch(name)
    if not pinned or Path(name).exists():
        return Path(name)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    repository, commit = pinned.groups()
    fetch = partial(snapshot_download, repository, revision=commit, allow_patterns=list(LARGEST))
    try:
        return Path(fetch(local_files_only=True))
    except LocalEntryNotFoundError:
        pass  # not downloaded yet
    try:
        for file in fetch(dry_run=True):
            if file.file_size is None or file.file_size > LARGEST[file.filename]:
                message = f"{file.filename} is larger than {LARGEST[file.filename]:,} bytes"
                raise IAError(message, remedy="this is not a LoRA adapter", where=name)
        return Path(fetch())
    except (OSError, ValueError) as error:
        reason = str(error.__cause__ or error).strip().partition("\n")[0]
        message = f"not to be had from the Hub: {reason}"
        raise IAError(message, remedy="check the name, the commit and the network", where=name) from error
