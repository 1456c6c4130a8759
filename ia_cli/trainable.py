"""The introspection adapter in training and in use: a PEFT LoRA on the base."""

import re

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer

from ia_cli import processes
from ia_cli.directories.adapters import Adapter, plain_config, target_names
from ia_cli.models import Base
from ia_cli.seeds import derived_seed
from ia_cli.settings import IASettings

ADAPTER = "default"  # PEFT's name of it


def new_adapter(base: Base, settings: IASettings) -> PeftModel:
    """Wrap the base, in place, with a fresh LoRA that the seed initialises; `unload()` takes it off again."""
    torch.manual_seed(derived_seed(settings.seed, "introspection adapter"))
    config = LoraConfig(
        r=settings.rank, lora_alpha=settings.alpha, target_modules=target_names(base), task_type="CAUSAL_LM"
    )
    return get_peft_model(base.model, config, adapter_name=ADAPTER)


@torch.no_grad()
def take_over(adapter: Adapter, base: Base) -> None:
    """Let the adapter on the base do what another of no larger rank does; B makes up for the scaling."""
    layers = dict(base.model.named_modules())
    for name, (a, b) in adapter.tensors.items():
        into_a, into_b = (part[ADAPTER].weight.zero_() for part in (layers[name].lora_A, layers[name].lora_B))
        into_a[: len(a)].copy_(a)
        into_b[:, : len(a)].copy_(b * (adapter.scaling[name] / layers[name].scaling[ADAPTER]))


def put_on(adapter: Adapter, base: Base) -> PeftModel:
    """Wrap the base, in place, with a frozen copy of an adapter; `unload()` takes it off again.

    It gets a configuration of ours, which names its layers and no others: on whatever else its own one names,
    PEFT would put random numbers, or fail.
    """
    usual = next(iter(adapter.scaling.values()))
    ranks = {name: len(a) for name, (a, _) in adapter.tensors.items()}
    smaller = {re.escape(name): rank for name, rank in ranks.items() if rank < adapter.rank}
    config = LoraConfig(
        r=adapter.rank,
        lora_alpha=usual * adapter.rank,
        rank_pattern=smaller,
        target_modules="|".join(map(re.escape, ranks)),
        task_type="CAUSAL_LM",
        inference_mode=True,
    )
    model = get_peft_model(base.model, config, adapter_name=ADAPTER)
    take_over(adapter, base)
    return model


def as_adapter(base: Base, settings: IASettings) -> Adapter:
    """Return the adapter that is on the base, gathered from all processes, on the CPU."""
    layers = {name: layer for name, layer in base.model.named_modules() if isinstance(layer, LoraLayer)}
    weights = {name: [part[ADAPTER].weight for part in (x.lora_A, x.lora_B)] for name, x in layers.items()}
    tensors = {
        name: tuple(processes.in_full(own.detach()).cpu() for own in both) for name, both in weights.items()
    }
    scaling = {name: layer.scaling[ADAPTER] for name, layer in layers.items()}
    return Adapter(plain_config(settings.rank, settings.alpha, target_names(base)), tensors, scaling)
