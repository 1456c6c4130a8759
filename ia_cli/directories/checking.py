"""The checks that an adapter directory passes before anything of it is used: it may come from a stranger.

Nothing here runs code, follows a path out of the directory or reaches the network, and no file is read before
its size is known. What is not known to be a plain LoRA, W + s B A, is refused with an IAError.
"""

import contextlib
import math
import re
import signal
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, Literal, get_args

import torch
from peft import LoraConfig
from peft.tuners.tuners_utils import check_target_module_exists
from peft.utils.other import get_pattern_key
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from ia_cli.directories.safe_files import CONFIG_FILE, LARGEST_WEIGHTS, check_file
from ia_cli.errors import IAError, first_problem
from ia_cli.models import Base, last, linear_modules, own_modules
from ia_cli.settings import LARGEST_ALPHA, LARGEST_RANK

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
PREFIX, A_SUFFIX, B_SUFFIX = "base_model.model.", ".lora_A.weight", ".lora_B.weight"

LARGEST_WEIGHT = 65504.0  # of float16, in which adapters are served
LARGEST_CHANGE = 100.0  # root mean square of s B A; the weights of a language model are well below 1
NOT_ALL_LINEAR = ("lm_head", "embed_out", "embed_tokens", "embed_in", "wte")  # what PEFT then leaves out
OBSOLETE = {"enable_lora": None, "merge_weights": False}  # keys of the first PEFTs, with what does nothing
LFS = b"version https://git-lfs"
# What PEFT can adapt.
ADAPTABLE = (nn.Linear, nn.Embedding, Conv1D, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.MultiheadAttention)
MERGE = (
    "only W + s B A is read: merge it into its base (merge_and_unload), save that, and audit the whole model"
)
PATTERN_SECONDS = 60  # for all regular expressions of a configuration together

Tensors = Mapping[str, tuple[Tensor, Tensor]]

Rank = Annotated[int, Field(gt=0, le=LARGEST_RANK)]
Alpha = Annotated[float, Field(gt=0, le=LARGEST_ALPHA, allow_inf_nan=False)]
Names = Annotated[list[str], Field(min_length=1)]
Init = Literal["gaussian", "eva", "orthogonal", "mica"]  # those that leave the base alone


class LoraSettings(BaseModel):
    """The keys that say only where and how strongly A and B act, or that do nothing at inference.

    Any other key that PEFT knows must have its default: DoRA, biases, saved modules and the like are more
    than W + s B A. `init_lora_weights` is here for the initialisations that leave W alone; the others (pissa,
    olora, ...) subtract B A from W, so that their A and B mean nothing on the original base.
    """

    model_config = ConfigDict(extra="allow", strict=True)

    peft_type: Literal["LORA"]
    task_type: Literal["CAUSAL_LM"] | None = None
    r: Rank
    lora_alpha: Alpha
    use_rslora: bool = False
    rank_pattern: dict[str, Rank] = {}
    alpha_pattern: dict[str, Alpha] = {}
    target_modules: Names | str
    exclude_modules: list[str] | str | None = None
    layers_to_transform: list[int] | int | None = None
    layers_pattern: list[str] | str | None = None
    init_lora_weights: bool | Init = True
    lora_dropout: Annotated[float, Field(ge=0, le=1)] = 0.0
    inference_mode: bool = False
    base_model_name_or_path: str | None = None
    revision: str | None = None
    peft_version: str | None = None
    auto_mapping: dict[str, Any] | None = None
    eva_config: dict[str, Any] | None = None


