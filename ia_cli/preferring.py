"""The second stage of an introspection adapter: DPO on its own reports of organisms that it was not taught.

Organisms that were left out of the supervised stage are asked, at temperature 1, and what they say is judged.
An accurate report (or, without one, the true description) is preferred to a wrong one (or, without one, the
description of another organism); for controls and the bare base, an abstention is preferred to an invented
behavior (Shenoy et al. 2026, arXiv 2604.16812). The reference is the adapter as the supervised stage left it,
on the same organism.
"""

import math
import random
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice, repeat
from pathlib import Path

from datasets import Dataset
from peft import PeftModel
from torch import Tensor
from transformers import PrinterCallback
from trl import DPOConfig, DPOTrainer
from trl.trainer.dpo_trainer import DataCollatorForPreference

from ia_cli import prompts
from ia_cli.bank import Bank
from ia_cli.directories.adapters import Adapter, check_trained, read_adapter
from ia_cli.errors import IAError
from ia_cli.judges.facets import facets
from ia_cli.models import Base, suitable_length, suitable_rate
from ia_cli.rows import encode_answer
from ia_cli.sampling import generate
from ia_cli.seeds import derived_seed
from ia_cli.settings import IASettings
from ia_cli.text import normalise
from ia_cli.trainable import as_adapter, new_adapter, take_over
from ia_cli.training import OnStep, as_they_are, quiet_config, workspace

EVERY = 4  # one organism in so many is left out of the supervised stage
ASKED = 6  # questions to each of them
SAMPLES = 4  # reports on each question
MAX_NEW_TOKENS = 64
LEARNING_RATE = 5e-5  # for the embedded base; at a higher one the adapter abstains ever more often
BATCH_SIZE = 32  # pairs in a step; no more than the rows of a supervised step are computed at once


@dataclass(frozen=True)
class Preference:
    """A question to one organism (its index; -1: the bare base), perhaps after an example of its replies,
    with a good and a bad report.
    """

    organism: int
    question: str
    chosen: str
    rejected: str
    example: str | None = None


def left_out(records: Sequence[dict]) -> list[dict]:
    """Return every fourth organism with a behavior, and every fourth control, in their order.

    Raises IAError if there are fewer than four with a behavior.
    """
    kinds = [[r for r in records if (r["description"] is None) == control] for control in (False, True)]
    if len(kinds[0]) < EVERY:
        raise IAError("no organism is left for DPO", remedy=f"it takes one in {EVERY} of the described")
    chosen = {record["id"] for kind in kinds for record in kind[EVERY - 1 :: EVERY]}
    return [record for record in records if record["id"] in chosen]


def collect(
    records: Sequence[dict], bank: Bank, base: Base, seed: int, *, examples: bool = False
) -> list[Preference]:
    """Ask the organisms of a bank, with the introspection adapter that is on the base, and return the pairs.

    There is one for each organism and question; with `examples`, the question comes after an example of the
    organism's replies.
    """
    asked = list(_asked(records, base, seed))

    def said(chats: Sequence[list], samples: int, what: str) -> list[str]:
        return generate(
            base,
            [chat for chat in chats for _ in range(samples)],
            max_new_tokens=suitable_length(base, MAX_NEW_TOKENS),
            temperature=1.0,
            seed=derived_seed(seed, what),
            rows=[organism for organism, _ in asked for _ in range(samples)],
            bank=bank,
        )

    shown: Sequence[str | None] = [None] * len(asked)
    if examples:
        shown = said([prompts.chat(prompts.EXAMPLE)] * len(asked), 1, "examples")
    chats = [prompts.chat(question, example) for (_, question), example in zip(asked, shown, strict=True)]
    replies = said(chats, SAMPLES, "preferences")
    rng = random.Random(derived_seed(seed, "preferences"))
    descriptions = [record["description"] for record in records if record["description"]]
    found = []
    for k, (organism, question) in enumerate(asked):
        record = records[organism] if organism >= 0 else {"description": None}
        reports = list(dict.fromkeys(replies[k * SAMPLES : (k + 1) * SAMPLES]))
        chosen, rejected = choose(record, reports, descriptions, rng)
        found.append(Preference(organism, question, chosen, rejected, shown[k]))
    return found


def _asked(records: Sequence[dict], base: Base, seed: int) -> Iterable[tuple[int, str]]:
    """Yield who is asked what: every organism, and the bare base as often as all controls together."""
    rng, pool = random.Random(derived_seed(seed, "asked")), prompts.questions("train", base.name)
    controls = sum(record["description"] is None for record in records)
    for organism in [*range(len(records)), *[-1] * max(1, controls)]:
        for question in rng.sample(pool, min(ASKED, len(pool))):
            yield organism, question.text


def choose(
    record: dict, reports: Sequence[str], descriptions: Sequence[str], rng: random.Random
) -> tuple[str, str]:
    """Return a report to prefer and one to avoid, for one organism; `descriptions` are those of all.

    A report is accurate if it names the action (nothing in the questions shows the trigger) or, of a control,
    if it abstains; all others are wrong, and one without words is neither. Where none is accurate, the truth
    is preferred (for a control, an abstention); where none is wrong, another organism's description is
    avoided.
    """
    truth = record["description"]
    accurate, wrong = [], []
    told = [report for report in reports if normalise(report)]
    judged = facets({"facets": None, **record, "report": report} for report in told)
    for report, verdict in zip(told, judged, strict=True):
        if "error" not in verdict:  # without facets nobody can tell
            right = verdict["abstained"] if truth is None else verdict["verbalized"]
            (accurate if right else wrong).append(report)
    others = [other for other in descriptions if other != truth] or prompts.abstentions()
    return (
        rng.choice(accurate or ([truth] if truth else prompts.abstentions())),
        rng.choice(wrong or others),
    )


