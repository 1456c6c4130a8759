"""The bank: many LoRAs on one frozen base, each row of a batch routed to its own.

The A and B of N organisms are stacked per linear layer, and every row of a batch says which organism it
belongs to: y = W x + s B_i A_i x. The rows are brought together by organism, so that each layer costs two
batched matrix products and no organism's weights are copied once per row.
"""

import contextlib
import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Self

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ia_cli import processes
from ia_cli.directories.adapters import Adapter, plain_config
from ia_cli.errors import IAError
from ia_cli.models import is_target, linear_modules


@dataclass(frozen=True)
class Route:
    """How the rows of one batch meet their organisms: S slots of k places, each slot for one organism.

    `organisms` [S] names them; None where slot i is organism i. `bare` [S] marks slots of the bare base,
    whose organism is any; None where there are none. `gather` [S * k] is the row in each place (any row where
    a slot has fewer) and `places` [batch] the place of each row; both are None where the rows stand in slot
    order already. There are no slots if all rows are bare.
    """

    batch: int
    slots: int = 0
    organisms: Tensor | None = None
    bare: Tensor | None = None
    gather: Tensor | None = None
    places: Tensor | None = None
    # A and B of the slots, per layer: picked once, where they cannot change.
    weights: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def on(self, device: torch.device, stored: torch.device) -> "Route":
        """This route for a model on `device` and organisms that are stored on another."""
        there = {"organisms": stored, "bare": device, "gather": device, "places": device}
        moved = {name: getattr(self, name) for name in there}
        return replace(self, **{name: x if x is None else x.to(there[name]) for name, x in moved.items()})


def route(index: Tensor, n: int) -> Route:
    """Plan the slots for rows of the organisms `index` [batch], of n in all; -1 is a bare row.

    Slots have as many places as organisms have rows on average, rounded down, and an organism with more rows
    gets several, so that at most half of the places are empty, however uneven the batch.
    """
    if not index.numel():
        return Route(0)
    lowest, highest = int(index.min()), int(index.max())
    if not -1 <= lowest <= highest < n:
        raise IndexError(f"organisms {lowest} to {highest}, of a bank of {n}")
    if highest < 0:
        return Route(len(index))
    order = index.argsort(stable=True)  # together by organism
    organisms, counts = index[order].unique_consecutive(return_counts=True)
    size = len(order) // len(organisms)
    slots_each = (counts + size - 1) // size
    first_place = (slots_each.cumsum(0) - slots_each) * size
    first_row = counts.cumsum(0) - counts
    rank = torch.arange(len(order), device=index.device) - first_row.repeat_interleave(counts)
    taken = first_place.repeat_interleave(counts) + rank  # an organism's slots are neighbours
    slots = int(slots_each.sum())
    gather = order[:1].repeat(slots * size).scatter(0, taken, order)
    in_order = torch.equal(gather, torch.arange(len(order), device=index.device))
    each_once = slots == len(organisms) == n and int(organisms[0]) == 0
    of_slots = organisms.repeat_interleave(slots_each)
    return Route(
        batch=len(index),
        slots=slots,
        organisms=None if each_once else of_slots.clamp(min=0),
        bare=of_slots < 0 if lowest < 0 else None,
        gather=None if in_order else gather,
        places=None if in_order else torch.empty_like(order).scatter(0, order, taken),
    )


class LowRank(torch.autograd.Function):
    """s B A x (+ y) for x [S, k, in], A [S, r, in], B [S, out, r] and y [S, k, out] or None.

    Autograd would derive the same gradients by products with results r wide, which take a CPU four times as
    long as the transposed products here.
    """

    @staticmethod
    def forward(ctx, x: Tensor, a: Tensor, b: Tensor, scaling: float, y: Tensor | None) -> Tensor:
        low = torch.bmm(a, x.mT)  # [S, r, k]
        ctx.scaling = scaling
        _, for_a, for_b, _, _ = ctx.needs_input_grad
        ctx.save_for_backward(x if for_a else None, low if for_b else None, a, b)
        if y is None:
            return torch.bmm(low.mT, b.mT) * scaling
        return torch.baddbmm(y, low.mT, b.mT, alpha=scaling)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, low, a, b = ctx.saved_tensors
        for_x, for_a, for_b, _, for_y = ctx.needs_input_grad
        grad_low = torch.bmm(b.mT, grad.mT) * ctx.scaling if for_x or for_a else None  # [S, r, k]
        return (
            torch.bmm(grad_low.mT, a) if for_x else None,
            torch.bmm(grad_low, x) if for_a else None,
            torch.bmm(low, grad).mT * ctx.scaling if for_b else None,
            None,
            grad if for_y else None,
        )


