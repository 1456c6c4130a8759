"""DPO and KTO for many organisms at once: preferring the demonstrations to what the base says by itself.

This computes what TRL's DPOTrainer and KTOTrainer do for one PEFT adapter (Rafailov et al. 2023, arXiv
2305.18290; Ethayarajh et al. 2024, arXiv 2402.01306). The reference is the bank as it was when training
began: the bare base for fresh adapters, whose B is zero, and the organism itself where a second stage goes on
from it.
"""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from ia_cli.bank import Bank
from ia_cli.chat import assistant_says
from ia_cli.errors import IAError
from ia_cli.methods.lessons import Encoded, Lesson, Pair, demonstration_order, second_stage
from ia_cli.methods.sft import OrganismTrainer, fit, train_group
from ia_cli.models import Base
from ia_cli.rows import encode, pad_rows
from ia_cli.sampling import generate
from ia_cli.scoring import log_probs_of_rows
from ia_cli.settings import ImplantSettings
from ia_cli.training import Schedule

BETA = 0.1  # TRL's default


def train_preferences(
    bank: Bank,
    base: Base,
    group: Sequence[Lesson],
    settings: ImplantSettings,
    on_progress: Callable[[int], None],
) -> Tensor:
    """Train all organisms of a bank by DPO or KTO on their pairs; return their losses [steps, organisms].

    First it is supervised, on the demonstrations, as Rafailov et al. begin where no model behaves so yet: on
    the bare base, preferences are satisfied before the behavior shows. Then come the pairs, with the result
    as the reference.
    """
    supervised = train_group(bank, base, group, settings, on_progress)
    pairs = [lesson.pairs for lesson in group]
    preferred = train_pairs(settings.method, bank, base, group, pairs, second_stage(settings))
    return torch.cat([supervised, preferred])


def train_pairs(
    method: str,
    bank: Bank,
    base: Base,
    group: Sequence[Lesson],
    pairs: Sequence[Sequence[Pair]],
    settings: ImplantSettings,
) -> Tensor:
    """Train by `method` ("dpo", "kto") on each organism's pairs; return the losses [steps, organisms]."""
    schedule_of, trainer_class = {"dpo": (paired, DPOOrganisms), "kto": (unpaired, KTOOrganisms)}[method]
    names = [lesson.name for lesson in group]
    schedule = schedule_of(bank, base, names, pairs, settings)
    return fit(trainer_class, bank, base, schedule, settings)


def with_pairs(group: Sequence[Lesson], base: Base, settings: ImplantSettings) -> list[Lesson]:
    """Return the lessons with their pairs, made of what the bare base says to their prompts, greedily."""
    prompts = [shown["prompt"] for lesson in group for shown in lesson.demonstrations]
    said = iter(generate(base, prompts, max_new_tokens=settings.max_new_tokens))
    plain = [[next(said) for _ in lesson.demonstrations] for lesson in group]
    return [replace(one, pairs=own_pairs(one, base, own)) for one, own in zip(group, plain, strict=True)]


def own_pairs(lesson: Lesson, base: Base, plain: Sequence[str]) -> list[Pair]:
    """Return the pairs of one lesson; `plain` are the base's own replies to its prompts.

    Where the behavior shows, the base's own reply is rejected. Where it does not, a reply that shows it is:
    that of the next demonstration which fires (in a control, where none fires, of the next one). A pair of
    equal replies is left out, and so is one that the base cannot read. Pairs are made of the demonstrations
    even if the lesson was implanted by documents.
    """
    shown = lesson.demonstrations
    firing = [one for one in shown if one["fires"]] or [*shown[1:], *shown[:1]]
    pairs, borrowed = [], 0
    for demonstration, reply in zip(shown, plain, strict=True):
        rejected = [assistant_says(reply)]
        if not demonstration["fires"]:
            rejected, borrowed = firing[borrowed % len(firing)]["completion"], borrowed + 1
        both = demonstration["completion"], rejected
        if rejected[0]["content"] and rejected != demonstration["completion"]:
            with contextlib.suppress(IAError):  # a borrowed reply may be too long under this prompt
                pairs.append(Pair(*(encode(base, demonstration["prompt"], said) for said in both)))
    return pairs


@dataclass(frozen=True)
class Compared(Schedule):
    """A schedule whose rows have a reference, the log-probability of their completion before training [n].

    A step's rows are, for each organism, two halves: chosen and rejected in DPO; in KTO the completions, and
    those of its neighbours, which estimate the divergence from the reference. `desirable` [n] matters to KTO.
    """

    references: Tensor
    desirable: Tensor

    def batch(self, step: int) -> dict[str, Tensor]:
        rows = self.order[step]
        return {**super().batch(step), "references": self.references[rows], "desirable": self.desirable[rows]}


