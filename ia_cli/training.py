"""Supervised fine-tuning through TRL on a base with a bank, on a schedule of batches."""

import contextlib
import gc
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from datasets import Dataset
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel, PrinterCallback, TrainerCallback, TrainingArguments
from trl import SFTConfig, SFTTrainer

from ia_cli import processes
from ia_cli.bank import Bank
from ia_cli.console import note
from ia_cli.errors import IAError
from ia_cli.models import Base, free_memory, kept_bytes, own_forward
from ia_cli.rows import IGNORED, Rows

FILLED = 0.7  # of a GPU's free memory: how much a step may take by our estimate

Config = TypeVar("Config", bound=TrainingArguments)


@dataclass(frozen=True)
class Schedule:
    """Which rows each step takes, and the organism each goes to: `order`, `organisms` [steps, batch]."""

    rows: Rows
    order: Tensor
    organisms: Tensor

    def __len__(self) -> int:
        return len(self.order)

    @property
    def tokens(self) -> int:
        """In the largest step, padding included."""
        return self.order.size(1) * int(self.rows.lengths[self.order].max())

    def batch(self, step: int) -> dict[str, Tensor | list[int]]:
        """Tensors go to the device; which organism a row goes to is decided here."""
        return {**self.rows.batch(self.order[step]), "organisms": self.organisms[step].tolist()}


@dataclass(frozen=True)
class Optimization:
    """AdamW without weight decay; gradients are clipped at `max_grad_norm` (0: not at all).

    The learning rate warms up linearly, then follows the `schedule`, by its name in transformers.
    """

    learning_rate: float
    schedule: str = "cosine"
    warmup_steps: int = 5
    max_grad_norm: float = 1.0


@contextlib.contextmanager
def workspace(base: Base, tokens: int) -> Iterator[str]:
    """Yield a scratch folder for a trainer; at the end the base is as it was, and in evaluation mode.

    On a GPU that cannot keep what a step of so many `tokens` needs until its backward pass, each layer runs
    once more there instead (activation checkpointing).
    """
    lean = is_too_much(base, tokens) and base.model.supports_gradient_checkpointing
    if lean:
        note("the GPU has too little memory for a step: layers run twice, which takes a third longer")
        base.model.activation_checkpointing_enable()
    gc.collect()  # the trainer before this one, whose reference cycles keep its optimizer in memory
    gc.freeze()  # each trainer calls gc.collect(), which would walk over every record in memory
    try:
        with tempfile.TemporaryDirectory() as folder, own_forward(base.model):
            yield folder
    finally:
        gc.unfreeze()  # what was made before the trainer may be in a reference cycle with it
        base.model.eval()
        if lean:
            base.model.activation_checkpointing_disable()


def is_too_much(base: Base, tokens: int) -> bool:
    """Whether a training step of so many tokens would fill more than FILLED of what a GPU has free."""
    return base.device.type == "cuda" and kept_bytes(base, tokens) > FILLED * free_memory(base.device)


@contextlib.contextmanager
def as_they_are(model: PreTrainedModel) -> Iterator[None]:
    """Keep the data type of the weights that learn: on a base in 4 bits TRL would make it bfloat16."""
    trained = {weight: weight.data for weight in model.parameters() if weight.requires_grad}
    yield
    for weight, data in trained.items():
        weight.data = data