class Bank(nn.Module):
    """N LoRAs on the linear layers of one frozen model, added by forward hooks.

    The bank is a child module of that model, `model.bank`, until it is removed. Because the hooks sit on the
    plain layers, a PEFT adapter that wraps these layers adds on top. `names` are the adapted layers; `a[j]`
    [N, r, in] and `b[j]` [N, out, r] are the stacked weights of layer `names[j]`. Every forward pass of the
    model must happen inside `with bank.rows(index)`.

    With `offload` the weights stay on the CPU, wherever the model is, and each forward pass fetches those of
    its rows. They cannot be trained, and are no parameters, which a trainer would move to the model.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        weights: Mapping[str, tuple[Tensor, Tensor]],
        alpha: float,
        targets: Sequence[str],
        *,
        offload: bool = False,
    ):
        super().__init__()
        if hasattr(model, "bank"):
            raise RuntimeError("this model has a bank already: remove() it first")
        object.__setattr__(self, "model", model)  # not registered: the model holds the bank, not the reverse
        self.names = list(weights)
        hold = list if offload else nn.ParameterList
        self.a, self.b = hold(a for a, _ in weights.values()), hold(b for _, b in weights.values())
        self.rank, self.alpha, self.targets = self.a[0].size(1), alpha, list(targets)
        self.scaling = alpha / self.rank
        layers = linear_modules(model)
        self._route: Route | None = None
        self._hooks = [
            layers[name].register_forward_hook(partial(self._add, place))
            for place, name in enumerate(self.names)
        ]
        model.add_module("bank", self)

    @classmethod
    def fresh(
        cls,
        model: PreTrainedModel,
        seeds: Sequence[int],
        *,
        r: int,
        alpha: float,
        target_modules: Sequence[str],
    ) -> Self:
        """Make one trainable LoRA per seed, initialised as PEFT does: A uniform within 1/sqrt(in), B zero.

        An organism's A depends on its own seed alone. `target_modules` are ends of layers' names, as in PEFT.
        """
        layers = {
            name: layer for name, layer in linear_modules(model).items() if is_target(name, target_modules)
        }
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        weights = {}
        for name, layer in layers.items():
            a = torch.empty(len(seeds), r, layer.in_features)
            for own, generator in zip(a, generators, strict=True):
                nn.init.kaiming_uniform_(own, a=math.sqrt(5), generator=generator)
            b = torch.zeros(len(seeds), layer.out_features, r)
            weights[name] = a.to(layer.weight.device, _dtype(layer)), b.to(layer.weight.device, _dtype(layer))
        return cls(model, weights, alpha, target_modules)

    @classmethod
    def load(cls, model: PreTrainedModel, adapters: Sequence[Adapter], *, offload: bool = False) -> Self:
        """Stack adapters, frozen, whatever their ranks and layers; with `offload` on the CPU.

        Smaller ones are padded with zeros, which change nothing, and each one's scaling is folded into its B.
        """
        layers = linear_modules(model)
        names = [name for name in layers if any(name in adapter.tensors for adapter in adapters)]
        rank = max(adapter.rank for adapter in adapters)
        weights = {}
        for name in names:
            device = "cpu" if offload else layers[name].weight.device
            dtype = _dtype(layers[name])
            a = torch.zeros(len(adapters), rank, layers[name].in_features, dtype=dtype, device=device)
            b = torch.zeros(len(adapters), layers[name].out_features, rank, dtype=dtype, device=device)
            for i, adapter in enumerate(adapters):
                if name in adapter.tensors:
                    own_a, own_b = adapter.tensors[name]
                    a[i, : own_a.size(0)] = own_a
                    b[i, :, : own_b.size(1)] = own_b.to(device, dtype) * adapter.scaling[name]
            weights[name] = a, b
        return cls(model, weights, rank, names, offload=offload).requires_grad_(False)

    def __len__(self) -> int:
        return self.a[0].size(0)

    @contextlib.contextmanager
    def rows(self, index: Sequence[int] | Tensor) -> Iterator[None]:
        """Route row i of every forward pass inside to organism `index[i]`; -1 is the bare base.

        With activation checkpointing, layers run again in the backward pass, which must be inside, too.
        """
        before = self._route
        # Planned on the CPU, where looking at a number does not wait for all that a GPU has yet to do.
        plan = route(torch.as_tensor(index, device="cpu"), len(self))
        self._route = plan.on(self.model.device, self.a[0].device)
        try:
            yield
        finally:
            self._route = before

    @contextlib.contextmanager
    def at_volume(self, factors: Tensor) -> Iterator[None]:
        """Multiply what organism i adds by `factors[i]`, inside the context."""
        if (factors == 1).all():  # spares a copy of all that the bank holds
            yield
            return
        before = [b.data for b in self.b]
        for b in self.b:
            b.data = b.data * factors.to(b.device, b.dtype)[:, None, None]
        try:
            yield
        finally:
            for b, data in zip(self.b, before, strict=True):
                b.data = data

    def adapter(self, i: int) -> Adapter:
        """Return organism i, on the CPU, to be written as a directory of its own."""
        tensors = {
            name: tuple(part[i].detach().to("cpu", copy=True) for part in (a, b))
            for name, a, b in zip(self.names, self.a, self.b, strict=True)
        }
        return Adapter(
            plain_config(self.rank, self.alpha, self.targets),
            tensors,
            dict.fromkeys(self.names, self.scaling),
        )

    def digest(self) -> str:
        """Return the SHA-256 of all weights: equal before and after means that nothing has changed."""
        digest = hashlib.sha256()
        for tensor in (*self.a, *self.b):
            digest.update(processes.in_full(tensor.detach()).cpu().contiguous().numpy())
        return digest.hexdigest()

    def remove(self) -> None:
        """Take the bank off the model, which is then as it was before."""
        for hook in self._hooks:
            hook.remove()
        del self.model.bank

    def _add(self, place: int, layer: nn.Linear, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        """Forward hook: turn W x [batch, ..., out] into W x + s B_i A_i x, for x [batch, ..., in]."""
        plan, x = self._route, inputs[0]
        if plan is None:
            raise RuntimeError("a model with a bank runs only inside `with bank.rows(index)`")
        if x.size(0) != plan.batch:
            message = f"its layer {self.names[place]} sees {x.size(0)} rows where there are {plan.batch}"
            raise IAError(message, remedy="give another --base: rows cannot be told apart in this one")
        if not plan.slots:
            return output
        a, b = self._weights(place, plan, x.device)
        x = (x if plan.gather is None else x.index_select(0, plan.gather)).to(a.dtype)
        x = x.reshape(plan.slots, -1, x.size(-1))
        if plan.gather is None and output.dtype == a.dtype:
            slots = output.reshape(plan.slots, -1, output.size(-1))
            return LowRank.apply(x, a, b, self.scaling, slots).view_as(output)
        delta = LowRank.apply(x, a, b, self.scaling, None).to(output.dtype).view(-1, *output.shape[1:])
        return output + (delta if plan.places is None else delta.index_select(0, plan.places))

    def _weights(self, place: int, plan: Route, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return A [S, r, in] and B [S, out, r] of the plan's slots; B is zero in a bare one."""
        if place in plan.weights:
            return plan.weights[place]
        a, b = self.a[place], self.b[place]
        learning = torch.is_grad_enabled() and a.requires_grad
        if plan.organisms is not None:
            a, b = a.index_select(0, plan.organisms), b.index_select(0, plan.organisms)
        a, b = a.to(device), b.to(device)
        if plan.bare is not None:
            b = b.masked_fill(plan.bare[:, None, None], 0)
        if not learning:
            plan.weights[place] = a, b
        return a, b


def _dtype(layer: nn.Linear) -> torch.dtype:
    """The type of an adapter on this layer: at least float32, as in PEFT; also on one of 8 bits."""
    return torch.float64 if layer.weight.dtype == torch.float64 else torch.float32