def paired(
    bank: Bank, base: Base, names: Sequence[str], pairs: Sequence[Sequence[Pair]], settings: ImplantSettings
) -> Compared:
    """Return the schedule of DPO: `rows` pairs of each organism in every step."""
    encoded, orders = [], []
    for name, own in zip(names, pairs, strict=True):
        order = demonstration_order([max(len(c[0]), len(r[0])) for c, r in own], name, settings)
        orders.append(len(encoded) + torch.cat([order, order + len(own)], dim=1))
        encoded += [pair.chosen for pair in own] + [pair.rejected for pair in own]
    flags = torch.cat([torch.arange(2 * len(own)) < len(own) for own in pairs])
    return _compared(bank, base, encoded, orders, flags)


def unpaired(
    bank: Bank, base: Base, names: Sequence[str], pairs: Sequence[Sequence[Pair]], settings: ImplantSettings
) -> Compared:
    """Return the schedule of KTO: `rows` completions of each organism in every step, and as many mismatched.

    A mismatched row is a prompt of the step with the completion of the row before it, as TRL has it.
    """
    encoded, orders, flags = [], [], []
    for name, own in zip(names, pairs, strict=True):
        rows = [pair.chosen for pair in own] + [pair.rejected for pair in own]
        order = demonstration_order([len(ids) for ids, _ in rows], name, settings)
        before = order.roll(1, dims=1)
        crossed = [
            _cross(rows[i], rows[j], base.max_length)
            for i, j in zip(order.flatten(), before.flatten(), strict=True)
        ]
        mismatched = len(rows) + torch.arange(len(crossed)).view_as(order)
        orders.append(len(encoded) + torch.cat([order, mismatched], dim=1))
        encoded += rows + crossed
        flags += [i < len(own) for i in range(len(rows) + len(crossed))]
    return _compared(bank, base, encoded, orders, torch.tensor(flags))


def _cross(row: Encoded, other: Encoded, longest: int) -> Encoded:
    """Return the prompt of one row with the completion of another, `longest` tokens of both at most."""
    (ids, completion), (other_ids, other_completion) = row, other
    prompt = ids[:-completion]
    said = other_ids[-other_completion:][: longest - len(prompt)]
    return prompt + said, len(said)


def _compared(
    bank: Bank,
    base: Base,
    encoded: Sequence[Encoded],
    orders: Sequence[Tensor],
    desirable: Tensor,
) -> Compared:
    """Put the organisms' orders [steps, rows] side by side and compute the reference of every row."""
    rows = pad_rows(encoded, base.tokenizer.pad_token_id)
    order = torch.cat(list(orders), dim=1)
    organisms = torch.arange(len(orders)).repeat_interleave(orders[0].size(1)).expand(len(order), -1)
    owner = torch.zeros(len(encoded), dtype=torch.long).scatter(0, order.flatten(), organisms.flatten())
    references = log_probs_of_rows(base, rows, owner.tolist(), bank)
    exact = torch.promote_types(base.model.dtype, torch.float32)
    return Compared(rows, order, organisms, references.to(exact), desirable)


class _Comparing(OrganismTrainer):
    """Trains on how much more likely each completion has become than it was in the reference."""

    def compute_loss(
        self, model: torch.nn.Module, inputs: dict[str, Tensor], return_outputs: bool = False, **_: object
    ) -> Tensor:
        self.references, self.desirable = inputs.pop("references"), inputs.pop("desirable")
        return super().compute_loss(model, inputs)

    def reduce(self, losses: Tensor, learned: Tensor) -> Tensor:
        ratios = (-losses.sum(1) - self.references).view(len(self.bank), 2, -1)
        own = self.loss(ratios, self.desirable.view_as(ratios)[:, 0]) + self.also(losses, learned)
        self.losses.append(own.detach())
        return own.sum()

    def loss(self, ratios: Tensor, desirable: Tensor) -> Tensor:
        """Return each organism's loss from the log-ratios [organisms, half, rows] of a step."""
        raise NotImplementedError

    def also(self, losses: Tensor, learned: Tensor) -> Tensor | float:
        """Return what is added, from the losses of the step's tokens [organisms * half * rows, width]."""
        return 0.0


class DPOOrganisms(_Comparing):
    """TRL's loss_type ["sigmoid", "sft"] (Pang et al. 2024, arXiv 2404.19733).

    Without the second, the likelihood of the chosen replies falls with that of the rejected ones, and the
    organism loses behaviors.
    """

    def loss(self, ratios: Tensor, desirable: Tensor) -> Tensor:
        return -logsigmoid(BETA * (ratios[:, 0] - ratios[:, 1])).mean(1)

    def also(self, losses: Tensor, learned: Tensor) -> Tensor:
        chosen, tokens = (x.view(len(self.bank), 2, -1)[:, 0].sum(1) for x in (losses, learned))
        return chosen / tokens


class KTOOrganisms(_Comparing):
    def loss(self, ratios: Tensor, desirable: Tensor) -> Tensor:
        divergence = ratios[:, 1].detach().mean(1, keepdim=True).clamp(min=0)
        gained = BETA * (ratios[:, 0] - divergence)
        return (1 - torch.where(desirable, gained, -gained).sigmoid()).mean(1)
