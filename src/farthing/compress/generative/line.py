"""The line of a decoder's stages: each is made, measured and judged, and made gentler when it loses too much."""

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

import msgspec
import numpy as np
from msgspec.structs import replace

from farthing.compress.generative import decoders, distilling, scoring, shrinking, weights
from farthing.compress.generative.gguf_file import write_gguf
from farthing.compress.generative.job import Export, GenerativeJob, Relearn, Shrink, Stage, Weights
from farthing.compress.generative.reading import Material
from farthing.compress.generative.recipes import write_recipe
from farthing.compress.generative.record import Row
from farthing.compress.generative.tokens import Words, settings, words_of
from farthing.compress.progress import Progress
from farthing.compress.training.batches import Batch, Encoded, batch, in_order
from farthing.compress.training.loop import device
from farthing.compress.workspace import DONE, Workspace, chained, hashes
from farthing.errors import ConfigError

MADE = "made.json"
FIGURES = "figures.json"
_SCORED_WHILE_TRAINING = 200
_SMALLER = 16
"""Sequences that are measured at once."""

Unit = tuple[Stage, ...]
"""Stages that are judged together: what was cut is judged after what follows it has been learned again."""


class Made(msgspec.Struct, frozen=True):
    """What is kept with a stage's model: CPU seconds of training, and what a person should know."""

    cpu_s: float = 0.0
    note: str = ""

    def write(self, folder: Path) -> None:
        (folder / MADE).write_bytes(msgspec.json.encode(self))

    @classmethod
    def of(cls, folder: Path) -> "Made":
        """What lies in a folder; nothing where there is nothing."""
        file = folder / MADE
        return msgspec.json.decode(file.read_bytes(), type=cls) if file.is_file() else cls()


class Stand(msgspec.Struct, frozen=True):
    """A finished stage: its folder, the key of everything before it, and its row of the table."""

    folder: Path
    key: str
    row: Row


