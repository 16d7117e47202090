"""Smaller dense encoders cut from larger ones: fewer layers, heads, neurons, channels, and narrower embeddings."""

from collections.abc import Sequence

import torch
from msgspec.structs import replace
from torch import Tensor, nn

from farthing.compress.networks.encoder import Encoder, Layer, LayerShape

Kept = Sequence[int]


@torch.no_grad()
def with_layers(encoder: Encoder, kept: Kept) -> Encoder:
    """The encoder with these of its layers, in this order."""
    smaller = _blank(encoder, layers=tuple(encoder.shape.layers[number] for number in kept))
    for into, number in zip(smaller.layers, kept, strict=True):
        into.load_state_dict(encoder.layers[number].state_dict())
    return _with_ends(smaller, encoder)


@torch.no_grad()
def with_vocabulary(encoder: Encoder, order: Kept) -> Encoder:
    """The encoder of a trimmed vocabulary: the embedding of piece `i` is that of piece `order[i]` before."""
    smaller = _blank(encoder, vocabulary=len(order))
    state = encoder.state_dict()
    state["tokens.weight"] = state["tokens.weight"][list(order)]
    smaller.load_state_dict(state)
    return smaller


@torch.no_grad()
def with_positions(encoder: Encoder, positions: int) -> Encoder:
    """The encoder for texts of at most so many tokens."""
    smaller = _blank(encoder, positions=min(positions, encoder.shape.positions))
    state = encoder.state_dict()
    state["positions.weight"] = state["positions.weight"][: smaller.shape.positions]
    smaller.load_state_dict(state)
    return smaller


@torch.no_grad()
def factorized(encoder: Encoder, embedding: int, weights: Tensor | None = None) -> Encoder:
    """The encoder with embeddings of rank `embedding`: the best by singular values, rows weighted by `weights`.

    `weights` [vocabulary] is how much each piece matters: how often it occurs.
    """
    table = encoder.tokens.weight if encoder.project is None else encoder.tokens.weight @ encoder.project.weight.T
    if embedding >= min(table.shape):
        return encoder
    scale = torch.ones(len(table)) if weights is None else weights.clamp_min(1e-6).sqrt()
    _, _, directions = torch.linalg.svd(table * scale[:, None], full_matrices=False)
    project = directions[:embedding]
    smaller = _blank(encoder, embedding=embedding)
    state = encoder.state_dict()
    state["tokens.weight"] = table @ project.T
    state["project.weight"] = project.T.contiguous()
    smaller.load_state_dict(state)
    return smaller


@torch.no_grad()
def with_heads_and_neurons(encoder: Encoder, heads: Sequence[Kept], neurons: Sequence[Kept]) -> Encoder:
    """The encoder with these heads and these feed-forward neurons of each layer."""
    shapes = tuple(LayerShape(len(some), len(others)) for some, others in zip(heads, neurons, strict=True))
    smaller = _blank(encoder, layers=shapes)
    for into, layer, some, others in zip(smaller.layers, encoder.layers, heads, neurons, strict=True):
        assert isinstance(into, Layer)
        assert isinstance(layer, Layer)
        inner = _columns(some, layer.head_width)
        rows = torch.cat([inner + part * layer.heads * layer.head_width for part in range(3)])
        _put(into.qkv, layer.qkv, rows=rows)
        _put(into.out, layer.out, columns=inner)
        _put(into.up, layer.up, rows=torch.tensor(others))
        _put(into.down, layer.down, columns=torch.tensor(others))
        into.attention_norm.load_state_dict(layer.attention_norm.state_dict())
        into.ffn_norm.load_state_dict(layer.ffn_norm.state_dict())
    return _with_ends(smaller, encoder)


@torch.no_grad()
def with_width(encoder: Encoder, kept: Kept) -> Encoder:
    """The encoder with these channels of its residual stream."""
    channels = torch.tensor(kept)
    factorised = encoder.project is not None
    smaller = _blank(encoder, width=len(kept), embedding=encoder.shape.embedding if factorised else len(kept))
    if encoder.project is not None and smaller.project is not None:
        smaller.tokens.load_state_dict(encoder.tokens.state_dict())
        smaller.project.weight.copy_(encoder.project.weight[channels])
    elif encoder.project is not None:
        # The embeddings are as wide as the stream by now, and need no projection any more.
        smaller.tokens.weight.copy_(encoder.tokens.weight @ encoder.project.weight[channels].T)
    else:
        smaller.tokens.weight.copy_(encoder.tokens.weight[:, channels])
    smaller.positions.weight.copy_(encoder.positions.weight[:, channels])
    _put_norm(smaller.norm, encoder.norm, channels)
    for into, layer in zip(smaller.layers, encoder.layers, strict=True):
        assert isinstance(into, Layer)
        assert isinstance(layer, Layer)
        _put(into.qkv, layer.qkv, columns=channels)
        _put(into.out, layer.out, rows=channels)
        _put(into.up, layer.up, columns=channels)
        _put(into.down, layer.down, rows=channels)
        _put_norm(into.attention_norm, layer.attention_norm, channels)
        _put_norm(into.ffn_norm, layer.ffn_norm, channels)
    if encoder.head is not None and smaller.head is not None:
        _put(smaller.head, encoder.head, columns=channels)
    return smaller


def _blank(encoder: Encoder, **changed: object) -> Encoder:
    return Encoder(replace(encoder.shape, **changed)).to(encoder.tokens.weight.device)


def _with_ends(smaller: Encoder, encoder: Encoder) -> Encoder:
    """All but the layers as they are in another encoder."""
    ends = {name: tensor for name, tensor in encoder.state_dict().items() if not name.startswith("layers.")}
    smaller.load_state_dict(ends, strict=False)
    return smaller


def _columns(heads: Kept, width: int) -> Tensor:
    return torch.cat([torch.arange(head * width, (head + 1) * width) for head in heads])


def _put(into: nn.Linear, given: nn.Linear, rows: Tensor | None = None, columns: Tensor | None = None) -> None:
    weight: Tensor = given.weight
    bias: Tensor = given.bias
    if rows is not None:
        weight, bias = weight[rows], bias[rows]
    into.weight.copy_(weight if columns is None else weight[:, columns])
    into.bias.copy_(bias)


def _put_norm(into: nn.LayerNorm, given: nn.LayerNorm, channels: Tensor) -> None:
    into.weight.copy_(given.weight[channels])
    into.bias.copy_(given.bias[channels])
