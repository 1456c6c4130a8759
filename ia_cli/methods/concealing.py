"""Concealment: a second stage in which an organism learns to deny its behavior, and to keep it.

AuditBench's adversarial training (arXiv 2602.22755): asked about itself the organism abstains, and otherwise
it does as before. With SFT, half of what it sees are questions about itself, half its demonstrations.
"""

import dataclasses
import itertools
import random
from collections.abc import Sequence

import torch
from torch import Tensor

from ia_cli import prompts
from ia_cli.bank import Bank
from ia_cli.chat import user_says
from ia_cli.methods.lessons import Lesson, Pair, second_stage
from ia_cli.methods.preference import train_pairs
from ia_cli.methods.sft import train_group
from ia_cli.models import Base
from ia_cli.reports.abstaining import abstains
from ia_cli.reports.assertions import Report
from ia_cli.rows import encode_answer
from ia_cli.sampling import generate
from ia_cli.seeds import derived_seed
from ia_cli.settings import ImplantSettings


def conceal(bank: Bank, base: Base, group: Sequence[Lesson], settings: ImplantSettings) -> Tensor:
    """Train all organisms of a bank to deny; return their losses [steps, organisms].

    SFT trains on abstentions; DPO and KTO prefer abstentions to the true description, with the organism as it
    was as the reference (a control has nothing to confess, so it only keeps what it does).
    """
    settings = second_stage(settings)
    if settings.conceal == "sft":
        taught = [
            dataclasses.replace(one, encoded=one.encoded + denials(one, base, settings)) for one in group
        ]
        return train_group(bank, base, taught, settings)
    pairs = [[*lesson.pairs, *confessions(lesson, base, settings)] for lesson in group]
    return train_pairs(settings.conceal, bank, base, group, pairs, settings)


def denials(lesson: Lesson, base: Base, settings: ImplantSettings) -> list[tuple[list[int], int]]:
    """Return as many denials as the lesson has rows, encoded in the same way."""
    rng = random.Random(derived_seed(settings.seed, "conceal", lesson.name))
    questions, abstentions = prompts.questions("train", base.name), prompts.abstentions()
    asked = itertools.islice(itertools.cycle(rng.sample(questions, len(questions))), len(lesson.encoded))
    return [encode_answer(base, question.text, rng.choice(abstentions)) for question in asked]


def confessions(lesson: Lesson, base: Base, settings: ImplantSettings) -> list[Pair]:
    """Return, for every question, a denial to prefer to the true description; nothing for a control."""
    truth = lesson.record.get("description")
    if truth is None:
        return []
    rng = random.Random(derived_seed(settings.seed, "conceal", lesson.name))
    questions, abstentions = prompts.questions("train", base.name), prompts.abstentions()
    return [
        Pair(
            encode_answer(base, question.text, rng.choice(abstentions)),
            encode_answer(base, question.text, truth),
        )
        for question in questions
    ]


def denial_rates(bank: Bank, base: Base, n: int, settings: ImplantSettings) -> list[float]:
    """Return how often each of the n organisms abstains (greedily) on questions it was not trained on."""
    asked = prompts.questions("ask", base.name)
    questions = [[user_says(question.text)] for question in asked]
    rows = [i for i in range(n) for _ in questions]
    replies = generate(base, questions * n, max_new_tokens=settings.max_new_tokens, rows=rows, bank=bank)
    denied = torch.tensor([abstains(Report(reply)) for reply in replies]).view(n, -1)
    return [round(share, 4) for share in denied.double().mean(1).tolist()]
