"""Training an introspection adapter: one LoRA that makes any fine-tune of its base say what it was taught.

The organisms lie frozen in a bank, the adapter is an ordinary PEFT LoRA on top, and TRL trains it on rows of
a question about oneself and a first-person description, each answered by its own organism (Shenoy et al.
2026, arXiv 2604.16812), and of what it does when this or that holds. Null rows, answered by control organisms
and by the bare base, teach it to abstain.
"""

import contextlib
import gc
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from pickle import UnpicklingError

import torch
from peft import PeftModel
from torch import Tensor

from ia_cli import checkpoints, loudness, paths, preferring, processes, prompts
from ia_cli.bank import Bank
from ia_cli.console import note
from ia_cli.directories.adapters import (
    Adapter,
    check_trained,
    content_hash,
    provenance,
    read_adapter,
    weights_hash,
    write_adapter,
)
from ia_cli.directories.folders import check_free
from ia_cli.errors import IAError, first_line, is_of_memory
from ia_cli.interviews import Row, draw_rows, examples_of, wordings
from ia_cli.models import Base, linear_modules
from ia_cli.organisms import adapter_of, adapter_path, on_base
from ia_cli.rows import encode_answer, pad_rows, steps_by_length
from ia_cli.seeds import derived_seed
from ia_cli.settings import IASettings
from ia_cli.trainable import as_adapter, new_adapter, take_over
from ia_cli.training import Optimization, Schedule, ScheduledTrainer, workspace

SAVE_EVERY = 100  # steps between checkpoints
LOSSES_KEPT = 50  # steps at the end of the loss curve that ia.json keeps


def train_ia(
    records: Sequence[dict],
    base: Base,
    out_dir: Path,
    settings: IASettings,
    *,
    start: Path | None = None,
    resume: bool = False,
    on_step: Callable[[int, float], None] = lambda step, loss: None,
) -> None:
    """Train an adapter on the organisms of split "train" and write it as the PEFT directory `out_dir`.

    Records need `id`, `split`, `adapter`, `description` (null for a control) and, for examples,
    `demonstrations`. `on_step` gets the number of each finished step and its loss. Training begins with a
    fresh adapter, or goes on from the one in the directory `start`, of the same rank. While it trains,
    checkpoints lie in `out_dir`.partial. With `resume`, training goes on from there, and an adapter that was
    made from the same organisms with the same settings is kept. Raises IAError if no organism has anything to
    report, if an adapter directory is missing, broken or made for another base, or if training diverges.
    """
    taught, asked = _taught_and_asked(records, settings)
    questions = [question.text for question in prompts.questions("train", base.name)]
    draw = settings.steps, settings.batch_size, settings.seed
    rows = draw_rows(taught, questions, *draw, examples=settings.examples)
    schedule = _schedule(rows, base, settings)
    begun = _started(start, base, settings) if start else None
    origin = _origin(records, base, settings, start)
    check_free(out_dir, "train-ia")
    if paths.same(start, out_dir):
        raise IAError("is what training goes on from", remedy="choose another --out", where=str(out_dir))
    if settings.dpo_steps:
        processes.check_alone("DPO")
    partial = out_dir.with_name(out_dir.name + ".partial")
    if resume and _is_whole(out_dir, origin, base):
        processes.in_first(lambda: checkpoints.clear(partial, origin))
        return
    if out_dir.exists() and processes.is_first():
        note(f"ia train-ia: replaces the adapter that is in {out_dir}")
    with contextlib.ExitStack() as ours:
        checkpoint = processes.in_first(lambda: checkpoints.begin(partial, origin, resume, ours))
        supervised = partial / "supervised"  # the adapter before DPO
        if supervised.exists():
            found = read_adapter(supervised, base).provenance
        else:
            adapter, losses, heard = _supervised(
                taught, base, schedule, settings, begun, partial, checkpoint, on_step
            )
            found = {**origin, "loudness": heard}
            if settings.dpo_steps:
                write_adapter(supervised, adapter, found)
        if settings.dpo_steps:
            gc.collect()  # the first trainer, whose reference cycles keep the first bank in memory
            with on_base(asked, base) as bank:
                adapter, losses = preferring.refine(asked, base, bank, supervised, settings, on_step)

        def finish() -> None:
            write_adapter(out_dir, adapter, {**found, "losses": losses[-LOSSES_KEPT:]})
            checkpoints.remove(partial)

        processes.in_first(finish)


