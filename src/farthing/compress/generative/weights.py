"""Weights in 4 or 8 bits for a CPU: ONNX Runtime's own builder of decoders, which quantizes while it writes."""

import os
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from farthing.compress.generative.job import Weights
from farthing.compress.generative.tokens import settings
from farthing.errors import ConfigError, Unavailable

ENGINE: Final = "onnxruntime_genai"
BUILDER: Final = "onnxruntime_genai.models.builder"
NEEDED: Final = (ENGINE, "onnx_ir")
PRECISIONS: Final = {4: "int4", 8: "int8", 32: "fp32"}
GRAPH: Final = "genai_config.json"
"""The file by which a folder that onnxruntime-genai serves is known."""

_CACHE = "cache"
_SHOWN = 3


def can_build() -> bool:
    """Whether what builds the graphs is installed."""
    return all(find_spec(name) for name in NEEDED)


def build_onnx(source: Path, folder: Path, stage: Weights) -> None:
    """Write the decoder in `source` as an ONNX graph with its cache, as onnxruntime-genai serves it.

    The builder runs in a process of its own, without a network. Raises ConfigError when it is not installed, or fails.
    """
    if not can_build():
        raise ConfigError(
            "Building a decoder for ONNX Runtime needs onnxruntime-genai and onnx-ir.",
            hint="pip install 'farthing[generate]'",
        )
    options = {
        "block_size": stage.block,
        "is_symmetric": _word(stage.symmetric),
        "accuracy_level": 4 if stage.activations == 8 else 1,
        "algo_config": "default" if stage.fit == "rtn" else "k_quant",
        "shared_embeddings": _word(_may_share(source, stage)),
        "hf_token": "false",
    }
    cache = folder / _CACHE
    command = [sys.executable, "-m", BUILDER, "-m", "local", "-i", str(source), "-o", str(folder)]
    command += ["-p", PRECISIONS[stage.bits], "-e", "cpu", "-c", str(cache), "--extra_options"]
    command += [f"{name}={value}" for name, value in options.items()]
    run_aside(command, f"Building {source} for ONNX Runtime")
    if cache.is_dir():
        cache.rmdir()
    if not (folder / GRAPH).is_file():
        raise ConfigError(f"{BUILDER} wrote no {GRAPH} for {source}.", hint="Try another release of onnxruntime-genai.")


def _may_share(source: Path, stage: Weights) -> bool:
    """Whether embeddings and head can be one table: release 0.18 writes graphs that do not load for the other kinds."""
    return bool(settings(source).get("tie_word_embeddings")) and stage.bits == 4 and stage.symmetric


def run_aside(command: Sequence[str], doing: str, threads: int = 0) -> str:
    """What a Python process without a network prints. Raises ConfigError with its last words when it fails."""
    surroundings = {**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    if threads:
        surroundings["OMP_NUM_THREADS"] = str(threads)
    done = subprocess.run(command, env=surroundings, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode < 0:
        raise Unavailable(
            f"{doing} was ended by signal {-done.returncode}.", hint="Signal 9 is most often a lack of memory."
        )
    if done.returncode:
        said = " | ".join(done.stderr.strip().splitlines()[-_SHOWN:])
        raise ConfigError(f"{doing} failed: {said}", hint=f"Run it by hand to see all: {' '.join(command)}")
    return done.stdout


def _word(value: bool) -> str:
    return "true" if value else "false"
