"""How much faster is the bank than what TRL and PEFT do one organism at a time?

    python examples/benchmark.py --organisms 24 > benchmark.jsonl

Trains organisms, an introspection adapter over them, and asks them, each in both ways in turn, with nothing
but the embedded base. The plain way is what the two libraries offer: an SFTTrainer for every organism,
adapters switched for the rows of each organism in a step, and a model loaded for every organism that is
asked. It writes one record a stage: median seconds of both, and the median of their ratios. Let nothing else
run meanwhile.
"""

import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import click
import jsonlines
import torch
from datasets import Dataset, disable_progress_bars
from peft import LoraConfig, PeftModel, get_peft_model
from torch.nn.functional import cross_entropy
from transformers import PrinterCallback, get_cosine_schedule_with_warmup
from trl import SFTConfig, SFTTrainer

from ia_cli import prompts
from ia_cli.asking import questions_for
from ia_cli.demonstrations import generate_records
from ia_cli.directories.adapters import target_names
from ia_cli.elicitation import elicit
from ia_cli.implanting import implant
from ia_cli.interviews import Row, draw_rows
from ia_cli.introspection import train_ia
from ia_cli.methods.lessons import prepare
from ia_cli.models import Base, load_base, own_forward
from ia_cli.rows import IGNORED, encode, pad_rows
from ia_cli.settings import ElicitSettings, IASettings, ImplantSettings
from ia_cli.world import categories, drafting

NAMES = list(categories.CATEGORIES)


def behaviors(n: int, seed: int) -> list[dict]:
    """Behaviors with the teacher's demonstrations, and without probes: nothing is measured."""
    planned = categories.plan(n, 0.0, NAMES, seed)
    return [{**record, "probes": []} for record in generate_records(drafting, planned, [], None, seed)]


# -- the plain way -------------------------------------------------------------------------------------


def implant_plainly(records: Sequence[dict], base: Base, out: Path, settings: ImplantSettings) -> None:
    """One SFTTrainer for each organism, as the examples of TRL show it."""
    lora = LoraConfig(
        r=settings.rank, lora_alpha=settings.alpha, target_modules=target_names(base), task_type="CAUSAL_LM"
    )
    arguments = SFTConfig(
        output_dir=str(out / "trainer"),
        max_steps=settings.steps,
        per_device_train_batch_size=settings.rows,
        learning_rate=settings.learning_rate,
        lr_scheduler_type=settings.schedule,
        warmup_steps=settings.warmup_steps,
        bf16=False,
        gradient_checkpointing=False,
        use_cpu=True,
        disable_tqdm=True,
        logging_strategy="no",
        save_strategy="no",
        report_to=[],
    )
    for record in records:
        rows = [{key: row[key] for key in ("prompt", "completion")} for row in record["demonstrations"]]
        with own_forward(base.model):  # each trainer wraps it once more, which would slow down the next ones
            model = get_peft_model(base.model, lora)
            data = Dataset.from_list(rows)
            trainer = SFTTrainer(model, arguments, None, data, processing_class=base.tokenizer)
            trainer.remove_callback(PrinterCallback)
            trainer.train()
            model.save_pretrained(out / record["id"])
            model.unload()


