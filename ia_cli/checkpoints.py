"""Where the training of an introspection adapter goes on from, if a run was stopped."""

import contextlib
import json
import shutil
from pathlib import Path

from ia_cli import paths
from ia_cli.console import note
from ia_cli.directories.safe_files import PROVENANCE_FILE, part
from ia_cli.errors import IAError

# Fields of ia.json that do not decide how the training comes out.
BESIDES = "losses", "loudness", "versions", "held_out"


def begin(partial: Path, origin: dict, resume: bool, ours: contextlib.ExitStack) -> Path | None:
    """Make the folder for checkpoints; returns the last whole one to `resume`, if of the same origin.

    Those of other organisms are of no use and are removed. IAError if they are of these organisms, but of
    another training: hours of work may be in them, and an option mistyped.
    """
    partial.mkdir(parents=True, exist_ok=True)
    try:
        ours.enter_context(paths.held(partial))
    except BlockingIOError:
        remedy = "wait for it, or choose another --out"
        raise IAError("another run is training there", remedy=remedy, where=str(partial)) from None
    identity, text = partial / PROVENANCE_FILE, json.dumps(origin)
    if any(partial.iterdir()):
        if not identity.is_file():
            raise IAError("exists and is not a run of ours", remedy="move it away", where=str(partial))
        before = _read(identity) if resume else None
        if before and before.get("input_sha256") == origin["input_sha256"]:
            check_same(before, json.loads(text), partial)
            return _last(partial)
        if any(partial.glob("checkpoint-*")):
            whose = "a training on other organisms" if resume else "a run that --resume would have continued"
            note(f"ia train-ia: {partial}: removed checkpoints of {whose}")
        for path in partial.iterdir():  # the folder itself is held
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    identity.write_text(text, encoding="utf-8")
    return None


def remove(partial: Path) -> None:
    """Remove the folder; what says whose it is goes last, so that a kill leaves no stranger's folder."""
    for path in partial.iterdir():
        if path.name != PROVENANCE_FILE:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.rmtree(partial)


def clear(partial: Path, origin: dict) -> None:
    """Remove what a kill has left of a finished training. A folder of another one, or in use, stays."""
    with contextlib.suppress(OSError):
        partial.rmdir()  # if it is empty
    before = _read(partial / PROVENANCE_FILE) if (partial / PROVENANCE_FILE).is_file() else None
    if before is None or _differ(before, json.loads(json.dumps(origin))):
        return
    with contextlib.suppress(BlockingIOError), paths.held(partial):
        remove(partial)


def check_same(before: dict, origin: dict, partial: Path) -> None:
    """Raise IAError, with the names of what differs, unless both are of one training."""
    if differ := _differ(before, origin):
        raise IAError(
            f"has checkpoints of a training with another {', '.join(differ)}",
            remedy="give the same to go on from there, or leave out --resume to begin anew",
            where=str(partial),
        )


def _differ(before: dict, origin: dict) -> list[str]:
    """The names of what two trainings have otherwise."""
    then, now = ({**one, **part(one, "arguments"), "arguments": None} for one in (before, origin))
    return [name for name in now | then if then.get(name) != now.get(name) and name not in BESIDES]


def _last(partial: Path) -> Path | None:
    """The checkpoint of the most steps that is whole: the trainer writes its state last."""
    states = {path.parent: path for path in partial.glob("checkpoint-*/trainer_state.json")}
    steps = {folder: folder.name.removeprefix("checkpoint-") for folder in states}
    whole = [folder for folder in states if steps[folder].isdecimal() and _read(states[folder])]
    return max(whole, key=lambda folder: int(steps[folder]), default=None)


def _read(path: Path) -> dict | None:
    """The JSON object that a run wrote; None if a kill cut it short."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return None
    return content if isinstance(content, dict) else None