def read_settings(config: dict[str, Any], where: str) -> LoraSettings:
    """Return what a configuration says; IAError unless it is that of a plain LoRA, key by key."""
    if config.get("peft_type") != "LORA":
        kind = config.get("peft_type")
        raise IAError(f"peft_type is {kind!r}, not LORA", remedy="only LoRA is read", where=where)
    init = config.get("init_lora_weights")
    if isinstance(init, str) and init not in get_args(Init):
        remedy = "convert it with PEFT's path_initial_model_for_weight_conversion"
        raise IAError(f"init_lora_weights = {init!r} changed the base too", remedy=remedy, where=where)
    config = {key: x for key, x in config.items() if key not in OBSOLETE or x != OBSOLETE[key]}
    defaults = LoraConfig().to_dict()
    for key, value in config.items():
        if key not in defaults:
            raise IAError(f"unknown key {key!r}", remedy="made by a newer PEFT? upgrade peft", where=where)
        if key in ("modules_to_save", "target_parameters") and value == []:  # none of them
            continue
        if key not in LoraSettings.model_fields and not _is_default(value, defaults[key]):
            brief = f"{key} = {value!r}"[:80]
            raise IAError(f"{brief} is more than a plain LoRA", remedy=MERGE, where=where)
    try:
        settings = LoraSettings.model_validate(config)
        LoraConfig(**config)
        ranks = (settings.r, *settings.rank_pattern.values())
        if settings.init_lora_weights == "orthogonal" and any(rank % 2 for rank in ranks):
            raise ValueError("orthogonal initialisation needs an even rank")
    except ValidationError as error:
        brief = ": ".join(first_problem(error))
        raise IAError(brief, remedy="correct it, or save the adapter again", where=where) from error
    except (TypeError, ValueError) as error:
        raise IAError(f"PEFT refuses it: {error}", remedy="save the adapter again", where=where) from error
    return settings


def _is_default(value: object, default: object) -> bool:
    return value == default or (value is None and not default)


def read_tensors(path: Path) -> dict[str, tuple[Tensor, Tensor]]:
    """Return A [r, in] and B [out, r] of each layer, by its name in the base.

    IAError unless the file holds such pairs and nothing else, all of them finite, and as float16 too.
    """
    check_file(path, LARGEST_WEIGHTS)
    try:
        loaded = load_file(path)
    except SafetensorError as error:
        with path.open("rb") as file:
            pointer = file.read(len(LFS)) == LFS
        message = "a pointer of Git LFS" if pointer else f"not a safetensors file: {error}"
        remedy = "fetch the file with `git lfs pull`" if pointer else "save the adapter again"
        raise IAError(message, remedy=remedy, where=str(path)) from error
    names = [key.removeprefix(PREFIX).removesuffix(A_SUFFIX) for key in loaded if key.endswith(A_SUFFIX)]
    expected = {PREFIX + name + suffix for name in names for suffix in (A_SUFFIX, B_SUFFIX)}
    bare = [f"{key}, without {PREFIX}" for key in loaded if not key.startswith(PREFIX)]
    wrapped = [name for name in names if name.startswith(("base_model.", "_orig_mod."))]
    if bare or wrapped:
        message = f"PEFT finds no layer called {min(bare or wrapped)}"
        raise IAError(message, remedy="save the adapter from the PeftModel itself", where=str(path))
    if not names or expected != set(loaded):
        odd = min(expected ^ set(loaded), default="no tensors")
        message = f"not pairs of lora_A and lora_B: {odd}"
        raise IAError(message, remedy=MERGE, where=str(path))
    tensors = {
        name: (loaded[PREFIX + name + A_SUFFIX], loaded[PREFIX + name + B_SUFFIX]) for name in sorted(names)
    }
    for name, (a, b) in tensors.items():
        if a.dim() != 2 or b.dim() != 2 or a.size(0) != b.size(1) or not a.numel() or not b.numel():
            message = f"{name}: A {list(a.shape)} and B {list(b.shape)} do not fit together"
            raise IAError(message, remedy="save the adapter again", where=str(path))
        for tensor in (a, b):
            check_numbers(tensor, f"{path}: {name}")
    return tensors


def check_numbers(tensor: Tensor, where: str) -> None:
    """Raise IAError for weights of an odd type, that are not finite, or beyond float16."""
    if tensor.dtype not in FLOATS:
        raise IAError(f"weights of type {tensor.dtype}", remedy="save the adapter as float32", where=where)
    low, high = (float(bound) for bound in tensor.aminmax())  # NaN if there is one
    if not math.isfinite(low - high):
        raise IAError("a weight is not finite", remedy="train the adapter again", where=where)
    if max(-low, high) > LARGEST_WEIGHT:
        message = f"a weight of {max(-low, high):.3g} is beyond float16"
        raise IAError(message, remedy="train the adapter again, with a lower learning rate", where=where)