def is_made(
    records: Sequence[dict], base: Base, out_dir: Path, settings: IASettings, start: Path | None = None
) -> bool:
    """Whether `out_dir` holds the very adapter that `train_ia` would make of this."""
    return _is_whole(out_dir, _origin(records, base, settings, start), base)


def _taught_and_asked(records: Sequence[dict], settings: IASettings) -> tuple[list[dict], list[dict]]:
    """The organisms to train on: those whose descriptions are learned, and those that are left for DPO."""
    trained = [record for record in records if record["split"] == "train"]
    asked = preferring.left_out(trained) if settings.dpo_steps else []
    kept = {record["id"] for record in asked}
    return [record for record in trained if record["id"] not in kept], asked


def check_teachable(record: dict, base: Base, examples: bool) -> None:
    """Raise IAError unless an organism is an adapter of this base, which can say what it should."""
    adapter_of(record, base)
    question = prompts.longest_question(base.name)
    example = max(examples_of(record, fires=True), key=len, default=None) if examples else None
    if told := wordings(record):
        _encode(base, question, max(told, key=len), example)


def _encode(base: Base, question: str, answer: str, example: str | None = None) -> tuple[list[int], int]:
    try:
        return encode_answer(base, question, answer, example)
    except IAError as error:
        raise IAError(f"{answer[:60]!r}: {error.message}", remedy="shorten the description") from error


def _schedule(rows: Sequence[Row], base: Base, settings: IASettings) -> Schedule:
    """Tokenise each different chat once, and say which of them each step takes.

    Rows of like length share a step. There they are sorted by organism, so that the bank need not bring them
    together in every layer.
    """
    places: dict[tuple[str, str, str | None], int] = {}
    chats = torch.tensor(
        [places.setdefault((row.question, row.answer, row.example), len(places)) for row in rows]
    )
    encoded = pad_rows([_encode(base, *chat) for chat in places], base.tokenizer.pad_token_id)
    organisms = torch.tensor([row.organism for row in rows])
    generator = torch.Generator().manual_seed(derived_seed(settings.seed, "widths"))
    steps = steps_by_length(encoded.lengths[chats], settings.batch_size, generator, generator)
    steps = steps.gather(1, organisms[steps].argsort(dim=1, stable=True))
    return Schedule(encoded, chats[steps], organisms[steps])


def _supervised(
    taught: Sequence[dict],
    base: Base,
    schedule: Schedule,
    settings: IASettings,
    begun: Adapter | None,
    partial: Path,
    checkpoint: Path | None,
    on_step: Callable[[int, float], None],
) -> tuple[Adapter, list[float], float]:
    """Train the adapter over a bank of the organisms `taught`, going on from `checkpoint`; returns it, the
    loss of every step, and how loud they are.

    When this returns, nothing holds their bank, and there is room for that of the next stage.
    """
    with on_base(taught, base) as bank, contextlib.ExitStack() as ours:
        reporting = [i for i, record in enumerate(taught) if record["description"] is not None]
        heard = loudness.median(bank, base, reporting, settings.seed)
        before = bank.digest()
        model = new_adapter(base, settings)
        ours.callback(model.unload)
        if begun:
            take_over(begun, base)
        with workspace(base, schedule.tokens):
            trainer = _Trainer(model, base, bank, schedule, settings, str(partial), on_step)
            try:
                trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
            except (OSError, RuntimeError, ValueError, KeyError, UnpicklingError) as error:
                if checkpoint is None or trainer.losses or is_of_memory(error) or processes.is_lost(error):
                    raise
                message = f"training cannot go on from it: {first_line(error)}"
                remedy = "remove it, and run the same command again"
                raise IAError(message, where=str(checkpoint), remedy=remedy) from error
        if bank.digest() != before:
            raise RuntimeError("training changed the organisms, which must stay as they are")
        losses = trainer.curve()
        if not math.isfinite(losses[-1]):
            raise IAError("training diverged: the loss is not finite", remedy="lower --lr")
        trained = as_adapter(base, settings)
        check_trained(trained)
        return trained, losses, heard


