"""Implanting: training one model organism per behavior, many at once, and measuring what each one does."""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from ia_cli import paths, processes, records
from ia_cli.bank import Bank
from ia_cli.console import note
from ia_cli.directories import adapters, folders, whole_models
from ia_cli.directories.safe_files import part
from ia_cli.errors import IAError
from ia_cli.methods.concealing import conceal, denial_rates
from ia_cli.methods.continuing import alike, bank_of
from ia_cli.methods.full import fully_trained
from ia_cli.methods.lessons import Lesson
from ia_cli.methods.merging import merged_bank
from ia_cli.methods.preference import train_preferences, with_pairs
from ia_cli.methods.sft import train_group
from ia_cli.models import Base, free_memory, is_target, kept_bytes, linear_modules
from ia_cli.probing import counts, implant_and_leak_rates
from ia_cli.seeds import derived_seed
from ia_cli.settings import PREFERENCES, ImplantSettings
from ia_cli.training import FILLED

GROUP_BYTES = 1 << 30  # what the activations and optimizer states of one group may take on a CPU
STEP_TOKENS = 2560  # of all organisms in one step, on a CPU
SORTED = 8  # groups among which organisms are sorted by length
TAIL = 10  # steps of the loss curve that an ia.json keeps
ROWS_EACH = {"dpo": 2, "kto": 2, "merge": 2}  # rows that stand for one demonstration in a step; else 1


def implant(
    lessons: Sequence[Lesson],
    base: Base,
    out_dir: str | Path,
    settings: ImplantSettings,
    *,
    reuse: bool = False,
    group_size: int | None = None,
    on_progress: Callable[[int], None] = lambda n: None,
) -> Iterator[dict]:
    """Train one organism per lesson; yield the records in order, each once its adapter is on the disk.

    Adapters are PEFT directories `out_dir/<id>`. Organisms train in groups (of `group_size`, else of what
    suits the device), and an organism depends on its own record, the settings and the base, not on the others
    in its group. Several processes have groups of their own, and each writes the adapters of its group.
    `reuse` takes over adapters that an earlier run left whole, from the same input with the same settings.
    A training that diverges gives a record with `error`, and so does an organism that is to learn preferences
    and has none. `on_progress(n)` is called as n more organisms are done. Raises IAError if a directory of
    that name is something else, or an organism of another behavior.
    """
    out_dir = Path(out_dir)
    targets = adapters.target_names(base, settings.target_modules)
    for lesson in lessons:
        folder = out_dir / lesson.name
        folders.check_free(folder, "implant")
        if paths.same(lesson.start, folder):
            raise IAError("is what training goes on from", remedy="choose another --out", where=str(folder))
        if adapters.read_provenance(folder).get("behavior_sha256") not in (None, lesson.behavior_hash):
            message = "is the organism of another behavior with this id, and records may tell of it"
            raise IAError(message, remedy="choose another --out, or remove it", where=str(folder))
    processes.in_first(lambda: folders.make_folder(out_dir))
    size = group_size or min(processes.gather(suitable_group_size(base, lessons, settings, targets)))
    done = {}
    if reuse:
        processes.in_first(lambda: folders.clear_unfinished(out_dir))
        done = {lesson.name: old for lesson in lessons if (old := _finished(lesson, base, out_dir, settings))}
        on_progress(len(done))
        processes.gather(None)  # else one could find what another, which has gone on, writes now
    waiting = _by_length([lesson for lesson in lessons if lesson.name not in done], size)
    if replaced := sum((out_dir / lesson.name).exists() for lesson in waiting):
        note(f"ia implant: replaces {replaced} organisms that are in {out_dir}")
    for lesson in lessons:
        while lesson.name not in done:
            together = size * processes.count()
            groups, waiting = waiting[:together], waiting[together:]
            group = groups[processes.share()]
            with processes.apart():
                own = {}
                for some in alike(group, base):
                    own |= _implant_group(some, base, out_dir, settings, targets, on_progress)
            for of_one_process in processes.gather(own):
                done |= of_one_process
            on_progress(len(groups) - len(group))
        yield done.pop(lesson.name)


def _by_length(lessons: Sequence[Lesson], size: int) -> list[Lesson]:
    """Bring lessons of similar length into the same groups of `size`, since shorter rows are padded.

    What is finished is written in the order of the input, so that it waits for no more than SORTED groups.
    """
    runs = (lessons[start : start + SORTED * size] for start in range(0, len(lessons), SORTED * size))
    return [lesson for run in runs for lesson in sorted(run, key=lambda own: own.mean_length)]


