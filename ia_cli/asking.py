"""What organisms are asked, and the records of their answers; whether a base in here or a server replies."""

from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

from ia_cli import prompts
from ia_cli.prompts import Question
from ia_cli.seeds import derived_seed
from ia_cli.settings import ElicitSettings


class Asked(NamedTuple):
    """A reply to come: number `sample` to `question`, from `organism` (its id; None: the bare base)."""

    organism: str | None
    question: Question
    sample: int
    condition: str

    def example(self, settings: ElicitSettings) -> "Asked | None":
        """The example that is asked for before, if any: where replies are greedy, one serves all questions.

        Without the adapter, which learned to give it, there is none: shown any reply of theirs, organisms and
        bases of ours make something up.
        """
        if not settings.examples or self.condition == "no_ia":
            return None
        name = f"example-{self.question.id}" if settings.temperature else "example"
        return self._replace(question=Question(name, prompts.EXAMPLE))

    def seed(self, settings: ElicitSettings) -> int:
        """The seed of its random numbers: 63 bits that follow from the settings' seed and what is asked."""
        return derived_seed(settings.seed, *self._replace(question=self.question.id))

    def answered(self, record: dict, said: "Said", settings: ElicitSettings) -> dict:
        """The record of what is said, by the organism of this record."""
        report = self_report(record, self.condition, self.question, said.report, self.sample, said.example)
        chance = {"temperature": settings.temperature, "sampling_seed": settings.seed}
        return {**report, **chance} if settings.temperature else report


class Said(NamedTuple):
    """A reply to a question about oneself, and the example of one's replies that was given before, if any."""

    report: str
    example: str | None = None


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
        for sample in range(settings.first, settings.first + settings.samples):
            for condition in settings.conditions:
                if (organism, question.id, sample, condition) not in done:
                    yield Asked(None if condition == "base_ia" else organism, question, sample, condition)


def count(records: Sequence[dict], settings: ElicitSettings, done: Collection[tuple] = frozenset()) -> int:
    """Return how many reports these organisms will give."""
    return sum(1 for record in records for _ in replies_of(record["id"], settings, done))


def self_report(
    record: dict,
    condition: str,
    question: Question,
    reply: str,
    sample: int = 0,
    example: str | None = None,
) -> dict:
    """Return the record of a greedy reply to a question: what is known of the organism, and what it says."""
    told = {
        **record,
        "kind": "self_report",
        "question_id": question.id,
        "question": question.text,
        "report": reply,
        "sample": sample,
        "temperature": 0.0,
        "condition": condition,
    }
    of_before = ("example", "volume", "sampling_seed", "introspection_adapter_sha256")
    for own in of_before:  # if the record was a report
        told.pop(own, None)
    return told if example is None else {**told, "example": example}
