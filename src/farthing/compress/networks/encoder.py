"""The encoder that is made smaller: BERT's, but each layer has its own number of heads and neurons."""

import math
from typing import Literal, NamedTuple

import msgspec
from torch import Tensor, nn
from torch.nn import functional

Pooling = Literal["mean", "first"]
Output = Literal["logits", "tags", "embedding"]


class LayerShape(msgspec.Struct, frozen=True):
    """The attention heads and feed-forward neurons of one layer."""

    heads: int
    ffn: int


class EncoderShape(msgspec.Struct, frozen=True):
    """The sizes of an encoder.

    Token embeddings are `embedding` wide and projected to `width` where the two differ. `outputs` is the number of
    labels, one for a regression. `output` says what comes out: `logits` [batch, outputs] of the pooled text, `tags`
    [batch, length, outputs], or the pooled text itself with length 1 ("embedding", [batch, width]).
    """

    vocabulary: int
    positions: int
    width: int
    embedding: int
    layers: tuple[LayerShape, ...]
    outputs: int
    head_width: int = 32
    pooling: Pooling = "mean"
    output: Output = "logits"
    activation: Literal["gelu", "relu"] = "gelu"
    epsilon: float = 1e-12


class Insight(NamedTuple):
    """All that distillation looks at: the output, the pooled text [batch, width], and the states after each layer."""

    output: Tensor
    pooled: Tensor
    states: tuple[Tensor, ...]


class Layer(nn.Module):
    """One transformer layer, normalised after each half."""

    def __init__(self, shape: EncoderShape, layer: LayerShape) -> None:
        super().__init__()
        inner = layer.heads * shape.head_width
        self.heads, self.head_width, self.ffn = layer.heads, shape.head_width, layer.ffn
        self.activation = functional.gelu if shape.activation == "gelu" else functional.relu
        self.qkv = nn.Linear(shape.width, 3 * inner)
        self.out = nn.Linear(inner, shape.width)
        self.attention_norm = nn.LayerNorm(shape.width, eps=shape.epsilon)
        self.up = nn.Linear(shape.width, layer.ffn)
        self.down = nn.Linear(layer.ffn, shape.width)
        self.ffn_norm = nn.LayerNorm(shape.width, eps=shape.epsilon)
        self.dropout = nn.Dropout(0.0)
        # Ones that importance is measured at: the gradient at a gate is what closing it costs.
        self.head_gates: Tensor | None = None
        self.ffn_gates: Tensor | None = None

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """States [batch, length, width] and an additive mask [batch, 1, 1, length] to states."""
        batch, length, _ = states.shape
        query, key, value = self.qkv(states).view(batch, length, 3, self.heads, self.head_width).unbind(2)
        scores = query.transpose(1, 2) @ key.permute(0, 2, 3, 1) / math.sqrt(self.head_width) + mask
        context = scores.softmax(-1) @ value.transpose(1, 2)
        if self.head_gates is not None:
            context = context * self.head_gates.view(1, -1, 1, 1)
        context = context.transpose(1, 2).reshape(batch, length, self.heads * self.head_width)
        states = self.attention_norm(states + self.dropout(self.out(context)))
        neurons = self.activation(self.up(states))
        if self.ffn_gates is not None:
            neurons = neurons * self.ffn_gates
        normed: Tensor = self.ffn_norm(states + self.dropout(self.down(neurons)))
        return normed


class Encoder(nn.Module):
    """Token ids to logits, tags or an embedding."""

    def __init__(self, shape: EncoderShape) -> None:
        super().__init__()
        self.shape = shape
        self.tokens = nn.Embedding(shape.vocabulary, shape.embedding)
        self.project = None if shape.embedding == shape.width else nn.Linear(shape.embedding, shape.width, bias=False)
        self.positions = nn.Embedding(shape.positions, shape.width)
        self.norm = nn.LayerNorm(shape.width, eps=shape.epsilon)
        self.layers = nn.ModuleList(Layer(shape, layer) for layer in shape.layers)
        self.head = None if shape.output == "embedding" else nn.Linear(shape.width, shape.outputs)
        self.width_gates: Tensor | None = None

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Ids and mask, both int64 [batch, length], to the output that the shape names."""
        return self.insight(input_ids, attention_mask).output

    def insight(self, input_ids: Tensor, attention_mask: Tensor) -> Insight:
        """The output together with what distillation compares on the way to it."""
        states = self.tokens(input_ids)
        if self.project is not None:
            states = self.project(states)
        states = self._gated(self.norm(states + self.positions.weight[: input_ids.shape[1]]))
        mask = (1.0 - attention_mask[:, None, None, :].to(states.dtype)) * -10_000.0
        seen = [states]
        for layer in self.layers:
            seen.append(self._gated(layer(seen[-1], mask)))
        pooled = self._pooled(seen[-1], attention_mask)
        match self.shape.output:
            case "tags":
                assert self.head is not None
                output = self.head(seen[-1])
            case "embedding":
                output = functional.normalize(pooled, dim=-1)
            case _:
                assert self.head is not None
                output = self.head(pooled)
        return Insight(output, pooled, tuple(seen))

    def _gated(self, states: Tensor) -> Tensor:
        return states if self.width_gates is None else states * self.width_gates

    def _pooled(self, states: Tensor, attention_mask: Tensor) -> Tensor:
        if self.shape.pooling == "first":
            return states[:, 0]
        weights = attention_mask.to(states.dtype)
        return (states * weights[:, :, None]).sum(1) / weights.sum(1, keepdim=True)


def parameters(model: nn.Module) -> int:
    """How many numbers a model has."""
    return sum(parameter.numel() for parameter in model.parameters())