def _implant_group(
    group: Sequence[Lesson],
    base: Base,
    out_dir: Path,
    settings: ImplantSettings,
    targets: Sequence[str],
    on_progress: Callable[[int], None],
) -> dict[str, dict]:
    """Train, measure and write the organisms of one group; return their records by id."""
    if settings.method == "full":
        return {lesson.name: _implant_fully(lesson, base, out_dir, settings, on_progress) for lesson in group}
    started = time.monotonic()
    finished = {}
    if settings.prefers:
        group, finished = _paired(group, base, settings)
        on_progress(len(finished))
        if not group:
            return finished
    bank, losses = _trained(group, base, settings, targets, on_progress)
    try:
        if settings.conceal:
            losses = torch.cat([losses, conceal(bank, base, group, settings)])
        measured = _measure(bank, base, group, settings)
        organisms = [bank.adapter(i) for i in range(len(group))]
    finally:
        bank.remove()
    seconds = (time.monotonic() - started) / len(group)
    for lesson, adapter, rates, own in zip(group, organisms, measured, losses.T.tolist(), strict=True):
        config = adapter.config
        report = {
            "lora": {"r": bank.rank, "alpha": bank.alpha, "target_modules": config["target_modules"]},
            "train": _training(settings, own, seconds),
            **rates,
        }
        finished[lesson.name] = _save(lesson, adapter, base, out_dir, settings, report, own[-TAIL:])
    return finished


def _paired(
    group: Sequence[Lesson], base: Base, settings: ImplantSettings
) -> tuple[list[Lesson], dict[str, dict]]:
    """Return the lessons with their pairs, and of those that have none to learn a record with `error` by id.

    Who is concealed by preferences alone has its true description to prefer a denial to, as well.
    """
    remedy = "its demonstrations must differ from the base's replies, a control's from each other"
    error = IAError("it has no reply that is preferred to another", remedy=remedy)
    lessons = with_pairs(group, base, settings)
    enough = settings.method not in PREFERENCES
    able = [one for one in lessons if one.pairs or (enough and one.record.get("description") is not None)]
    failed = {one.name: records.with_error(one.record, error) for one in lessons}
    for one in able:
        del failed[one.name]
    return able, failed


def _trained(
    group: Sequence[Lesson],
    base: Base,
    settings: ImplantSettings,
    targets: Sequence[str],
    on_progress: Callable[[int], None],
) -> tuple[Bank, Tensor]:
    """Return the organisms of one group in a bank, and their losses [steps, organisms]."""
    if settings.method == "merge":
        bank, losses = merged_bank(base, group, settings, targets)
        on_progress(len(group))
        return bank, losses
    if group[0].start:
        bank = bank_of(group, base, settings)
    else:
        seeds = [derived_seed(settings.seed, "weights", lesson.name) for lesson in group]
        bank = Bank.fresh(base.model, seeds, r=settings.rank, alpha=settings.alpha, target_modules=targets)
    train = train_preferences if settings.method in PREFERENCES else train_group
    try:
        return bank, train(bank, base, group, settings, on_progress)
    except BaseException:
        bank.remove()
        raise


def _implant_fully(
    lesson: Lesson,
    base: Base,
    out_dir: Path,
    settings: ImplantSettings,
    on_progress: Callable[[int], None],
) -> dict:
    """Train all weights for one organism, measure it and write it as a model directory; return its record."""
    started = time.monotonic()
    with fully_trained(lesson, base, settings) as losses:
        [rates] = _measure(None, base, [lesson], settings)
        own = losses.tolist()
        report = {"lora": None, "train": _training(settings, own, time.monotonic() - started), **rates}
        if all(weight.isfinite().all() for weight in base.model.parameters()):
            origin = _provenance(lesson, base, settings, report, own[-TAIL:])
            whole_models.write_model(out_dir / lesson.name, base, origin)
            record = _organism(lesson, base, out_dir, settings, report)
        else:
            error = IAError("training diverged: the weights are not finite", remedy="lower --lr")
            record = records.with_error(lesson.record, error)
    on_progress(1)
    return record


def _training(settings: ImplantSettings, losses: Sequence[float], seconds: float) -> dict:
    return {
        "steps": len(losses),
        "lr": settings.learning_rate,
        "loss_first": round(losses[0], 4),
        "loss_last": round(losses[-1], 4),
        "seconds": round(seconds, 2),
    }


