"""What organisms are asked, and the records of their answers, whether a loaded base or a server replies."""

from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

from ia_cli import prompts
from ia_cli.prompts import Question
from ia_cli.seeds import derived_seed
from ia_cli.settings import ElicitSettings


class Asked(NamedTuple):
    """A reply to ask for: number `sample` to `question`, from `organism` (its id; None: the bare base)."""

    organism: str | None
    question: Question
    sample: int
    condition: str

    def example(self, settings: ElicitSettings) -> "Asked | None":
        """The request for an example that goes before, if any; with greedy replies, all questions share one.

        Without the adapter there is none, since it is the adapter that learned to give examples: shown any of
        their own replies, organisms and bases of ours make something up.
        """
        if not settings.examples or self.condition == "no_ia":
            return None
        name = f"example-{self.question.id}" if settings.temperature else "example"
        return self._replace(question=Question(name, prompts.EXAMPLE))

    def seed(self, settings: ElicitSettings) -> int:
        """The seed of this reply's random numbers: 63 bits, from the settings' seed and what is asked."""
        return derived_seed(settings.seed, *self._replace(question=self.question.id))

    def answered(self, record: dict, said: "Said", settings: ElicitSettings) -> dict:
        """The self-report of the organism of `record` that this reply makes."""
        report = self_report(record, self.condition, self.question, said.report, self.sample, said.example)
        chance = {"temperature": settings.temperature, "sampling_seed": settings.seed}
        return {**report, **chance} if settings.temperature else report


class Said(NamedTuple):
    """A model's reply to a question about itself, and the example of its replies given before, if any."""

    report: str
    example: str | None = None


def questions_for(organism: str, settings: ElicitSettings) -> list[Question]:
    """Return the questions for the organism of this id: a stretch of the pool whose start depends on the id.

    Thus many organisms together cover the pool, and what one is asked does not depend on the others.
    """
    pool = settings.questions
    first = derived_seed("questions", organism) % len(pool)
    return [pool[(first + i) % len(pool)] for i in range(min(settings.asked, len(pool)))]


def replies_of(organism: str, settings: ElicitSettings, done: Collection[tuple]) -> Iterator[Asked]:
    """Yield the replies to ask for, except for keys in `done`; those of the bare base serve all organisms."""
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
    """Return the record of a reply to a question: the fields of the organism's `record`, and what it says.

    Its temperature is 0; `Asked.answered` corrects that for a sampled reply.
    """
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
    for own in of_before:  # left over if `record` is itself a report
        told.pop(own, None)
    return told if example is None else {**told, "example": example}
