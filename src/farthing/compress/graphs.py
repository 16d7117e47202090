"""The graph of our encoder, written operator by operator: no tracer draws one that runs as fast.

Three things make it fast on a CPU. Padding is taken out before the first layer and put back for attention alone, so
that a batch costs what its tokens cost and not what its longest text costs. Tokens stay rows of a matrix, so that every
linear layer is one Gemm with its bias. What depends on weights alone, such as the projection of the embeddings, is left
to be folded when a session starts: it is small on disk and costs nothing at run time.

ONNX Runtime's joint operators (SkipLayerNormalization, EmbedLayerNormalization, MultiHeadAttention) are left out on
purpose: on a CPU their kernels take longer than the operators they stand for (`benchmarks/compress_graph.py`).
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from farthing.compress.networks.encoder import Encoder, Layer

OPSET = 20
"""The first with Gelu as one operator."""

IR_VERSION = 9
"""The one that came with it: older runtimes refuse newer ones."""

FOLDED_BYTES = 64_000_000
"""A projected table of embeddings up to this size is made when a session starts; beyond, tokens are projected one by
one, which costs time instead of memory."""

NEVER = -10_000.0
"""What is added to the score of a token that is padding."""


class Sheet:
    """Nodes and constants of a graph that is being written, in order."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}

    def constant(self, name: str, values: NDArray[np.generic] | Sequence[int] | int) -> str:
        """The name of a constant, written once; whole numbers become int64."""
        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(np.asarray(values, order="C"), name)
        return name

    def weight(self, name: str, tensor: torch.Tensor) -> str:
        """The name of a constant that the model has learned."""
        return self.constant(name, tensor.detach().to(torch.float32).cpu().numpy())

    def add(self, operator: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """The name of what the operator gives, which is the node's own name too."""
        self.nodes.append(helper.make_node(operator, list(inputs), [output], name=output, **attributes))
        return output

    def linear(self, rows: str, layer: nn.Linear, name: str) -> str:
        """Rows [n, in] through a linear layer."""
        inputs = [rows, self.weight(f"{name}.weight", layer.weight.T), self.weight(f"{name}.bias", layer.bias)]
        return self.add("Gemm", inputs, name)

    def norm(self, rows: str, layer: nn.LayerNorm, name: str) -> str:
        """Rows, each normalised."""
        inputs = [rows, self.weight(f"{name}.weight", layer.weight), self.weight(f"{name}.bias", layer.bias)]
        return self.add("LayerNormalization", inputs, name, axis=-1, epsilon=layer.eps)


def encoder_graph(model: Encoder, *, output: str) -> onnx.ModelProto:
    """The graph of an encoder: ids and mask [batch, length] to `output`, as its shape names it."""
    shape = model.shape
    sheet = Sheet()
    _places(sheet)
    states = _embedded(sheet, model)
    for number, layer in enumerate(model.layers):
        assert isinstance(layer, Layer)
        states = _layer(sheet, layer, states, f"layers.{number}")
    _result(sheet, model, states, output)
    dimensions: list[str | int] = ["batch", shape.width if model.head is None else shape.outputs]
    if shape.output == "tags":
        dimensions.insert(1, "length")
    graph = helper.make_graph(
        sheet.nodes,
        "encoder",
        [
            helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "length"])
            for name in ("input_ids", "attention_mask")
        ],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, dimensions)],
        list(sheet.constants.values()),
    )
    opsets = [helper.make_opsetid("", OPSET)]
    return helper.make_model(graph, opset_imports=opsets, producer_name="farthing", ir_version=IR_VERSION)


def _places(sheet: Sheet) -> None:
    """Where tokens are: `live` [tokens, 2] row and column of each, `row` [batch, 1, length] its number as a row.

    Padding has the number of the token before it, or of the last: any row will do, since nothing of it is looked at.
    """
    sheet.add("NonZero", ["attention_mask"], "live.columns")
    sheet.add("Transpose", ["live.columns"], "live", perm=[1, 0])
    sheet.add("Unsqueeze", ["attention_mask", sheet.constant("axis1", [1])], "mask")
    sheet.add("Shape", ["mask"], "mask.shape")
    sheet.add("Reshape", ["mask", sheet.constant("all", [-1])], "mask.flat")
    sheet.add("CumSum", ["mask.flat", sheet.constant("zero", 0)], "mask.count")
    sheet.add("Sub", ["mask.count", sheet.constant("one", 1)], "row.flat")
    sheet.add("Reshape", ["row.flat", "mask.shape"], "row", allowzero=1)
    sheet.add("Gather", [sheet.constant("hidden", np.array([NEVER, 0.0], np.float32)), "mask"], "mask.scores")
    sheet.add("Unsqueeze", ["mask.scores", "axis1"], "mask.bias")


