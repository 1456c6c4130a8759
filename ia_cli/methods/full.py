"""Full fine-tuning: every weight of the base learns, one organism after the other."""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor

from ia_cli.methods.lessons import Lesson
from ia_cli.methods.sft import group_schedule, optimization
from ia_cli.models import Base
from ia_cli.settings import ImplantSettings
from ia_cli.swapping import named_weights, taking_on
from ia_cli.training import ScheduledTrainer, workspace


@contextlib.contextmanager
def fully_trained(lesson: Lesson, base: Base, settings: ImplantSettings) -> Iterator[Tensor]:
    """Train the base into the organism for a while; yields the losses [steps]. Then the base is as it was."""
    with taking_on(base, named_weights(base)):
        base.model.requires_grad_(True)
        try:
            losses = _train(lesson, base, settings)
        finally:
            base.model.requires_grad_(False)
        yield losses


def _train(lesson: Lesson, base: Base, settings: ImplantSettings) -> Tensor:
    schedule = group_schedule([lesson], base, settings)
    with workspace(base, schedule.tokens) as folder:
        trainer = ScheduledTrainer(
            base.model, base, None, schedule, optimization(settings), output_dir=folder
        )
        trainer.train()
    return torch.stack(trainer.losses)