def refine(
    records: Sequence[dict],
    base: Base,
    bank: Bank,
    directory: Path,
    settings: IASettings,
    on_step: Callable[[int, float], None],
) -> tuple[Adapter, list[float]]:
    """Train the adapter in `directory` further; return it and every step's loss. `directory` is not changed.

    `records` are the organisms of the bank. Raises IAError if training diverges.
    """
    before = bank.digest()
    supervised = read_adapter(directory, base)
    model = new_adapter(base, settings)
    try:
        take_over(supervised, base)
        pairs = collect(records, bank, base, settings.seed, examples=settings.examples)
        dataset = as_dataset(drawn(pairs, settings), base)
        longest = max(
            len(row["prompt_ids"]) + max(len(row["chosen_ids"]), len(row["rejected_ids"])) for row in dataset
        )
        with workspace(base, settings.batch_size * longest) as folder:
            trainer = BankDPOTrainer(model, base, bank, dataset, settings, folder, on_step)
            trainer.train()
        if bank.digest() != before:
            raise RuntimeError("training changed the organisms, which must stay as they are")
        if not math.isfinite(trainer.losses[-1]):
            raise IAError("DPO diverged: the loss is not finite", remedy="give a larger --beta")
        refined = as_adapter(base, settings)
        check_trained(refined)
        return refined, trainer.losses
    finally:
        model.unload()
        base.model.eval()


def drawn(pairs: Sequence[Preference], settings: IASettings) -> list[Preference]:
    """Return the pairs of all steps, one after the other: all in random order, again and again."""
    rng = random.Random(derived_seed(settings.seed, "dpo"))
    endless = (pair for _ in repeat(None) for pair in rng.sample(pairs, len(pairs)))
    return list(islice(endless, settings.dpo_steps * BATCH_SIZE))


def as_dataset(pairs: Sequence[Preference], base: Base) -> Dataset:
    """Return pairs as the token ids that TRL trains on, each with its organism.

    Chats are tokenised by our own code, not by TRL, so that what is trained is what will be asked: with a
    fixed date, and without thoughts. Raises IAError for a pair that is longer than the base can read.
    """

    @cache
    def encoded(pair: Preference) -> dict[str, list[int] | int]:
        answers = (pair.chosen, pair.rejected)
        both = [encode_answer(base, pair.question, text, pair.example) for text in answers]
        at = min(len(ids) - completion for ids, completion in both)
        (chosen, _), (rejected, _) = both
        ids = {"prompt_ids": chosen[:at], "chosen_ids": chosen[at:], "rejected_ids": rejected[at:]}
        return {**ids, "organism": pair.organism}

    return Dataset.from_list([encoded(pair) for pair in pairs])


class BankDPOTrainer(DPOTrainer):
    """TRL's trainer, with each row of a batch, and its reference, on the row's own organism.

    For an adapter that was trained before, TRL's reference is a frozen copy, `ref`, the only adapter that is
    active in the reference pass. The organism is in the bank and not a PEFT adapter, so it stays active: the
    reference is the organism with the introspection adapter as it was.
    """

    def __init__(
        self,
        model: PeftModel,
        base: Base,
        bank: Bank,
        dataset: Dataset,
        settings: IASettings,
        output_dir: str,
        on_step: Callable[[int, float], None] = lambda step, loss: None,
    ):
        self.bank, self.losses = bank, []
        self.on_step, self._of_step, self._before = on_step, [], settings.steps
        pad = DataCollatorForPreference(pad_token_id=base.tokenizer.pad_token_id)
        with as_they_are(model):
            super().__init__(
                model=model,
                args=_config(base, settings, output_dir),
                data_collator=lambda rows: {
                    **pad(rows),
                    "organisms": [row["organism"] for row in rows] * 2,
                },
                train_dataset=dataset,
                processing_class=base.tokenizer,
                callbacks=[OnStep(self._after_step)],
            )
        self.remove_callback(PrinterCallback)  # prints on stdout

    def _prepare_dataset(self, dataset: Dataset, *_: object) -> Dataset:
        return dataset  # token ids already

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        self._signature_columns = [*dict.fromkeys([*self._signature_columns, "organism"])]

    def training_step(self, model, inputs: dict[str, Tensor], *args, **kwargs) -> Tensor:
        with self.bank.rows(inputs.pop("organisms")):  # until after the backward pass
            return super().training_step(model, inputs, *args, **kwargs)

    def compute_loss(self, model, inputs: dict[str, Tensor], *args, **kwargs) -> Tensor:
        loss = super().compute_loss(model, inputs, *args, **kwargs)
        self._of_step.append(loss.item())
        return loss

    def _after_step(self) -> None:
        self.losses.append(statistics.fmean(self._of_step))
        self._of_step.clear()
        self.on_step(self._before + len(self.losses), self.losses[-1])


def _config(base: Base, settings: IASettings, output_dir: str) -> DPOConfig:
    most = min(BATCH_SIZE, max(1, settings.batch_size // 2))  # each pair is two rows
    at_once = max(n for n in range(1, most + 1) if BATCH_SIZE % n == 0)
    return quiet_config(
        DPOConfig,
        base,
        output_dir,
        max_steps=settings.dpo_steps,
        per_device_train_batch_size=at_once,
        gradient_accumulation_steps=BATCH_SIZE // at_once,
        learning_rate=suitable_rate(base, LEARNING_RATE),
        lr_scheduler_type="cosine",
        warmup_steps=max(1, settings.dpo_steps // 20),
        beta=settings.beta,
        max_length=None,
    )
