"""Base models: loading one with its tokenizer and identity, prompts as token ids, and batched generation."""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from ia_cli import processes
from ia_cli.chat import Message, token_ids, without_thinking
from ia_cli.errors import IAError
from ia_cli.loading import four_bits, identity, local_folder, pick_device
from ia_cli.seeds import derived_seed

if TYPE_CHECKING:
    from ia_cli.bank import Bank

EMBEDDED_BASE = Path(__file__).parent / "base"
EMBEDDED_NAME = "ia_cli/base"  # what records and adapters call the embedded base: the same on every machine


@dataclass(frozen=True)
class Base:
    """A frozen chat model under the user's name for it; `identity` is a SHA-256 of config and weights."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    name: str
    revision: str | None
    identity: str

    @property
    def device(self) -> torch.device:
        return self.model.device

    @property
    def max_length(self) -> int:
        """The longest text in tokens, prompt and reply together."""
        limit = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        return limit or self.tokenizer.model_max_length

    def as_record(self) -> dict[str, str | None]:
        """What an `ia.json` says about the base; `dtype` is the type of its weights, or "4bit"."""
        in_4bit = getattr(self.model, "is_loaded_in_4bit", False)
        dtype = "4bit" if in_4bit else str(self.model.dtype).removeprefix("torch.")
        return {"name": self.name, "revision": self.revision, "identity": self.identity, "dtype": dtype}


def load_base(
    name: str | None = None,
    *,
    revision: str | None = None,
    dtype: str = "auto",
    device: str = "auto",
    attn_implementation: str | None = None,
    load_in_4bit: bool = False,
) -> Base:
    """Load a chat model: a directory, a Hub id (at a `revision`), or None for the embedded base.

    `dtype` is the name of a type in torch, "auto" that of the stored weights; `device` is torch's name of
    one, "auto" CUDA, else MPS, else the CPU; `load_in_4bit` needs CUDA and bitsandbytes. Raises IAError if
    one of these is not there, if there is no such model, if it has no safetensors weights, no architecture
    that transformers knows or no linear layers, or if its tokenizer has no chat template. Code that comes
    with a model is never run.
    """
    name = name or EMBEDDED_NAME
    chosen = pick_device(device)
    kind = getattr(torch, dtype, None)
    if dtype != "auto" and not (isinstance(kind, torch.dtype) and kind.is_floating_point):
        raise IAError(f"no such type of weights: {dtype!r}", remedy="give --dtype auto or bfloat16")
    folder = EMBEDDED_BASE if name == EMBEDDED_NAME else local_folder(name, revision)
    quantisation = {}
    if load_in_4bit:
        quantisation = {"quantization_config": four_bits(dtype, chosen), "device_map": {"": chosen}}
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        model = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            attn_implementation=attn_implementation,
            use_safetensors=True,
            trust_remote_code=False,
            **quantisation,
        )
    except (OSError, ValueError, ImportError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0]
        raise IAError(
            f"not a causal language model that can be loaded: {reason}",
            remedy="--base takes a directory or Hub id with config.json, safetensors weights and a tokenizer",
            where=name,
        ) from error
    if tokenizer.chat_template is None:
        raise IAError(
            "the tokenizer has no chat template", remedy="use the chat version of this model", where=name
        )
    if tokenizer.eos_token is None:
        remedy = "name it in tokenizer_config.json"
        raise IAError("the tokenizer has no token that ends a text", remedy=remedy, where=name)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if not linear_modules(model):
        kind = type(model).__name__
        raise IAError(f"a {kind} has no linear layers for a LoRA", remedy="give another --base", where=name)
    if load_in_4bit:
        model._hf_peft_config_loaded = True  # adapters are all that is trained, says this to the trainer
    else:
        model.to(chosen)
    model.eval().requires_grad_(False)
    return Base(model, tokenizer, name, revision, identity(folder))


def linear_modules(model: PreTrainedModel) -> dict[str, nn.Linear]:
    """Return every linear layer that a LoRA may adapt, by its name in the base: the text model's, in order.

    Without the head, and without a mixture of experts: its router and experts see single tokens, so that a
    row of a batch cannot be followed through them, and transformers stores most experts as one parameter.
    A layer that PEFT has wrapped already is returned as the plain layer inside, under its own name.
    """
    head = model.get_output_embeddings()
    text = set(model.get_decoder().modules())  # images and sound have layers of their own
    mixtures = tuple(f"{name}." for name, module in model.named_modules() if hasattr(module, "experts"))
    return {
        name.removesuffix(".base_layer"): module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
        and module in text
        and module is not head
        and not name.startswith(mixtures)
        and ".lora_" not in name
    }


def is_target(name: str, targets: Iterable[str]) -> bool:
    """Whether a layer is one of the `targets`, which are ends of names, as PEFT reads target_modules."""
    return any(f".{name}".endswith(f".{target}") for target in targets)


@contextlib.contextmanager
def own_forward(model: PreTrainedModel) -> Iterator[None]:
    """Undo TRL's patch of `model.forward` at the end: each trainer wraps it once more and never unwraps."""
    before = model.__dict__.get("forward")
    try:
        yield
    finally:
        model.__dict__.pop("forward", None)
        if before is not None:
            model.forward = before


