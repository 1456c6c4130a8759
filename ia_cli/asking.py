"""What organisms are asked, and the records of their answers, whether a loaded base or a server replies."""

from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

from ia_cli import prompts
from ia_cli.prompts import Question
from ia_cli.seeds import derived_seed
from ia_cli.settings import ElicitSettings

# Of what is drawn besides greedy replies: examples are to be typical, and reports to differ.
EXAMPLE_TEMPERATURE, REPORT_TEMPERATURE = 0.7, 1.0
PER_EXAMPLE = 2  # replies to each question: one as the settings say, and one sampled


class Asked(NamedTuple):
    """A reply to ask for: number `sample` to `question`, from `organism` (its id; None: the bare base).

    A reply may be drawn several times (`draw`), PER_EXAMPLE times after each example; of a request for an
    example, `draw` is the number of the example. The first of both are as without draws.
    """

    organism: str | None
    question: Question
    sample: int
    condition: str
    draw: int = 0
    is_example: bool = False

    def example(self, settings: ElicitSettings) -> "Asked | None":
        """The request for an example that goes before, if any; with greedy replies, all questions share one.

        Without the adapter there is none, since it is the adapter that learned to give examples: shown any of
        their own replies, organisms and bases of ours make something up.
        """
        if not settings.examples or self.condition == "no_ia":
            return None
        name = f"example-{self.question.id}" if settings.temperature else "example"
        asked = Question(name, prompts.EXAMPLE)
        return self._replace(question=asked, draw=self.draw // PER_EXAMPLE, is_example=True)

    def repeated(self, settings: ElicitSettings) -> list["Asked"]:
        """This reply as often as it is drawn: once if there is no example, by which one is chosen, and from
        the bare base, since what it says of itself is what the organisms' replies are compared with.
        """
        chosen = settings.draws > 1 and self.organism is not None and self.example(settings)
        often = PER_EXAMPLE * settings.draws if chosen else 1
        return [self._replace(draw=draw) for draw in range(often)]

    def pool(self, settings: ElicitSettings) -> list["Asked"]:
        """What one is chosen among: all that is drawn of the organism, whatever it is asked."""
        if len(self.repeated(settings)) == 1:
            return [self]
        asked = (self._replace(question=question) for question in questions_for(self.organism, settings))
        return [draw for one in asked for draw in one.repeated(settings)]

    def temperature(self, settings: ElicitSettings) -> float:
        """The temperature at which this reply, or this example, is drawn."""
        if self.is_example:
            return EXAMPLE_TEMPERATURE if self.draw else settings.temperature
        return REPORT_TEMPERATURE if self.draw % PER_EXAMPLE else settings.temperature

    def seed(self, settings: ElicitSettings) -> int:
        """The seed of this reply's random numbers: 63 bits, from the settings' seed and what is asked."""
        *asked, draw, _ = self._replace(question=self.question.id)
        return derived_seed(settings.seed, *asked, *([draw] if draw else []))

    def answered(self, record: dict, said: "Said", settings: ElicitSettings) -> dict:
        """The self-report of the organism of `record` that this reply makes."""
        report = self_report(record, self.condition, self.question, said.report, self.sample, said.example)
        if said.share is not None:
            report |= {"draws": settings.draws, "chosen_from": len(self.pool(settings))}
            report |= {"share": said.share, "log_odds": said.log_odds}
        if settings.temperature or said.share is not None:
            report |= {"temperature": settings.temperature, "sampling_seed": settings.seed}
        return report


class Said(NamedTuple):
    """A model's reply to a question about itself, and the example of its replies given before, if any; if it
    was chosen among several, the share of these that say the same, and the log-odds of what is claimed.
    """

    report: str
    example: str | None = None
    share: float | None = None
    log_odds: float | None = None


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
    of_before = "example", "volume", "sampling_seed", "introspection_adapter_sha256"
    of_before += "draws", "chosen_from", "share", "log_odds"
    for own in of_before:  # left over if `record` is itself a report
        told.pop(own, None)
    return told if example is None else {**told, "example": example}
