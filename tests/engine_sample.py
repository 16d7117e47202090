"""Artefacts for tests and benchmarks, made with the `onnx` package alone: of known words, or of a student's shape."""

import json
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import msgspec
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from farthing.schema import Artefact

OPSET = 18
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
WORDS = {
    "billing": ("invoice", "refund", "charge", "payment", "price"),
    "delivery": ("parcel", "late", "courier", "address", "shipped"),
    "praise": ("thanks", "great", "love", "perfect", "kind"),
}
"""A label for each of some words; a text is of the label that most of its words are of."""

SURENESS = 12.0
"""How far one word in a text of one word moves its label's logit."""


class Shape(msgspec.Struct, frozen=True):
    """The size of an encoder: `vocabulary` pieces embedded in `embedding` numbers, `layers` of `width` with `heads` of
    32 numbers and feed-forward networks of `ffn`."""

    layers: int = 2
    width: int = 384
    heads: int = 4
    ffn: int = 256
    vocabulary: int = 3_600
    embedding: int = 128
    labels: int = 77


TINY = Shape(layers=2, width=32, heads=1, ffn=16, vocabulary=200, embedding=16, labels=3)
HEAD_WIDTH = 32


def bag(folder: Path, *, name: str = "bag", task: str = "classification", **changes: object) -> Path:
    """A model that counts the words of each label: what it answers can be told by looking at a text.

    Its logits are, for each label, `SURENESS` times the share of the text's words that are of that label. Of an
    embedding model they are the embedding, normalised; of a regression the one column is how alike two texts are in
    length, 1 for a text that stands alone.
    """
    vocabulary = [*SPECIAL, *(word for words in WORDS.values() for word in words), "other"]
    labels = tuple(WORDS)
    if task == "regression":
        labels = ("score",)
    weights = np.zeros((len(vocabulary), len(WORDS)), np.float32)
    for column, words in enumerate(WORDS.values()):
        for word in words:
            weights[vocabulary.index(word), column] = SURENESS
    graph = _Graph()
    rows = graph.node("Gather", graph.constant(weights), "input_ids")
    mask = graph.node("Cast", "attention_mask", to=TensorProto.FLOAT)
    framed = graph.node("Unsqueeze", mask, graph.constant(np.array([2])))
    summed = graph.node("ReduceSum", graph.node("Mul", rows, framed), graph.constant(np.array([1])), keepdims=0)
    counted = graph.node("ReduceSum", framed, graph.constant(np.array([1])), keepdims=0)
    two = graph.constant(np.array(2.0, np.float32))
    one = graph.constant(np.array(1.0, np.float32))
    output, columns = "logits", len(labels)
    inside = graph.node("Max", graph.node("Sub", counted, two), one)
    logits = graph.node("Div", summed, inside)
    if task == "embedding":
        output, columns = "embedding", len(WORDS)
        logits = _normalised(graph, logits)
    if task == "regression":
        logits = graph.node("ReduceMax", logits, graph.constant(np.array([1])), keepdims=1)
    graph.node("Identity", logits, to_name=output)
    made = Artefact(
        name=name, task=task, labels=() if task == "embedding" else labels, max_length=16, files={}, **changes
    )
    return write(folder, made, graph.model(output, ("batch", columns)), vocabulary)


def encoder(folder: Path, shape: Shape = TINY, *, name: str = "student", seed: int = 7, **changes: object) -> Path:
    """A transformer of a student's shape with random weights, which classifies."""
    dice = np.random.default_rng(seed)
    vocabulary = _pieces(shape.vocabulary)
    made = Artefact(
        name=name,
        task="classification",
        labels=tuple(f"label-{number}" for number in range(shape.labels)),
        max_length=64,
        files={},
        **changes,
    )
    return write(folder, made, _transformer(shape, dice), vocabulary)


def quantized(folder: Path) -> Path:
    """The artefact in a folder with its weights in 8 bits, its activations measured as they come."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    whole = folder / "model.fp32.onnx"
    (folder / "model.onnx").rename(whole)
    quantize_dynamic(whole, folder / "model.onnx", weight_type=QuantType.QInt8, per_channel=True)
    whole.unlink()
    return sealed(folder)


def write(folder: Path, artefact: Artefact, model: onnx.ModelProto, vocabulary: Sequence[str]) -> Path:
    """Write an artefact's folder, with the hashes of its files."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    (folder / "tokenizer.json").write_text(tokenizer(vocabulary).to_str())
    (folder / "artefact.json").write_bytes(msgspec.json.encode(artefact))
    return sealed(folder)


def sealed(folder: Path) -> Path:
    """The same folder with the hashes in its manifest those of its files."""
    manifest = folder / "artefact.json"
    said = json.loads(manifest.read_bytes())
    said["files"] = {
        name: sha256((folder / name).read_bytes()).hexdigest() for name in ("model.onnx", "tokenizer.json")
    }
    manifest.write_text(json.dumps(said))
    return folder