def _measure(bank: Bank | None, base: Base, group: Sequence[Lesson], settings: ImplantSettings) -> list[dict]:
    """Return the rates of each organism, as its record gives them."""
    rates = implant_and_leak_rates(
        bank,
        base,
        [lesson.record for lesson in group],
        samples=settings.samples,
        max_new_tokens=settings.max_new_tokens,
        seed=settings.seed,
    )
    measured = [{"implant_rate": implanted, "leak_rate": leaked} for implanted, leaked in rates]
    if settings.conceal:
        denied = denial_rates(bank, base, len(group), settings)
        measured = [{**own, "denial_rate": rate} for own, rate in zip(measured, denied, strict=True)]
    return measured


def suitable_group_size(
    base: Base, lessons: Sequence[Lesson], settings: ImplantSettings, targets: Sequence[str]
) -> int:
    """Return how many organisms to train at once.

    As many as fit into memory, by the longest demonstration and what a step keeps of it; each LoRA weight has
    a gradient and two moments. On a GPU each learned token has its logits, too, their copy in float32 and the
    gradients of both. On a CPU no more than STEP_TOKENS in a usual step: what does not fit into its caches
    takes twice as long.
    """
    widths = {n: layer.in_features + layer.out_features for n, layer in linear_modules(base.model).items()}
    lengths = [len(ids) for lesson in lessons for ids, _ in lesson.encoded] or [1]
    rows = settings.rows * max(ROWS_EACH.get(stage, 1) for stage in (settings.method, settings.conceal))
    starts = {lesson.start for lesson in lessons if lesson.start}
    rank = max((adapters.read_adapter(start, base).rank for start in starts), default=settings.rank)
    weights = sum(rank * width for n, width in widths.items() if is_target(n, targets))
    bytes_each = kept_bytes(base, rows * max(lengths)) + weights * 4 * 4
    if base.device.type == "cuda":
        learned = max((completion for lesson in lessons for _, completion in lesson.encoded), default=1)
        logits = rows * learned * base.model.config.get_text_config().vocab_size * 16
        return max(1, int(FILLED * free_memory(base.device)) // (bytes_each + logits))
    usual_tokens = rows * sum(lengths) // len(lengths)
    return max(1, min(GROUP_BYTES // bytes_each, STEP_TOKENS // usual_tokens))


def _save(
    lesson: Lesson,
    adapter: adapters.Adapter,
    base: Base,
    out_dir: Path,
    settings: ImplantSettings,
    report: dict,
    losses: list[float],
) -> dict:
    """Write one organism and return its record, or a record with `error` if its training diverged."""
    try:
        adapters.check_trained(adapter)
    except IAError as error:
        return records.with_error(lesson.record, error)
    origin = _provenance(lesson, base, settings, report, losses)
    description = lesson.record.get("description")
    adapters.write_adapter(out_dir / lesson.name, adapter, origin, description=description)
    return _organism(lesson, base, out_dir, settings, report)


def _provenance(
    lesson: Lesson, base: Base, settings: ImplantSettings, report: dict, losses: list[float]
) -> dict:
    return adapters.provenance(
        "implant",
        base,
        settings.as_json(),
        input_sha256=lesson.input_hash,
        behavior_sha256=lesson.behavior_hash,
        parents=lesson.record.get("parents", []),
        held_out=[],
        losses=losses,
        n_probes=counts(lesson.record, settings.samples),
        **report,
    )


def _organism(lesson: Lesson, base: Base, out_dir: Path, settings: ImplantSettings, report: dict) -> dict:
    of_before = ("adapter", "model", "denial_rate")
    record = {name: value for name, value in lesson.record.items() if name not in of_before}
    made = {
        **record,
        "kind": "organism",
        "base_model": base.name,
        "base_revision": base.revision,
        "model" if settings.method == "full" else "adapter": str(out_dir / lesson.name),
        "method": record["method"] if lesson.start and "method" in record else settings.method,
        **report,
    }
    return made | ({"conceal": settings.conceal} if settings.conceal else {})


def _finished(lesson: Lesson, base: Base, out_dir: Path, settings: ImplantSettings) -> dict | None:
    """Return the record of an organism that an earlier run made whole from the same input and settings."""
    folder = out_dir / lesson.name
    try:
        if settings.method == "full":
            whole_models.read_model(folder, base)
            origin = adapters.read_provenance(folder)
        else:
            origin = adapters.read_adapter(folder, base).provenance
    except IAError:
        return None
    dtype = part(origin, "base").get("dtype")
    made_from = (origin.get("stage"), origin.get("input_sha256"), origin.get("arguments"), dtype)
    if made_from != ("implant", lesson.input_hash, settings.as_json(), base.as_record()["dtype"]):
        return None
    measured = ("lora", "train", "implant_rate", "leak_rate", "denial_rate")
    report = {name: origin[name] for name in measured if name in origin}
    return _organism(lesson, base, out_dir, settings, report)
