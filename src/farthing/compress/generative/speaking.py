"""Speakers: decoders ready to be asked for the next token, whatever runs them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from farthing.compress.generative.extras import extra
from farthing.compress.generative.weights import ENGINE, GRAPH

Logits = NDArray[np.float32]


class Speaker(Protocol):
    """A decoder with the text that it has read so far. `engine` names what runs it."""

    engine: str

    def begin(self, ids: Sequence[int], room: int) -> Logits:
        """Read a new text, with room for so many tokens more; logits after each of its tokens, [tokens, vocabulary]."""
        ...

    def follow(self, token: int) -> Logits:
        """Read one token more; logits after it, [vocabulary]."""
        ...


def open_speaker(folder: Path, threads: int, longest: int) -> Speaker:
    """The decoder in a folder, by what lies in it, for texts of at most `longest` tokens.

    Raises ConfigError when its engine is not installed.
    """
    if (folder / GRAPH).is_file():
        return GenaiSpeaker(folder, threads)
    if packed := sorted(folder.glob("*.gguf")):
        return LlamaCppSpeaker(packed[0], threads, longest)
    return TorchSpeaker(folder, threads)


def greedy(speaker: Speaker, prompt: Sequence[int], most: int, end: int) -> list[int]:
    """The likeliest continuation of a prompt, token by token, until the text ends or it has `most` tokens."""
    said: list[int] = []
    logits = speaker.begin(prompt, most)[-1]
    while (token := int(logits.argmax())) != end:
        said.append(token)
        if len(said) == most:
            break
        logits = speaker.follow(token)
    return said


class GenaiSpeaker:
    """onnxruntime-genai, as it serves."""

    def __init__(self, folder: Path, threads: int) -> None:
        self._genai = extra(ENGINE, f"Serving {folder}")
        self.engine = f"onnxruntime-genai {self._genai.__version__}"
        config = self._genai.Config(str(folder))
        session = {"intra_op_num_threads": threads} if threads else {}
        config.overlay(msgspec.json.encode({"model": {"decoder": {"session_options": session}}}).decode())
        self._model = self._genai.Model(config)
        self._generator: Any = None

    def begin(self, ids: Sequence[int], room: int) -> Logits:
        parameters = self._genai.GeneratorParams(self._model)
        parameters.set_search_options(max_length=len(ids) + room + 1, do_sample=False)
        self._generator = self._genai.Generator(self._model, parameters)
        return self._read(ids)

    def follow(self, token: int) -> Logits:
        last: Logits = self._read([token])[-1]
        return last

    def _read(self, ids: Sequence[int]) -> Logits:
        self._generator.append_tokens(np.array(ids, np.int32))
        logits: Logits = np.asarray(self._generator.get_output("logits")[0], np.float32)
        return logits


class TorchSpeaker:
    """transformers on torch, in float32."""

    def __init__(self, folder: Path, threads: int) -> None:
        import torch
        import transformers

        if threads:
            torch.set_num_threads(threads)
        self._torch = torch
        self.engine = f"transformers {transformers.__version__}"
        library: Any = transformers.AutoModelForCausalLM
        self._model = library.from_pretrained(folder, dtype=torch.float32, local_files_only=True).eval()
        self._past: Any = None

    def begin(self, ids: Sequence[int], room: int) -> Logits:
        self._past = None
        return self._read(ids)

    def follow(self, token: int) -> Logits:
        last: Logits = self._read([token])[-1]
        return last

    def _read(self, ids: Sequence[int]) -> Logits:
        with self._torch.inference_mode():
            said = self._model(input_ids=self._torch.tensor([list(ids)]), past_key_values=self._past, use_cache=True)
        self._past = said.past_key_values
        logits: Logits = said.logits[0].numpy()
        return logits


class LlamaCppSpeaker:
    """llama.cpp through llama-cpp-python, where somebody has installed it."""

    def __init__(self, file: Path, threads: int, longest: int) -> None:
        llama_cpp = extra("llama_cpp", f"Running {file}", hint="pip install llama-cpp-python")
        self.engine = f"llama.cpp (llama-cpp-python {llama_cpp.__version__})"
        self._model: Any = llama_cpp.Llama(
            str(file), n_ctx=longest, n_threads=threads or None, n_threads_batch=threads or None, logits_all=True,
            verbose=False,
        )  # fmt: skip

    def begin(self, ids: Sequence[int], room: int) -> Logits:
        self._model.reset()
        return self._read(ids)

    def follow(self, token: int) -> Logits:
        last: Logits = self._read([token])[-1]
        return last

    def _read(self, ids: Sequence[int]) -> Logits:
        self._model.eval(list(ids))
        now = self._model.n_tokens
        logits: Logits = np.array(self._model.scores[now - len(ids) : now], np.float32)
        return logits
