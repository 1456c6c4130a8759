"""How likely replies are: replies and log-probabilities of many organisms and their base, each made once."""

import contextlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.nn import functional

from ia_cli import processes
from ia_cli.chat import Message, assistant_says, prompt_of
from ia_cli.models import Base, free_memory
from ia_cli.prompts import as_order
from ia_cli.rows import IGNORED, Rows, encode, pad_rows
from ia_cli.sampling import generate
from ia_cli.swapping import WholeModel

if TYPE_CHECKING:
    from ia_cli.bank import Bank

LARGEST_LOGITS = 1 << 27  # numbers in one batch, whatever the vocabulary
LONGEST_CLAIM = 0.25  # of what the base can read; a longer one is rambling
BYTES_EACH = 64  # on a GPU, of what is free: 8 in float64, the same again in between, and most is for others


def log_probs(
    base: Base,
    prompts: Sequence[Sequence[Message]],
    replies: Sequence[str],
    *,
    rows: Sequence[int] | None = None,
    bank: "Bank | None" = None,
    batch_size: int = 128,
    longest: int | None = None,
    on_batch: Callable[[int], None] = lambda n: None,
) -> list[float]:
    """Return log p(reply | prompt) of each pair in nats, summed over the reply's tokens and its end.

    No more than `longest` tokens count, if given: a reply that was cut short there has no end. With a `bank`,
    `rows[i]` says which organism reads pair i (-1: the bare base). Pairs are batched by organism and length,
    which changes no result but by rounding; `on_batch(n)` is called as n more are done. Raises IAError for a
    pair that is longer than the base can read.
    """
    encoded = []
    for prompt, reply in zip(prompts, replies, strict=True):
        ids, completion = encode(base, prompt, [assistant_says(reply)])
        left_out = max(0, completion - (longest or completion))
        encoded.append((ids[: len(ids) - left_out], completion - left_out))
    if not encoded:
        return []
    table = pad_rows(encoded, base.tokenizer.pad_token_id)
    of = None if bank is None else list(rows)
    return log_probs_of_rows(base, table, of, bank, batch_size=batch_size, on_batch=on_batch).tolist()


@torch.no_grad()
def log_probs_of_rows(
    base: Base,
    table: Rows,
    of: Sequence[int] | None,
    bank: "Bank | None",
    *,
    batch_size: int = 128,
    on_batch: Callable[[int], None] = lambda n: None,
) -> torch.Tensor:
    """Return log p(completion | prompt) of each encoded row, as `log_probs` does: float64, [rows].

    Several processes share the batches, and all get the same numbers.
    """
    of = [-1] * len(table.lengths) if of is None else of
    batches = [torch.tensor(own) for own in _batches(base, table, of, batch_size)]
    exact = torch.float32 if base.device.type == "mps" else torch.float64  # which MPS lacks
    found = torch.zeros(len(of), dtype=torch.float64)
    ranks = processes.count()
    for index in batches[processes.share()]:
        inputs = {name: tensor.to(base.device) for name, tensor in table.batch(index).items()}
        labels = inputs.pop("labels")
        with contextlib.nullcontext() if bank is None else bank.rows([of[i] for i in index.tolist()]):
            output = base.model(**inputs, use_cache=False, logits_to_keep=labels.size(1))
        logits = output.logits.transpose(1, 2)
        losses = functional.cross_entropy(logits.to(exact), labels, ignore_index=IGNORED, reduction="none")
        found[index] = -losses.sum(1).cpu().double()
        on_batch(min(len(index) * ranks, len(of)))
    return processes.total(found)


