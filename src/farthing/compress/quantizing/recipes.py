"""Recipes: the ways to quantize a graph, and doing so with onnxruntime.quantization.

Weights are signed 8 bits with one scale per column, activations unsigned 8 bits. `dynamic` finds the range of
activations anew in every run: nothing to calibrate, and the best of them on every processor tried; but a text's output
then depends a little on the texts beside it. `static` takes ranges from calibration texts.

Where a processor has VNNI (AVX-512 VNNI, AVX-VNNI, AMX) products are summed in 32 bits. On AVX2 and AVX-512 without it,
two products at a time are summed in 16 bits, which overflow: `reduced` keeps weights within 7 bits so that they cannot
(onnxruntime issues #6004 and #14642). It costs nothing in time, and the last bit of the weights.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Final, Literal

import msgspec
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)

from farthing.compress.quantizing.tables import store_tables, tables
from farthing.compress.workspace import writing
from farthing.errors import ConfigError

Batch = dict[str, NDArray[np.int64]]
"""`input_ids` and `attention_mask`, int64 [batch, length]."""

Bits = Literal[4, 8, 32]

Calibration = Literal["min-max", "entropy", "percentile"]

METHODS: Final = {
    "min-max": CalibrationMethod.MinMax,
    "entropy": CalibrationMethod.Entropy,
    "percentile": CalibrationMethod.Percentile,
}

PRODUCTS: Final = ["MatMul", "Gemm"]

PREPROCESSED: Final = {"onnx.quant.pre_process": "onnxruntime.quant"}
"""What onnxruntime.quantization looks for before it asks for a preparation that our graphs do not need."""


class Recipe(msgspec.Struct, frozen=True):
    """One way to quantize.

    `embeddings` is the number of bits that tables of embeddings are stored in; `exceptions` are names of linear nodes
    and of tables that stay in fp32.
    """

    kind: Literal["dynamic", "static"] = "dynamic"
    reduced: bool = False
    calibration: Calibration = "min-max"
    embeddings: Bits = 8
    exceptions: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """As a job file calls it."""
        parts: list[str] = [self.kind]
        if self.kind == "static" and self.calibration != "min-max":
            parts.append(self.calibration)
        return "-".join([*parts, "reduced"] if self.reduced else parts)


def recipe_of(name: str, embeddings: Bits = 8) -> Recipe:
    """The recipe of a job file's name for it, such as "dynamic", "static-reduced" or "static-entropy"."""
    kind, *more = name.split("-")
    methods = [part for part in more if part in METHODS]
    if kind not in ("dynamic", "static") or set(more) - {"reduced", *methods} or (methods and kind == "dynamic"):
        raise ConfigError(
            f'There is no recipe of quantization called "{name}".',
            hint="Recipes are dynamic, static, each also with -reduced, static-entropy and static-percentile.",
        )
    made = Recipe("dynamic" if kind == "dynamic" else "static", "reduced" in more, embeddings=embeddings)
    return msgspec.structs.replace(made, calibration=methods[0]) if methods else made


def quantize(source: Path, target: Path, recipe: Recipe, batches: Sequence[Batch] = ()) -> None:
    """Write a quantized copy of an fp32 graph, whole or not at all.

    `batches` calibrate static recipes. Raises ConfigError when they are needed and missing, or when an exception names
    nothing of the graph; Unavailable when the disk is full.
    """
    graph = read_graph(source)
    names = linear_nodes(graph)
    known = [*names, *tables(graph)]
    if unknown := sorted(set(recipe.exceptions) - set(known)):
        raise ConfigError(
            f"{source} has nothing called {', '.join(unknown)} to except from quantization.",
            hint=f"It has {', '.join(known)}.",
        )
    if recipe.kind == "static" and not batches:
        raise ConfigError(
            f"The recipe {recipe.name} needs texts to calibrate on, and there are none.",
            hint="Use a dynamic recipe, or raise `calibration`.",
        )
    taken = [name for name in names if name not in recipe.exceptions]
    part = target.with_name(f".{target.name}.part")
    try:
        with writing(target):
            # An empty list would mean all of them.
            made = _products(graph, part, recipe, taken, batches) if taken else graph
            store_tables(made, recipe.embeddings, recipe.exceptions)
            onnx.save_model(made, part)
            os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)