def _embedded(sheet: Sheet, model: Encoder) -> str:
    """States [tokens, width] before the first layer."""
    shape = model.shape
    sheet.add("GatherND", ["input_ids", "live"], "ids")
    table = sheet.weight("tokens.weight", model.tokens.weight)
    if model.project is None:
        sheet.add("Gather", [table, "ids"], "tokens")
    elif 4 * shape.vocabulary * shape.width <= FOLDED_BYTES:
        sheet.add("MatMul", [table, sheet.weight("project.weight", model.project.weight.T)], "table")
        sheet.add("Gather", ["table", "ids"], "tokens")
    else:
        sheet.add("Gather", [table, "ids"], "narrow")
        sheet.add("MatMul", ["narrow", sheet.weight("project.weight", model.project.weight.T)], "tokens")
    sheet.add("Gather", ["live.columns", "one"], "column")
    sheet.add("Gather", [sheet.weight("positions.weight", model.positions.weight), "column"], "positions")
    sheet.add("Add", ["tokens", "positions"], "embedded")
    return sheet.norm("embedded", model.norm, "norm")


def _layer(sheet: Sheet, layer: Layer, states: str, name: str) -> str:
    context = _attention(sheet, layer, states, name)
    sheet.linear(context, layer.out, f"{name}.out")
    sheet.add("Add", [f"{name}.out", states], f"{name}.attended")
    states = sheet.norm(f"{name}.attended", layer.attention_norm, f"{name}.attention_norm")
    sheet.linear(states, layer.up, f"{name}.up")
    activation = "Gelu" if layer.activation is nn.functional.gelu else "Relu"
    sheet.add(activation, [f"{name}.up"], f"{name}.neurons")
    sheet.linear(f"{name}.neurons", layer.down, f"{name}.down")
    sheet.add("Add", [f"{name}.down", states], f"{name}.fed")
    return sheet.norm(f"{name}.fed", layer.ffn_norm, f"{name}.ffn_norm")


def _attention(sheet: Sheet, layer: Layer, states: str, name: str) -> str:
    """Context [tokens, heads x head width]: rows of a head are picked straight into [batch, heads, length, width]."""
    heads, width = layer.heads, layer.head_width
    _head_rows(sheet, heads)
    inner = heads * width
    # Queries are divided by the root of the head's width in the weights: one operator less.
    factors = torch.ones(3 * inner)
    factors[:inner] = 1.0 / math.sqrt(width)
    weight = layer.qkv.weight.detach() * factors[:, None]
    inputs = [states, sheet.weight(f"{name}.qkv.weight", weight.T)]
    inputs.append(sheet.weight(f"{name}.qkv.bias", layer.qkv.bias.detach() * factors))
    sheet.add("Gemm", inputs, f"{name}.qkv")
    sheet.add("Reshape", [f"{name}.qkv", sheet.constant(f"by{width}", [-1, width])], f"{name}.rows")
    for part in ("query", "key", "value"):
        sheet.add("Gather", [f"{name}.rows", f"heads{heads}.{part}"], f"{name}.{part}")
    sheet.add("Transpose", [f"{name}.key"], f"{name}.turned", perm=[0, 1, 3, 2])
    sheet.add("MatMul", [f"{name}.query", f"{name}.turned"], f"{name}.scores")
    sheet.add("Add", [f"{name}.scores", "mask.bias"], f"{name}.masked")
    sheet.add("Softmax", [f"{name}.masked"], f"{name}.attention", axis=-1)
    sheet.add("MatMul", [f"{name}.attention", f"{name}.value"], f"{name}.heads")
    sheet.add("Transpose", [f"{name}.heads"], f"{name}.joined", perm=[0, 2, 1, 3])
    sheet.add("GatherND", [f"{name}.joined", "live"], f"{name}.picked")
    return sheet.add("Reshape", [f"{name}.picked", sheet.constant(f"to{inner}", [-1, inner])], f"{name}.context")


def _head_rows(sheet: Sheet, heads: int) -> None:
    """Where [tokens x 3 x heads, head width] holds each head's query, key and value, for layers of so many heads."""
    name = f"heads{heads}"
    if f"{name}.first" in sheet.constants:
        return
    sheet.add("Mul", ["row", sheet.constant(f"{name}.first", 3 * heads)], f"{name}.row")
    for number, part in enumerate(("query", "key", "value")):
        offset = np.arange(number * heads, (number + 1) * heads).reshape(1, heads, 1)
        sheet.add("Add", [f"{name}.row", sheet.constant(f"{name}.{part}.offset", offset)], f"{name}.{part}")


def _result(sheet: Sheet, model: Encoder, states: str, output: str) -> None:
    shape = model.shape
    if shape.output == "tags":
        assert model.head is not None
        sheet.linear(states, model.head, "tags")
        sheet.add("Squeeze", ["row", "axis1"], "row.places")
        sheet.add("Gather", ["tags", "row.places"], output)
        return
    if shape.pooling == "first":
        sheet.add("Gather", ["row", "zero"], "row.first", axis=2)
        sheet.add("Squeeze", ["row.first", "axis1"], "row.texts")
        sheet.add("Gather", [states, "row.texts"], "pooled")
    else:
        # Equal scores for all tokens and none for padding: their softmax is what each weighs in the mean.
        sheet.add("Softmax", ["mask.bias"], "share", axis=-1)
        sheet.add("Gather", [states, "row"], "padded")
        sheet.add("MatMul", ["share", "padded"], "mean")
        sheet.add("Reshape", ["mean", sheet.constant("by_width", [-1, shape.width])], "pooled")
    if model.head is None:
        sheet.add("LpNormalization", ["pooled"], output, axis=-1, p=2)
    else:
        sheet.linear("pooled", model.head, "head")
        sheet.nodes[-1].output[0] = output
