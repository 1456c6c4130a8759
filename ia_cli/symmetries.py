"""Undoing changes to a model's weights that change nothing it says.

The neurons of an MLP can stand in any order; the values of a head can be rotated, if what reads them is
rotated back; and the pairs in which RoPE turns queries and keys can be turned further, if both are. The model
replies as before, but an introspection adapter, which knows the order of its base, no longer recognises it:
such changes took right reports from 100% to between 0 and 20% (arXiv 2605.27836). With the base at hand they
can be undone: neurons are matched by cosine, and heads and pairs are turned to where they are nearest to the
base's (orthogonal Procrustes).

This covers the layers of Llama and of models built like it; all other weights are left as they are.
"""

from collections.abc import Mapping

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedConfig

# A neuron with at least this cosine to the base's at its place counts as that one after some training.
IN_PLACE = 0.9
UNTURNED = 0.999  # the same for a head or a pair: it was not turned
READERS = "down_proj", "o_proj"  # whose columns, not rows, belong to neurons and heads

Weights = dict[str, Tensor]


def undo(weights: Mapping[str, Tensor], base: Mapping[str, Tensor], config: PreTrainedConfig) -> Weights:
    """Return a model's `weights`, by name, as they were before they were disguised.

    `base` has those of its base, with the same names and shapes, and `config` is the configuration of both.
    Tensors that were not disguised are returned as they are. Replies change by rounding only.
    """
    found = dict(weights)
    config = config.get_text_config()
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    for layers in _together(base, "gate_proj", "up_proj", "down_proj"):
        _sort_neurons(found, base, layers)
    for layers in _together(base, "v_proj", "o_proj"):
        _turn_heads(found, base, layers, width)
    for layers in _together(base, "k_proj", "q_proj"):
        if layers[0].replace("k_proj", "k_norm.weight") not in base:  # a norm of keys would notice
            _turn_pairs(found, base, layers, width)
    return found


def _together(weights: Mapping[str, Tensor], *kinds: str) -> list[list[str]]:
    """Return the names of these layers, for each module that has all of them."""
    first = f"{kinds[0]}.weight"
    modules = [name.removesuffix(first) for name in weights if name.endswith(first)]
    found = [[module + kind for kind in kinds] for module in modules]
    return [layers for layers in found if all(f"{layer}.weight" in weights for layer in layers)]


def _sort_neurons(found: Weights, base: Mapping[str, Tensor], layers: list[str]) -> None:
    """Put the neurons that are unlike the base's in the order that makes them most like the base's."""
    own, wanted = (torch.cat([_rows(of, layer) for layer in layers], dim=1) for of in (found, base))
    odd = (functional.cosine_similarity(own, wanted) < IN_PLACE).nonzero()[:, 0]
    alike = functional.normalize(wanted[odd]) @ functional.normalize(own[odd]).T
    _, match = linear_sum_assignment(alike.numpy(), maximize=True)
    order = torch.arange(len(own)).index_copy(0, odd, odd[match])
    if not torch.equal(odd, odd[match]):
        for layer in layers:
            _put(found, layer, _rows(found, layer)[order])


def _turn_heads(found: Weights, base: Mapping[str, Tensor], layers: list[str], width: int) -> None:
    """Rotate the values of each head towards the base's, and what reads them the other way."""
    own, wanted = (_heads(of, layers, width) for of in (found, base))
    left, _, right = torch.linalg.svd(wanted @ own.mT)
    turned = left @ right @ own
    better = _nearer(*(one.flatten(1) for one in (turned, own, wanted)))
    if better.any():
        _put_heads(found, layers, torch.where(better[:, None, None], turned, own))


def _turn_pairs(found: Weights, base: Mapping[str, Tensor], layers: list[str], width: int) -> None:
    """Turn each pair of values of a head's keys and queries, to RoPE a complex number, by one angle."""
    own, wanted = (torch.complex(*_heads(of, layers, width).chunk(2, dim=1)) for of in (found, base))
    turned = torch.sgn((wanted * own.conj()).sum(dim=2, keepdim=True)) * own
    better = _nearer(*(torch.view_as_real(one).flatten(2) for one in (turned, own, wanted)))
    if better.any():
        after = torch.where(better[..., None], turned, own)
        _put_heads(found, layers, torch.cat([after.real, after.imag], dim=1))


def _nearer(turned: Tensor, own: Tensor, wanted: Tensor) -> Tensor:
    """Whether turning removes most of the difference to `wanted` [..., n], as it does if that was a turn."""
    after, before = (functional.cosine_similarity(one, wanted, dim=-1) for one in (turned, own))
    return (before < UNTURNED) & (1 - after < (1 - before) / 2)


def _rows(weights: Mapping[str, Tensor], layer: str) -> Tensor:
    """The weights of a layer for each neuron or value [n, ...], its bias included."""
    weight, bias = (_exact(weights.get(f"{layer}.{part}")) for part in ("weight", "bias"))
    if layer.endswith(READERS):
        return weight.T
    return weight if bias is None else torch.cat([weight, bias[:, None]], dim=1)


def _exact(tensor: Tensor | None) -> Tensor | None:
    """The tensor on the CPU, in at least float32, to compute with."""
    if tensor is None:
        return None
    return tensor.detach().to("cpu", torch.promote_types(tensor.dtype, torch.float32))


def _put(weights: Weights, layer: str, rows: Tensor) -> None:
    """The reverse of `_rows`."""
    weight, bias = f"{layer}.weight", f"{layer}.bias"
    if layer.endswith(READERS):
        rows = rows.T
    elif bias in weights:
        weights[bias] = rows[:, -1].to(weights[bias].dtype).contiguous()
        rows = rows[:, :-1]
    weights[weight] = rows.to(weights[weight].dtype).contiguous()


def _heads(weights: Mapping[str, Tensor], layers: list[str], width: int) -> Tensor:
    """The weights of two layers for each value of each head [heads, width, ...]; the second layer may have
    several heads for one of the first.
    """
    shared, many = (_rows(weights, layer) for layer in layers)
    heads = shared.unflatten(0, (-1, width))
    others = many.unflatten(0, (len(heads), -1, width)).transpose(1, 2).flatten(2)
    return torch.cat([heads, others], dim=2)


def _put_heads(weights: Weights, layers: list[str], heads: Tensor) -> None:
    """The reverse of `_heads`."""
    n, each = (_rows(weights, layer).size(1) for layer in layers)
    _put(weights, layers[0], heads[..., :n].flatten(0, 1))
    _put(weights, layers[1], heads[..., n:].unflatten(2, (-1, each)).transpose(1, 2).flatten(0, 2))
