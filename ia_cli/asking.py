"""What organisms are asked, and the records of their answers; whether a base in here or a server replies."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ia_cli.prompts import Question
from ia_cli.records import CONDITIONS
from ia_cli.seeds import derived_seed


@dataclass(frozen=True)
class ElicitSettings:
    """What is asked: `asked` of the `questions` of each organism, `samples` times in each condition.

    At temperature 0 replies are greedy, else sampled from the softmax of logits / temperature.
    """

    questions: Sequence[Question]
    asked: int
    samples: int = 1
    temperature: float = 0.0
    conditions: Collection[str] = CONDITIONS
    max_new_tokens: int = 64
    seed: int = 0


class Asked(NamedTuple):
    """A reply to come: number `sample` to `question`, from `organism` (its id; None: the bare base)."""

    organism: str | None
    question: Question
    sample: int
    condition: str

    def seed(self, settings: ElicitSettings) -> int:
        """The seed of its random numbers: 63 bits that follow from the settings' seed and what is asked."""
        return derived_seed(settings.seed, *self._replace(question=self.question.id))

    def answered(self, record: dict, reply: str, settings: ElicitSettings) -> dict:
        """The record of the reply, which belongs to the organism of this record."""
        return self_report(record, self.condition, self.question, reply, self.sample, settings.temperature)


def questions_for(organism: str, settings: ElicitSettings) -> list[Question]:
    """Return what the organism of this id is asked: a stretch of the pool that begins where the id says.

    So many organisms together cover the pool, and what one is asked does not depend on the others.
    """
    pool = settings.questions
    first = derived_seed("questions", organism) % len(pool)
    return [pool[(first + i) % len(pool)] for i in range(min(settings.asked, len(pool)))]


def replies_of(organism: str, settings: ElicitSettings, done: Collection[tuple]) -> Iterator[Asked]:
    """Yield what an organism's reports are made of; those of the bare base are the same for all organisms."""
    for question in questions_for(organism, settings):
        for sample in range(settings.samples):
            for condition in settings.conditions:
                if (organism, question.id, sample, condition) not in done:
                    yield Asked(None if condition == "base_ia" else organism, question, sample, condition)


def count(records: Sequence[dict], settings: ElicitSettings, done: Collection[tuple] = frozenset()) -> int:
    """Return how many reports these organisms will give."""
    return sum(1 for record in records for _ in replies_of(record["id"], settings, done))


def self_report(
    record: dict, condition: str, question: Question, reply: str, sample: int = 0, temperature: float = 0.0
) -> dict:
    """Return the record of a reply to a question: all that is known of the organism, and what it says."""
    return {
        **record,
        "kind": "self_report",
        "question_id": question.id,
        "question": question.text,
        "report": reply,
        "sample": sample,
        "temperature": temperature,
        "condition": condition,
    }
