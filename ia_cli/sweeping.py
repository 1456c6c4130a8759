"""Sweeping: which triggers change an organism's replies most, whatever it says of itself.

Nobody is asked what was learned, and nothing is claimed, so what an introspection adapter has no words for
is seen, too; but only that replies change, not what is done.
"""

from ia_cli.bank import Bank
from ia_cli.candidates import Candidate, Library
from ia_cli.models import Base
from ia_cli.scoring import Ask, Scorer
from ia_cli.trials import usual
from ia_cli.whole_models import Alone

PROMPTS = 2  # that show a candidate
STANDS_OUT = 3.0  # nats: so much more than with others of its kind the base's own reply becomes less likely
MOST = 5  # candidates; where more stand out none of them is the trigger


def standing_out(bank: Bank | Alone, base: Base, library: Library, max_new_tokens: int) -> list[Candidate]:
    """Return the candidates under which organism 0 of the bank replies otherwise than the base to all prompts
    that show them, and finds the base's replies much less likely; the one with the largest change first.

    No candidate if they are more than MOST.
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
    return sorted(found, key=lambda x: -fell[x]) if len(found) <= MOST else []
