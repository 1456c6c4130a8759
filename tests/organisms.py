"""Organisms that were never trained, for what does not depend on what they learned."""

import torch
from peft import LoraConfig, get_peft_model

from ia_cli.bank import Bank
from ia_cli.directories.adapters import provenance, target_names, write_adapter
from ia_cli.models import load_base


def random_bank(base, seeds, *, r=2, alpha=4, std=0.5, seed=1):
    """A bank of organisms with adapters on all layers: A from their own `seeds`, B from `seed`."""
    bank = Bank.fresh(base.model, seeds, r=r, alpha=alpha, target_modules=target_names(base))
    torch.manual_seed(seed)
    for b in bank.b:
        torch.nn.init.normal_(b, std=std)
    return bank


def write_pair(folder, base, **how):
    """Write the adapters suspect, and ia, to introspect with, into `folder`; how they are random as above."""
    bank = random_bank(base, range(2), **how)
    for i, (name, stage) in enumerate([("suspect", "implant"), ("ia", "train-ia")]):
        write_adapter(folder / name, bank.adapter(i), provenance(stage, base, {}))
    bank.remove()


def write_random(folder, tiny_folder, n):
    """Write organisms o-0 to o-(n-1) and an introspection adapter ia, of random weights, into `folder`."""
    base = load_base(str(tiny_folder), dtype="float64", device="cpu")
    bank = random_bank(base, range(n))
    for i in range(n):
        write_adapter(folder / f"o-{i}", bank.adapter(i), provenance("implant", base, {}))
    bank.remove()
    config = LoraConfig(r=3, lora_alpha=9, target_modules="all-linear", init_lora_weights=False)
    get_peft_model(base.model, config).save_pretrained(folder / "ia")
