"""What other servers are given: GGUF files and recipes, and what cannot be written rightly."""

import ast
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from decoder_sample import random_decoder

from farthing.compress.generative import gguf_file, recipes
from farthing.compress.generative.decoders import load_decoder
from farthing.compress.generative.speaking import LlamaCppSpeaker
from farthing.compress.generative.tokens import words_of
from farthing.errors import ConfigError

OFF = {"f16": 0.0005, "q8_0": 0.01, "q4_0": 0.12}


@pytest.mark.parametrize("family", ["Llama", "Mistral", "Qwen2", "Qwen3"])
@pytest.mark.parametrize("kind", list(OFF))
def test_a_gguf_file_holds_the_weights(tmp_path: Path, family: str, kind: str) -> None:
    gguf = pytest.importorskip("gguf")
    source = random_decoder(tmp_path / "a", family, head_dim=16)
    off = gguf_file.write_gguf(source, tmp_path / "b", kind)
    assert OFF[kind] / 50 < off < OFF[kind]
    reader = gguf.GGUFReader(tmp_path / "b/model.gguf")
    heads = {name: field.contents() for name, field in reader.fields.items()}
    family = heads["general.architecture"]
    assert heads[f"{family}.attention.key_length"] == 16
    assert heads[f"{family}.attention.head_count_kv"] == 2
    assert heads["tokenizer.ggml.bos_token_id"] == 1
    assert heads["tokenizer.ggml.add_bos_token"] is True
    assert heads["tokenizer.ggml.tokens"][1] == "<s>"
    assert heads["tokenizer.ggml.token_type"][1] == 3
    assert len(heads["tokenizer.ggml.merges"]) > 10


@pytest.mark.parametrize("family", ["Llama", "Qwen2", "Qwen3"])
def test_llama_cpp_says_what_torch_says(tmp_path: Path, family: str) -> None:
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is built from source, and not installed by any extra")
    source = random_decoder(tmp_path / "a", family, head_dim=16 if family == "Qwen2" else 32)
    gguf_file.write_gguf(source, tmp_path / "b", "f16")
    speaker = LlamaCppSpeaker(tmp_path / "b/model.gguf", 1, 64)
    text = "my card , 123 times in oslo\n\n  it's lost =>"
    ids = words_of(source).prompt(text)
    assert speaker._model.tokenize(text.encode(), special=True) == ids
    with torch.no_grad():
        expected = load_decoder(source)(input_ids=torch.tensor([ids])).logits[0].numpy()
    found = speaker.begin(ids, 8)
    assert np.abs(found - expected).max() < 0.02 * expected.std()
    assert np.abs(speaker.follow(5) - speaker.begin([*ids, 5], 8)[-1]).max() < 1e-2 * expected.std()


def test_what_llama_cpp_would_misread_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    gemma = random_decoder(tmp_path / "gemma", "Gemma")
    with pytest.raises(ConfigError, match="GemmaForCausalLM"):
        gguf_file.write_gguf(gemma, tmp_path / "b", "f16")
    wide = random_decoder(tmp_path / "wide", "Qwen2", head_dim=32)
    with pytest.raises(ConfigError, match="128 wide"):
        gguf_file.write_gguf(wide, tmp_path / "b", "f16")
    stretched = random_decoder(
        tmp_path / "stretched", rope_parameters={"rope_type": "linear", "factor": 2.0, "rope_theta": 10_000.0}
    )
    with pytest.raises(ConfigError, match="stretches"):
        gguf_file.write_gguf(stretched, tmp_path / "b", "f16")
    odd = random_decoder(tmp_path / "odd")
    tokenizer = json.loads((odd / "tokenizer.json").read_text())
    for change, says in (
        ({"pre_tokenizer": {"type": "Whitespace"}}, "cuts texts"),
        ({"model": {**tokenizer["model"], "byte_fallback": True}}, "byte fallback"),
    ):
        (odd / "tokenizer.json").write_text(json.dumps({**tokenizer, **change}))
        with pytest.raises(ConfigError, match=says):
            gguf_file.write_gguf(odd, tmp_path / "b", "f16")


@pytest.mark.parametrize("scheme", ["fp8", "w8a8", "w4a16"])
def test_a_recipe_stands_alone(tmp_path: Path, scheme: str) -> None:
    source = random_decoder(tmp_path / "a", hidden_size=128)
    recipes.write_recipe(source, tmp_path / "b", scheme, ("one\ntwo", "three"), 32)
    script = (tmp_path / "b/quantize.py").read_text()
    ast.parse(script)
    assert {"fp8": "FP8_DYNAMIC", "w8a8": "W8A8", "w4a16": "W4A16"}[scheme] in script
    assert "farthing" not in script
    assert "transformers>=5.15,<5.18" in (tmp_path / "b/requirements.txt").read_text()
    assert torch.equal(load_decoder(tmp_path / "b/model").lm_head.weight, load_decoder(source).lm_head.weight)
    texts = tmp_path / "b/calibration.txt"
    assert texts.exists() == (scheme != "fp8")
    assert scheme == "fp8" or texts.read_text() == "one two\nthree\n"


def test_groups_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="hidden_size"):
        recipes.write_recipe(random_decoder(tmp_path / "a"), tmp_path / "b", "w4a16", ("one",), 32)