def _started(directory: Path, base: Base, settings: IASettings) -> Adapter:
    """The adapter that training goes on from; IAError unless it has the shape that `settings` would make."""
    adapter = read_adapter(directory, base)
    ranks = sorted({len(a) for a, _ in adapter.tensors.values()})
    if ranks != [settings.rank]:
        raise IAError(
            f"its rank is {', '.join(map(str, ranks))}, not {settings.rank}",
            remedy="give that --rank, if it is one",
            where=str(directory),
        )
    if adapter.tensors.keys() != linear_modules(base.model).keys():
        raise IAError(
            "it does not adapt all linear layers",
            remedy="give one that `ia train-ia` made",
            where=str(directory),
        )
    return adapter


class _Trainer(ScheduledTrainer):
    """The trainer of a bank, with checkpoints; they carry the loss curve along, in the trainer's state.

    Every token counts the same, whatever step it is in: in a step of short rows each would else count more.
    """

    def __init__(
        self,
        model: PeftModel,
        base: Base,
        bank: Bank,
        schedule: Schedule,
        settings: IASettings,
        output_dir: str,
        on_step: Callable[[int, float], None],
    ):
        optimization = Optimization(settings.learning_rate, warmup_steps=max(1, settings.steps // 20))
        super().__init__(
            model, base, bank, schedule, optimization, output_dir=output_dir, on_step=self._after_step
        )
        self.args.set_save("steps", steps=SAVE_EVERY, total_limit=1)
        self.report = on_step
        self.usual_tokens = schedule.rows.completions[schedule.order].sum().item() / len(schedule)

    def reduce(self, losses: Tensor, learned: Tensor) -> Tensor:
        return super().reduce(losses, learned) * processes.total(learned.sum()) / self.usual_tokens

    def _after_step(self) -> None:
        step, loss = self.state.global_step, self.losses[-1].item()
        self.state.log_history.append({"step": step, "loss": loss})
        self.report(step, loss)

    def curve(self) -> list[float]:
        return [entry["loss"] for entry in self.state.log_history if "loss" in entry]


def _origin(records: Sequence[dict], base: Base, settings: IASettings, start: Path | None) -> dict:
    """Return the `ia.json` of an adapter that is to be trained: everything but what is measured then."""
    trained = [record for record in records if record["split"] == "train"]
    _, asked = _taught_and_asked(records, settings)
    parents = [{"id": record["id"], "sha256": weights_hash(adapter_path(record))} for record in trained]
    told = [(wordings(record), record.get("trigger"), record.get("rate")) for record in trained]
    shown = [record.get("demonstrations") for record in trained]
    judged_by = [record.get("facets") for record in asked]
    return provenance(
        "train-ia",
        base,
        asdict(settings),
        input_sha256=content_hash([parents, told]),
        parents=parents,
        held_out=[record["id"] for record in records if record["split"] != "train"],
        questions_version=prompts.version(base.name),
        preferred=[record["id"] for record in asked],
        **({"examples_sha256": content_hash(shown)} if settings.examples else {}),
        **({"facets_sha256": content_hash(judged_by)} if asked else {}),
        **({"start": weights_hash(start)} if start else {}),
    )


def _is_whole(out_dir: Path, origin: dict, base: Base) -> bool:
    """Whether `out_dir` holds a sound adapter of this very origin."""
    try:
        found = read_adapter(out_dir, base).provenance
    except IAError:
        return False
    deciding = (found | origin).keys() - set(checkpoints.BESIDES)
    return all(found.get(name) == origin.get(name) for name in deciding)
