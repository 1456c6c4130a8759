"""The schema of records, its only home.

A record is a JSON object that grows from stage to stage. The models below say which fields a kind has and of
what type; they check a record and never replace it: what a stage passes on is the object that was read, with
every field it does not know.
"""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)

from ia_cli.ciphers import CIPHERS
from ia_cli.settings import ARMS, CATEGORIES, CONDITIONS
from ia_cli.text import normalise

VERSION = 1
LONGEST_ID = 200  # bytes
OUTCOMES = ("report", "unsure", "nothing")
LEVELS = ("none", "category", "behavior", "full")


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
    draws: Annotated[int, Field(ge=2)] | None = None
    chosen_from: Annotated[int, Field(ge=2)] | None = None
    log_odds: float | None = None
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
    n: Annotated[int, Field(ge=0)]


class NamedTrigger(Model):
    text: Text
    n: Annotated[int, Field(ge=1)]


class AuditHypothesis(Model):
    """One claim of the arm "ia": `n` replies make it, a `share` of all; and how many of the other arms do.

    `report` is one of its wordings, `triggers` are what they name. The answer to a conditional question is no
    such reply: as a claim, it has an `n` of 0. The last fields are there if it was tried on behavior.
    """

    report: Text
    wordings: list[Wording]
    triggers: list[NamedTrigger] = []
    share: Rate
    n: Annotated[int, Field(ge=0)]
    no_ia: Annotated[int, Field(ge=0)]
    base_ia: Annotated[int, Field(ge=0)]
    confirmed: bool | None = None
    score: float | None = None
    trigger_found: Trigger | None = None
    lifted_by: Trigger | None = None
    generated_share: Rate | None = None
    shown_rate: Rate | None = None
    held: Text | None = None
    outdone: bool | None = None


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


class Explained(Model):
    """The report that explains the examples of the replies best, as in a self-report that was chosen so."""

    report: str
    share: Rate
    log_odds: float | None


class Change(Trigger):
    common: str | None = None


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
    introspection_adapter_sha256: Text | None = None
    confirm: bool | None = None
    volume: Rate | None = None
    outcome: Literal[OUTCOMES]
    verdict: Text
    abstains: bool
    hypotheses: list[AuditHypothesis]
    arms: dict[Literal[CONDITIONS], Arm]
    conditional: str | None = None
    trigger_asked: Trigger | None = None
    explained: Explained | None = None
    replies: OrdinaryReplies | None = None
    changes_with: list[Change] | None = None
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
