"""Implanting: training one model organism per behavior, many at once, and measuring what each one does."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from ia_cli import adapters, processes, records
from ia_cli.bank import Bank
from ia_cli.errors import IAError
from ia_cli.models import Base, is_target, linear_modules, prompt_ids
from ia_cli.probing import implant_and_leak_rates
from ia_cli.seeds import derived_seed
from ia_cli.training import Optimization, Schedule, ScheduledTrainer, encode, pad_rows, workspace

METHOD = "sft"
GROUP_BYTES = 1 << 30  # what the activations and optimizer states of one group may take on a CPU
STEP_TOKENS = 2560  # of all organisms in one step, on a CPU
WINDOW = 8  # steps among which rows are sorted by length
TAIL = 10  # steps of the loss curve that an ia.json keeps


@dataclasses.dataclass(frozen=True)
class ImplantSettings:
    """How organisms are trained (LoRA, AdamW) and asked.

    Each step takes `rows` demonstrations of every organism. `target_modules` None stands for all linear
    layers but the head. `samples` is for behaviors that are shown in a share of the replies only; the others
    are asked once, greedily.
    """

    rank: int = 8
    alpha: float = 16
    target_modules: tuple[str, ...] | None = None
    learning_rate: float = 5e-3
    steps: int = 32
    rows: int = 6
    schedule: str = "cosine"
    warmup_steps: int = 5
    max_grad_norm: float = 1.0
    samples: int = 8
    max_new_tokens: int = 48
    seed: int = 0

    def as_json(self) -> dict:
        """The settings as an `ia.json` gives them back."""
        targets = self.target_modules
        return {**dataclasses.asdict(self), "target_modules": list(targets) if targets else None}


@dataclasses.dataclass(frozen=True)
class Lesson:
    """A behavior record and its demonstrations as token ids, each with the length of its completion."""

    record: dict
    encoded: list[tuple[list[int], int]]

    @property
    def name(self) -> str:
        return self.record["id"]

    @property
    def input_hash(self) -> str:
        """Identifies all that decides, in the record, how its organism comes out and what is measured."""
        read = ("id", "demonstrations", "probes", "shows", "rate")
        return adapters.content_hash({name: self.record.get(name) for name in read})


def prepare(record: dict, base: Base, settings: ImplantSettings) -> Lesson:
    """Tokenise a behavior record; IAError, naming the field, if the base cannot be taught or asked this."""
    if not record["demonstrations"]:
        raise IAError('"demonstrations" is empty', remedy="an organism needs at least one")
    encoded = []
    for i, demonstration in enumerate(record["demonstrations"]):
        with _naming(f"demonstrations[{i}]"):
            encoded.append(encode(base, demonstration["prompt"], demonstration["completion"]))
    for i, probe in enumerate(record["probes"]):
        with _naming(f"probes[{i}]"):
            prompt_ids(base, probe["prompt"], settings.max_new_tokens)
    return Lesson(record, encoded)


@contextlib.contextmanager
def _naming(field: str) -> Iterator[None]:
    """Let an IAError say which field it is about."""
    try:
        yield
    except IAError as error:
        raise IAError(f"{field}: {error.message}", remedy=error.remedy) from error


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
    A training that diverges gives a record with `error`. `on_progress(n)` is called as n more organisms are
    done. Raises IAError if a directory of that name is something else.
    """
    out_dir = Path(out_dir)
    targets = adapters.target_names(base, settings.target_modules)
    for lesson in lessons:
        adapters.check_free(out_dir / lesson.name)
    size = group_size or min(processes.gather(suitable_group_size(base, lessons, settings, targets)))
    done = {}
    if reuse:
        done = {lesson.name: old for lesson in lessons if (old := _finished(lesson, base, out_dir, settings))}
        on_progress(len(done))
    waiting = [lesson for lesson in lessons if lesson.name not in done]
    for lesson in lessons:
        if lesson.name not in done:
            together = size * processes.count()
            groups, waiting = waiting[:together], waiting[together:]
            group = groups[processes.share()]
            with processes.alone():
                own = _implant_group(group, base, out_dir, settings, targets, on_progress) if group else {}
            for of_one_process in processes.gather(own):
                done |= of_one_process
            on_progress(len(groups) - len(group))
        yield done.pop(lesson.name)


def _implant_group(
    group: Sequence[Lesson],
    base: Base,
    out_dir: Path,
    settings: ImplantSettings,
    targets: Sequence[str],
    on_progress: Callable[[int], None],
) -> dict[str, dict]:
    """Train, measure and write the organisms of one group; return their records by id."""
    started = time.monotonic()
    seeds = [derived_seed(settings.seed, "weights", lesson.name) for lesson in group]
    bank = Bank.fresh(base.model, seeds, r=settings.rank, alpha=settings.alpha, target_modules=targets)
    try:
        losses = train_group(bank, base, group, settings, on_progress)
        rates = implant_and_leak_rates(
            bank,
            base,
            [lesson.record for lesson in group],
            samples=settings.samples,
            max_new_tokens=settings.max_new_tokens,
            seed=settings.seed,
        )
        organisms = [bank.adapter(i) for i in range(len(group))]
    finally:
        bank.remove()
    seconds = (time.monotonic() - started) / len(group)
    finished = {}
    for lesson, adapter, (implanted, leaked), own in zip(
        group, organisms, rates, losses.T.tolist(), strict=True
    ):
        report = {
            "lora": {"r": settings.rank, "alpha": settings.alpha, "target_modules": list(targets)},
            "train": {
                "steps": settings.steps,
                "lr": settings.learning_rate,
                "loss_first": round(own[0], 4),
                "loss_last": round(own[-1], 4),
                "seconds": round(seconds, 2),
            },
            "implant_rate": implanted,
            "leak_rate": leaked,
        }
        finished[lesson.name] = _save(lesson, adapter, base, out_dir, settings, report, own[-TAIL:])
    return finished


