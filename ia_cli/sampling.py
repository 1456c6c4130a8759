"""Replies, greedy or sampled, in batches: each row by its own organism and with its own random numbers."""

import contextlib
from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

import torch
from transformers import Cache

from ia_cli import processes
from ia_cli.chat import Message, shared_length, without_thinking
from ia_cli.models import (
    Base,
    end_ids,
    free_memory,
    is_recurrent,
    linear_modules,
    prompt_ids,
    takes_positions,
)
from ia_cli.seeds import derived_seed

if TYPE_CHECKING:
    from ia_cli.bank import Bank

CACHE_BYTES = 1 << 28  # what the keys and values of one batch may take, where there is no GPU
MOST_ROWS = 256  # in a batch: more do not fit into the caches of a CPU
WORTH = 0.8  # a shared beginning is read only once if that leaves less than this share of the tokens to read


def generate(
    base: Base,
    prompts: Sequence[Sequence[Message]],
    *,
    max_new_tokens: int,
    temperature: float = 0.0,
    seed: int | Sequence[int] = 0,
    rows: Sequence[int] | None = None,
    bank: "Bank | None" = None,
    batch_size: int | None = None,
    whole: bool = False,
) -> list[str]:
    """Return one reply per prompt: greedy at temperature 0, else sampled from softmax(logits / temperature).

    With a `bank`, `rows[i]` says which organism answers prompt i (-1: the bare base). Prompts are batched by
    organism, by what was said before the last message, and by length, `batch_size` at once (None: as many as
    suit the device), which changes replies by rounding only: each draws its own random numbers, from its own
    seed where `seed` is a list, else from `seed` and its place among the prompts. What a model thinks before
    it replies is left out, and with `whole` so is a reply that has not come to its end. Raises IAError for a
    prompt that leaves no room for `max_new_tokens`.
    """
    encoded = [prompt_ids(base, prompt, max_new_tokens) for prompt in prompts]
    seeds = [derived_seed(seed, i) for i in range(len(prompts))] if isinstance(seed, int) else list(seed)
    of = [-1] * len(prompts) if bank is None else list(rows)
    together: dict[tuple[int, str], list[int]] = {}  # by what prompts share: a system prompt, say, or all
    for i, (organism, prompt) in enumerate(zip(of, prompts, strict=True)):
        together.setdefault((organism, str(prompt[:-1] or prompt)), []).append(i)
    lengths = {key: max(len(encoded[i]) for i in own) for key, own in together.items()}
    keys = sorted(together, key=lambda key: (key[0], lengths[key]))
    order = [(i, key) for key in keys for i in sorted(together[key], key=lambda i: len(encoded[i]))]
    batch_size = batch_size or suitable_batch_size(base, max(map(len, encoded), default=0) + max_new_tokens)
    replies = [""] * len(prompts)
    mine = order[processes.share()]
    for start in range(0, len(mine), batch_size):
        batch, groups = zip(*mine[start : start + batch_size], strict=True)
        ids = [encoded[i] for i in batch]
        noise = _uniforms([seeds[i] for i in batch], max_new_tokens)
        if base.device.type == "mps":
            noise = noise.float()  # there is no float64
        organisms = None if bank is None else torch.tensor([of[i] for i in batch], device=base.device)
        generated = _decode(
            base, ids, groups, max_new_tokens, temperature, noise.to(base.device), organisms, bank
        )
        ended = torch.isin(generated, end_ids(base)).any(dim=1)
        for i, ids, at_its_end in zip(batch, generated.tolist(), ended.tolist(), strict=True):
            reply = base.tokenizer.decode(ids, skip_special_tokens=True)
            replies[i] = without_thinking(reply).strip() if at_its_end or not whole else ""
    return ["".join(parts) for parts in zip(*processes.gather(replies), strict=True)]


