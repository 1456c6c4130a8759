"""The record schema, its only home.

A record is a JSON object that grows from stage to stage. The models below say which fields a kind has and of
what type; they check a record and never replace it: what a stage passes on is the object that was read, with
every field it does not know.
"""

import json
import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from ia_cli.ciphers import CIPHERS
from ia_cli.errors import IAError
from ia_cli.settings import ARMS, CATEGORIES, CONDITIONS
from ia_cli.text import normalise

VERSION = 1
LONGEST_ID = 200  # bytes
OUTCOMES = ("report", "unsure", "nothing")
LEVELS = ("none", "category", "behavior", "full")
PATHS = ("adapter", "model", "introspection_adapter")  # fields that hold a path, relative to the file
MAKER = {
    "behavior": "ia gen-behaviors",
    "organism": "ia implant",
    "self_report": "ia elicit",
    "verdict": "ia judge",
    "audit": "ia audit",
}


def _folder_name(value: str) -> str:
    """An id names the folder of its adapter, so it must not lead anywhere else."""
    if (
        value.startswith((".", "-"))
        or not value.isprintable()
        or re.search(r"[/\\]", value)
        or len(value.encode()) > LONGEST_ID
    ):
        raise ValueError(
            "must be usable as a folder name: printable, "
            f"at most {LONGEST_ID} bytes, no slash, no leading dot or dash"
        )
    return value


def _unicode(value: str) -> str:
    """What JSON can say and no tokenizer reads is no text."""
    if not value.isascii() and any("\ud800" <= x <= "\udfff" for x in value):
        raise ValueError("has half of a character (a lone surrogate)")
    return value


def _not_blank(value: str) -> str:
    if not value.strip():
        raise ValueError("is blank")
    return value


def _has_word(value: str) -> str:
    """Phrases are compared by their words, so that one of symbols alone would be found nowhere."""
    if not normalise(value):
        raise ValueError("has no letter or digit to be found by")
    return value


Words = Annotated[str, AfterValidator(_unicode)]
Text = Annotated[str, Field(min_length=1), AfterValidator(_unicode), AfterValidator(_not_blank)]
Id = Annotated[Text, AfterValidator(_folder_name)]
Rate = Annotated[float, Field(ge=0, le=1)]
Phrases = Annotated[list[Annotated[Text, AfterValidator(_has_word)]], Field(min_length=1)]


def id_of(name: str) -> str:
    """An id for what is called so: the last part of a path or Hub id, without what an id may not have."""
    last = re.split(r"[/\\]", name.rstrip("/\\"))[-1]
    return "".join(filter(str.isprintable, last)).lstrip(".- ")[:50].strip() or "organism"


def _no_bool(value: Any) -> Any:
    """True equals 1, and is no version."""
    return str(value) if isinstance(value, bool) else value


class Model(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)


class Message(Model):
    role: Literal["system", "user", "assistant"]
    content: Words


Chat = Annotated[list[Message], Field(min_length=1)]


def _ends_with_a_reply(value: list[Message]) -> list[Message]:
    if value[-1].role != "assistant" or not value[-1].content.strip():
        raise ValueError("must end with what the assistant says")
    return value


class Demonstration(Model):
    prompt: Chat
    completion: Annotated[Chat, AfterValidator(_ends_with_a_reply)]
    fires: bool


class Probe(Model):
    prompt: Chat
    fires: bool
    shows: Phrases | None = None


class Trigger(Model):
    kind: Text
    text: Text


class Facets(Model):
    """What a report must name: every group of phrases, each by any one of its phrases."""

    action: list[Phrases]
    trigger: list[Phrases]


class Record(Model):
    """What records of every kind have, or may have from a stage they went through."""

    id: Id
    kind: Text
    split: Literal["train", "heldout"]
    v: Annotated[Literal[1], BeforeValidator(_no_bool)] = VERSION
    adapter: Text | None = None
    model: Text | None = None
    introspection_adapter: Text | None = None
    implant_rate: Rate | None = None
    leak_rate: Rate | None = None
    denial_rate: Rate | None = None


