"""Export: a torch module to an ONNX graph that says what the module says."""

import os
import warnings
from pathlib import Path
from typing import Final

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import nn

from farthing.compress.graphs import encoder_graph
from farthing.compress.networks.encoder import Encoder
from farthing.compress.workspace import writing
from farthing.errors import ConfigError

TOLERANCE: Final = 1e-3
"""How far an output may be from torch's: float32 sums in another order differ by less than a hundredth of this."""

OPSET: Final = 17
"""For modules that are not ours: the first with LayerNormalization as one operator."""

LARGEST_BYTES: Final = 2_000_000_000
"""What fits into one ONNX file."""

_LENGTH: Final = 8


def export_onnx(model: nn.Module, path: Path, *, output: str, vocabulary: int) -> None:
    """Write a module, called with ids and mask (int64 [batch, length]), as an ONNX file that gives `output`.

    Our own encoder is written operator by operator, anything else is traced. Ids below `vocabulary` are tried through
    both, padded and not. The file is there as a whole or not at all. Raises ConfigError when the two disagree by more
    than `TOLERANCE`, or when the model is too large for one file; Unavailable when the disk is full.
    """
    size = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    if size > LARGEST_BYTES:
        raise ConfigError(
            f"The model takes {size / 1e9:.1f} GB, and an ONNX file holds {LARGEST_BYTES / 1e9:.0f} GB.",
            hint="Choose a smaller teacher.",
        )
    if isinstance(model, Encoder) and vocabulary > model.shape.vocabulary:
        raise ConfigError(
            f"The tokenizer has {vocabulary:,} pieces, and the model embeds {model.shape.vocabulary:,}.",
            hint="Use the tokenizer that the model was trained with.",
        )
    training = model.training
    model.eval()
    part = path.with_name(f".{path.name}.part")
    try:
        with writing(path), torch.no_grad():
            if isinstance(model, Encoder):
                graph = encoder_graph(model, output=output)
                onnx.checker.check_model(graph, full_check=True)
                onnx.save_model(graph, part)
            else:
                _trace(model, part, output)
            _compare(model, part, vocabulary)
            os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
        model.train(training)


def _trace(model: nn.Module, path: Path, output: str) -> None:
    """The TorchScript exporter: torch's newer one needs a package more and draws a graph no faster."""
    ids = torch.ones(2, _LENGTH, dtype=torch.int64)
    names = ["input_ids", "attention_mask"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            (ids, torch.ones_like(ids)),
            path,
            dynamo=False,
            opset_version=OPSET,
            input_names=names,
            output_names=[output],
            dynamic_axes={name: {0: "batch", 1: "length"} for name in names} | {output: {0: "batch"}},
        )


def _compare(model: nn.Module, path: Path, vocabulary: int) -> None:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    length = min(_LENGTH, model.shape.positions) if isinstance(model, Encoder) else _LENGTH
    for lengths in ([1], [length], [length, 1, max(1, length // 2)]):
        mask = (np.arange(max(lengths)) < np.array(lengths)[:, None]).astype(np.int64)
        ids = rng.integers(0, vocabulary, mask.shape)
        found: NDArray[np.float32] = session.run(None, {"input_ids": ids, "attention_mask": mask})[0]
        expected = model(torch.from_numpy(ids), torch.from_numpy(mask)).numpy()
        if found.shape != expected.shape:
            raise ConfigError(
                f"The exported graph gives {found.shape} for {mask.shape[0]} texts of {mask.shape[1]} tokens; "
                f"the model itself gives {expected.shape}.",
                hint="The module's forward(input_ids, attention_mask) must return one tensor.",
            )
        apart = np.abs(found - expected)
        # Nobody looks at what a tagging model says of padding.
        largest = float((apart if apart.ndim == 2 else apart[mask.astype(bool)]).max())
        if not largest <= TOLERANCE:
            raise ConfigError(
                f"The exported graph is off by {largest:.2g} from the model itself; {TOLERANCE:g} is allowed.",
                hint="Weights that are no numbers, or control flow that depends on the input, cannot be exported.",
            )