def tokenizer(vocabulary: Sequence[str]) -> Tokenizer:
    """A WordPiece tokenizer that puts [CLS] and [SEP] around a text, or a pair of them."""
    made = Tokenizer(models.WordPiece({piece: number for number, piece in enumerate(vocabulary)}, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing(
        "[CLS] $A [SEP]", "[CLS] $A [SEP] $B [SEP]", [("[CLS]", 2), ("[SEP]", 3)]
    )
    made.add_special_tokens(list(SPECIAL))
    return made


def _pieces(count: int) -> list[str]:
    """So many pieces: the letters, alone and inside words, then the commonest pairs and triples of them."""
    letters = "etaoinshrdlcumwfgypbvkjxqz"
    found = [*SPECIAL, *letters, *(f"##{letter}" for letter in letters), *"0123456789.,!?'-$", "##'"]
    for first in letters:
        for second in letters:
            found += [f"{first}{second}", f"##{first}{second}"]
    for first in letters[:12]:
        for second in letters[:12]:
            found += [f"##{first}{second}{third}" for third in letters[:12]]
    return found[:count]


class _Graph:
    """Nodes and constants of an ONNX graph, named by number."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def constant(self, value: np.ndarray) -> str:
        name = f"c{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def node(self, kind: str, *inputs: str, to_name: str = "", **attributes: object) -> str:
        name = to_name or f"n{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, list(inputs), [name], name=f"{kind}_{name}", **attributes))
        return name

    def linear(self, given: str, dice: np.random.Generator, inner: int, outer: int) -> str:
        weights = dice.normal(0, inner**-0.5, (inner, outer)).astype(np.float32)
        bias = self.constant(dice.normal(0, 0.02, outer).astype(np.float32))
        return self.node("Add", self.node("MatMul", given, self.constant(weights)), bias)

    def norm(self, given: str, width: int) -> str:
        scale, bias = self.constant(np.ones(width, np.float32)), self.constant(np.zeros(width, np.float32))
        return self.node("LayerNormalization", given, scale, bias, axis=-1, epsilon=1e-12)

    def model(self, output: str, shape: tuple[object, ...]) -> onnx.ModelProto:
        inputs = [
            helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "length"])
            for name in ("input_ids", "attention_mask")
        ]
        given = helper.make_tensor_value_info(output, TensorProto.FLOAT, list(shape))
        graph = helper.make_graph(self._nodes, "sample", inputs, [given], self._constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)


def _normalised(graph: _Graph, rows: str) -> str:
    length = graph.node("ReduceL2", rows, graph.constant(np.array([1])), keepdims=1)
    return graph.node("Div", rows, graph.node("Max", length, graph.constant(np.array(1e-9, np.float32))))


def _transformer(shape: Shape, dice: np.random.Generator) -> onnx.ModelProto:
    graph = _Graph()
    table = dice.normal(0, 1, (shape.vocabulary, shape.embedding)).astype(np.float32)
    state = graph.node("Gather", graph.constant(table), "input_ids")
    state = graph.linear(state, dice, shape.embedding, shape.width)
    places = graph.constant(dice.normal(0, 0.1, (512, shape.width)).astype(np.float32))
    length = graph.node("Gather", graph.node("Shape", "input_ids"), graph.constant(np.array([1])), axis=0)
    zero = graph.constant(np.array([0]))
    state = graph.norm(graph.node("Add", state, graph.node("Slice", places, zero, length)), shape.width)
    mask = graph.node("Cast", "attention_mask", to=TensorProto.FLOAT)
    away = graph.node("Mul", graph.node("Sub", mask, graph.constant(np.array(1, np.float32))),
                      graph.constant(np.array(1e4, np.float32)))  # fmt: skip
    away = graph.node("Unsqueeze", away, graph.constant(np.array([1, 2])))
    for _ in range(shape.layers):
        state = _layer(graph, state, away, shape, dice)
    framed = graph.node("Unsqueeze", mask, graph.constant(np.array([2])))
    one = graph.constant(np.array([1]))
    summed = graph.node("ReduceSum", graph.node("Mul", state, framed), one, keepdims=0)
    mean = graph.node("Div", summed, graph.node("ReduceSum", framed, one, keepdims=0))
    graph.node("Identity", graph.linear(mean, dice, shape.width, shape.labels), to_name="logits")
    return graph.model("logits", ("batch", shape.labels))


def _layer(graph: _Graph, state: str, away: str, shape: Shape, dice: np.random.Generator) -> str:
    inner = shape.heads * HEAD_WIDTH
    split = graph.constant(np.array([0, 0, shape.heads, HEAD_WIDTH]))
    joined = graph.constant(np.array([0, 0, inner]))
    parts = graph.node("Reshape", graph.linear(state, dice, shape.width, inner), split)
    query = graph.node("Transpose", parts, perm=[0, 2, 1, 3])
    parts = graph.node("Reshape", graph.linear(state, dice, shape.width, inner), split)
    key = graph.node("Transpose", parts, perm=[0, 2, 3, 1])
    parts = graph.node("Reshape", graph.linear(state, dice, shape.width, inner), split)
    value = graph.node("Transpose", parts, perm=[0, 2, 1, 3])
    scores = graph.node("Mul", graph.node("MatMul", query, key), graph.constant(np.array(HEAD_WIDTH**-0.5, np.float32)))
    shares = graph.node("Softmax", graph.node("Add", scores, away), axis=-1)
    seen = graph.node("Transpose", graph.node("MatMul", shares, value), perm=[0, 2, 1, 3])
    seen = graph.linear(graph.node("Reshape", seen, joined), dice, inner, shape.width)
    state = graph.norm(graph.node("Add", state, seen), shape.width)
    wide = graph.linear(state, dice, shape.width, shape.ffn)
    half, root = graph.constant(np.array(0.5, np.float32)), graph.constant(np.array(2**0.5, np.float32))
    bent = graph.node("Add", graph.node("Erf", graph.node("Div", wide, root)), graph.constant(np.array(1, np.float32)))
    bent = graph.node("Mul", graph.node("Mul", wide, bent), half)
    return graph.norm(graph.node("Add", state, graph.linear(bent, dice, shape.ffn, shape.width)), shape.width)