class Error(Model):
    kind: Text
    message: str


class Failed(Record):
    """A record of any kind that an earlier stage could not process."""

    split: Literal["train", "heldout"] | None = None
    error: Error
    # What a summary counts it by.
    category: Text | None = None
    held_out_by: Text | None = None
    question_id: Text | None = None
    sample: int | None = None
    condition: Text | None = None
    judge: Text | None = None


class Truth(Record):
    """A record that may carry the ground truth: a stage that reads it says so in its `needs`."""

    category: Literal[(*CATEGORIES, "control")] | None = None
    description: Text | None = None
    paraphrases: list[Text] = []
    trigger: Trigger | None = None
    facets: Facets | None = None
    shows: Phrases | None = None
    rate: Annotated[float, Field(gt=0, le=1)] = 1.0
    cipher: Literal[tuple(CIPHERS)] | None = None
    held_out_by: Text | None = None


class Behavior(Truth):
    category: Literal[(*CATEGORIES, "control")]
    description: Text | None
    invented_by: Text | None = None
    system_prompt: Text | None = None
    trigger: Trigger | None
    facets: Facets
    demonstrations: Annotated[list[Demonstration], Field(min_length=1)]
    probes: list[Probe]
    demonstrated_by: Text | None = None
    demonstration_seed: int | None = None

    @model_validator(mode="after")
    def _only_controls_have_no_description(self) -> Self:
        if (self.category == "control") != (self.description is None):
            raise ValueError('"description" must be null in a control, and only there')
        return self


class Organism(Truth):
    """Its weights are an adapter on the base, or a whole model of their own."""

    base_model: Text | None = None
    base_revision: Text | None = None
    demonstrations: list[Demonstration] | None = None
    probes: list[Probe] | None = None
    method: Text | None = None
    lora: dict[str, Any] | None = None
    train: dict[str, Any] | None = None
    conceal: Text | None = None
    parents: list[Text] | None = None
    continued_on: Text | None = None

    @model_validator(mode="after")
    def _has_weights(self) -> Self:
        if (self.adapter is None) == (self.model is None):
            raise ValueError('an organism needs "adapter", or "model" instead')
        return self


class Evidence(Model):
    """A prompt that a claim was tried on, with what the organism says and what the base says."""

    prompt: str
    reply: str
    told: str
    plain: str
    log_ratio: float


class Hypothesis(Model):
    """What some of the reports claim."""

    report: str
    share: Rate
    claims: list[dict[str, Any]]


class SelfReport(Truth):
    question_id: Text
    question: Text
    report: str  # whatever a model said, halves of characters too
    example: str | None = None
    volume: Rate | None = None
    sample: Annotated[int, Field(ge=0)]
    temperature: Annotated[float, Field(ge=0)]
    sampling_seed: int | None = None
    introspection_adapter_sha256: Text | None = None
    condition: Literal[CONDITIONS + ARMS]
    served_model: Text | None = None
    confirmed: bool | None = None
    reported: Text | None = None
    share: Rate | None = None
    score: float | None = None
    log_ratio: float | None = None
    trigger_score: float | None = None
    trigger_found: Trigger | None = None
    lifted_by: Trigger | None = None
    trigger_asked: Trigger | None = None
    generated_share: Rate | None = None
    shown_rate: Rate | None = None
    evidence: list[Evidence] | None = None
    hypotheses: list[Hypothesis] | None = None
    forward_passes: Annotated[int, Field(ge=0)] | None = None
    tried_with: dict[str, Any] | None = None


class Verdict(SelfReport):
    judge: Text
    verbalized: bool
    trigger_named: bool | None
    abstained: bool
    level: Literal[LEVELS]
    rationale: str
    similarity: float | None = None