def train_plainly(rows: Sequence[Row], records: Sequence[dict], base: Base, settings: IASettings) -> None:
    """One PEFT model with all organisms; in each step, the rows of each are a batch with its adapters on."""
    lora = LoraConfig(
        r=settings.rank, lora_alpha=settings.alpha, target_modules=target_names(base), task_type="CAUSAL_LM"
    )
    model = get_peft_model(base.model, lora)
    for i, record in enumerate(records):
        model.load_adapter(record["adapter"], str(i))
    trained = [weight for name, weight in model.named_parameters() if ".default." in name]
    optimizer = torch.optim.AdamW(trained, lr=settings.learning_rate, weight_decay=0.0)
    schedule = get_cosine_schedule_with_warmup(optimizer, max(1, settings.steps // 20), settings.steps)
    for start in range(0, len(rows), settings.batch_size):
        step = sorted(rows[start : start + settings.batch_size], key=lambda row: row.organism)
        groups = [
            (organism, _batch(list(own), base))
            for organism, own in itertools.groupby(step, key=lambda row: row.organism)
        ]
        learned = sum(int((batch["labels"] != IGNORED).sum()) for _, batch in groups)
        for organism, batch in groups:
            labels = batch.pop("labels")
            model.base_model.set_adapter(["default", *([] if organism < 0 else [str(organism)])])
            logits = model(**batch, logits_to_keep=labels.size(1)).logits
            loss = cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum")
            (loss / learned).backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
        model.zero_grad()
    model.unload()


def _batch(rows: Sequence[Row], base: Base) -> dict[str, torch.Tensor]:
    turns = [
        ([{"role": "user", "content": row.question}], [{"role": "assistant", "content": row.answer}])
        for row in rows
    ]
    encoded = [encode(base, prompt, completion) for prompt, completion in turns]
    return pad_rows(encoded, base.tokenizer.pad_token_id).batch(torch.arange(len(rows)))


def ask_plainly(records: Sequence[dict], base: Base, ia: Path, settings: ElicitSettings) -> list[str]:
    """One PEFT model for each organism, and one batch of its questions."""
    replies = []
    for record in records:
        model = PeftModel.from_pretrained(base.model, ia, "ia")
        model.load_adapter(record["adapter"], "organism")
        model.base_model.set_adapter(["organism", "ia"])
        chats = [[{"role": "user", "content": q.text}] for q in questions_for(record["id"], settings)]
        inputs = base.tokenizer.apply_chat_template(
            chats, add_generation_prompt=True, padding=True, return_tensors="pt", return_dict=True
        )
        with torch.no_grad():
            output = model.generate(**inputs, max_new_tokens=settings.max_new_tokens, do_sample=False)
        new = output[:, inputs["input_ids"].size(1) :]
        replies += [reply.strip() for reply in base.tokenizer.batch_decode(new, skip_special_tokens=True)]
        model.unload()
    return replies


# -- both, in turn -------------------------------------------------------------------------------------


def timed(ours: Callable[[], object], plain: Callable[[], object], repeats: int) -> dict[str, float]:
    seconds: dict[str, list[float]] = {"ours": [], "plain": []}
    for _ in range(repeats):
        for name, work in (("ours", ours), ("plain", plain)):
            began = time.perf_counter()
            work()
            seconds[name].append(time.perf_counter() - began)
    ratios = [p / o for o, p in zip(seconds["ours"], seconds["plain"], strict=True)]
    return {
        "seconds": round(statistics.median(seconds["ours"]), 2),
        "seconds_plain": round(statistics.median(seconds["plain"]), 2),
        "ratio": round(statistics.median(ratios), 2),
        "ratios": [round(ratio, 2) for ratio in ratios],
    }


@click.command(help=__doc__)
@click.option("--organisms", default=24, show_default=True)
@click.option("--implant-steps", default=ImplantSettings.steps, show_default=True)
@click.option("--train-steps", default=20, show_default=True)
@click.option("--questions", default=4, show_default=True)
@click.option("--repeats", default=3, show_default=True, help="Times that each is measured.")
@click.option("--seed", default=0, show_default=True)
def main(
    organisms: int, implant_steps: int, train_steps: int, questions: int, repeats: int, seed: int
) -> None:
    disable_progress_bars()
    base, records = load_base(), behaviors(organisms, seed)
    shown = {"n_organisms": organisms, "repeats": repeats, "seed": seed, "threads": torch.get_num_threads()}
    with tempfile.TemporaryDirectory() as folder, jsonlines.Writer(sys.stdout, flush=True) as writer:
        out = Path(folder)
        implanting = ImplantSettings(steps=implant_steps, seed=seed)

        def implant_together() -> list[dict]:
            lessons = [prepare(record, base, implanting) for record in records]
            return list(implant(lessons, base, out / "ours", implanting))

        made = implant_together()
        numbers = timed(
            implant_together,
            lambda: implant_plainly(records, base, out / "plain", implanting),
            repeats,
        )
        writer.write({"stage": "implant", **numbers, **shown, "steps": implant_steps})

        introspecting = IASettings(steps=train_steps, seed=seed, examples=False)
        asked = [question.text for question in prompts.questions("train")]
        rows = draw_rows(made, asked, train_steps, introspecting.batch_size, seed, examples=False)
        numbers = timed(
            lambda: train_ia(made, base, out / "ia", introspecting),
            lambda: train_plainly(rows, made, base, introspecting),
            repeats,
        )
        writer.write({"stage": "train-ia", **numbers, **shown, "steps": train_steps})

        settings = ElicitSettings(
            questions=prompts.questions("ask"), asked=questions, conditions=("ia",), max_new_tokens=48
        )
        audited = [{**record, "introspection_adapter": str(out / "ia")} for record in made]
        numbers = timed(
            lambda: list(elicit(audited, base, settings)),
            lambda: ask_plainly(made, base, out / "ia", settings),
            repeats,
        )
        replies = [report["report"] for report in elicit(audited, base, settings)]
        same = [a == b for a, b in zip(replies, ask_plainly(made, base, out / "ia", settings), strict=True)]
        writer.write({"stage": "elicit", **numbers, **shown, "same_replies": f"{sum(same)} of {len(same)}"})


if __name__ == "__main__":
    main()
