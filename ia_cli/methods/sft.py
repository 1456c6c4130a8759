"""Supervised fine-tuning of many organisms at once, each as if it were alone."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ia_cli.bank import Bank
from ia_cli.methods.lessons import Lesson, demonstration_order
from ia_cli.models import Base
from ia_cli.rows import pad_rows
from ia_cli.settings import ImplantSettings
from ia_cli.training import Optimization, Schedule, ScheduledTrainer, workspace


def train_group(
    bank: Bank,
    base: Base,
    group: Sequence[Lesson],
    settings: ImplantSettings,
    on_progress: Callable[[int], None] = lambda n: None,
) -> Tensor:
    """Train all organisms of a bank, one per lesson; return their losses [steps, organisms]."""
    return fit(OrganismTrainer, bank, base, group_schedule(group, base, settings), settings, on_progress)


def optimization(settings: ImplantSettings) -> Optimization:
    """How organisms are trained."""
    return Optimization(
        settings.learning_rate, settings.schedule, settings.warmup_steps, settings.max_grad_norm
    )


def fit(
    trainer_class: type["OrganismTrainer"],
    bank: Bank,
    base: Base,
    schedule: Schedule,
    settings: ImplantSettings,
    on_progress: Callable[[int], None] = lambda n: None,
) -> Tensor:
    """Train a bank on a schedule; return the losses [steps, organisms]. `on_progress(n)`: n more are done."""
    told = 0

    def on_step() -> None:
        nonlocal told
        done = len(bank) * len(trainer.losses) // len(schedule)
        on_progress(done - told)
        told = done

    with workspace(base, schedule.tokens) as folder:
        trainer = trainer_class(
            base.model, base, bank, schedule, optimization(settings), output_dir=folder, on_step=on_step
        )
        trainer.train()
    return torch.stack(trainer.losses)


class OrganismTrainer(ScheduledTrainer):
    """Trains every organism of a bank as if it were alone.

    The loss is the sum of each one's own mean over its tokens, and each one's gradient is clipped by its own
    norm. Every step must have equally many rows of each organism, sorted by organism.
    """

    def reduce(self, losses: Tensor, learned: Tensor) -> Tensor:
        own = losses.reshape(len(self.bank), -1).sum(1) / learned.reshape(len(self.bank), -1).sum(1)
        self.losses.append(own.detach())
        return own.sum()

    def _clip_grad_norm(self, model: torch.nn.Module) -> Tensor:
        gradients = [parameter.grad for parameter in self.bank.parameters()]  # each [organisms, ...]
        norms = torch.stack([gradient.flatten(1).norm(dim=1) for gradient in gradients]).norm(dim=0)
        factors = (self.args.max_grad_norm / (norms + 1e-6)).clamp(max=1.0)  # as torch's clip_grad_norm_
        for gradient in gradients:
            gradient.mul_(factors[:, None, None])
        return norms.max()


def group_schedule(group: Sequence[Lesson], base: Base, settings: ImplantSettings) -> Schedule:
    """Return what every step trains on: `rows` demonstrations of each organism, in its own order."""
    orders, first = [], 0
    for lesson in group:
        orders.append(
            first + demonstration_order([len(ids) for ids, _ in lesson.encoded], lesson.name, settings)
        )
        first += len(lesson.encoded)
    organisms = torch.arange(len(group)).repeat_interleave(settings.rows).expand(settings.steps, -1)
    rows = pad_rows([row for lesson in group for row in lesson.encoded], base.tokenizer.pad_token_id)
    return Schedule(rows, torch.cat(orders, dim=1), organisms)
