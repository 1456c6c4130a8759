"""What chat models replied: read as JSON of one form, and kept on disk."""

import hashlib
import json
import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from ia_cli import paths
from ia_cli.errors import IAError, first_problem

Form = TypeVar("Form", bound=BaseModel)

# Only before the object, which may quote such marks. If a template opened the thought, only its end is here.
_THOUGHTS = re.compile(r"\A(?:\s*<think>.*?</think>|[^{`]*</think>)", re.S)
_FENCED = re.compile(r"\A```(?:json)?\n(.*)\n```\Z", re.S)


def parsed(form: type[Form], reply: str) -> Form:
    """The JSON object of a reply, which may have thoughts before it and a code fence around it.

    ValueError, naming the first thing wrong and quoting nothing, if it is not of this form.
    """
    text = _THOUGHTS.sub("", reply).strip()
    fenced = _FENCED.match(text)
    try:
        return form.model_validate_json(fenced[1] if fenced else text)
    except ValidationError as error:
        raise ValueError(" ".join(first_problem(error)).strip()) from None


@dataclass(frozen=True)
class ReplyCache:
    """Replies on disk, a file each, so that asking again costs nothing; IAError if none can be written."""

    folder: Path

    def __post_init__(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self.folder, prefix="."):
                pass
        except OSError as error:
            raise self._unusable(error) from None

    def get(self, *key: str) -> str | None:
        """What was replied; None if nothing, or nothing that can be read."""
        try:
            reply = json.loads(self._path(key).read_text("utf-8"))["reply"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return reply if isinstance(reply, str) else None

    def put(self, reply: str, *key: str) -> None:
        """Keep a reply. IAError if it cannot be written."""
        path = self._path(key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            paths.replace(path, json.dumps({"reply": reply}).encode())
        except OSError as error:
            raise self._unusable(error) from None

    def _unusable(self, error: OSError) -> IAError:
        message = f"the cache cannot be written ({error.strerror})"
        return IAError(message, where=str(self.folder), remedy="give another folder with --cache")

    def _path(self, key: tuple[str, ...]) -> Path:
        name = hashlib.sha256(json.dumps(key).encode()).hexdigest()
        return self.folder / name[:2] / f"{name}.json"


def default_cache(of: str = "judge") -> Path:
    """Where replies are kept: a folder below "ia" in the user's cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ia" / of
