"""Choosing: the fastest recipe that keeps the floor, with exceptions where it takes them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import msgspec
import numpy as np
import onnxruntime
from msgspec.structs import replace
from numpy.typing import NDArray

from farthing.compress.quantizing.recipes import Batch, Recipe, linear_nodes, quantize, read_graph
from farthing.compress.quantizing.tables import tables
from farthing.errors import ConfigError

_ERROR: Final = 3


class Sensitivity(msgspec.Struct, frozen=True):
    """What a graph's output loses when this node or table alone is quantized.

    `changed` is the share of rows whose largest column is another one, `error` the norm of the difference over the norm
    of the fp32 output.
    """

    node: str
    changed: float
    error: float


class Tried(msgspec.Struct, frozen=True):
    """A recipe with its score; `cost` was measured only where the floor is kept."""

    recipe: Recipe
    score: float
    cost: float | None = None


class Chosen(msgspec.Struct, frozen=True):
    """The recipe that was chosen, and the graph it gives as an ONNX file's content.

    `kept` says whether it keeps the floor; where none does, it is the one with the best score. `tried` are all, in
    order, and `sensitivities` what exceptions were taken by, empty where none were needed.
    """

    recipe: Recipe
    score: float
    kept: bool
    model: bytes
    tried: tuple[Tried, ...]
    sensitivities: tuple[Sensitivity, ...] = ()


def sensitivity(source: Path, recipe: Recipe, batches: Sequence[Batch]) -> list[Sensitivity]:
    """Every linear node and table by what quantizing it alone costs, the most sensitive first."""
    graph = read_graph(source)
    stored = tables(graph) if recipe.embeddings != 32 else []
    names = [*linear_nodes(graph), *stored]
    expected = _outputs(source, batches)
    found = []
    with TemporaryDirectory(prefix="farthing-") as folder:
        alone = Path(folder) / "alone.onnx"
        for name in names:
            others = tuple(other for other in names if other != name)
            quantize(source, alone, replace(recipe, exceptions=others), batches)
            outputs = _outputs(alone, batches)
            changed = float(np.mean(outputs.argmax(-1) != expected.argmax(-1)))
            scale = float(np.linalg.norm(expected)) or 1.0
            found.append(Sensitivity(name, changed, float(np.linalg.norm(outputs - expected)) / scale))
    return sorted(found, key=lambda one: (one.changed, one.error), reverse=True)


def choose(
    source: Path,
    recipes: Sequence[Recipe],
    batches: Sequence[Batch],
    score: Callable[[Path], float],
    floor: float,
    exceptions: int,
    clock_cost: Callable[[Path], float],
) -> Chosen:
    """Try recipes on an fp32 graph: the cheapest whose score is at least `floor`.

    Where none is, the most sensitive nodes of the one with the best score stay in fp32, one more at a time,
    `exceptions` at most. `score` and `clock_cost` are given the path of a quantized graph. Raises ConfigError without a
    recipe.
    """
    if not recipes:
        raise ConfigError("There is no recipe of quantization to choose from.", hint="Name at least one.")
    with TemporaryDirectory(prefix="farthing-") as folder:
        run = _Run(source, Path(folder), batches, score, floor, clock_cost)
        for recipe in recipes:
            run.attempt(recipe)
        order: tuple[Sensitivity, ...] = ()
        if not run.keeping() and exceptions:
            best = max(run.tried, key=lambda one: one.score).recipe
            order = tuple(sensitivity(source, best, batches))
            taken = best.exceptions
            for one in order[:exceptions]:
                taken = (*taken, one.node)
                run.attempt(replace(best, exceptions=taken))
                if run.keeping():
                    break
        keeping = run.keeping()
        chosen = min(keeping, key=_cost) if keeping else max(run.tried, key=lambda one: one.score)
        model = run.path(chosen).read_bytes()
        return Chosen(chosen.recipe, chosen.score, bool(keeping), model, tuple(run.tried), order)


class _Run:
    """The recipes tried so far, with the files they gave."""

    def __init__(
        self,
        source: Path,
        folder: Path,
        batches: Sequence[Batch],
        score: Callable[[Path], float],
        floor: float,
        clock_cost: Callable[[Path], float],
    ) -> None:
        self._source, self._folder, self._batches = source, folder, batches
        self._score, self._floor, self._clock_cost = score, floor, clock_cost
        self.tried: list[Tried] = []

    def attempt(self, recipe: Recipe) -> None:
        path = self._folder / f"{len(self.tried)}.onnx"
        quantize(self._source, path, recipe, self._batches)
        score = self._score(path)
        cost = self._clock_cost(path) if score >= self._floor else None
        self.tried.append(Tried(recipe, score, cost))

    def keeping(self) -> list[Tried]:
        return [one for one in self.tried if one.cost is not None]

    def path(self, tried: Tried) -> Path:
        return self._folder / f"{self.tried.index(tried)}.onnx"


def _cost(tried: Tried) -> float:
    assert tried.cost is not None
    return tried.cost


def _outputs(path: Path, batches: Sequence[Batch]) -> NDArray[np.float32]:
    """Rows of a graph's output; of a tagging graph those of tokens, without padding."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERROR
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    rows: list[NDArray[np.float32]] = []
    for batch in batches:
        found = session.run(None, batch)[0]
        rows.append(found if found.ndim == 2 else found[batch["attention_mask"].astype(bool)])
    return np.concatenate(rows)