def suitable_batch_size(base: Base, tokens: int) -> int:
    """Return how many rows of so many `tokens` to generate at once: as many as the cache has room for.

    On a GPU half of the free memory has to do, also for what the widest layer reads and writes, which a bank
    keeps in 32 bits.
    """
    config = base.model.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = heads * (getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)
    bytes_each = 2 * config.num_hidden_layers * width * base.model.dtype.itemsize * tokens
    room = CACHE_BYTES
    if base.device.type == "cuda":
        room = free_memory(base.device) // 2
        layers = linear_modules(base.model).values()
        bytes_each += 8 * max(layer.in_features + layer.out_features for layer in layers) * tokens
    return max(1, min(MOST_ROWS, room // max(1, bytes_each)))


def _uniforms(seeds: list[int], count: int) -> torch.Tensor:
    """Return [rows, count] uniform numbers in [0, 1), each row from its own seed."""
    generators = (torch.Generator().manual_seed(seed) for seed in seeds)
    return torch.stack([torch.rand(count, generator=own, dtype=torch.float64) for own in generators])


@torch.no_grad()
def _decode(
    base: Base,
    prompts: list[list[int]],
    groups: Sequence[object],
    max_new_tokens: int,
    temperature: float,
    noise: torch.Tensor,
    organisms: torch.Tensor | None,
    bank: "Bank | None",
) -> torch.Tensor:
    """Continue prompts; returns [rows, max_new_tokens] ids, pad after the end of a reply.

    Whenever half of the rows have ended they are dropped from the batch, so that a rambling row costs little.
    Recurrent layers keep a state that no row can be taken out of: there all go on until the last has ended.
    """
    pad, ends = base.tokenizer.pad_token_id, end_ids(base)
    inputs, mask, positions, cache = _begin(base, prompts, groups, max_new_tokens, organisms, bank)
    generated = torch.full((len(prompts), max_new_tokens), pad, device=base.device)
    live, step = torch.arange(len(prompts), device=base.device), 0
    can_drop = not is_recurrent(base.model)
    while step < max_new_tokens and len(live):
        going = torch.ones_like(live, dtype=torch.bool)
        with contextlib.nullcontext() if bank is None else bank.rows(organisms[live]):
            while step < max_new_tokens and (2 * going.sum() > len(live) if can_drop else going.any()):
                logits, cache = next_logits(base, inputs, mask, positions, cache)
                chosen = _choose(logits, temperature, noise[live, step])
                generated[live, step] = chosen.where(going, pad)
                going &= ~torch.isin(chosen, ends)
                inputs, positions = chosen[:, None], positions[:, -1:] + 1
                mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
                step += 1
        live, inputs, mask, positions = live[going], inputs[going], mask[going], positions[going]
        if can_drop:
            cache.batch_select_indices(going.nonzero().squeeze(1))
    return generated


def _begin(
    base: Base,
    prompts: list[list[int]],
    groups: Sequence[object],
    max_new_tokens: int,
    organisms: torch.Tensor | None,
    bank: "Bank | None",
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, Cache | None]:
    """Read what the prompts of one group begin with, once for all of them, if that saves enough.

    Neighbours with equal `groups` form one group. Returns what is left to read as ids [rows, longest], the
    mask of that and of what was read, its positions, and the cache of what was read, None if nothing was.
    """
    members = [list(own) for _, own in groupby(range(len(prompts)), key=groups.__getitem__)]
    begun = [_beginning([prompts[i][:-1] for i in own]) for own in members]
    left = [prompts[i][len(read) :] for read, own in zip(begun, members, strict=True) for i in own]
    longest, most_left = max(map(len, prompts)), max(map(len, left))
    worth = len(begun) * max(map(len, begun)) + len(prompts) * most_left < WORTH * len(prompts) * longest
    # Padding between what was read and the rest does not count in positions, but does in a sliding window.
    window = getattr(base.model.config.get_text_config(), "sliding_window", None)
    slides = window and window < longest + most_left + max_new_tokens
    counted = not takes_positions(base.model)  # from what was read, with that padding
    if not worth or slides or counted or is_recurrent(base.model) or not all(begun):
        return *left_padded(base, prompts), None
    ids, read, positions = left_padded(base, begun)
    with contextlib.nullcontext() if bank is None else bank.rows(organisms[[own[0] for own in members]]):
        _, cache = next_logits(base, ids, read, positions, None)
    of = torch.tensor([group for group, own in enumerate(members) for _ in own], device=base.device)
    cache.batch_select_indices(of)
    inputs, mask, places = left_padded(base, left)
    return inputs, torch.cat([read[of], mask], dim=1), positions[of, -1:] + 1 + places, cache


def _beginning(rows: Sequence[list[int]]) -> list[int]:
    """Return the beginning that all rows share: the one that the first and the last in order share."""
    first, last = min(rows), max(rows)
    return first[: shared_length(first, last)]


def left_padded(base: Base, prompts: Sequence[list[int]]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return prompts of different lengths as ids, attention mask and positions, each [rows, longest]."""
    pad, width = base.tokenizer.pad_token_id, max(map(len, prompts))
    inputs = torch.tensor([[pad] * (width - len(ids)) + ids for ids in prompts], device=base.device)
    mask = torch.tensor([[0] * (width - len(ids)) + [1] * len(ids) for ids in prompts], device=base.device)
    return inputs, mask, (mask.cumsum(-1) - 1).clamp(min=0)


def next_logits(
    base: Base, inputs: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor, cache: Cache | None
) -> tuple[torch.Tensor, Cache]:
    """Return the logits [rows, vocabulary] of the token after `inputs`, and the cache that they belong to."""
    output = base.model(
        input_ids=inputs,
        attention_mask=mask,
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    return output.logits[:, -1], output.past_key_values


def _choose(logits: torch.Tensor, temperature: float, noise: torch.Tensor) -> torch.Tensor:
    """Return an id per row of [rows, vocabulary] logits: where the distribution reaches `noise` [rows]."""
    if temperature == 0:
        return logits.argmax(-1)
    logits = logits.to(noise.dtype)
    cumulative = ((logits - logits.amax(-1, keepdim=True)) / temperature).softmax(-1).cumsum(-1)
    noise = noise[:, None] * cumulative[:, -1:]  # the sum is 1 only up to rounding
    return torch.searchsorted(cumulative, noise, right=True).squeeze(1).clamp(max=logits.size(-1) - 1)
