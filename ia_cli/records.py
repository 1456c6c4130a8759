"""Records as dictionaries: checked by the schema, known by a key, and marked where they failed."""

import json
import re
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from ia_cli.errors import IAError
from ia_cli.schema import MODELS, VERSION, Failed, id_of

Record = dict[str, Any]
PATHS = ("adapter", "model", "introspection_adapter")  # fields that hold a path, relative to the file
MAKER = {
    "behavior": "ia gen-behaviors",
    "organism": "ia implant",
    "self_report": "ia elicit",
    "verdict": "ia judge",
    "audit": "ia audit",
}


def added(kind: str, made: str) -> set[str]:
    """The fields that a record of the kind `made` has and one of `kind` has not."""
    return {*MODELS[made].model_fields} - {*MODELS[kind].model_fields}


def check(record: Record, kind: str, needs: tuple[str, ...] = (), *, becomes: str | None = None) -> None:
    """Raise IAError, naming the first wrong field, unless this is a whole record of `kind` or a failed one.

    needs: fields that must be there besides, though the kind can do without them; they may be null.
    becomes: the kind that it is to be passed on as; of that its fields must be, too, as far as it has them.
    """
    found = record.get("kind")
    if not has_failed(record) and "kind" in record and found != kind:
        raise IAError(
            f'"kind" is {_brief(found)}, but {kind} records are needed',
            remedy=f"give it the output of `{MAKER[kind]}`",
        )
    try:
        (Failed if has_failed(record) else MODELS[kind]).model_validate(record)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False)
        if found[0]["type"] == "missing":
            raise _missing([one["loc"] for one in found if one["type"] == "missing"], kind) from None
        raise _wrong(found[0]["loc"], found[0]["msg"], found[0]["input"], kind) from None
    if becomes not in (None, kind) and not has_failed(record):
        _check_passed_on(record, kind, becomes)
    if absent := [(name,) for name in needs if name not in record and not has_failed(record)]:
        raise _missing(absent, kind)


def _check_passed_on(record: Record, kind: str, becomes: str) -> None:
    """Raise IAError for a field that a stage would pass on, and nobody could read what it wrote."""
    try:
        MODELS[becomes].model_validate({**record, "kind": becomes})
    except ValidationError as error:
        for one in error.errors(include_url=False, include_context=False):
            if one["type"] != "missing" and one["loc"] and one["loc"][0] in record:
                raise _wrong(one["loc"], one["msg"], one["input"], kind) from None


def _missing(locations: Sequence[tuple[int | str, ...]], kind: str) -> IAError:
    """All fields that are missing, and the stage that makes them."""
    several = len(locations) > 1
    message = f"{', '.join(map(_field, locations))} {'are' if several else 'is'} missing"
    if kind == "self_report" and ("description",) in locations:
        message += ": reports of `elicit --adapter` and `--server` have no truth to be compared with"
        return IAError(message, remedy="add it, or have `ia audit` or `ia confirm` try what it claims")
    remedy = f"add {'them' if several else 'it'}, or make the record anew with `{MAKER[kind]}`"
    return IAError(message, remedy=remedy)


def _wrong(location: tuple[int | str, ...], reason: str, value: Any, kind: str) -> IAError:
    """What pydantic found, in words that name the field and the stage that makes it."""
    message = reason.removeprefix("Value error, ")
    if location:
        reason = re.sub(r"^(Value error,|Input|List|String) ", "", reason)
        message = f"{_field(location)} {reason}; it is {_brief(value)}"
    return IAError(message, remedy=f"correct it, or make the record anew with `{MAKER[kind]}`")


def _field(location: tuple[int | str, ...]) -> str:
    return '"' + re.sub(r"\.(\d+)", r"[\1]", ".".join(map(str, location))) + '"'


def _brief(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else text[:37] + "..."


def key(record: Record) -> tuple[Any, ...]:
    """What a record is known by: its id, and for a report also the question, the sample and the condition."""
    if record["kind"] in ("self_report", "verdict"):
        return tuple(record.get(field) for field in ("id", "question_id", "sample", "condition"))
    return (record["id"],)


def unknown_organism(name: str, **weights: str) -> Record:
    """An organism of which nothing is known but its `name`, from which its id is made, and its weights."""
    return {"id": id_of(name), "kind": "organism", "split": "heldout", "v": VERSION, **weights}


def weights_path(organism: Record) -> str:
    """The path of an organism's weights: its adapter, or the whole model that it has instead."""
    return organism.get("adapter") or organism["model"]


def has_failed(record: Record) -> bool:
    """Whether a stage could not process this record and said so in it."""
    return record.get("error") is not None


def failure(kind: str, message: str) -> dict[str, Any]:
    """What a record that failed has: later stages pass it on and count it."""
    return {"error": {"kind": kind, "message": message}}


def with_error(record: Record, error: Exception) -> Record:
    """`record` as one that failed by this error."""
    return record | failure(type(error).__name__, str(error))
