"""A whole model, run in the base's body instead of a bank: the base takes on its weights for a while."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from ia_cli import symmetries
from ia_cli.models import Base


def in_order(weights: Mapping[str, Tensor], base: Base) -> dict[str, Tensor]:
    """Return a model's weights as adapters of the base know them, with changes undone that no reply shows."""
    return symmetries.undo(weights, named_weights(base), base.model.config)


@contextlib.contextmanager
def taking_on(base: Base, weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Let the base have these weights for a while. Adapters that are on it stay on."""
    with swapping(base, weights) as model:
        model.run_with(own=True)
        yield


class WholeModel:
    """A whole model in place of a bank: row 0 is the model, -1 its base; a batch has rows of only one."""

    def __init__(self, base: Base, weights: Mapping[str, Tensor]) -> None:
        self._parameters = named_weights(base)
        # On the CPU, like the model's: a GPU need not have room for two.
        before = {name: self._parameters[name].detach().to("cpu", copy=True) for name in weights}
        self._weights = {False: before, True: weights}
        self._is_own: bool | None = False

    def __len__(self) -> int:
        return 1

    @contextlib.contextmanager
    def rows(self, index: Sequence[int] | Tensor) -> Iterator[None]:
        """Run everything inside with the model's weights (all rows 0) or the base's (all rows -1)."""
        of = set(torch.as_tensor(index).tolist())
        if of not in ({0}, {-1}):
            raise RuntimeError(f"rows of a whole model and of its base in one batch: {of}")
        self.run_with(own=of == {0})
        yield

    def run_with(self, *, own: bool) -> None:
        """Give the base the model's weights if `own`, else those that it had before."""
        if own != self._is_own:
            self._is_own = None  # where memory ends half-way, it has some of both
            _put(self._parameters, self._weights[own])
            self._is_own = own


@contextlib.contextmanager
def swapping(base: Base, weights: Mapping[str, Tensor]) -> Iterator[WholeModel]:
    """Run a model and its base in turn; at the end the base is as it was."""
    model = WholeModel(base, weights)
    try:
        yield model
    finally:
        model.run_with(own=False)


def named_weights(base: Base) -> dict[str, torch.nn.Parameter]:
    """Return the base's own weights by name, whether PEFT has wrapped its layers or not."""
    return {
        name.replace(".base_layer", ""): parameter
        for name, parameter in base.model.named_parameters()
        if ".lora_" not in name and not name.startswith("bank.")
    }


@torch.no_grad()
def _put(parameters: Mapping[str, torch.nn.Parameter], weights: Mapping[str, Tensor]) -> None:
    for name, weight in weights.items():
        parameters[name].copy_(weight)