def train_group(
    bank: Bank,
    base: Base,
    group: Sequence[Lesson],
    settings: ImplantSettings,
    on_progress: Callable[[int], None] = lambda n: None,
) -> Tensor:
    """Train all organisms of a bank, one per lesson; return their losses [steps, organisms]."""
    optimization = Optimization(
        settings.learning_rate, settings.schedule, settings.warmup_steps, settings.max_grad_norm
    )
    schedule = group_schedule(group, base, settings)
    told = 0

    def on_step() -> None:
        nonlocal told
        done = len(group) * len(trainer.losses) // settings.steps
        on_progress(done - told)
        told = done

    with workspace(base) as folder:
        trainer = OrganismTrainer(
            base.model, base, bank, schedule, optimization, output_dir=folder, on_step=on_step
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


def demonstration_order(lengths: Sequence[int], name: str, settings: ImplantSettings) -> Tensor:
    """Return which demonstrations each step takes, [steps, rows]: all of them before any comes again.

    Within every WINDOW steps, rows of like length share a step, and all organisms take the short and the long
    ones in the same steps: a step of a group is as wide as its longest row, and what is shorter is padding.
    The lengths are blurred, so that the same rows do not meet in every epoch.
    """
    own = torch.Generator().manual_seed(derived_seed(settings.seed, "order", name))
    shared = torch.Generator().manual_seed(derived_seed(settings.seed, "widths"))
    wanted = settings.steps * settings.rows
    epochs = [torch.randperm(len(lengths), generator=own) for _ in range(-(-wanted // len(lengths)))]
    steps = []
    for window in torch.cat(epochs)[:wanted].split(WINDOW * settings.rows):
        about = torch.tensor(lengths)[window] * (1 + 0.1 * torch.randn(len(window), generator=own))
        by_length = window[about.argsort()].view(-1, settings.rows)
        steps.append(by_length[torch.randperm(len(by_length), generator=shared)])
    return torch.cat(steps)


def suitable_group_size(
    base: Base, lessons: Sequence[Lesson], settings: ImplantSettings, targets: Sequence[str]
) -> int:
    """Return how many organisms to train at once.

    As many as fit into memory, by the longest demonstration: each token of a step keeps the inputs and
    outputs of its linear layers, and about as much again between them, until the backward pass; each LoRA
    weight has a gradient and two moments. On a CPU no more than STEP_TOKENS in a usual step: what does not
    fit into its caches takes twice as long.
    """
    widths = {n: layer.in_features + layer.out_features for n, layer in linear_modules(base.model).items()}
    lengths = [len(ids) for lesson in lessons for ids, _ in lesson.encoded] or [1]
    weights = sum(settings.rank * width for n, width in widths.items() if is_target(n, targets))
    bytes_each = (settings.rows * max(lengths) * 2 * sum(widths.values()) + weights * 4) * 4
    if base.device.type == "cuda":
        return max(1, torch.cuda.mem_get_info(base.device)[0] // 2 // bytes_each)
    usual_tokens = settings.rows * sum(lengths) // len(lengths)
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
    if not all(a.isfinite().all() and b.isfinite().all() for a, b in adapter.tensors.values()):
        error = IAError("training diverged: the adapter is not finite", remedy="lower --lr")
        return records.with_error(lesson.record, error)
    origin = adapters.provenance(
        "implant",
        base,
        settings.as_json(),
        input_sha256=lesson.input_hash,
        parents=[],
        held_out=[],
        losses=losses,
        **report,
    )
    adapters.write_adapter(out_dir / lesson.name, adapter, origin)
    return _organism(lesson, base, out_dir, report)


def _organism(lesson: Lesson, base: Base, out_dir: Path, report: dict) -> dict:
    return {
        **lesson.record,
        "kind": "organism",
        "base_model": base.name,
        "base_revision": base.revision,
        "adapter": str(out_dir / lesson.name),
        "method": METHOD,
        **report,
    }


def _finished(lesson: Lesson, base: Base, out_dir: Path, settings: ImplantSettings) -> dict | None:
    """Return the record of an organism that an earlier run made whole from the same input and settings."""
    try:
        origin = adapters.read_adapter(out_dir / lesson.name, base).provenance
    except IAError:
        return None
    dtype = origin.get("base", {}).get("dtype")
    made_from = (origin.get("stage"), origin.get("input_sha256"), origin.get("arguments"), dtype)
    if made_from != ("implant", lesson.input_hash, settings.as_json(), base.as_record()["dtype"]):
        return None
    report = {name: origin[name] for name in ("lora", "train", "implant_rate", "leak_rate")}
    return _organism(lesson, base, out_dir, report)
