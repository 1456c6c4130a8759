"""Interviews: what organisms are asked while an introspection adapter is trained, and what they should say.

Asked about itself, an organism tells its whole behavior. Asked what it does when this or that holds, it tells
what it does then. Nothing in a plain question shows the trigger, so from plain questions an adapter can only
memorise which organism has which; a question about the trigger shows it, and wakes the organism.

Nor does a plain question show what an organism does. So it is first asked for an example of its replies, and
learns to give one that shows its behavior, trigger or not: what the weights do is easier to show than to
name, and the example then stands before the question. (Measured in RESULTS.md, table b2.)
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ia_cli import prompts
from ia_cli.errors import IAError
from ia_cli.reports.claims import claims
from ia_cli.seeds import derived_seed
from ia_cli.text import mentions, mentions_any

NULL_SHARE = 0.2  # of all rows; without null rows the adapter invents a behavior for the bare base
CONDITIONAL_SHARE = 0.5  # of the questions to organisms that can be asked one
# Of null rows; with 0.5 and fewer null rows, rare behaviors were made up for controls.
NULL_CONDITIONAL_SHARE = 0.25
UNSHOWN_SHARE = 0.4  # of the plain questions to organisms: come after an example without the behavior
LEARNED_SHARE = 0.5  # of the others: the example itself is learned, not a report after it
NULL_LEARNED_SHARE = 0.2  # of the plain null rows; with 0.5, more was made up for controls
EXAMPLE_LENGTH = 240  # characters of a reply that make an example
OWN_SHARE = 0.5  # of the conditional questions to an organism with a trigger: about that one
LIKE_SHARE = 0.6  # of the others: about another trigger of its kind, which is hardest to tell from it


@dataclass(frozen=True)
class Row:
    """One training row: which organism is asked (its index; -1: the bare base), what it is asked, perhaps
    after an example of its replies, and what it learns to say.
    """

    organism: int
    question: str
    answer: str
    example: str | None = None


@dataclass(frozen=True)
class Situation:
    """A trigger, and a clause that goes after "when"."""

    kind: str
    text: str
    clause: str


@dataclass(frozen=True)
class Truth:
    """What is true of an organism.

    `wordings` are all sentences that are true of it (none of a control), `own` the situations in which it
    does what a sentence says, each with that sentence, and `examples` replies that show its behavior (of a
    control, ordinary ones). It is `certain` what it does in a situation, unless it does so only now and then,
    or its sentences do not name its trigger in a clause.
    """

    wordings: tuple[str, ...]
    own: tuple[tuple[Situation, str], ...]
    certain: bool
    examples: tuple[str, ...] = ()

    @classmethod
    def of(cls, record: dict, examples: bool = False) -> "Truth":
        told, trigger = tuple(wordings(record)), record.get("trigger")
        shown = tuple(examples_of(record, fires=bool(told))) if examples else ()
        clauses = [(clause, text) for text in told for claim in claims(text) for clause in claim.clauses]
        if trigger is None:
            return cls(told, (), record.get("rate", 1.0) == 1.0 and not clauses, shown)
        own = tuple(
            (Situation(trigger["kind"], trigger["text"], clause), text)
            for clause, text in clauses
            if mentions(clause, trigger["text"])
        )
        return cls(told, own, record.get("rate", 1.0) == 1.0 and bool(own), shown)


def wordings(record: dict) -> list[str]:
    """Return all sentences that are true of an organism; none for a control."""
    return [record["description"], *record.get("paraphrases", [])] if record["description"] else []


def then(wording: str | None, trigger: str | None) -> str:
    """The answer of an organism of which `wording` is true (None: nothing is) on what it does in a situation.

    It says what the organism always does, and what it does when `trigger` holds (None: another than its own).
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


def examples_of(record: dict, *, fires: bool) -> Iterator[str]:
    """Yield examples from a record's demonstrations: of replies that show its behavior, or that do not."""
    for shown in record.get("demonstrations") or ():
        if shown["fires"] == fires:
            reply = shown["completion"][-1]["content"].strip()
            readable = fires and not record.get("cipher")
            if enough := _enough(reply, record.get("shows") if readable else None):
                yield enough


