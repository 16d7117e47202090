"""Graphs in 8 bits: what is rounded, what is left alone, what is chosen."""

import logging

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from onnx import numpy_helper
from torch import nn

from farthing.compress.exporting import export_onnx
from farthing.compress.networks.encoder import Encoder, EncoderShape, LayerShape
from farthing.compress.quantizing import (
    Recipe,
    choose,
    fake_quantized,
    padded_batches,
    quantize,
    recipe_of,
    sensitivity,
)
from farthing.compress.quantizing.recipes import linear_nodes, read_graph
from farthing.compress.quantizing.rounding import rounded_activation, rounded_weight
from farthing.compress.quantizing.tables import store_tables, tables
from farthing.errors import ConfigError

torch.set_num_threads(1)
SHAPE = EncoderShape(200, 16, 32, 64, (LayerShape(2, 40), LayerShape(1, 24)), 5, 8)
LINEAR = [f"layers.{layer}.{part}" for layer in (0, 1) for part in ("qkv", "out", "up", "down")] + ["head"]


class Case:
    """An exported model, batches for it and what it says of them."""

    def __init__(self, folder) -> None:
        torch.manual_seed(5)
        self.model = Encoder(SHAPE).eval()
        self.path = folder / "model.onnx"
        for parameter in self.model.parameters():
            if parameter.dim() == 2:
                nn.init.normal_(parameter, std=0.15)
        export_onnx(self.model, self.path, output="logits", vocabulary=200)
        rng = np.random.default_rng(2)
        self.batches = padded_batches(
            [rng.integers(1, 200, rng.integers(2, 16)).tolist() for _ in range(24)], padding=0, size=8
        )
        self.logits = outputs(self.path, self.batches)


def outputs(path, batches):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, batch)[0] for batch in batches])


def off(found, expected) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


@pytest.fixture(scope="module")
def case(tmp_path_factory) -> Case:
    return Case(tmp_path_factory.mktemp("quantizing"))


def constants(path):
    return {one.name: numpy_helper.to_array(one) for one in onnx.load(path).graph.initializer}


@pytest.mark.parametrize(
    ("name", "most"),
    [
        ("dynamic", 0.03),
        ("dynamic-reduced", 0.05),
        ("static", 0.03),
        ("static-reduced", 0.05),
        ("static-entropy", 0.2),
        ("static-percentile", 0.1),
    ],
)
def test_every_recipe_says_nearly_the_same_in_a_quarter(case, tmp_path, name, most):
    target = tmp_path / "small.onnx"
    recipe = recipe_of(name)
    assert recipe.name == name
    quantize(case.path, target, recipe, case.batches)
    assert 0 < off(outputs(target, case.batches), case.logits) < most
    held = constants(target)
    weights = [held[key] for key in held if key.endswith("weight_quantized")]
    assert len(weights) == len(LINEAR)
    assert all(one.dtype == np.int8 for one in weights)
    assert max(int(np.abs(one.astype(int)).max()) for one in weights) <= (64 if recipe.reduced else 127)
    large = sum(one.nbytes for one in held.values() if one.dtype == np.float32 and one.ndim == 2)
    assert large == 4 * (200 + 64 + 16 * 32)  # scales of the tokens and their projection; positions are too few


def test_the_runtime_joins_each_product_into_one_operator(case, tmp_path):
    quantize(case.path, tmp_path / "small.onnx", Recipe())
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "loaded.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(tmp_path / "small.onnx", options, providers=["CPUExecutionProvider"])
    kinds = [node.op_type for node in onnx.load(tmp_path / "loaded.onnx").graph.node]
    assert kinds.count("DynamicQuantizeMatMul") == len(LINEAR)
    # The table was unpacked and projected while loading, and no product is left in fp32 but those of attention.
    assert kinds.count("MatMul") + kinds.count("FusedMatMul") == 2 * 2 + 1
    assert not {"DynamicQuantizeLinear", "MatMulInteger", "Mul"} & set(kinds) - {"Mul"}


def test_exceptions_stay_as_they_were(case, tmp_path):
    quantize(case.path, tmp_path / "some.onnx", Recipe(exceptions=("layers.0.up", "tokens.weight")))
    held = constants(tmp_path / "some.onnx")
    before = constants(case.path)
    np.testing.assert_array_equal(held["layers.0.up.weight"], before["layers.0.up.weight"])
    np.testing.assert_array_equal(held["tokens.weight"], before["tokens.weight"])
    assert "layers.0.down.weight" not in held
    quantize(case.path, tmp_path / "none.onnx", Recipe(embeddings=32, exceptions=tuple(LINEAR)))
    np.testing.assert_allclose(outputs(tmp_path / "none.onnx", case.batches), case.logits, atol=1e-5)


