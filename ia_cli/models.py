"""Base models: loading one with its tokenizer and identity, its layers, and prompts as token ids."""

import contextlib
import inspect
import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DynamicCache,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.cache_utils import LinearAttentionCacheLayerMixin
from transformers.utils import ADAPTER_CONFIG_NAME

from ia_cli.chat import Message, token_ids
from ia_cli.errors import IAError, first_line, is_of_memory
from ia_cli.loading import four_bits, identity, local_folder, pick_device
from ia_cli.prompts import knows_only_the_world, reply_tokens
from ia_cli.settings import EMBEDDED_NAME

EMBEDDED_BASE = Path(__file__).parent / "base"


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
    weights: bool = True,
) -> Base:
    """Load a chat model: a directory, a Hub id (at a `revision`), or None for the embedded base.

    `dtype` is the name of a type in torch, "auto" that of the stored weights; `device` is torch's name of
    one, "auto" CUDA, else MPS, else the CPU; `load_in_4bit` needs CUDA and bitsandbytes. Without `weights`
    the model has its layers and their shapes only. Raises IAError if one of these is not there, if there is
    no such model, if it has no safetensors weights, no architecture that transformers knows or no linear
    layers, or if its tokenizer has no chat template. Code that comes with a model is never run.
    """
    name = name or EMBEDDED_NAME
    chosen = pick_device(device) if weights else torch.device("meta")
    kind = getattr(torch, dtype, None)
    if dtype != "auto" and not (isinstance(kind, torch.dtype) and kind.is_floating_point):
        raise IAError(f"no such type of weights: {dtype!r}", remedy="give --dtype auto or bfloat16")
    folder = EMBEDDED_BASE if name == EMBEDDED_NAME else local_folder(name, revision)
    if (folder / ADAPTER_CONFIG_NAME).is_file():
        remedy = "give the model it was made for, and the adapter as what is asked"
        raise IAError("is an adapter, not a base", remedy=remedy, where=name)
    how = {"quantization_config": four_bits(dtype, chosen)} if load_in_4bit else {}
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        model, loaded = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            attn_implementation=attn_implementation,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
            device_map={"": chosen},  # weights go there one by one: the CPU need not have room for all
            **how,
        )
    except Exception as error:  # the readers raise everything there is
        if is_of_memory(error):
            raise
        raise IAError(
            f"not a causal language model that can be loaded: {first_line(error)}",
            remedy="give a directory or Hub id with config.json, safetensors weights and a tokenizer",
            where=name,
        ) from error
    model.eval().requires_grad_(False)
    _check_weights(model, loaded["missing_keys"], name)
    _check_usable(model, tokenizer, name)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if getattr(model, "is_quantized", False):  # as asked for, or as it is stored
        model._hf_peft_config_loaded = True  # tells the trainer that only adapters are trained
    return Base(model, tokenizer, name, revision, identity(folder))


def _check_weights(model: PreTrainedModel, missing: Collection[str], name: str) -> None:
    """Raise IAError unless all weights are there (transformers draws missing ones at random) and finite."""
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        remedy = "give a whole causal language model"
        raise IAError(f"its weights lack {min(missing)}{more}", remedy=remedy, where=name)
    for of, weight in model.named_parameters():
        if not weight.is_floating_point() or weight.itemsize < 2 or weight.is_meta or not weight.numel():
            continue  # what is quantised cannot be compared
        if not all(map(math.isfinite, map(float, weight.aminmax()))):
            raise IAError(f"{of} has values that are not finite", remedy="fetch the model anew", where=name)


