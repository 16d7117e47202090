"""Tables of embeddings in 8 or 4 bits on disk, rounded row by row.

ONNX Runtime (1.31) folds `Cast` and `Mul` of constants when a session starts, so a small table is back in fp32 in
memory and costs nothing at run time; DequantizeLinear it does not fold, but computes over the whole table in every run.
Large tables stay as they are stored: GatherBlockQuantized reads the rows that are asked for, at a few microseconds.
"""

from collections.abc import Collection
from typing import Any, Final, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

UNPACKED_BYTES: Final = 64_000_000
"""Up to this size in fp32 a table is unpacked when a session starts."""

BLOCK: Final = 32
"""Numbers that share a scale in 4 bits, and in tables that are never unpacked."""

_SMALLEST: Final = 1_024
"""Numbers below which a table is not worth its scales."""

_CONTRIB: Final = "com.microsoft"


def tables(model: onnx.ModelProto) -> list[str]:
    """Names of the constant float matrices whose rows are looked up, and of what projects them while loading."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    found: dict[str, None] = {}
    for node in model.graph.node:
        if node.op_type == "Gather" and not _axis(node):
            found[node.input[0]] = None
        elif _projects(node, constants):
            found |= dict.fromkeys(node.input)
    return [name for name in found if _is_table(constants.get(name))]


def store_tables(model: onnx.ModelProto, bits: Literal[4, 8, 32], exceptions: Collection[str] = ()) -> None:
    """Round the tables of a graph, in place, to so many bits; 32 leaves them as they are.

    What projects a table is in 8 bits at least: it has a part in every token.
    """
    if bits == 32:
        return
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    projections = {node.input[1] for node in model.graph.node if _projects(node, constants)}
    unpacking: list[onnx.NodeProto] = []
    for name in tables(model):
        if name in exceptions:
            continue
        values = numpy_helper.to_array(constants[name])
        model.graph.initializer.remove(constants[name])
        users = [node for node in model.graph.node if name in node.input]
        blocks = values.shape[1] % BLOCK == 0
        if values.nbytes > UNPACKED_BYTES and blocks and all(node.op_type == "Gather" for node in users):
            _read_in_blocks(model, name, values, bits, users)
        elif bits == 4 and values.shape[1] % 2 == 0 and name not in projections:
            unpacking += _in_four(model, name, values, BLOCK if blocks else values.shape[1])
        else:
            unpacking += _in_eight(model, name, values)
    nodes = [*unpacking, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _projects(node: onnx.NodeProto, constants: Collection[str]) -> bool:
    return node.op_type == "MatMul" and all(name in constants for name in node.input)


def _axis(node: onnx.NodeProto) -> int:
    return next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 0)


def _is_table(tensor: TensorProto | None) -> bool:
    return (
        tensor is not None
        and tensor.data_type == TensorProto.FLOAT
        and len(tensor.dims) == 2
        and tensor.dims[0] * tensor.dims[1] >= _SMALLEST
    )


def _scales(largest: NDArray[np.float32], steps: int) -> NDArray[np.float32]:
    """What one step is worth where so many of them make up the largest number; 1 where all are zero."""
    return np.where(largest > 0, largest / steps, 1).astype(np.float32)


def _keep(model: onnx.ModelProto, name: str, values: NDArray[np.generic]) -> str:
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(values, order="C"), name))
    return name


def _in_eight(model: onnx.ModelProto, name: str, values: NDArray[np.float32]) -> list[onnx.NodeProto]:
    scales = _scales(np.abs(values).max(1, keepdims=True), 127)
    stored = _keep(model, f"{name}.int8", np.rint(values / scales).astype(np.int8))
    _keep(model, f"{name}.scale", scales)
    return [
        helper.make_node("Cast", [stored], [f"{name}.whole"], f"{name}.whole", to=TensorProto.FLOAT),
        helper.make_node("Mul", [f"{name}.whole", f"{name}.scale"], [name], f"{name}.unpacked"),
    ]


def _in_four(model: onnx.ModelProto, name: str, values: NDArray[np.float32], block: int) -> list[onnx.NodeProto]:
    """Two numbers to a byte: the left half of a row in the lower bits, the right half in the upper ones."""
    rows, width = values.shape
    blocked = values.reshape(rows, width // block, block)
    scales = _scales(np.abs(blocked).max(2, keepdims=True), 7)
    whole = (np.rint(blocked / scales) + 8).astype(np.uint8).reshape(rows, width)
    half = width // 2
    stored = _keep(model, f"{name}.int4", whole[:, :half] | (whole[:, half:] << 4))
    _keep(model, f"{name}.scale", scales)
    sixteen = _keep(model, f"{name}.sixteen", np.array(16, np.uint8))
    eight = _keep(model, f"{name}.eight", np.array(8, np.float32))
    in_blocks = _keep(model, f"{name}.in_blocks", np.array(blocked.shape))
    in_rows = _keep(model, f"{name}.in_rows", np.array(values.shape))
    steps: list[tuple[str, list[str], str, dict[str, Any]]] = [
        ("Mod", [stored, sixteen], f"{name}.left", {}),
        ("Div", [stored, sixteen], f"{name}.right", {}),
        ("Concat", [f"{name}.left", f"{name}.right"], f"{name}.joined", {"axis": 1}),
        ("Cast", [f"{name}.joined"], f"{name}.float", {"to": TensorProto.FLOAT}),
        ("Sub", [f"{name}.float", eight], f"{name}.signed", {}),
        ("Reshape", [f"{name}.signed", in_blocks], f"{name}.blocked", {}),
        ("Mul", [f"{name}.blocked", f"{name}.scale"], f"{name}.scaled", {}),
        ("Reshape", [f"{name}.scaled", in_rows], name, {}),
    ]
    return [helper.make_node(kind, inputs, [out], f"{out}.unpacked", **more) for kind, inputs, out, more in steps]


def _read_in_blocks(
    model: onnx.ModelProto, name: str, values: NDArray[np.float32], bits: int, users: list[onnx.NodeProto]
) -> None:
    middle = 2 ** (bits - 1)
    blocked = values.reshape(len(values), -1, BLOCK)
    scales = _scales(np.abs(blocked).max(2), middle - 1)
    whole = (np.rint(blocked / scales[:, :, None]) + middle).astype(np.uint8).reshape(values.shape)
    if bits == 4:
        whole = whole[:, ::2] | (whole[:, 1::2] << 4)
    stored = _keep(model, f"{name}.int{bits}", whole)
    _keep(model, f"{name}.scale", scales)
    for node in users:
        made = helper.make_node(
            "GatherBlockQuantized",
            [stored, node.input[1], f"{name}.scale"],
            list(node.output),
            node.name,
            domain=_CONTRIB,
            bits=bits,
            block_size=BLOCK,
            gather_axis=0,
            quantize_axis=1,
        )
        node.CopyFrom(made)
    if all(opset.domain != _CONTRIB for opset in model.opset_import):
        model.opset_import.append(helper.make_opsetid(_CONTRIB, 1))
