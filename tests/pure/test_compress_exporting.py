"""A module and the graph it is exported to say the same."""

from itertools import product

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from farthing.compress.exporting import export_onnx
from farthing.compress.graphs import encoder_graph
from farthing.compress.networks.encoder import Encoder, EncoderShape, LayerShape
from farthing.errors import ConfigError

torch.set_num_threads(1)
VOCABULARY = 200


def shaped(**changes) -> EncoderShape:
    given = {"vocabulary": VOCABULARY, "positions": 16, "width": 32, "embedding": 16, "outputs": 5, "head_width": 8}
    return EncoderShape(**{**given, "layers": (LayerShape(2, 40), LayerShape(1, 24)), **changes})


def encoder(**changes) -> Encoder:
    torch.manual_seed(3)
    model = Encoder(shaped(**changes)).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model


def session(path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def run(path, ids, mask):
    return session(path).run(None, {"input_ids": ids, "attention_mask": mask})[0]


class Foreign(nn.Module):
    """A model that is not ours: other names, a mask that is used by multiplying."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(VOCABULARY, 12)
        self.answer = nn.Linear(12, 3)

    def forward(self, input_ids, attention_mask):
        kept = attention_mask[:, :, None].float()
        return self.answer((self.words(input_ids) * kept).sum(1) / kept.sum(1))


class Branching(Foreign):
    """What it does depends on what it is given, which no trace can follow."""

    def forward(self, input_ids, attention_mask):
        found = super().forward(input_ids, attention_mask)
        return found if input_ids.shape[0] == 2 else found + 1


@pytest.mark.parametrize(
    ("output", "pooling", "activation"),
    list(product(("logits", "tags", "embedding"), ("mean", "first"), ("gelu", "relu"))),
)
def test_every_shape_of_output(tmp_path, output, pooling, activation):
    model = encoder(output=output, pooling=pooling, activation=activation)
    name = "embedding" if output == "embedding" else "logits"
    export_onnx(model, tmp_path / "model.onnx", output=name, vocabulary=VOCABULARY)
    made = session(tmp_path / "model.onnx")
    assert [one.name for one in made.get_inputs()] == ["input_ids", "attention_mask"]
    assert [one.name for one in made.get_outputs()] == [name]
    lengths = {"logits": ["batch", 5], "tags": ["batch", "length", 5], "embedding": ["batch", 32]}
    assert made.get_outputs()[0].shape == lengths[output]
    if output == "embedding":
        ids = np.arange(12).reshape(2, 6)
        norms = np.linalg.norm(run(tmp_path / "model.onnx", ids, np.ones_like(ids)), axis=1)
        assert norms == pytest.approx(1, abs=1e-5)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    model = encoder()
    path = tmp_path_factory.mktemp("exported") / "model.onnx"
    export_onnx(model, path, output="logits", vocabulary=VOCABULARY)
    return model, session(path)


@settings(max_examples=40, deadline=None)
@given(lengths=st.lists(st.integers(1, 16), min_size=1, max_size=7), seed=st.integers(0, 99))
def test_any_batch_gives_what_torch_gives(exported, lengths, seed):
    model, made = exported
    mask = (np.arange(max(lengths)) < np.array(lengths)[:, None]).astype(np.int64)
    ids = np.random.default_rng(seed).integers(0, VOCABULARY, mask.shape)
    with torch.no_grad():
        expected = model(torch.from_numpy(ids), torch.from_numpy(mask)).numpy()
    found = made.run(None, {"input_ids": ids, "attention_mask": mask})[0]
    np.testing.assert_allclose(found, expected, atol=1e-4)


@settings(max_examples=20, deadline=None)
@given(
    places=st.lists(st.lists(st.booleans(), min_size=6, max_size=6).filter(any), min_size=1, max_size=4),
    padding=st.integers(0, VOCABULARY - 1),
)
def test_what_stands_in_padding_changes_nothing_wherever_it_stands(exported, places, padding):
    model, made = exported
    mask = np.array(places, dtype=np.int64)
    ids = np.where(mask == 1, 7, padding)
    with torch.no_grad():
        expected = model(torch.from_numpy(ids), torch.from_numpy(mask)).numpy()
    np.testing.assert_allclose(made.run(None, {"input_ids": ids, "attention_mask": mask})[0], expected, atol=1e-4)


def test_a_text_without_tokens_is_answered(exported):
    _, made = exported
    empty = np.zeros((1, 0), np.int64)
    assert np.isfinite(made.run(None, {"input_ids": empty, "attention_mask": empty})[0]).all()


def test_padding_is_computed_for_attention_alone():
    graph = encoder_graph(encoder(), output="logits")
    shapes = onnx.shape_inference.infer_shapes(graph)
    ranks = {value.name: len(value.type.tensor_type.shape.dim) for value in shapes.graph.value_info}
    linear = [node for node in graph.graph.node if node.op_type == "Gemm"]
    assert len(linear) == 2 * 4 + 1
    assert all(ranks.get(node.output[0], 2) == 2 for node in linear)


def test_heads_of_different_numbers_share_nothing(tmp_path):
    model = encoder(layers=(LayerShape(1, 8), LayerShape(3, 8), LayerShape(1, 8)))
    export_onnx(model, tmp_path / "model.onnx", output="logits", vocabulary=VOCABULARY)
    names = [node.name for node in onnx.load(tmp_path / "model.onnx").graph.node]
    assert len(names) == len(set(names))
    assert {"heads1.query", "heads3.query"} <= set(names)


def test_a_projection_too_large_to_fold_is_computed_for_each_token(tmp_path, monkeypatch):
    monkeypatch.setattr("farthing.compress.graphs.FOLDED_BYTES", 1000)
    export_onnx(encoder(), tmp_path / "model.onnx", output="logits", vocabulary=VOCABULARY)
    nodes = {node.name: node for node in onnx.load(tmp_path / "model.onnx").graph.node}
    assert "table" not in nodes
    assert list(nodes["tokens"].input) == ["narrow", "project.weight"]


def test_modules_of_others_are_traced(tmp_path, recwarn):
    torch.manual_seed(1)
    model = Foreign()
    export_onnx(model, tmp_path / "model.onnx", output="logits", vocabulary=VOCABULARY)
    assert model.training
    assert not recwarn.list
    found = run(tmp_path / "model.onnx", np.array([[1, 2, 3]]), np.array([[1, 1, 0]]))
    expected = model(torch.tensor([[1, 2]]), torch.tensor([[1, 1]])).detach().numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_graph_that_says_something_else_is_refused_and_not_left_behind(tmp_path):
    with pytest.raises(ConfigError, match=r"off by 1 from the model itself; 0\.001 is allowed"):
        export_onnx(Branching(), tmp_path / "model.onnx", output="logits", vocabulary=VOCABULARY)
    assert list(tmp_path.iterdir()) == []


def test_weights_that_are_no_numbers_are_refused(tmp_path):
    model = encoder()
    model.layers[1].up.bias.data[3] = float("nan")
    (tmp_path / "model.onnx").write_text("what was there before")
    with pytest.raises(ConfigError, match="off by nan"):
        export_onnx(model, tmp_path / "model.onnx", output="logits", vocabulary=VOCABULARY)
    assert (tmp_path / "model.onnx").read_text() == "what was there before"


def test_a_tokenizer_of_another_model_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="The tokenizer has 201 pieces, and the model embeds 200"):
        export_onnx(encoder(), tmp_path / "model.onnx", output="logits", vocabulary=201)


def test_a_model_that_no_file_holds_is_refused_before_anything_is_written(tmp_path):
    with torch.device("meta"):
        model = nn.Linear(30_000, 20_000)
    with pytest.raises(ConfigError, match=r"takes 2\.4 GB"):
        export_onnx(model, tmp_path / "model.onnx", output="logits", vocabulary=VOCABULARY)