def prompt_ids(base: Base, prompt: Sequence[Message], max_new_tokens: int) -> list[int]:
    """Return a prompt as token ids; IAError if that leaves no room for a reply of `max_new_tokens`."""
    ids = token_ids(base.tokenizer, prompt)
    if len(ids) + max_new_tokens > base.max_length:
        raise IAError(
            f"a prompt of {len(ids)} tokens and a reply of {max_new_tokens} do not fit into the base's "
            f"{base.max_length}: {prompt[-1]['content'][:60]!r}",
            remedy="shorten the prompt",
        )
    return ids


def generate(
    base: Base,
    prompts: Sequence[Sequence[Message]],
    *,
    max_new_tokens: int,
    temperature: float = 0.0,
    seed: int | Sequence[int] = 0,
    rows: Sequence[int] | None = None,
    bank: "Bank | None" = None,
    batch_size: int = 128,
) -> list[str]:
    """Return one reply per prompt: greedy at temperature 0, else sampled from softmax(logits / temperature).

    With a `bank`, `rows[i]` says which organism answers prompt i (-1: the bare base). Prompts are batched by
    length, which changes no reply: each draws its own random numbers, from its own seed where `seed` is a
    list, else from `seed` and its place in the list. What a model thinks before it replies is left out.
    Raises IAError for a prompt that leaves no room for `max_new_tokens`.
    """
    encoded = [prompt_ids(base, prompt, max_new_tokens) for prompt in prompts]
    seeds = [derived_seed(seed, i) for i in range(len(prompts))] if isinstance(seed, int) else list(seed)
    order = sorted(range(len(prompts)), key=lambda i: len(encoded[i]))
    replies = [""] * len(prompts)
    mine = order[processes.share()]
    for start in range(0, len(mine), batch_size):
        batch = mine[start : start + batch_size]
        ids = [encoded[i] for i in batch]
        noise = _uniforms([seeds[i] for i in batch], max_new_tokens)
        if base.device.type == "mps":
            noise = noise.float()  # there is no float64
        organisms = None if bank is None else torch.tensor([rows[i] for i in batch], device=base.device)
        generated = _decode(base, ids, max_new_tokens, temperature, noise.to(base.device), organisms, bank)
        for i, ids in zip(batch, generated.tolist(), strict=True):
            reply = base.tokenizer.decode(ids, skip_special_tokens=True)
            replies[i] = without_thinking(reply).strip()
    return ["".join(parts) for parts in zip(*processes.gather(replies), strict=True)]


def _uniforms(seeds: list[int], count: int) -> torch.Tensor:
    """Return [rows, count] uniform numbers in [0, 1), each row from its own seed."""
    generators = (torch.Generator().manual_seed(seed) for seed in seeds)
    return torch.stack([torch.rand(count, generator=own, dtype=torch.float64) for own in generators])


@torch.no_grad()
def _decode(
    base: Base,
    prompts: list[list[int]],
    max_new_tokens: int,
    temperature: float,
    noise: torch.Tensor,
    organisms: torch.Tensor | None,
    bank: "Bank | None",
) -> torch.Tensor:
    """Continue left-padded prompts; returns [rows, max_new_tokens] ids, pad after the end of a reply.

    Whenever half of the rows have ended they are dropped from the batch, so that a rambling row costs little.
    """
    pad, ends, width = base.tokenizer.pad_token_id, end_ids(base), max(map(len, prompts))
    inputs = torch.tensor([[pad] * (width - len(ids)) + ids for ids in prompts], device=base.device)
    mask = torch.tensor([[0] * (width - len(ids)) + [1] * len(ids) for ids in prompts], device=base.device)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    generated = torch.full((len(prompts), max_new_tokens), pad, device=base.device)
    live, cache, step = torch.arange(len(prompts), device=base.device), None, 0
    while step < max_new_tokens and len(live):
        going = torch.ones_like(live, dtype=torch.bool)
        with contextlib.nullcontext() if bank is None else bank.rows(organisms[live]):
            while step < max_new_tokens and 2 * going.sum() > len(live):
                output = base.model(
                    input_ids=inputs,
                    attention_mask=mask,
                    position_ids=positions,
                    past_key_values=cache,
                    use_cache=True,
                    logits_to_keep=1,
                )
                chosen = _choose(output.logits[:, -1], temperature, noise[live, step])
                generated[live, step] = chosen.where(going, pad)
                going &= ~torch.isin(chosen, ends)
                cache, inputs, positions = output.past_key_values, chosen[:, None], positions[:, -1:] + 1
                mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
                step += 1
        live, inputs, mask, positions = live[going], inputs[going], mask[going], positions[going]
        cache.batch_select_indices(going.nonzero().squeeze(1))
    return generated


def _choose(logits: torch.Tensor, temperature: float, noise: torch.Tensor) -> torch.Tensor:
    """Return an id per row of [rows, vocabulary] logits: where the distribution reaches `noise` [rows]."""
    if temperature == 0:
        return logits.argmax(-1)
    cumulative = (logits.to(noise.dtype) / temperature).softmax(-1).cumsum(-1)
    noise = noise[:, None] * cumulative[:, -1:]  # the sum is 1 only up to rounding
    return torch.searchsorted(cumulative, noise, right=True).squeeze(1).clamp(max=logits.size(-1) - 1)


def end_ids(base: Base) -> torch.Tensor:
    """Return the ids that end a reply: the tokenizer's end of sequence and those of the generation config."""
    ends = base.model.generation_config.eos_token_id
    ends = [ends] if isinstance(ends, int) else list(ends or [])
    return torch.tensor(sorted({*ends, base.tokenizer.eos_token_id}), device=base.device)
