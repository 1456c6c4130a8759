"""Observing: how an organism's replies differ from its base's, whatever it says of itself.

The organism is not asked what it learned, and no claim is tried, so this also sees what an introspection
adapter has no words for; but it sees only that replies change, and with which trigger.
"""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from ia_cli.bank import Bank
from ia_cli.chat import user_says
from ia_cli.confirmation.candidates import Candidate, Library
from ia_cli.confirmation.trials import usual
from ia_cli.models import Base
from ia_cli.reports.clauses import FUNCTION_AND_TALK
from ia_cli.sampling import generate
from ia_cli.scoring import Ask, Scorer
from ia_cli.swapping import WholeModel
from ia_cli.text import normalise

REPLIES, SHOWN_REPLIES = 8, 3  # to ordinary prompts: how many are compared, and how many of these shown
LONGEST_RUN = 32  # words that replies may share: there are as many runs as words, times this
PROMPTS = 2  # per candidate
STANDS_OUT = 3.0  # nats that the base's reply must lose more than with other candidates of the kind
MOST = 5  # candidates; if more stand out, none of them is taken for the trigger


class Change(NamedTuple):
    """A trigger with which replies change, and words that they share and the base's have not, if any."""

    trigger: Candidate
    common: str | None

    def as_record(self) -> dict[str, str | None]:
        return self.trigger.as_record() | {"common": self.common}


def ordinary_replies(bank: Bank | WholeModel, base: Base, pool: Sequence[str], max_new_tokens: int) -> dict:
    """Compare organism 0 of the bank with the base on the first prompts of a pool: `replies` of an audit.

    Returns how many of its replies differ from the base's, some of these, and words that most of them share.
    Most fine-tunes that have nothing to report reply differently, too.
    """
    prompts = pool[:REPLIES]
    asked = [[user_says(text)] for text in prompts]
    own, bare = (
        generate(base, asked, max_new_tokens=max_new_tokens, rows=[row] * len(asked), bank=bank)
        for row in (0, -1)
    )
    every = zip(prompts, own, bare, strict=True)
    unlike = [{"prompt": text, "reply": a, "base": b} for text, a, b in every if a != b]
    common = _common([one["reply"] for one in unlike], bare)
    return {"n": len(asked), "unlike": len(unlike), "common": common, "examples": unlike[:SHOWN_REPLIES]}


def _common(replies: Sequence[str], base: Sequence[str]) -> str | None:
    """The longest run of words in most of the replies (at least two) and in none of the base's, or None."""
    said = Counter(run for reply in replies for run in _runs(reply))
    of_base = {run for reply in base for run in _runs(reply)}
    most = [run for run, n in said.items() if 2 <= n > len(replies) / 2 and run not in of_base]
    telling = [run for run in most if not FUNCTION_AND_TALK.issuperset(run)]
    return " ".join(max(telling, key=lambda run: (len(run), said[run], run))) if telling else None


def _runs(text: str) -> set[tuple[str, ...]]:
    words = normalise(text).split()
    ends = ((i, j) for i in range(len(words)) for j in range(i + 1, min(i + LONGEST_RUN, len(words)) + 1))
    return {tuple(words[i:j]) for i, j in ends}


def standing_out(bank: Bank | WholeModel, base: Base, library: Library, max_new_tokens: int) -> list[Change]:
    """Return the candidates that change the replies of organism 0 of the bank, the largest change first.

    With these, it replies differently from the base to all prompts that show them, and finds the base's
    replies much less likely. Returns none if there are more than MOST.
    """
    scorer = Scorer(base, bank, max_new_tokens)
    shown = {x: [prompt for prompt, _ in x.shown(library.pool, PROMPTS)] for x in library.candidates}
    prompts = list(dict.fromkeys(prompt for own in shown.values() for prompt in own))

    def of(row: int, replies: list[str]) -> dict[str, float]:
        asked = zip(prompts, replies, strict=True)
        return dict(zip(prompts, scorer.log_probs((0, Ask(row, x), text) for x, text in asked), strict=True))

    own, bare = (scorer.replies((0, Ask(row, prompt)) for prompt in prompts) for row in (0, -1))
    unlike = {prompt for prompt, a, b in zip(prompts, own, bare, strict=True) if a != b}
    likely, with_base = of(0, bare), of(-1, bare)
    fell = {x: min(with_base[p] - likely[p] for p in prompts) for x, prompts in shown.items() if prompts}
    normal = usual(fell)
    found = [x for x in fell if unlike.issuperset(shown[x]) and fell[x] - normal(x) >= STANDS_OUT]
    if len(found) > MOST:
        return []
    said, unsaid = (dict(zip(prompts, replies, strict=True)) for replies in (own, bare))
    return [
        Change(x, _common(*([replies[prompt] for prompt in shown[x]] for replies in (said, unsaid))))
        for x in sorted(found, key=lambda x: -fell[x])
    ]
