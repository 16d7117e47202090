"""A model out of an artefact's folder, run by ONNX Runtime."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from farthing.engines.artefacts import read_artefact
from farthing.engines.tokens import Tokens
from farthing.errors import ConfigError, UpstreamError
from farthing.schema import Artefact
from farthing.schema.artefact import MODEL, TOKENIZER

Floats = NDArray[np.float32]
"""float32 [texts, columns]."""

BATCH_TOKENS: Final = 8_192
"""Tokens run at once, padding included: larger batches are cut up. Beyond a few hundred nothing is gained per token,
and what a run takes of memory grows with it."""

SLOWER: Final = ["SkipLayerNormFusion"]
"""Optimisations of ONNX Runtime (1.31) that cost time: its joint kernel for an addition and a normalisation takes eight
times what the two take by themselves, a third of a small encoder's time."""

_INPUTS: Final = ["input_ids", "attention_mask"]
_ERROR: Final = 3
_REMADE: Final = "Make the artefact again with `farthing compress run`."


class Model:
    """One loaded model; its methods may be called from several threads at once."""

    def __init__(self, artefact: Artefact, tokens: Tokens, session: onnxruntime.InferenceSession, size: int) -> None:
        """`size` is what it takes of memory, in bytes."""
        self.artefact = artefact
        self.size = size
        self.tokens = tokens
        self._session = session
        self._output = [session.get_outputs()[0].name]

    @classmethod
    def load(cls, folder: Path, threads: int = 1, graph: Path | None = None) -> "Model":
        """Verify an artefact's folder, load it, and run it once. Raises ConfigError when it cannot be served.

        With `graph`, that ONNX file is loaded in the place of the folder's own.
        """
        artefact = read_artefact(folder)
        tokens = Tokens(folder / TOKENIZER, artefact.max_length)
        try:
            session = onnxruntime.InferenceSession(
                folder / MODEL, _options(threads), ["CPUExecutionProvider"], disabled_optimizers=SLOWER
            )
        except Exception as error:  # noqa: BLE001 (ONNX Runtime's own errors have no common class)
            raise ConfigError(f"{folder / MODEL} cannot be loaded: {error}.", hint=_REMADE) from None
        asked = [given.name for given in session.get_inputs()]
        if sorted(asked) != sorted(_INPUTS):
            raise ConfigError(
                f"{folder / MODEL} takes the inputs {', '.join(asked)}; expected {' and '.join(_INPUTS)}.", hint=_REMADE
            )
        model = cls(artefact, tokens, session, _bytes_in_memory(folder))
        model.warm_up(folder)
        return model

    def warm_up(self, folder: Path) -> None:
        """Run once at two sizes, so that no caller waits for it. Raises ConfigError when it answers nonsense."""
        shortest, longest = self.encode(["", "a " * self.artefact.max_length])
        try:
            first = self.run([shortest])
            self.run([longest, shortest])
        except UpstreamError as error:
            raise ConfigError(f"{folder / MODEL} cannot be run: {error.message}", hint=_REMADE) from None
        labels, task = self.artefact.labels, self.artefact.task
        if task != "embedding" and first.shape[-1] != len(labels):
            raise ConfigError(
                f"{folder / MODEL} gives {first.shape[-1]} columns, and its artefact names {len(labels)} labels.",
                hint=_REMADE,
            )

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, special ones included, at most the artefact's `max_length`."""
        return self.tokens.encode(texts)

    def run(self, batch: Sequence[Sequence[int]]) -> Floats:
        """What the model gives for some texts' ids, padded to the longest of them: one row per text, in their order.

        Of a tagging model float32 [texts, longest, labels]; otherwise [texts, columns]. Raises UpstreamError when ONNX
        Runtime fails.
        """
        lengths = [len(ids) for ids in batch]
        longest = max(lengths, default=0)
        padding = self.tokens.padding
        ids = np.array([[*row, *[padding] * (longest - len(row))] for row in batch], dtype=np.int64)
        mask = (np.arange(longest) < np.array(lengths)[:, None]).astype(np.int64)
        try:
            found: list[Floats] = self._session.run(self._output, {"input_ids": ids, "attention_mask": mask})
        except Exception as error:  # noqa: BLE001 (ONNX Runtime's own errors have no common class)
            raise UpstreamError(
                f"{self.artefact.name} failed at {len(batch)} texts of up to {longest} tokens: {error}.",
                hint=_REMADE,
            ) from None
        return found[0]

    def outputs(self, texts: Sequence[str]) -> Floats:
        """What the model gives for texts, run in batches of similar lengths; rows in the order of the texts.

        Of a tagging model, rows are padded with zeros to the longest text.
        """
        ids = self.encode(texts)
        if not ids:
            return self.run(self.encode([""]))[:0]
        order = sorted(range(len(ids)), key=lambda place: len(ids[place]))
        rows: list[Floats | None] = [None] * len(ids)
        for places in _cut(order, ids):
            for place, row in zip(places, self.run([ids[place] for place in places]), strict=True):
                rows[place] = row
        if self.artefact.task == "tagging":
            longest = max(map(len, ids))
            rows = [np.pad(row, ((0, longest - len(row)), (0, 0))) for row in rows if row is not None]
        return np.stack([row for row in rows if row is not None])


def _cut(order: Sequence[int], ids: Sequence[Sequence[int]]) -> list[list[int]]:
    """Places in order of length, in groups whose padded size is `BATCH_TOKENS` at most."""
    groups: list[list[int]] = []
    for place in order:
        if groups and (len(groups[-1]) + 1) * len(ids[place]) <= BATCH_TOKENS:
            groups[-1].append(place)
        else:
            groups.append([place])
    return groups


def _options(threads: int) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.enable_mem_pattern = False  # a plan is kept for every shape, and there are thousands
    options.log_severity_level = _ERROR
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _bytes_in_memory(folder: Path) -> int:
    """About what a loaded artefact takes: weights twice (as stored and as packed for the processor), and the
    vocabulary, which takes ten times its file."""
    return 2 * (folder / MODEL).stat().st_size + 10 * (folder / TOKENIZER).stat().st_size