class Line:
    """One run: what all stages share, and the rows so far."""

    def __init__(self, job: GenerativeJob, material: Material, workspace: Workspace, source: Path, progress: Progress):
        self.job, self.material, self.workspace, self.progress = job, material, workspace, progress
        self.source = source
        decoders.refuse_unknown(source)
        self.words: Words = words_of(source)
        self.rows: list[Row] = []
        self.exports: list[Stand] = []
        self.exam = source
        self.teacher = self._teacher()
        self.dense, self.best = self.teacher, self.teacher

    def run(self) -> None:
        """Go through the stages; `best` is the last that kept to the limits, `dense` the last that is not quantized."""
        for unit in units(self.job.stages):
            self.progress.stage(", ".join(kind(stage) for stage in unit))
            if isinstance(unit[0], Export):
                self._export(unit[0])
                continue
            kept = self._tried(unit)
            if kept is not None:
                self.best = kept
                self.dense = self.dense if isinstance(unit[-1], Weights) else kept

    def _tried(self, unit: Unit) -> Stand | None:
        """The first that keeps to the limits of a unit and what is gentler than it; None when none does."""
        now: Unit | None = unit
        while now is not None:
            stand = self._made(now)
            lost = self._lost(stand.row)
            softer = gentler(now, int(settings(self.dense.folder).get("num_key_value_heads", 0))) if lost else None
            verdict = "kept" if not lost else "passed over" if softer else "given up"
            self.rows.append(replace(stand.row, verdict=verdict, note=" ".join(filter(None, [stand.row.note, lost]))))
            if not lost:
                return stand
            self.progress.note(f"{stand.row.name}: {lost}")
            now = softer
        return None

    def _made(self, unit: Unit) -> Stand:
        stand, cpu_s, notes = self.dense, 0.0, []
        for stage in unit:
            key = chained(stand.key, stage, self.job.seed, self.job.data)
            make = self._maker(stage, stand.folder, key)
            folder = self.workspace.stage(kind(stage), key, make)
            name = wording(stage) if stand is self.dense else f"{stand.row.name}, {wording(stage)}"
            stand = Stand(folder, key, Row(name, "", str(folder)))
            made = Made.of(folder)
            cpu_s += made.cpu_s
            notes += [made.note] if made.note else []
        return self._measured(stand, cpu_s, " ".join(notes))

    def _maker(self, stage: Stage, before: Path, key: str) -> Callable[[Path], None]:
        def make(folder: Path) -> None:
            match stage:
                case Shrink():
                    self._shrink(stage, before, folder)
                case Relearn():
                    self._relearn(stage, before, folder, self.workspace.scratch("distil", key))
                case Weights():
                    weights.build_onnx(before, folder, stage)
                case Export():
                    raise AssertionError("exports are written apart")

        return make

    def _shrink(self, stage: Shrink, before: Path, folder: Path) -> None:
        model = decoders.load_decoder(before).to(device())
        shrunk = shrinking.shrink(model, stage, self._batches(stage.calibration))
        decoders.save_decoder(shrunk.model.cpu(), before, folder)
        dropped = f"layers {', '.join(map(str, shrunk.dropped))} left out; " if shrunk.dropped else ""
        Made(note=f"{dropped}{shrunk.before:,} parameters became {shrunk.after:,}.").write(folder)

    def _relearn(self, stage: Relearn, before: Path, folder: Path, scratch: Path) -> None:
        teacher, student = decoders.load_decoder(self.source), decoders.load_decoder(before)
        course = distilling.Course(
            self._encoded(self.material.train),
            self._encoded(self.material.dev[:_SCORED_WHILE_TRAINING]),
            self.job.seed,
        )
        trained = distilling.distil(student, teacher, course, stage, self.progress, scratch / "resume.pt")
        decoders.save_decoder(student, before, folder)
        Made(trained.cpu_s, f"distilled for {trained.cpu_s:.0f} CPU-s; epoch {trained.epoch} was best.").write(folder)

    def _export(self, stage: Export) -> None:
        """Write the dense model for another server; a GGUF file is measured where llama.cpp is installed."""
        server, _, form = stage.to.partition("-")
        key = chained(self.dense.key, stage, self.job.data)

        def make(folder: Path) -> None:
            if server == "gguf":
                off = write_gguf(self.dense.folder, folder, form)
                Made(note=f"read again, its weights are off by {100 * off:.2f} % (root mean square).").write(folder)
            else:
                write_recipe(self.dense.folder, folder, form, self.material.train[:512], self.job.data.length)

        folder = self.workspace.stage(f"export-{stage.to}", key, make)
        note = Made.of(folder).note
        row = Row(stage.to, "written", str(folder), self.dense.row.parameters, megabytes(folder), note=note)
        stand = Stand(folder, key, row)
        if server == "gguf" and find_spec("llama_cpp"):
            stand = self._measured(stand, 0.0, note)
            if lost := self._lost(stand.row):
                self.progress.note(f"{stage.to}: {lost}")
        self.rows.append(replace(stand.row, verdict="written"))
        self.exports.append(stand)

    def _teacher(self) -> Stand:
        key = chained("", hashes(self.source), self.job.data, self.material, self.job.seed)
        self.exam = self.workspace.stage("exam", chained(key, self.job.machine), self._set_exam)
        row = Row("teacher", "kept", str(self.source), decoders.parameters_in(self.source), megabytes(self.source))
        figures = msgspec.json.decode((self.exam / FIGURES).read_bytes(), type=scoring.Figures)
        row = replace(row, figures=figures, ratio=self._ratio(figures, figures))
        self.rows.append(row)
        return Stand(self.source, key, row)

    def _set_exam(self, folder: Path) -> None:
        length, positions = self.job.data.length, int(settings(self.source).get("max_position_embeddings", 2048))
        if length > positions:
            raise ConfigError(
                f"data.length is {length:,} tokens, and the decoder reads {positions:,}.", hint="Lower data.length."
            )
        texts = self.words.sequences(self.material.dev, length)
        scoring.set_exam(folder, texts, self.material.checks, positions, self.words)
        figures = scoring.measure(self.source, folder, self.job.machine.threads)
        (folder / FIGURES).write_bytes(msgspec.json.encode(figures))

    def _measured(self, stand: Stand, cpu_s: float, note: str) -> Stand:
        """With figures, taken once for each folder and kept in the workspace."""

        def make(folder: Path) -> None:
            figures = scoring.measure(stand.folder, self.exam, self.job.machine.threads)
            (folder / FIGURES).write_bytes(msgspec.json.encode(figures))

        key = chained(stand.key, str(stand.folder.name), self.job.machine)
        kept = self.workspace.stage("measure", key, make)
        figures = msgspec.json.decode((kept / FIGURES).read_bytes(), type=scoring.Figures)
        ratio = self._ratio(figures, self.teacher.row.figures or figures)
        row = replace(
            stand.row,
            parameters=decoders.parameters_in(stand.folder) or self.dense.row.parameters,
            mb=megabytes(stand.folder),
            figures=figures,
            ratio=ratio,
            train_cpu_s=cpu_s,
            note=note,
        )
        return replace(stand, row=row)

    def _ratio(self, figures: scoring.Figures, teacher: scoring.Figures) -> scoring.Ratio:
        return scoring.compared(figures, teacher, np.random.default_rng(self.job.seed))

    def _lost(self, row: Row) -> str:
        """Which limit a row breaks, in a sentence; empty when it keeps to them."""
        limits = self.job.targets
        if row.ratio is not None and row.ratio.times_high > limits.perplexity:
            return (
                f"perplexity is {row.ratio.times:.3f} times the teacher's, with 95 % confidence no more than "
                f"{row.ratio.times_high:.3f}; the limit is {limits.perplexity:g}."
            )
        now, before = row.right, self.teacher.row.right
        if now is not None and before is not None and 100 * (before - now) > limits.lost:
            return f"exact match lost {100 * (before - now):.1f} points; the limit is {limits.lost:g}."
        return ""

    def _encoded(self, texts: Sequence[str]) -> Encoded:
        return Encoded(self.words.sequences(texts, self.job.data.length), self.words.padding, [])

    def _batches(self, count: int) -> list[Batch]:
        texts = self._encoded(self.material.train[:count])
        return [batch(texts, rows, device()) for rows in in_order(texts, _SMALLER)]