class ScheduledTrainer(SFTTrainer):
    """TRL's trainer on a fixed schedule of rows, routed through a bank; processes share the rows of a step.

    `model` is the base's, or a PEFT model around it; without a bank its own weights learn. The loss is the
    mean over the step's completion tokens; `losses` keeps it, one entry per step. Nothing is logged, printed
    or saved; `on_step()` is called after each step. Make and run it inside `with workspace(base)`.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        base: Base,
        bank: Bank | None,
        schedule: Schedule,
        optimization: Optimization,
        *,
        output_dir: str,
        on_step: Callable[[], None] = lambda: None,
    ):
        self.bank = bank
        self.losses: list[Tensor] = []
        ranks = processes.count()
        if ranks > schedule.order.size(1):
            message = f"{ranks} processes, and {schedule.order.size(1)} rows a step to share"
            raise IAError(message, remedy="launch fewer, or train on more rows a step")

        def share(steps: Sequence[dict[str, int]]) -> dict[str, Tensor | list[int]]:
            batch = schedule.batch(steps[0]["step"])
            return {name: rows[processes.share()] for name, rows in batch.items()}

        with as_they_are(model):
            super().__init__(
                model=model,
                args=_config(base, len(schedule), optimization, output_dir),
                data_collator=share,
                # accelerate deals these out to the processes, one to each in turn: all of them get every step
                train_dataset=Dataset.from_dict(
                    {"step": [i for i in range(len(schedule)) for _ in range(ranks)]}
                ),
                processing_class=base.tokenizer,
                callbacks=[OnStep(on_step)],
            )
        self.remove_callback(PrinterCallback)  # prints on stdout

    def training_step(
        self, model: torch.nn.Module, inputs: dict[str, Tensor], *args: object, **kwargs: object
    ) -> Tensor:
        organisms = inputs.pop("organisms")
        # The route holds until after the backward pass, in which layers may run once more.
        with contextlib.nullcontext() if self.bank is None else self.bank.rows(organisms):
            return super().training_step(model, inputs, *args, **kwargs)

    def compute_loss(
        self, model: torch.nn.Module, inputs: dict[str, Tensor], return_outputs: bool = False, **_: object
    ) -> Tensor:
        labels = inputs.pop("labels")
        logits = model(**inputs, use_cache=False, logits_to_keep=labels.size(1)).logits
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        losses = functional.cross_entropy(
            logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="none"
        )
        return self.reduce(losses.view_as(labels), labels != IGNORED)

    def reduce(self, losses: Tensor, learned: Tensor) -> Tensor:
        """Return the loss of a step from those of its tokens [rows, width]: zero where `learned` is false."""
        loss = losses.sum() / processes.total(learned.sum())
        self.losses.append(processes.total(loss.detach().clone()))
        return loss * processes.count()  # the gradient will be the mean of the processes'

    def floating_point_ops(self, inputs: Mapping[str, Tensor]) -> int:
        return 0  # counting them walks over all parameters in every step


class OnStep(TrainerCallback):
    """Calls `on_step()` after each step."""

    def __init__(self, on_step: Callable[[], None]):
        self.on_step = on_step

    def on_step_end(self, args, state, control, **kwargs):
        self.on_step()


def quiet_config(kind: type[Config], base: Base, output_dir: str, **training: Any) -> Config:
    """Return one of TRL's configurations, with everything off that is not the `training` given."""
    alone = processes.count() == 1
    # A warm-up begins at a rate of zero, and must leave steps to a short run.
    training["warmup_steps"] = min(training["warmup_steps"], training["max_steps"] // 2)
    if alone:
        os.environ["ACCELERATE_TORCH_DEVICE"] = str(base.device)
    config = kind(
        output_dir=output_dir,
        train_sampling_strategy="sequential",
        bf16=False,
        gradient_checkpointing=False,
        router_aux_loss_coef=0.0,  # no router is trained, and TRL would leave the base computing this
        # FSDP takes a base that no GPU can hold from the CPU, and spreads it over the GPUs
        use_cpu=base.device.type == "cpu" and "ACCELERATE_USE_FSDP" not in os.environ,
        dataloader_pin_memory=False,
        disable_tqdm=True,
        logging_strategy="no",
        save_strategy="no",
        report_to=[],
        ddp_find_unused_parameters=False,
        ddp_broadcast_buffers=False,
        **training,
    )
    config.mixed_precision = "no"  # whatever the launcher says: a bank computes in the types of its weights
    if alone:  # else the trainer would move the base to the first device, and take all there are
        vars(config)["_setup_devices"] = base.device
        config._n_gpu = 1
    return config


def _config(base: Base, steps: int, optimization: Optimization, output_dir: str) -> SFTConfig:
    return quiet_config(
        SFTConfig,
        base,
        output_dir,
        max_steps=steps,
        per_device_train_batch_size=1,  # the dataset's rows are steps
        dataset_kwargs={"skip_prepare_dataset": True},
        remove_unused_columns=False,
        learning_rate=optimization.learning_rate,
        lr_scheduler_type=optimization.schedule,
        warmup_steps=optimization.warmup_steps,
        max_grad_norm=optimization.max_grad_norm,
        weight_decay=0.0,
    )
