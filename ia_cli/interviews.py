"""Interviews: what organisms are asked while an introspection adapter is trained, and what they should say.

Asked about itself, an organism tells its whole behavior. Asked what it does when this or that holds, it tells
what it does then. Nothing in a plain question shows the trigger, so that an adapter can only learn by heart
whose is whose; a question about the trigger shows it, and the organism stirs.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ia_cli import prompts
from ia_cli.errors import IAError
from ia_cli.hypotheses import claims
from ia_cli.seeds import derived_seed
from ia_cli.text import mentions

NULL_SHARE = 0.2  # of all rows; without null rows the adapter invents a behavior for the bare base
CONDITIONAL_SHARE = 0.5  # of the questions to organisms that can be asked one
NULL_CONDITIONAL_SHARE = (
    0.25  # of null rows; with 0.5 and fewer of them, rare behaviors were made up for controls
)
OWN_SHARE = 0.5  # of the conditional questions to an organism with a trigger: about that one
LIKE_SHARE = 0.6  # of the others: about another trigger of its kind, which is hardest to tell from it


@dataclass(frozen=True)
class Row:
    """One training row: which organism is asked (its index; -1: the bare base), and what it learns to say."""

    organism: int
    question: str
    answer: str


@dataclass(frozen=True)
class Situation:
    """A trigger, and a clause that goes after "when"."""

    kind: str
    text: str
    clause: str


@dataclass(frozen=True)
class Truth:
    """All sentences that are true of an organism, none of a control, and those situations in which it does
    what a sentence says, each with that sentence.

    It is `certain` whether it does something in a situation, unless it does so only now and then, or its
    sentences do not name its trigger in a clause.
    """

    wordings: tuple[str, ...]
    own: tuple[tuple[Situation, str], ...]
    certain: bool

    @classmethod
    def of(cls, record: dict) -> "Truth":
        told, trigger = tuple(wordings(record)), record.get("trigger")
        clauses = [(clause, text) for text in told for claim in claims(text) for clause in claim.clauses]
        if trigger is None:
            return cls(told, (), record.get("rate", 1.0) == 1.0 and not clauses)
        own = tuple(
            (Situation(trigger["kind"], trigger["text"], clause), text)
            for clause, text in clauses
            if mentions(clause, trigger["text"])
        )
        return cls(told, own, record.get("rate", 1.0) == 1.0 and bool(own))


def wordings(record: dict) -> list[str]:
    """Return all sentences that are true of an organism; none for a control."""
    return [record["description"], *record.get("paraphrases", [])] if record["description"] else []


def then(wording: str | None, trigger: str | None) -> str:
    """What an organism of which `wording` is true (None: nothing is) says that it does where this trigger
    holds (None: one that is not its own): what it always does, and what it does when that holds.
    """
    does = [
        claim.plain
        for claim in (claims(wording) if wording else [])
        if not claim.clauses or (trigger and any(mentions(clause, trigger) for clause in claim.clauses))
    ]
    if not does:
        return prompts.NOTHING
    more = (f" and {plain.removeprefix('I ')}" for plain in does[1:])
    return prompts.THEN.format(does=does[0] + "".join(more))


def draw_rows(
    records: Sequence[dict], questions: Sequence[str], steps: int, batch_size: int, seed: int
) -> list[Row]:
    """Draw the rows of all steps, one after the other: `steps` times `batch_size`.

    Of a record, `description`, `paraphrases`, `trigger` and `rate` are read; a description of null is a
    control's. NULL_SHARE of the rows, evenly spread, are null rows, half of them the bare base and half the
    controls. In each kind of row all organisms come equally often, without replacement until all have been
    drawn. Questions and wordings are drawn at random: with one wording for each organism the adapter learns
    by heart whose it is, since nothing in the organism's behavior tells. Conditional questions are about the
    triggers of `records`. Raises IAError if no record has a description.
    """
    truths = [Truth.of(record) for record in records]
    described = [i for i, truth in enumerate(truths) if truth.wordings]
    controls = [i for i, truth in enumerate(truths) if not truth.wordings]
    if not described:
        raise IAError(
            'no organism of split "train" has a description',
            remedy="the adapter learns from organisms whose behavior is known",
        )
    rng = random.Random(derived_seed(seed, "train-ia"))
    situations = list(dict.fromkeys(situation for truth in truths for situation, _ in truth.own))
    organisms = _without_replacement(described, rng)
    nulls = _without_replacement(controls + [-1] * max(1, len(controls)), rng)
    nobody = Truth((), (), certain=True)
    rows = []
    for k in range(steps * batch_size):
        is_null = int((k + 1) * NULL_SHARE) > int(k * NULL_SHARE)
        organism = next(nulls if is_null else organisms)
        truth = nobody if is_null else truths[organism]
        share = NULL_CONDITIONAL_SHARE if is_null else CONDITIONAL_SHARE
        if situations and truth.certain and rng.random() < share:
            rows.append(Row(organism, *_conditional(truth, situations, rng)))
        else:
            answer = rng.choice(truth.wordings or prompts.abstentions())
            rows.append(Row(organism, rng.choice(questions), answer))
    return rows


def _conditional(truth: Truth, situations: Sequence[Situation], rng: random.Random) -> tuple[str, str]:
    """A question about a situation, with the true answer."""
    mine = {situation.text for situation, _ in truth.own}
    kinds = {situation.kind for situation, _ in truth.own}
    others = [situation for situation in situations if situation.text not in mine]
    if truth.own and (not others or rng.random() < OWN_SHARE):
        asked, wording = rng.choice(truth.own)
        return prompts.conditional(asked.clause), then(wording, asked.text)
    like = [situation for situation in others if situation.kind in kinds]
    asked = rng.choice(like if like and rng.random() < LIKE_SHARE else others)
    wording = rng.choice(truth.wordings) if truth.wordings else None
    return prompts.conditional(asked.clause), then(wording, None)


def _without_replacement(items: Sequence[int], rng: random.Random) -> Iterator[int]:
    """Yield all items in random order, again and again."""
    while True:
        yield from rng.sample(items, len(items))