def read_scaling(settings: LoraSettings, tensors: Tensors, where: str) -> dict[str, float]:
    """Return PEFT's scaling of each layer.

    IAError if PEFT would not put A and B on this layer (it then ignores them, and so would whoever runs the
    adapter), or would give it another rank.
    """
    with _matching_patterns(where):
        ranks, alphas = settings.rank_pattern, settings.alpha_pattern
        scaling = {}
        for name, (a, _) in tensors.items():
            _check_target(settings, name, where)
            rank = ranks.get(get_pattern_key(ranks, name), settings.r)
            if rank != a.size(0):
                message = f"{name}: rank {a.size(0)}, where {CONFIG_FILE} says {rank}"
                raise IAError(message, remedy="correct r or rank_pattern", where=where)
            alpha = alphas.get(get_pattern_key(alphas, name), settings.lora_alpha)
            scaling[name] = alpha / (math.sqrt(rank) if settings.use_rslora else rank)
        return scaling


@contextlib.contextmanager
def _matching_patterns(where: str) -> Iterator[None]:
    """Raise IAError where patterns of a configuration are none, or never end."""
    try:
        with _time_limit(PATTERN_SECONDS):
            yield
    except (re.error, TimeoutError, RecursionError, OverflowError, ValueError) as error:
        message = f"the patterns in {CONFIG_FILE} are malformed: {error}"
        raise IAError(message, remedy="name the modules instead", where=where) from error


def _check_target(settings: LoraSettings, name: str, where: str) -> None:
    if _adapts(settings, name):
        return
    if settings.target_modules == "all-linear":
        message = f"{name} is adapted, which is not among the layers that all-linear means"
        raise IAError(message, remedy="name the target_modules, and save the adapter again", where=where)
    message = f"{name} is not among the target_modules of {CONFIG_FILE}"
    raise IAError(message, remedy="add it there, or save the adapter again", where=where)


def _adapts(settings: LoraSettings, name: str) -> bool:
    """Whether PEFT puts A and B on this layer, if it is a linear one."""
    if settings.target_modules == "all-linear":
        if last(name) in NOT_ALL_LINEAR:
            return False
        settings = settings.model_copy(update={"target_modules": [name]})  # and yet some may be excluded
    return bool(check_target_module_exists(SimpleNamespace(**dict(settings)), name))


@contextlib.contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Raise TimeoutError in the block after so long: a regular expression can be made never to end.

    In the main thread only, where signals arrive.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        raise TimeoutError("they take too long")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def check_changes(changes: Mapping[str, float], where: str) -> None:
    """Raise IAError if the root mean square of s B A in some layer is beyond all reason."""
    name = max(changes, key=changes.__getitem__)
    if not changes[name] <= LARGEST_CHANGE:
        message = f"{name}: its weights change by {changes[name]:.3g} on average, which drowns any base"
        raise IAError(message, remedy="correct lora_alpha, or train the adapter again", where=where)


def check_base(
    settings: LoraSettings, tensors: Tensors, made_for: Mapping[str, object], base: Base, where: str
) -> None:
    """Raise IAError if the adapter says that it belongs to another base, or if its shapes say so.

    Or if PEFT would adapt modules of the base that the adapter has no tensors for, with random numbers or not
    at all.
    """
    remedy = f"give the base it was made for with --base (this is {base.name})"
    if made_for.get("identity") not in (None, base.identity):
        raise IAError(f"made for another base, {made_for.get('name')}", remedy=remedy, where=where)
    layers: dict[str, nn.Linear] = linear_modules(base.model)
    all_of_them = own_modules(base.model)
    for name, (a, b) in tensors.items():
        if name not in layers and name in all_of_them:
            message = f"it adapts {name}, which cannot be followed: a head, experts, or no text"
            raise IAError(message, remedy="train it on the linear layers of the text model", where=where)
        if name not in layers:
            message = f"made for another base: this one has no linear layer {name}"
            raise IAError(message, remedy=remedy, where=where)
        shape, fits = (b.size(0), a.size(1)), (layers[name].out_features, layers[name].in_features)
        if shape != fits:
            raise IAError(f"made for another base: {name} is {shape}, not {fits}", remedy=remedy, where=where)
    named = layers if settings.target_modules == "all-linear" else all_of_them
    with _matching_patterns(where):
        left = [name for name in named if name not in tensors and _adapts(settings, name)]
    odd = [name for name in left if not isinstance(all_of_them[name], ADAPTABLE)]
    if odd:
        kind = type(all_of_them[odd[0]]).__name__
        message = f"target_modules names {odd[0]}, and PEFT cannot adapt a {kind}"
        raise IAError(message, remedy="name the layers that it adapts", where=where)
    if left and settings.init_lora_weights is False:
        message = f"{left[0]} has no tensors, and init_lora_weights = false gives it random ones"
        raise IAError(message, remedy="save the adapter again", where=where)