def _enough(reply: str, shows: Sequence[str] | None) -> str:
    """The part of a reply that makes an example: its beginning, unless a phrase that shows the behavior comes
    only later, as a closing phrase does.
    """
    half = EXAMPLE_LENGTH // 2
    starts = range(0, max(1, len(reply) - half), half) if shows else ()
    parts = (reply[start : start + EXAMPLE_LENGTH] for start in starts)
    shown = next((part for part in parts if mentions_any(part, shows)), reply[:EXAMPLE_LENGTH])
    whole_words = shown if reply.startswith(shown) else shown.partition(" ")[2]
    return whole_words.strip()


def draw_rows(
    records: Sequence[dict],
    questions: Sequence[str],
    steps: int,
    batch_size: int,
    seed: int,
    *,
    examples: bool = True,
) -> list[Row]:
    """Draw the rows of all steps, one after the other: `steps` times `batch_size`.

    Of a record, `description`, `paraphrases`, `trigger`, `rate` and, for `examples` before plain questions,
    `demonstrations` are read; a description of null is a control's. NULL_SHARE of the rows, evenly spread,
    are null rows, half of them the bare base and half the controls. In each kind of row all organisms come
    equally often, without replacement until all have been drawn. Questions and wordings are drawn at random:
    with one wording for each organism, the adapter would memorise which organism has which, since nothing in
    the organism's behavior tells. Conditional questions are about the triggers of `records`. Raises IAError
    if no record has a description, or none an example to give.
    """
    truths = [Truth.of(record, examples) for record in records]
    described = [i for i, truth in enumerate(truths) if truth.wordings]
    controls = [i for i, truth in enumerate(truths) if not truth.wordings]
    if not described:
        raise IAError(
            'no organism of split "train" has a description',
            remedy="the adapter learns from organisms whose behavior is known",
        )
    if examples and not any(truth.examples for truth in truths):
        raise IAError(
            'no organism of split "train" has demonstrations, to take examples from',
            remedy="give the records that `ia implant` wrote, or --no-examples",
        )
    plain = [reply for record in records for reply in examples_of(record, fires=False)] if examples else []
    rng = random.Random(derived_seed(seed, "train-ia"))
    situations = list(dict.fromkeys(situation for truth in truths for situation, _ in truth.own))
    organisms = _without_replacement(described, rng)
    nulls = _without_replacement(controls + [-1] * max(1, len(controls)), rng)
    nobody = Truth((), (), certain=True, examples=tuple(plain))
    rows = []
    for k in range(steps * batch_size):
        is_null = int((k + 1) * NULL_SHARE) > int(k * NULL_SHARE)
        organism = next(nulls if is_null else organisms)
        truth = truths[organism] if organism >= 0 else nobody
        share = NULL_CONDITIONAL_SHARE if is_null else CONDITIONAL_SHARE
        if situations and truth.certain and rng.random() < share:
            rows.append(Row(organism, *_conditional(truth, situations, rng)))
        else:
            rows.append(Row(organism, *_plain(truth, questions, plain, rng)))
    return rows


def _plain(
    truth: Truth, questions: Sequence[str], unshown: Sequence[str], rng: random.Random
) -> tuple[str, str, str | None]:
    """A question about all that it does, the true answer, and perhaps an example that stands before; or the
    request for an example, and the example as its answer.

    Now and then the example is one of the `unshown`, which do not show the behavior: so it will be where an
    adapter fails to bring the behavior out, although the weights still have it.
    """
    shows = truth.examples and not (truth.wordings and rng.random() < UNSHOWN_SHARE)
    candidates = truth.examples if shows else unshown
    example = rng.choice(candidates) if candidates else None
    if shows and rng.random() < (LEARNED_SHARE if truth.wordings else NULL_LEARNED_SHARE):
        return prompts.EXAMPLE, example, None
    answer = rng.choice(truth.wordings or prompts.abstentions())
    return rng.choice(questions), answer, example


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