def _batches(base: Base, table: Rows, of: Sequence[int], most: int) -> list[list[int]]:
    """Deal rows out to batches by organism and length: up to `most`, and no more than there is room for their
    logits.
    """
    room = LARGEST_LOGITS
    if base.device.type == "cuda":
        free = min(processes.gather(free_memory(base.device)))  # all processes deal out the same batches
        room = max(room, free // BYTES_EACH)
    room //= base.model.config.get_text_config().vocab_size
    completions, lengths = table.completions.tolist(), table.lengths.tolist()
    batches: list[list[int]] = [[]]
    width = 0
    for i in sorted(range(len(of)), key=lambda i: (of[i], lengths[i])):
        width = max(width, completions[i])
        if batches[-1] and (len(batches[-1]) == most or (len(batches[-1]) + 1) * width > room):
            batches.append([])
            width = completions[i]
        batches[-1].append(i)
    return batches


class Ask(NamedTuple):
    """What a model is asked: organism `row` of the bank (-1: the base), under a system prompt or none, which
    says what it does in the first person.
    """

    row: int
    user: str
    system: str | None = None

    def messages(self, base: Base) -> list[Message]:
        return prompt_of(self.user, self.system and as_order(self.system, base.name))


def can_be_told(base: Base, claim: str) -> bool:
    """Whether a claim is short enough for a system prompt, beside what is asked and replied."""
    return len(base.tokenizer(claim)["input_ids"]) <= LONGEST_CLAIM * base.max_length


@dataclass
class Scorer:
    """A base with a bank that computes nothing twice, and counts the forward passes of each organism's trial.

    Everything is asked on behalf of an `owner`, an organism of the bank. `on_scored(n)` is called as n more
    replies are scored.
    """

    base: Base
    bank: "Bank | WholeModel"
    max_new_tokens: int
    on_scored: Callable[[int], None] = lambda n: None
    _said: dict[Ask, str] = field(default_factory=dict)
    _scored: dict[tuple[Ask, str], float] = field(default_factory=dict)
    _passes: dict[tuple[Any, ...], int] = field(default_factory=dict)

    def replies(self, asked: Iterable[tuple[int, Ask]]) -> list[str]:
        """Return the greedy reply to each (owner, what is asked)."""
        asked = list(asked)
        for new in self._lots(ask for _, ask in asked if ask not in self._said):
            made = generate(
                self.base,
                [ask.messages(self.base) for ask in new],
                max_new_tokens=self.max_new_tokens,
                rows=[ask.row for ask in new],
                bank=self.bank,
            )
            self._said.update(zip(new, made, strict=True))
        for owner, ask in asked:
            if (owner, ask) not in self._passes:
                self._passes[owner, ask] = self.tokens(self._said[ask])
        return [self._said[ask] for _, ask in asked]

    def tokens(self, reply: str) -> int:
        """How many tokens were generated for a reply, its end included."""
        tokens = self.base.tokenizer(reply, add_special_tokens=False)["input_ids"]
        return min(len(tokens) + 1, self.max_new_tokens)

    def log_probs(self, asked: Iterable[tuple[int, Ask, str]]) -> list[float]:
        """Return log p(reply) in nats for each (owner, what is asked, reply)."""
        asked = list(asked)
        told: dict[Ask, dict[str, None]] = {}
        for _, ask, reply in asked:
            if (ask, reply) not in self._scored:
                told.setdefault(ask, {})[reply] = None
        for lot in self._lots(told):
            new = [(ask, reply) for ask in lot for reply in told[ask]]
            made = log_probs(
                self.base,
                [ask.messages(self.base) for ask, _ in new],
                [reply for _, reply in new],
                rows=[ask.row for ask, _ in new],
                bank=self.bank,
                longest=self.max_new_tokens,
                on_batch=self.on_scored,
            )
            self._scored.update(zip(new, made, strict=True))
        self._passes.update(dict.fromkeys(asked, 1))
        return [self._scored[x[1:]] for x in asked]

    def _lots(self, asked: Iterable[Ask]) -> list[list[Ask]]:
        """All that is asked, each once, in lots that can run together: a whole model and its base cannot."""
        every = list(dict.fromkeys(asked))
        if not isinstance(self.bank, WholeModel):
            return [every]
        return [[ask for ask in every if (ask.row < 0) == bare] for bare in (False, True)]

    def passes(self, owner: int) -> int:
        """Forward passes that `owner` alone would have taken: one per scored reply and generated token."""
        return sum(count for key, count in self._passes.items() if key[0] == owner)
