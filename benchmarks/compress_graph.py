"""What small encoders spend their time on: graphs of a teacher and a student, traced and written, fp32 and in 8 bits.

`python -m benchmarks.compress_graph` prints operators after ONNX Runtime's own optimisations, size, and CPU time of a
text alone and of one among 32, one thread, models in turns. Weights are random: they do not matter to time.
"""

import argparse
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper

from farthing.compress.exporting import export_onnx
from farthing.compress.measuring import machine_facts
from farthing.compress.networks.encoder import Encoder, EncoderShape, LayerShape
from farthing.compress.quantizing import padded_batches, quantize, recipe_of
from farthing.engines.onnx import SLOWER

SHAPES = {
    "teacher": EncoderShape(30_522, 512, 384, 384, (LayerShape(12, 1536),) * 6, 77),
    "student": EncoderShape(3_619, 64, 384, 128, (LayerShape(4, 320),) * 2, 77),
}
RECIPES = {"teacher": ["dynamic"], "student": ["dynamic", "dynamic-reduced", "static", "static-reduced"]}
WIDTH, TOKENS = 384, 15


class Traced(torch.nn.Module):
    """Hides what a model is, so that it is traced."""

    def __init__(self, model: Encoder) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return self.model(input_ids, attention_mask)


def texts(count: int) -> list[list[int]]:
    """Token ids of as many texts; lengths as Banking77's: half have 13 tokens or fewer, one in twenty 33."""
    rng = np.random.default_rng(0)
    lengths = np.clip(np.exp(rng.normal(np.log(13), 0.5, count)), 4, 60).astype(int)
    return [rng.integers(5, 3_000, length).tolist() for length in lengths]


def session(path: Path, loaded: Path | None = None) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    if loaded:
        options.optimized_model_filepath = str(loaded)
    return onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"], disabled_optimizers=SLOWER)


def graphs(folder: Path) -> Iterator[tuple[str, Path]]:
    calibration = padded_batches(texts(64), padding=0)
    for name, shape in SHAPES.items():
        torch.manual_seed(1)
        model = Encoder(shape)
        for how, module in (("traced", Traced(model)), ("written", model)):
            path = folder / f"{name}.{how}.onnx"
            export_onnx(module, path, output="logits", vocabulary=shape.vocabulary)
            yield f"{name}, {how}", path
            for recipe in RECIPES[name] if how == "written" else ["dynamic"]:
                small = folder / f"{name}.{how}.{recipe}.onnx"
                quantize(path, small, recipe_of(recipe), calibration)
                yield f"{name}, {how}, {recipe}", small


def cpu_us(run, times: int) -> float:
    found = []
    for _ in range(times):
        began = time.thread_time()
        run()
        found.append(time.thread_time() - began)
    return 1e6 * median(found)


def kernels(folder: Path) -> Iterator[tuple[str, float]]:
    """CPU microseconds of a joint operator and of those it stands for, at the rows of one text."""
    one = numpy_helper.from_array(np.ones(WIDTH, np.float32), "one")
    cases = {
        "Add, LayerNormalization": [("Add", ["x", "x"], "a", ""), ("LayerNormalization", ["a", "one", "one"], "y", "")],
        "SkipLayerNormalization": [("SkipLayerNormalization", ["x", "x", "one", "one"], "y", "com.microsoft")],
    }
    rows = np.random.default_rng(0).standard_normal((1, TOKENS, WIDTH)).astype(np.float32)
    for name, steps in cases.items():
        nodes = [
            helper.make_node(
                kind, [f"{i}{number}" if i == "a" else i for i in inputs], [f"{out}{number}"], domain=domain
            )
            for number in range(20)
            for kind, inputs, out, domain in steps
        ]
        shape = [1, "tokens", WIDTH]
        outputs = [helper.make_tensor_value_info(f"y{number}", TensorProto.FLOAT, shape) for number in range(20)]
        graph = helper.make_graph(
            nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)], outputs, [one]
        )
        opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
        onnx.save_model(helper.make_model(graph, opset_imports=opsets, ir_version=9), folder / "kernel.onnx")
        made = session(folder / "kernel.onnx")
        yield name, cpu_us(lambda made=made: made.run(None, {"x": rows}), 300) / 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    facts = machine_facts()
    print(f"{facts.cpu}: {', '.join(facts.instruction_sets)}; onnxruntime {facts.versions['onnxruntime']}")
    ids = texts(192)
    alone, together = padded_batches(ids, padding=0, size=1), padded_batches(ids, padding=0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made = {}
        for title, path in graphs(folder):
            made[title] = session(path, folder / "loaded.onnx"), path.stat().st_size
            count = len(onnx.load_model(folder / "loaded.onnx").graph.node)
            print(f"{title}: {count} operators, {path.stat().st_size / 1e6:.2f} MB")
        times: dict[str, list[tuple[float, float]]] = {title: [] for title in made}
        for _ in range(rounds):
            for title, (one, _) in made.items():
                # Medians over texts and over batches: each runs once in a round.
                single, whole = iter(alone), iter(together)
                at_1 = cpu_us(lambda: one.run(None, next(single)), len(alone))  # noqa: B023
                at_32 = cpu_us(lambda: one.run(None, next(whole)), len(together)) / 32  # noqa: B023
                times[title].append((at_1, at_32))
        first = [median(column) for column in zip(*times["teacher, written"], strict=True)]
        for title, found in times.items():
            at_1, at_32 = (median(column) for column in zip(*found, strict=True))
            print(
                f"{title:36} batch 1 {at_1:7.0f} us ({first[0] / at_1:4.1f}x)   "
                f"batch 32 {at_32:7.0f} us a text ({first[1] / at_32:4.1f}x)"
            )
        for title, took in kernels(folder):
            print(f"{title:36} {TOKENS} x {WIDTH}: {took:.1f} us")


if __name__ == "__main__":
    main()
