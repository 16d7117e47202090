"""Timing: what sizes take once they are served, found out with random weights before any of them is trained."""

import time
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

import msgspec
import torch
from tokenizers import Tokenizer

from farthing.compress.artefact import write_artefact
from farthing.compress.exporting import export_onnx
from farthing.compress.gates import judge
from farthing.compress.job import Distil, Machine, Prune, Quantize, Stage, Targets
from farthing.compress.measuring.machine import cores
from farthing.compress.networks.encoder import Encoder, EncoderShape
from farthing.compress.networks.vocabulary import counted, trimmed
from farthing.compress.quantizing import Recipe, quantize, recipe_of
from farthing.compress.record import Row
from farthing.compress.searching.halving import Cost
from farthing.compress.searching.sizes import Origin, Size, shape_of
from farthing.compress.stages.distil import cut_off
from farthing.compress.stages.setting import Setting
from farthing.engines.artefacts import read_manifest
from farthing.engines.onnx import Model
from farthing.schema import Artefact
from farthing.schema.artefact import MODEL, TOKENIZER

TEXTS: Final = 192
"""Texts that sizes are timed on; the final model is measured for longer, in a process of its own."""

WARM_UP: Final = 8
BATCH: Final = 32

COSTS: Final = "costs.json"


class Costs(msgspec.Struct, frozen=True):
    """What the teacher takes, and each of some sizes in their order."""

    teacher: Cost
    sizes: tuple[Cost, ...]


class Reader(NamedTuple):
    """How students read texts: a tokenizer, the number of pieces that are embedded, and of positions."""

    tokenizer: Tokenizer
    pieces: int
    positions: int

    @property
    def digest(self) -> str:
        """What tells one from another."""
        return sha256(self.tokenizer.to_str().encode()).hexdigest() + f"-{self.pieces}-{self.positions}"


def recipe(stages: Sequence[Stage]) -> Recipe | None:
    """How sizes are quantized before they are timed; None where the stages do not quantize."""
    last = stages[-1]
    return recipe_of("dynamic", last.embeddings) if isinstance(last, Quantize) else None


def reader_of(setting: Setting, stages: Sequence[Stage], tokenizer: Tokenizer, shape: EncoderShape | None) -> Reader:
    """What stages leave of the teacher's vocabulary and length of texts; `shape` is of what students are cut from."""
    tokenizer = Tokenizer.from_str(tokenizer.to_str())
    pieces = shape.vocabulary if shape else tokenizer.get_vocab_size(with_added_tokens=True)
    length = setting.job.data.max_length
    positions = shape.positions if shape else length
    for stage in stages:
        if isinstance(stage, Distil):
            positions = min(positions, length)
        if isinstance(stage, Distil | Prune) and stage.vocabulary:
            if isinstance(stage, Prune) and stage.vocabulary >= pieces:
                continue
            seen = stage.seen if isinstance(stage, Distil) else 1
            counts = counted(tokenizer, (*setting.pool.texts, *setting.pool.seconds))
            tokenizer, order = trimmed(tokenizer, counts, stage.vocabulary, seen)
            pieces = len(order)
    return Reader(cut_off(tokenizer, length), pieces, positions)


def timed(
    setting: Setting, sizes: Sequence[Size], origin: Origin, reader: Reader, teacher: Path, folder: Path
) -> Costs:
    """Measure the artefact of the teacher, and of every size one with random weights that is made in a folder."""
    torch.manual_seed(setting.job.seed)
    artefact = read_manifest(teacher)
    folders = [teacher, *_made(setting, sizes, origin, reader, artefact, folder)]
    machine, texts = setting.job.machine, _sample(setting)
    alone = _alone([Model.load(place, machine.threads or cores()) for place in folders], texts)
    usd = _usd_per_1k(folders, texts, machine) if setting.job.targets.usd_per_1k else [None for _ in folders]
    found = [Cost(_mb(place), cpu_ms, each) for place, cpu_ms, each in zip(folders, alone, usd, strict=True)]
    return Costs(found[0], tuple(found[1:]))


def within(costs: Costs, targets: Targets) -> list[int]:
    """The numbers of the sizes that meet the targets of size, time and cost, from the one most like the first on."""
    fitting = [number for number, cost in enumerate(costs.sizes) if not missed(cost, costs.teacher, targets)]
    asked = costs.sizes[0]

    def apart(number: int) -> float:
        cost = costs.sizes[number]
        ratios = (cost.mb / asked.mb, cost.cpu_ms / asked.cpu_ms)
        return max(max(ratio, 1 / ratio) for ratio in ratios)

    return sorted(fitting, key=apart)


def missed(cost: Cost, teacher: Cost, targets: Targets) -> list[str]:
    """What targets a size misses, in sentences."""
    return [breach.says for breach in judge(targets, _row(cost), _row(teacher))]


def _row(cost: Cost) -> Row:
    return Row("", "distil", mb=cost.mb, cpu_ms=cost.cpu_ms, usd_per_1k=cost.usd_per_1k)


def _sample(setting: Setting) -> list[str]:
    """Texts of the usual lengths, some of them several times where there are few."""
    texts = setting.dev.texts
    order = setting.dice(19).permutation(len(texts))
    return [texts[order[number % len(texts)]] for number in range(TEXTS)]


def _made(
    setting: Setting, sizes: Sequence[Size], origin: Origin, reader: Reader, artefact: Artefact, folder: Path
) -> Iterator[Path]:
    """Artefacts with random weights, quantized if those of the job are to be."""
    way = recipe(setting.job.stages)
    for number, size in enumerate(sizes):
        place = folder / f"size-{number}"
        graph, plain = folder / "graph.onnx", folder / "plain.onnx"
        encoder = Encoder(shape_of(size, origin, reader.pieces, reader.positions)).eval()
        output = "embedding" if setting.task == "embedding" else "logits"
        export_onnx(encoder, plain, output=output, vocabulary=reader.tokenizer.get_vocab_size(with_added_tokens=True))
        if way is None:
            plain.replace(graph)
        else:
            quantize(plain, graph, way)
            plain.unlink()
        write_artefact(place, {MODEL: graph, TOKENIZER: reader.tokenizer.to_str().encode()}, artefact)
        graph.unlink()
        yield place


def _alone(models: Sequence[Model], texts: Sequence[str]) -> list[float]:
    """The median ms of CPU that each model takes for one text, all of them in turns."""
    took: list[list[float]] = [[] for _ in models]
    ids = [model.encode(texts) for model in models]
    for number in range(-WARM_UP, len(texts)):
        for place, model in enumerate(models):
            began = time.process_time()
            model.run([ids[place][number]])
            if number >= 0:
                took[place].append(time.process_time() - began)
    return [1000 * median(some) for some in took]


def _usd_per_1k(folders: Sequence[Path], texts: Sequence[str], machine: Machine) -> list[float]:
    """What 1,000 texts cost with each model, in batches on all cores, all of them in turns."""
    models = [Model.load(place, cores()) for place in folders]
    took: list[list[float]] = [[] for _ in models]
    for start in range(0, len(texts), BATCH):
        for place, model in enumerate(models):
            ids = model.encode(texts[start : start + BATCH])
            began = time.perf_counter()
            model.run(ids)
            took[place].append((time.perf_counter() - began) / len(ids))
    return [1000 * machine.usd_per_h / 3600 * median(some) for some in took]


def _mb(folder: Path) -> float:
    return sum((folder / name).stat().st_size for name in (MODEL, TOKENIZER)) / 1e6
