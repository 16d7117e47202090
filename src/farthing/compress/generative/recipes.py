"""Recipes: a script that quantizes a decoder for vLLM with llm-compressor, and what it needs.

llm-compressor holds transformers below 5.18, and vLLM asks for an environment of its own, so neither can be installed
beside Farthing's own stages: the script stands alone and is run elsewhere, on a machine with a GPU.
"""

import shutil
from pathlib import Path
from typing import Final

from farthing.compress.generative.decoders import COPIED
from farthing.compress.generative.tokens import CONFIG, settings
from farthing.errors import ConfigError

SCRIPT: Final = "quantize.py"
NEEDS: Final = "requirements.txt"
TEXTS: Final = "calibration.txt"
MODEL: Final = "model"

GROUP: Final = 128
"""Weights that share a scale in W4A16."""

REQUIREMENTS: Final = "llmcompressor==0.14.0.1\ntransformers>=5.15,<5.18\ntorch>=2.10,<=2.14\n"

_MODIFIERS: Final = {
    "fp8": ('QuantizationModifier(targets="Linear", scheme="FP8_DYNAMIC", ignore=["lm_head"])', False),
    "w8a8": ('GPTQModifier(targets="Linear", scheme="W8A8", ignore=["lm_head"])', True),
    "w4a16": ('GPTQModifier(targets="Linear", scheme="W4A16", ignore=["lm_head"])', True),
}
"""By scheme: what is done, and whether it looks at texts."""

_SCRIPT: Final = '''"""Quantize the decoder in `model` for vLLM: {scheme}. Run in an environment of its own:

    python -m venv env && env/bin/pip install -r requirements.txt && env/bin/python quantize.py
    vllm serve quantized
"""

from pathlib import Path

from datasets import Dataset
from llmcompressor import oneshot
from llmcompressor.modifiers.quantization import GPTQModifier, QuantizationModifier
from transformers import AutoModelForCausalLM, AutoTokenizer

HERE = Path(__file__).parent
LENGTH = {length}
LOOKS_AT_TEXTS = {looks}
RECIPE = [{modifier}]

model = AutoModelForCausalLM.from_pretrained(HERE / "model", dtype="auto", local_files_only=True)
tokenizer = AutoTokenizer.from_pretrained(HERE / "model", local_files_only=True)
data = {{}}
if LOOKS_AT_TEXTS:
    texts = (HERE / "calibration.txt").read_text(encoding="utf-8").splitlines()
    tokens = [tokenizer(text, truncation=True, max_length=LENGTH) for text in texts]
    rows = [{{"input_ids": one["input_ids"], "attention_mask": one["attention_mask"]}} for one in tokens]
    data = {{
        "dataset": Dataset.from_list(rows),
        "num_calibration_samples": len(rows),
        "max_seq_length": LENGTH,
    }}
oneshot(model=model, recipe=RECIPE, **data)
model.save_pretrained(HERE / "quantized", save_compressed=True)
tokenizer.save_pretrained(HERE / "quantized")
'''


def write_recipe(source: Path, folder: Path, scheme: str, texts: tuple[str, ...], length: int) -> None:
    """Write the dense decoder, texts to calibrate with, a script and its requirements: "fp8", "w8a8" or "w4a16".

    FP8 needs compute capability 8.9, and W8A8 runs on none from 10.0 on. Raises ConfigError when groups of W4A16 do not
    fit.
    """
    modifier, looks = _MODIFIERS[scheme]
    uneven = [name for name in ("hidden_size", "intermediate_size") if settings(source).get(name, 0) % GROUP]
    if scheme == "w4a16" and uneven:
        raise ConfigError(
            f"W4A16 rounds groups of {GROUP} weights, and {uneven[0]} of {source} is {settings(source)[uneven[0]]}.",
            hint='Export "vllm-fp8" or "vllm-w8a8", or keep another share of the channels.',
        )
    (folder / MODEL).mkdir(parents=True)
    for file in source.iterdir():
        if file.name in {*COPIED, CONFIG} or file.name.endswith((".safetensors", ".safetensors.index.json")):
            shutil.copyfile(file, folder / MODEL / file.name)
    if looks:
        lines = [" ".join(text.splitlines()) for text in texts]
        (folder / TEXTS).write_text("\n".join(lines) + "\n", encoding="utf-8")
    script = _SCRIPT.format(scheme=scheme.upper(), length=length, looks=looks, modifier=modifier)
    (folder / SCRIPT).write_text(script, encoding="utf-8")
    (folder / NEEDS).write_text(REQUIREMENTS, encoding="utf-8")