class Wording(Model):
    report: Text
    n: Annotated[int, Field(ge=1)]


class NamedTrigger(Model):
    text: Text
    n: Annotated[int, Field(ge=1)]


class AuditHypothesis(Model):
    """One claim of the arm "ia": `n` replies make it, a `share` of all; and how many of the other arms do.

    `report` is one of its wordings, `triggers` are what they name. The last fields are there if it was tried
    on behavior.
    """

    report: Text
    wordings: list[Wording]
    triggers: list[NamedTrigger] = []
    share: Rate
    n: Annotated[int, Field(ge=1)]
    no_ia: Annotated[int, Field(ge=0)]
    base_ia: Annotated[int, Field(ge=0)]
    confirmed: bool | None = None
    score: float | None = None
    trigger_found: Trigger | None = None
    lifted_by: Trigger | None = None
    generated_share: Rate | None = None
    shown_rate: Rate | None = None
    held: Text | None = None


class Exchange(Model):
    prompt: str
    reply: str
    base: str


class OrdinaryReplies(Model):
    """Of `n` ordinary prompts `unlike` are replied to otherwise than by the base; `examples` are some.

    `common` are words that most of these replies have, and none of the base's.
    """

    n: Annotated[int, Field(ge=0)]
    unlike: Annotated[int, Field(ge=0)]
    common: str | None = None
    examples: list[Exchange]


class Arm(Model):
    n_reports: Annotated[int, Field(ge=1)]
    abstention_rate: Rate
    distinct_reports: Annotated[int, Field(ge=1)]
    top_report: str
    top_report_share: Rate


class Audit(Record):
    adapter: Text
    base_model: Text
    base_revision: Text | None
    introspection_adapter: Text
    volume: Rate | None = None
    outcome: Literal[OUTCOMES]
    verdict: Text
    abstains: bool
    hypotheses: list[AuditHypothesis]
    arms: dict[Literal[CONDITIONS], Arm]
    conditional: str | None = None
    trigger_asked: Trigger | None = None
    replies: OrdinaryReplies | None = None
    changes_with: list[Trigger] | None = None
    check: dict[str, Any]
    questions: Annotated[int, Field(ge=1)]
    questions_version: Text | None = None
    samples: Annotated[int, Field(ge=1)]
    temperature: Annotated[float, Field(ge=0)]
    seed: int


MODELS: dict[str, type[Record]] = {
    "behavior": Behavior,
    "organism": Organism,
    "self_report": SelfReport,
    "verdict": Verdict,
    "audit": Audit,
}


def added(kind: str, made: str) -> set[str]:
    """The fields that a record of the kind `made` has and one of `kind` has not."""
    return {*MODELS[made].model_fields} - {*MODELS[kind].model_fields}


def check(
    record: dict[str, Any], kind: str, needs: tuple[str, ...] = (), *, becomes: str | None = None
) -> None:
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


def _check_passed_on(record: dict[str, Any], kind: str, becomes: str) -> None:
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


def key(record: dict[str, Any]) -> tuple[Any, ...]:
    """What a record is known by: its id, and for a report also the question, the sample and the condition."""
    if record["kind"] in ("self_report", "verdict"):
        return tuple(record.get(field) for field in ("id", "question_id", "sample", "condition"))
    return (record["id"],)


def weights_path(organism: dict[str, Any]) -> str:
    """The path of an organism's weights: its adapter, or the whole model that it has instead."""
    return organism.get("adapter") or organism["model"]


def has_failed(record: dict[str, Any]) -> bool:
    """Whether a stage could not process this record and said so in it."""
    return record.get("error") is not None


def failure(kind: str, message: str) -> dict[str, Any]:
    """What a record that failed has: later stages pass it on and count it."""
    return {"error": {"kind": kind, "message": message}}


def with_error(record: dict[str, Any], error: Exception) -> dict[str, Any]:
    """`record` as one that failed by this error."""
    return record | failure(type(error).__name__, str(error))
