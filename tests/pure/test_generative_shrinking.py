"""A decoder that was cut computes what the whole one computes with the same parts switched off."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from decoder_sample import random_decoder

from farthing.compress.generative import decoders, shrinking
from farthing.compress.generative.job import Shrink
from farthing.compress.training.batches import Batch
from farthing.errors import ConfigError

FAMILIES = ("Llama", "Mistral", "Qwen2", "Qwen3", "Gemma", "Gemma2", "Gemma3Text")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(params=FAMILIES, scope="module")
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_decoder(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture
def texts() -> list[Batch]:
    ids = torch.randint(3, 200, (3, 20), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    mask[2, 12:] = 0
    return [Batch(ids, mask, np.arange(3))]


def logits(model: decoders.Model, texts: list[Batch]) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=texts[0].ids, attention_mask=texts[0].mask).logits
    return found[texts[0].mask.bool()]


def reloaded(model: decoders.Model, source: Path, target: Path) -> decoders.Model:
    decoders.save_decoder(model, source, target)
    return decoders.load_decoder(target)


def test_a_layer_that_does_nothing_goes_first_and_is_not_missed(
    folder: Path, texts: list[Batch], tmp_path: Path
) -> None:
    model = decoders.load_decoder(folder)
    idle = model.model.layers[2]
    with torch.no_grad():
        for linear in (idle.self_attn.o_proj, idle.mlp.down_proj):
            linear.weight.zero_()
    influence = shrinking.block_influence(model, texts)
    assert influence[2] == pytest.approx(0, abs=1e-9)
    assert influence[[0, 1, 3]].min() > 1e-4
    shrunk = shrinking.shrink(model, Shrink(layers=1), texts)
    assert shrunk.dropped == (2,)
    assert shrunk.after < shrunk.before == decoders.parameters_of(model)
    assert torch.allclose(logits(model, texts), logits(shrunk.model, texts), atol=1e-5)
    assert torch.equal(logits(shrunk.model, texts), logits(reloaded(shrunk.model, folder, tmp_path), texts))


def test_dropped_layers_are_those_that_were_named(folder: Path, texts: list[Batch]) -> None:
    model = decoders.load_decoder(folder)
    cut = shrinking.without_layers(model, (0, 2))
    for new, old in enumerate((1, 3)):
        assert torch.equal(cut.model.layers[new].mlp.up_proj.weight, model.model.layers[old].mlp.up_proj.weight)
    if getattr(model.config, "layer_types", None):
        assert cut.config.layer_types == [model.config.layer_types[1], model.config.layer_types[3]]
    assert model.config.num_hidden_layers == 4


def test_channels_that_go_were_the_smallest_and_are_as_if_switched_off(
    folder: Path, texts: list[Batch], tmp_path: Path
) -> None:
    model = decoders.load_decoder(folder)
    sizes = shrinking.channel_sizes(model, texts)
    shrunk = shrinking.shrink(model, Shrink(ffn=0.5), texts)
    assert shrunk.model.config.intermediate_size == 64
    with torch.no_grad():
        for layer, row in zip(model.model.layers, sizes, strict=True):
            layer.mlp.down_proj.weight[:, np.argsort(row)[:64]] = 0
    found = logits(reloaded(shrunk.model, folder, tmp_path), texts)
    assert torch.allclose(logits(model, texts), found, atol=1e-5)


def test_heads_go_with_those_that_ask_them(folder: Path, texts: list[Batch], tmp_path: Path) -> None:
    model = decoders.load_decoder(folder)
    sizes = shrinking.head_sizes(model, texts)
    shrunk = shrinking.shrink(model, Shrink(kv_heads=1), texts)
    config = shrunk.model.config
    assert (config.num_key_value_heads, config.num_attention_heads, config.head_dim) == (1, 2, 32)
    with torch.no_grad():
        for layer, row in zip(model.model.layers, sizes, strict=True):
            gone = int(np.argmin(row))
            layer.self_attn.o_proj.weight[:, gone * 64 : gone * 64 + 64] = 0
    found = logits(reloaded(shrunk.model, folder, tmp_path), texts)
    assert torch.allclose(logits(model, texts), found, atol=1e-5)


def test_padding_does_not_count(tmp_path: Path, texts: list[Batch]) -> None:
    model = decoders.load_decoder(random_decoder(tmp_path))
    ids, mask, rows = texts[0]
    other = Batch(torch.where(mask.bool(), ids, 7), mask, rows)
    for measure in (shrinking.block_influence, shrinking.channel_sizes, shrinking.head_sizes):
        assert np.allclose(measure(model, [other]), measure(model, texts))


@pytest.mark.parametrize(("stage", "says"), [(Shrink(layers=4), "4 layers"), (Shrink(kv_heads=3), "3 key-value heads")])
def test_more_than_there_is_is_refused(tmp_path: Path, texts: list[Batch], stage: Shrink, says: str) -> None:
    model = decoders.load_decoder(random_decoder(tmp_path))
    with pytest.raises(ConfigError, match=says):
        shrinking.shrink(model, stage, texts)


def test_what_is_gentler_ends() -> None:
    stage: Shrink | None = Shrink(layers=9, ffn=0.3, kv_heads=1)
    seen = []
    while stage is not None:
        seen.append((stage.layers, stage.ffn, stage.kv_heads))
        stage = shrinking.gentler(stage, kv_heads=8)
    assert len(seen) < 8
    assert all(b[0] <= a[0] and b[1] >= a[1] for a, b in pairwise(seen))


def test_precision_of_the_source_is_kept(tmp_path: Path) -> None:
    folder = random_decoder(tmp_path / "a")
    text = (folder / "config.json").read_text().replace("float32", "bfloat16")
    (folder / "config.json").write_text(text)
    decoders.save_decoder(decoders.load_decoder(folder), folder, tmp_path / "b")
    assert (tmp_path / "b/model.safetensors").stat().st_size < 0.55 * (folder / "model.safetensors").stat().st_size
    assert decoders.parameters_in(tmp_path / "b") == decoders.parameters_in(folder)


def test_folders_that_hold_something_else_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no config\.json"):
        decoders.refuse_unknown(tmp_path)
    folder = random_decoder(tmp_path / "a")
    config = folder / "config.json"
    whole = config.read_text()
    config.write_text(whole.replace("LlamaForCausalLM", "LamaForCausalLM"))
    with pytest.raises(ConfigError, match='did you mean "LlamaForCausalLM"'):
        decoders.load_decoder(folder)
    config.write_text(whole[:-20])
    with pytest.raises(ConfigError, match=r"config\.json cannot be read"):
        decoders.load_decoder(folder)
    config.write_text(whole)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ConfigError, match="cannot be loaded"):
        decoders.load_decoder(folder)
    weights.unlink()
    with pytest.raises(ConfigError, match="no safetensors"):
        decoders.load_decoder(folder)
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(ConfigError):
        decoders.load_decoder(folder)
