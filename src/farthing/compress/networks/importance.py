"""What matters least in an encoder, measured on its own loss."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from farthing.compress.networks.encoder import Encoder, Layer

Measure = Literal["taylor", "activation"]


class Importance(NamedTuple):
    """How much each head and neuron of each layer, each channel of the stream and each layer matters."""

    heads: tuple[Tensor, ...]
    neurons: tuple[Tensor, ...]
    channels: Tensor
    layers: Tensor


def importance(
    encoder: Encoder, batches: Iterable[Any], loss: Callable[[Any], Tensor], measure: Measure = "taylor"
) -> Importance:
    """The importance of all parts, summed over batches.

    By Taylor terms: the absolute first-order change of the loss when a part's gate, at one, is closed (Molchanov et al.
    2016, arXiv:1611.06440; Michel et al. 2019, arXiv:1905.10650). By activation: the mean size of what passes the gate.
    A layer counts by how far it moves the stream: one minus the cosine of its input and output.
    """
    layers = [layer for layer in encoder.layers if isinstance(layer, Layer)]
    gates = _open(encoder, layers)
    sums = [torch.zeros_like(gate) for gate in gates]
    watched = _Watched(encoder, layers)
    try:
        for batch in batches:
            if measure == "activation":
                with torch.no_grad():
                    loss(batch)
                continue
            for term, gradient in zip(sums, torch.autograd.grad(loss(batch), gates), strict=True):
                term.add_(gradient.abs())
    finally:
        watched.stop()
        for layer in layers:
            layer.head_gates = layer.ffn_gates = None
        encoder.width_gates = None
    if measure == "activation":
        sums = watched.sizes
    count = len(layers)
    return Importance(tuple(sums[:count]), tuple(sums[count : 2 * count]), sums[-1], watched.moved)


def most_important(scores: Tensor, count: int) -> list[int]:
    """The numbers of the `count` highest scores, in their order."""
    return sorted(scores.topk(min(count, len(scores))).indices.tolist())


def _open(encoder: Encoder, layers: Sequence[Layer]) -> list[Tensor]:
    where = encoder.tokens.weight.device
    for layer in layers:
        layer.head_gates = torch.ones(layer.heads, device=where, requires_grad=True)
        layer.ffn_gates = torch.ones(layer.ffn, device=where, requires_grad=True)
    encoder.width_gates = torch.ones(encoder.shape.width, device=where, requires_grad=True)
    gates = [layer.head_gates for layer in layers] + [layer.ffn_gates for layer in layers] + [encoder.width_gates]
    return [gate for gate in gates if gate is not None]


class _Watched:
    """What passes the gates, and how far each layer moves the stream."""

    def __init__(self, encoder: Encoder, layers: Sequence[Layer]) -> None:
        self.moved = torch.zeros(len(layers))
        self.heads = [torch.zeros(layer.heads) for layer in layers]
        self.neurons = [torch.zeros(layer.ffn) for layer in layers]
        self.channels = torch.zeros(encoder.shape.width)
        self._hooks = []
        for number, layer in enumerate(layers):
            self._hooks += [
                layer.register_forward_hook(self._layer(number)),
                layer.out.register_forward_pre_hook(self._into(self.heads[number], layer.head_width)),
                layer.down.register_forward_pre_hook(self._into(self.neurons[number], 1)),
            ]

    @property
    def sizes(self) -> list[Tensor]:
        return [*self.heads, *self.neurons, self.channels]

    def stop(self) -> None:
        for hook in self._hooks:
            hook.remove()

    def _layer(self, number: int) -> Callable[..., None]:
        def hook(_: object, given: tuple[Tensor, ...], output: Tensor) -> None:
            with torch.no_grad():
                cosine = torch.cosine_similarity(given[0], output, dim=-1)
                self.moved[number] += float((1.0 - cosine).mean())
                self.channels += output.abs().mean((0, 1)).cpu()

        return hook

    def _into(self, sizes: Tensor, width: int) -> Callable[..., None]:
        def hook(_: object, given: tuple[Tensor, ...]) -> None:
            with torch.no_grad():
                sizes.add_(given[0].abs().mean((0, 1)).view(-1, width).mean(1).cpu())

        return hook
