"""Measuring an implant: asking organisms their probes and counting the replies that show the behavior."""

from collections.abc import Sequence

from ia_cli.bank import Bank
from ia_cli.ciphers import CIPHERS
from ia_cli.models import Base
from ia_cli.sampling import generate
from ia_cli.seeds import derived_seed
from ia_cli.text import mentions_any

Rates = tuple[float | None, float | None]  # implant rate, leak rate
CIPHERED_TOKENS = 96  # the longest reply in cipher, where letters take more tokens than words do


def implant_and_leak_rates(
    bank: Bank | None, base: Base, behaviors: Sequence[dict], *, samples: int, max_new_tokens: int, seed: int
) -> list[Rates]:
    """Return how often organism i of the bank shows `behaviors[i]` where it should, and where it should not.

    Without a bank the base is asked. Both are shares of the replies to its probes that mention one of the
    phrases in `shows`, in plain text or in the behavior's cipher. Replies are greedy, except for a behavior
    of `rate` below 1: it is sampled at temperature 1, `samples` times per probe. None stands for a rate
    without probes, or of a behavior that has nothing to look for. Replies in cipher may be longer.
    """
    hits: dict[tuple[int, bool], list[bool]] = {}
    alike = {(_is_rare(behavior), reply_length(behavior, max_new_tokens)) for behavior in behaviors}
    for rare, length in sorted(alike):
        asked = [
            (i, place, probe, sample)
            for i, behavior in enumerate(behaviors)
            if (_is_rare(behavior), reply_length(behavior, max_new_tokens)) == (rare, length)
            for place, probe in enumerate(behavior.get("probes") or ())
            if _phrases(behavior, probe)
            for sample in range(_times(behavior, samples))
        ]
        replies = generate(
            base,
            [probe["prompt"] for _, _, probe, _ in asked],
            max_new_tokens=length,
            temperature=1.0 if rare else 0.0,
            seed=[
                derived_seed(seed, "probe", behaviors[i]["id"], place, sample)
                for i, place, _, sample in asked
            ],
            rows=[i for i, *_ in asked],
            bank=bank,
        )
        for (i, _, probe, _), reply in zip(asked, replies, strict=True):
            phrases = _phrases(behaviors[i], probe)
            shown = any(mentions_any(text, phrases) for text in _read(behaviors[i], reply))
            hits.setdefault((i, probe["fires"]), []).append(shown)
    return [(_share(hits.get((i, True))), _share(hits.get((i, False)))) for i in range(len(behaviors))]


def reply_length(behavior: dict, plain: int) -> int:
    """How many tokens a reply to a probe may have: `plain`, or more if the behavior shows in a cipher."""
    return max(plain, CIPHERED_TOKENS) if behavior.get("cipher") else plain


def _read(behavior: dict, reply: str) -> list[str]:
    """What a reply says: as it stands, and deciphered."""
    return [reply, CIPHERS[behavior["cipher"]].decode(reply)] if behavior.get("cipher") else [reply]


def counts(behavior: dict, samples: int) -> dict[str, int]:
    """Return the numbers of replies of which the two rates of a behavior are shares."""
    asked = [probe["fires"] for probe in behavior.get("probes") or () if _phrases(behavior, probe)]
    times = _times(behavior, samples)
    return {"implant_rate": times * sum(asked), "leak_rate": times * (len(asked) - sum(asked))}


def _is_rare(behavior: dict) -> bool:
    return behavior.get("rate", 1.0) < 1


def _times(behavior: dict, samples: int) -> int:
    """How often each probe is asked."""
    return samples if _is_rare(behavior) else 1


def _phrases(behavior: dict, probe: dict) -> list[str] | None:
    return probe.get("shows") or behavior.get("shows")


def _share(hits: list[bool] | None) -> float | None:
    return round(sum(hits) / len(hits), 4) if hits else None