def padded_batches(ids: Sequence[Sequence[int]], *, padding: int, size: int = 32) -> list[Batch]:
    """Token ids of texts in batches of `size`, each padded to its longest."""
    made: list[Batch] = []
    for start in range(0, len(ids), size):
        rows = ids[start : start + size]
        longest = max(map(len, rows))
        mask = (np.arange(longest) < np.array([len(row) for row in rows])[:, None]).astype(np.int64)
        filled = np.full(mask.shape, padding, np.int64)
        filled[mask.astype(bool)] = [token for row in rows for token in row]
        made.append({"input_ids": filled, "attention_mask": mask})
    return made


def read_graph(source: Path) -> onnx.ModelProto:
    """An fp32 graph, marked as ready for onnxruntime.quantization."""
    model = onnx.load_model(source)
    helper.set_model_props(model, PREPROCESSED)
    return model


def linear_nodes(model: onnx.ModelProto) -> list[str]:
    """Products of something that is computed with a constant matrix."""
    constants = {tensor.name for tensor in model.graph.initializer}
    return [
        node.name
        for node in model.graph.node
        if node.op_type in PRODUCTS and node.input[1] in constants and node.input[0] not in constants
    ]


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    """Batches one by one: histograms cannot be made of several at once that differ in shape."""

    def __init__(self, batches: Sequence[Batch]) -> None:
        self._batches = batches
        self._left: Iterator[Batch] = iter(())

    def __len__(self) -> int:
        return len(self._batches)

    def set_range(self, start_index: int, end_index: int) -> None:
        self._left = iter(self._batches[start_index:end_index])

    def get_next(self) -> Batch | None:
        return next(self._left, None)


def _products(
    model: onnx.ModelProto, part: Path, recipe: Recipe, names: Sequence[str], batches: Sequence[Batch]
) -> onnx.ModelProto:
    options: dict[str, object] = {"MatMulConstBOnly": True}
    with redirect_stdout(StringIO()):  # calibration prints
        if recipe.kind == "dynamic":
            _take_apart(model)
            quantize_dynamic(
                model,
                part,
                op_types_to_quantize=["MatMul"],
                per_channel=True,
                reduce_range=recipe.reduced,
                weight_type=QuantType.QInt8,
                nodes_to_quantize=list(names),
                extra_options=options,
            )
        else:
            quantize_static(
                model,
                part,
                _Reader(batches),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=PRODUCTS,
                per_channel=True,
                reduce_range=recipe.reduced,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                nodes_to_quantize=list(names),
                calibrate_method=METHODS[recipe.calibration],
                # What comes out of a product goes into fp32 operators: rounding it would only cost.
                extra_options=options | {"OpTypesToExcludeOutputQuantization": PRODUCTS, "CalibStridedMinMax": 1},
            )
    made = onnx.load_model(part)
    if recipe.kind == "static":
        _keep_sums(made)
    return made


def _take_apart(model: onnx.ModelProto) -> None:
    """Every Gemm becomes a product and an addition, in place: dynamic quantization knows products alone.

    ONNX Runtime joins both again when it loads the graph, quantized or not.
    """
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        given = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        weight = constants.get(node.input[1]) if node.op_type == "Gemm" else None
        plain = given.get("alpha", 1.0) == given.get("beta", 1.0) == 1.0 and not given.get("transA")
        if weight is None or not plain:
            nodes.append(node)
            continue
        if given.get("transB"):
            turned = numpy_helper.from_array(numpy_helper.to_array(weight).T.copy(), f"{weight.name}.turned")
            if turned.name not in constants:
                constants[turned.name] = turned
            weight = turned
        biased = len(node.input) > 2
        product = f"{node.output[0]}.product" if biased else node.output[0]
        nodes.append(helper.make_node("MatMul", [node.input[0], weight.name], [product], name=node.name))
        if biased:
            nodes.append(
                helper.make_node("Add", [product, node.input[2]], [node.output[0]], name=f"{node.name}.biased")
            )
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    del model.graph.initializer[:]
    model.graph.initializer.extend(tensor for tensor in constants.values() if tensor.name in used)


def _keep_sums(model: onnx.ModelProto) -> None:
    """Whatever is no product gets the numbers as they were before they were rounded for one, in place."""
    rounded = {node.output[0]: node.input[0] for node in model.graph.node if node.op_type == "QuantizeLinear"}
    exact = {
        node.output[0]: rounded[node.input[0]]
        for node in model.graph.node
        if node.op_type == "DequantizeLinear" and node.input[0] in rounded
    }
    for node in model.graph.node:
        if node.op_type not in PRODUCTS:
            for place, name in enumerate(node.input):
                node.input[place] = exact.get(name, name)