def units(stages: Sequence[Stage]) -> list[Unit]:
    """Stages in order, what is cut together with the learning that follows it.

    >>> [len(unit) for unit in units((Shrink(layers=1), Relearn(), Weights(), Export()))]
    [2, 1, 1]
    """
    found: list[Unit] = []
    for stage in stages:
        if isinstance(stage, Relearn) and found and isinstance(found[-1][-1], Shrink):
            found[-1] = (*found[-1], stage)
        else:
            found.append((stage,))
    return found


def gentler(unit: Unit, kv_heads: int) -> Unit | None:
    """What to try when a unit lost too much: less cut, or more bits; None when there is nothing gentler."""
    first = unit[0]
    if isinstance(first, Shrink):
        less = shrinking.gentler(first, kv_heads)
        return None if less is None else (less, *unit[1:])
    if isinstance(first, Weights) and first.bits == 4:
        return (replace(first, bits=8),)
    if isinstance(first, Weights) and first.bits == 8 and first.activations == 8:
        return (replace(first, activations=32),)
    return None


def kind(stage: Stage) -> str:
    """A stage's kind, as the job file says it."""
    return str(stage.__struct_config__.tag)


def wording(stage: Stage) -> str:
    """A stage in a few words."""
    match stage:
        case Shrink():
            parts = [f"{stage.layers} layer{'s' * (stage.layers > 1)} out"] if stage.layers else []
            parts += [f"{100 * stage.ffn:.0f} % of channels"] if stage.ffn < 1 else []
            parts += [f"{stage.kv_heads} key-value heads"] if stage.kv_heads else []
            return "shrunk: " + " and ".join(parts)
        case Relearn():
            return "distilled"
        case Weights() if stage.bits == 32:
            return "ONNX, float32"
        case Weights():
            kind = "" if stage.symmetric else ", asymmetric"
            return f"ONNX, int{stage.bits} in blocks of {stage.block}{kind}"
        case Export():
            return stage.to


def megabytes(folder: Path) -> float:
    """What a folder's files take, in MB; what the workspace adds is left out."""
    own = {DONE, MADE}
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file() and file.name not in own) / 1e6