def test_nothing_is_said_about_preparations(case, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        quantize(case.path, tmp_path / "small.onnx", Recipe(kind="static"), case.batches)
        quantize(case.path, tmp_path / "small.onnx", Recipe())
    assert not caplog.records


def test_what_cannot_be_done_is_said(case, tmp_path):
    with pytest.raises(ConfigError, match=r"nothing called layers\.7\.up to except") as caught:
        quantize(case.path, tmp_path / "small.onnx", Recipe(exceptions=("layers.7.up",)))
    assert "layers.0.up" in caught.value.hint
    with pytest.raises(ConfigError, match="static needs texts to calibrate on"):
        quantize(case.path, tmp_path / "small.onnx", Recipe(kind="static"))
    for name in ("static-exact", "dynamic-entropy", "int8", ""):
        with pytest.raises(ConfigError, match="no recipe"):
            recipe_of(name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("bits", "most", "bytes_each"), [(8, 0.01, 1), (4, 0.12, 0.5)])
def test_tables_are_rounded_and_take_less(case, bits, most, bytes_each, tmp_path):
    model = onnx.load(case.path)
    before = constants(case.path)["tokens.weight"]
    assert tables(model) == ["tokens.weight", "project.weight"]  # the positions are too few to be worth it
    store_tables(model, bits)
    onnx.save(model, tmp_path / "stored.onnx")
    held = constants(tmp_path / "stored.onnx")
    assert held[f"tokens.weight.int{bits}"].nbytes == before.size * bytes_each
    assert "project.weight.int8" in held
    assert 0 < off(outputs(tmp_path / "stored.onnx", case.batches), case.logits) < most
    onnx.checker.check_model(model, full_check=True)


@pytest.mark.parametrize(("bits", "most"), [(8, 0.01), (4, 0.12)])
def test_large_tables_are_read_row_by_row(bits, most, tmp_path, monkeypatch):
    torch.manual_seed(5)
    model = Encoder(EncoderShape(200, 16, 32, 32, (LayerShape(1, 40),), 5, 8)).eval()
    export_onnx(model, tmp_path / "model.onnx", output="logits", vocabulary=200)
    monkeypatch.setattr("farthing.compress.quantizing.tables.UNPACKED_BYTES", 4 * 200 * 32 - 1)
    batches = padded_batches([[5, 6, 7], [8]], padding=0)
    stored = onnx.load(tmp_path / "model.onnx")
    store_tables(stored, bits)
    onnx.save(stored, tmp_path / "stored.onnx")
    kinds = [node.op_type for node in stored.graph.node]
    assert kinds.count("GatherBlockQuantized") == 1
    expected = outputs(tmp_path / "model.onnx", batches)
    assert 0 < off(outputs(tmp_path / "stored.onnx", batches), expected) < most


def test_a_table_of_zeros_stays_one(tmp_path):
    torch.manual_seed(5)
    model = Encoder(SHAPE).eval()
    model.tokens.weight.data.zero_()
    export_onnx(model, tmp_path / "model.onnx", output="logits", vocabulary=200)
    batches = padded_batches([[5, 6, 7]], padding=0)
    for bits in (4, 8):
        stored = onnx.load(tmp_path / "model.onnx")
        store_tables(stored, bits)
        onnx.save(stored, tmp_path / "stored.onnx")
        np.testing.assert_allclose(
            outputs(tmp_path / "stored.onnx", batches), outputs(tmp_path / "model.onnx", batches), atol=1e-6
        )


def test_gemms_of_others_are_taken_apart(tmp_path):
    class Foreign(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.answer = nn.Embedding(200, 12), nn.Linear(12, 3)

        def forward(self, input_ids, attention_mask):
            return self.answer(self.words(input_ids).mean(1) * attention_mask.float().mean())

    export_onnx(Foreign(), tmp_path / "model.onnx", output="logits", vocabulary=200)
    graph = read_graph(tmp_path / "model.onnx")
    assert len(linear_nodes(graph)) == 1
    quantize(tmp_path / "model.onnx", tmp_path / "small.onnx", Recipe())
    batches = padded_batches([[5, 6, 7]], padding=0)
    assert off(outputs(tmp_path / "small.onnx", batches), outputs(tmp_path / "model.onnx", batches)) < 0.05


def test_the_node_that_suffers_most_is_found(case, tmp_path):
    spoiled = onnx.load(case.path)
    for tensor in spoiled.graph.initializer:
        values = numpy_helper.to_array(tensor).copy()
        if tensor.name.startswith("layers.1.attention_norm."):
            values[0] = 0
        if tensor.name == "layers.1.up.weight":
            values[0] *= 300  # multiplied by nothing, but it leaves no steps to the other numbers of its column
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    onnx.save(spoiled, tmp_path / "spoiled.onnx")
    found = sensitivity(tmp_path / "spoiled.onnx", Recipe(), case.batches)
    assert found[0].node == "layers.1.up"
    assert found[0].error > 5 * max(one.error for one in found[1:])
    assert {one.node for one in found} == {*LINEAR, "tokens.weight", "project.weight"}


class Scores:
    """A score that falls with the number of quantized products, a cost that rises with the size."""

    def __init__(self) -> None:
        self.costs = 0

    def score(self, path):
        return 1.0 - 0.01 * sum(name.endswith("weight_quantized") for name in constants(path))

    def cost(self, path):
        self.costs += 1
        return float(path.stat().st_size)


def test_the_cheapest_that_keeps_the_floor_is_chosen(case):
    scores = Scores()
    recipes = [Recipe(embeddings=32), Recipe(), Recipe(embeddings=4)]
    chosen = choose(case.path, recipes, case.batches, scores.score, 0.9, 4, scores.cost)
    assert chosen.kept
    assert chosen.recipe == recipes[2]
    assert [one.recipe for one in chosen.tried] == recipes
    assert chosen.sensitivities == ()
    assert len(onnx.load_from_string(chosen.model).graph.node) > 20


def test_exceptions_are_added_until_the_floor_holds(case):
    scores = Scores()
    chosen = choose(case.path, [Recipe(embeddings=32)], case.batches, scores.score, 0.93 - 1e-9, 4, scores.cost)
    assert chosen.kept
    assert len(chosen.recipe.exceptions) == 2
    assert list(chosen.recipe.exceptions) == [one.node for one in chosen.sensitivities[:2]]
    assert scores.costs == 1  # what breaks the floor is not measured


def test_where_nothing_keeps_the_floor_the_best_is_said_to_break_it(case):
    scores = Scores()
    chosen = choose(case.path, [Recipe()], case.batches, scores.score, 2.0, 1, scores.cost)
    assert not chosen.kept
    assert len(chosen.tried) == 2
    assert chosen.score == max(one.score for one in chosen.tried)
    with pytest.raises(ConfigError, match="no recipe"):
        choose(case.path, [], case.batches, scores.score, 0.5, 1, scores.cost)


def test_training_sees_what_the_runtime_will_say(case, tmp_path):
    quantize(case.path, tmp_path / "small.onnx", Recipe())
    alone = [
        {key: rows[:, : int(batch["attention_mask"].sum())] for key, rows in batch.items()}
        for batch in padded_batches([[7, 8, 9, 10, 11], [3, 4, 5]], padding=0, size=1)
    ]
    served = outputs(tmp_path / "small.onnx", alone)
    plain = outputs(case.path, alone)
    with torch.no_grad(), fake_quantized(case.model) as rounded:
        trained = np.concatenate(
            [rounded(torch.from_numpy(b["input_ids"]), torch.from_numpy(b["attention_mask"])).numpy() for b in alone]
        )
    assert off(trained, served) < 0.5 * off(plain, served)


def test_the_model_is_as_before_after_the_block(case):
    ids = torch.arange(1, 9)[None]
    mask = torch.ones_like(ids)
    names = list(case.model.state_dict())
    with torch.no_grad():
        before = case.model(ids, mask)
        with fake_quantized(case.model, exceptions=[*LINEAR, "tokens", "project"]):
            torch.testing.assert_close(case.model(ids, mask), before)
        with fake_quantized(case.model):
            assert not torch.equal(case.model(ids, mask), before)
            assert list(case.model.state_dict()) == names
        assert torch.equal(case.model(ids, mask), before)
    with pytest.raises(ZeroDivisionError), fake_quantized(case.model):
        raise ZeroDivisionError
    assert torch.equal(case.model(ids, mask), before)


def test_gradients_pass_through_and_recovery_recovers():
    torch.manual_seed(2)
    model = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 1))
    model[0].weight.data[:, 0] *= 40
    rows = torch.randn(64, 6)
    rows[:, 0] *= 0.02
    wanted = model(rows).detach()

    def loss() -> torch.Tensor:
        return nn.functional.mse_loss(model(rows), wanted)

    with fake_quantized(model):
        before = loss().item()
        assert before > 0
        optimizer = torch.optim.Adam(model.parameters(), 0.01)
        for _ in range(150):
            optimizer.zero_grad()
            found = loss()
            found.backward()
            optimizer.step()
        assert all(parameter.grad is not None for parameter in model.parameters())
        assert loss().item() < before / 3


@given(arrays.arrays(np.float32, (3, 5), elements=st.floats(-1e3, 1e3, width=32)))
@settings(max_examples=50, deadline=None)
def test_rounding_is_within_half_a_step(values):
    given_values = torch.from_numpy(values)
    step = np.abs(values).max(1, keepdims=True) / 127
    assert (np.abs(rounded_weight(given_values, 127).numpy() - values) <= step * 0.51 + 1e-6).all()
    span = max(values.max(), 0) - min(values.min(), 0)
    assert (np.abs(rounded_activation(given_values).numpy() - values) <= span / 255 * 1.01 + 1e-6).all()


@given(st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=6), max_size=11), st.integers(1, 5))
@settings(max_examples=50, deadline=None)
def test_batches_hold_every_text_in_order(ids, size):
    found = [
        row[kept.astype(bool)].tolist()
        for batch in padded_batches(ids, padding=0, size=size)
        for row, kept in zip(batch["input_ids"], batch["attention_mask"], strict=True)
    ]
    assert found == ids