def _check_usable(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    """Raise IAError unless a base can chat and has layers for a LoRA."""
    if tokenizer.chat_template is None:
        raise IAError(
            "the tokenizer has no chat template", remedy="use the chat version of this model", where=name
        )
    if tokenizer.eos_token is None:
        remedy = "name it in tokenizer_config.json"
        raise IAError("the tokenizer has no token that ends a text", remedy=remedy, where=name)
    if not all(isinstance(end, int) for end in _ends(model)):
        remedy = "give ids in generation_config.json"
        raise IAError("eos_token_id is no id of a token", remedy=remedy, where=name)
    kind = type(model).__name__
    if "past_key_values" not in inspect.signature(type(model).forward).parameters:
        remedy = "give a --base with attention layers"
        raise IAError(f"a {kind} keeps no keys and values of what it has read", remedy=remedy, where=name)
    if not linear_modules(model):
        raise IAError(f"a {kind} has no linear layers for a LoRA", remedy="give another --base", where=name)


def end_ids(base: Base) -> torch.Tensor:
    """Return the ids that end a reply: the tokenizer's end of sequence and those of the generation config."""
    return torch.tensor(sorted({*_ends(base.model), base.tokenizer.eos_token_id}), device=base.device)


def _ends(model: PreTrainedModel) -> list[int]:
    ends = model.generation_config.eos_token_id
    return ends if isinstance(ends, list) else [] if ends is None else [ends]


def linear_modules(model: PreTrainedModel) -> dict[str, nn.Linear]:
    """Return every linear layer that a LoRA may adapt, by its name in the base: the text model's, in order.

    The head is left out, and so is a mixture of experts: its router and experts see single tokens, so that a
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


def is_recurrent(model: PreTrainedModel) -> bool:
    """Whether some layers keep a state of what they have read (linear attention, state spaces, short
    convolutions) instead of its keys and values, or beside them.
    """
    layers = DynamicCache(config=model.config.get_text_config()).layers
    return any(isinstance(layer, LinearAttentionCacheLayerMixin) for layer in layers)


def takes_positions(model: PreTrainedModel) -> bool:
    """Whether a model is told where its tokens stand; others count what they read."""
    return "position_ids" in inspect.signature(type(model).forward).parameters


def own_modules(model: PreTrainedModel) -> dict[str, nn.Module]:
    """Return every module of the base by its name, as if no adapter of PEFT and no bank were on it."""
    return {
        name.removesuffix(".base_layer"): module
        for name, module in model.named_modules()
        if name
        and ".lora_" not in name
        and not hasattr(module, "base_layer")
        and name.partition(".")[0] != "bank"
    }


def last(name: str) -> str:
    """Return the last part of a layer's name, such as q_proj."""
    return name.rpartition(".")[2]


def is_target(name: str, targets: Iterable[str]) -> bool:
    """Whether a layer is one of the `targets`, which are ends of names, as PEFT reads target_modules."""
    return any(f".{name}".endswith(f".{target}") for target in targets)


def free_memory(device: torch.device) -> int:
    """Return how many bytes of a CUDA device can be used: free ones, and those that torch has in reserve."""
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + kept


def kept_bytes(base: Base, tokens: int) -> int:
    """Return about what a training step of so many tokens keeps in memory until its backward pass: inputs and
    outputs of all linear layers, and as much again between them.
    """
    widths = sum(layer.in_features + layer.out_features for layer in linear_modules(base.model).values())
    return 2 * widths * base.model.dtype.itemsize * tokens


def suitable_rate(base: Base, rate: float) -> float:
    """Return the learning rate for this base where none is given: `rate` is what suits the embedded one.

    A model of the usual width takes a 25th of it: 2e-4 instead of 5e-3.
    """
    return rate if knows_only_the_world(base.name) else rate / 25


def suitable_length(base: Base, tokens: int) -> int:
    """Return how long a reply of this base may be where nothing is given: `tokens` suit the embedded one.

    A model of the usual size writes more before it comes to an end. Where it can read little, a quarter of it
    leaves room for a question and an example of its replies besides.
    """
    return min(reply_tokens(base.name, tokens), base.max_length // 4)


@contextlib.contextmanager
def own_forward(model: PreTrainedModel) -> Iterator[None]:
    """Undo TRL's patch of `model.forward` at the end: each trainer wraps it once more, for good."""
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
            remedy="shorten the prompt, or the reply (--max-new-tokens, where there is one)",
        )
    return ids
