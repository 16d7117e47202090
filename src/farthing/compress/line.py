"""The line of a job: the teacher and one stage after the other, each kept on disk with its artefact, each gated."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import numpy as np
import torch
from torch import nn

from farthing.compress.answering import main_metric, tag_names
from farthing.compress.artefact import write_artefact
from farthing.compress.data.material import Material
from farthing.compress.evaluating import Examined, against, examine, quality
from farthing.compress.exporting import export_onnx
from farthing.compress.gates import Breach, gentler, judge
from farthing.compress.job import Distil, Prune, Quantize, Stage
from farthing.compress.networks.encoder import Encoder, EncoderShape, parameters
from farthing.compress.networks.keeping import Kept, load_encoder, save_encoder
from farthing.compress.networks.loading import Pretrained
from farthing.compress.record import Kind, Row, Verdict
from farthing.compress.spreading import learned
from farthing.compress.stages.distil import cut_off
from farthing.compress.stages.learning import Instructor
from farthing.compress.stages.quantize import Before, quantized
from farthing.compress.stages.setting import Setting
from farthing.compress.stages.teach import Ensemble, load_teacher, teach
from farthing.compress.training.batches import encoded
from farthing.compress.training.corpus import Taught, taught
from farthing.compress.workspace import Workspace, chained
from farthing.errors import ConfigError
from farthing.schema import Artefact
from farthing.schema.artefact import MODEL, TOKENIZER

BACK_OFFS: Final = 3
"""How often a stage that breaks the floor is tried again, gentler each time."""

SERVED: Final = "served"
FIGURES: Final = "figures.json"


class Figures(msgspec.Struct, frozen=True):
    """What making a stage took, and how large the model is by then."""

    parameters: int
    cpu_s: float
    note: str = ""


class Stand(NamedTuple):
    """Where the line stands after a stage: its model (none once it is quantized), its artefact and its key."""

    name: str
    kind: Kind
    folder: Path
    kept: Kept | None
    key: str
    figures: Figures
    examined: Examined
    verdict: Verdict = ""
    note: str = ""


class Line:
    """All stages of a job over one workspace."""

    def __init__(self, setting: Setting, material: Material, workspace: Workspace, where: Path | None) -> None:
        """`where` is the folder of the pre-trained model that the teacher is made of, if it is made of one."""
        self._setting, self._material, self._workspace, self._where = setting, material, workspace, where
        self._instructor: Instructor | None = None
        self._pretrained: Pretrained | None = None

    def teacher(self) -> Stand:
        """The teacher, fine-tuned unless it is finished."""
        setting, chosen = self._setting, self._setting.job.teacher
        setting.progress.stage("teacher")
        key = chained(
            "", chosen, self._material.digest, setting.job.seed, setting.job.data.max_length, fingerprint(self._where)
        )

        def make(folder: Path) -> None:
            cpu_s = 0.0
            if not chosen.finished:
                scratch = self._workspace.scratch("teacher", key)
                cpu_s = self._taught(folder, scratch)
            pretrained = load_teacher(setting, self._where, None if chosen.finished else folder)
            self._serve(folder, pretrained.model, pretrained)
            _write(folder, Figures(parameters(pretrained.model), cpu_s))

        folder = self._workspace.stage("teacher", key, make)
        pretrained = load_teacher(setting, self._where, None if chosen.finished else folder)
        pretrained.model.eval()
        self._pretrained = pretrained
        if setting.task == "embedding":
            self._setting = setting = self._with_wanted(folder)
        kept = None
        if isinstance(pretrained.model, Encoder):
            kept = Kept(pretrained.model, pretrained.tokenizer, pretrained.padding)
        return Stand("teacher", "teacher", folder / SERVED, kept, key, _read(folder), self._examined(folder))

    def through(self, stage: Stage, number: int, before: Stand, teacher: Stand, rows: Sequence[Row]) -> Stand:
        """The line after one more stage, which is made gentler until the floor holds, or else left out."""
        tried, softened = stage, 0
        while True:
            stand = self._made(tried, number, before, teacher)
            breaches = self.breaches(stand, rows[0], teacher)
            if not breaches:
                return stand._replace(verdict="backed off" if softened else "kept")
            self._setting.progress.note(f"{stand.name}: {breaches[0].says}.")
            shape = self._shape(before)
            softer = gentler(tried, shape) if shape is not None and softened < BACK_OFFS else None
            if softer is None:
                return stand._replace(verdict="broke the floor", note=breaches[0].says)
            tried, softened = softer, softened + 1
            self._setting.progress.note(f"{stand.name} is tried again, gentler.")

    def breaches(self, stand: Stand, teacher_row: Row, teacher: Stand) -> list[Breach]:
        """What of the floor a stand breaks on the held-out texts."""
        row = self.row(stand, teacher)
        return [breach for breach in judge(self._setting.job.targets, row, teacher_row) if breach.floor]

    def row(self, stand: Stand, teacher: Stand) -> Row:
        """A stand as a row of the report, before it is measured."""
        setting = self._setting
        return Row(
            stand.name,
            stand.kind,
            parameters=stand.figures.parameters,
            dev=quality(setting.task, stand.examined, setting.dev, setting.labels, 1.0),
            dev_against_teacher=None
            if stand.kind == "teacher"
            else against(setting.task, teacher.examined, stand.examined, setting.dev, setting.labels),
            train_cpu_s=stand.figures.cpu_s,
            verdict=stand.verdict,
            note=stand.note or stand.figures.note,
        )

    @property
    def setting(self) -> Setting:
        return self._setting

    def _made(self, stage: Stage, number: int, before: Stand, teacher: Stand) -> Stand:
        name = f"{number}-{kind_of(stage)}"
        self._setting.progress.stage(name)
        floor = self._value(teacher) - self._setting.job.targets.lost
        # The floor decides between recipes of quantization, within the stage.
        within = (floor,) if isinstance(stage, Quantize) else ()
        key = chained(before.key, stage, self._setting.job.data.augment, number, *within)

        def make(folder: Path) -> None:
            scratch = self._workspace.scratch(name, key)
            if isinstance(stage, Quantize):
                model = Before(before.folder, before.kept)
                done = quantized(self._setting, stage, model, lambda: self._instructed(teacher), floor, scratch)
                self._seal(folder, scratch / MODEL, before.folder, done.note)
                _write(folder, Figures(before.figures.parameters, done.cpu_s, done.note))
                return
            student, trained = self._learned(stage, before, teacher, scratch)
            save_encoder(folder, student)
            self._serve(folder, student.encoder, Pretrained(student.encoder, student.tokenizer, student.padding))
            _write(folder, Figures(parameters(student.encoder), trained))

        folder = self._workspace.stage(name, key, make)
        kept = None if isinstance(stage, Quantize) else load_encoder(folder)
        return Stand(name, kind_of(stage), folder / SERVED, kept, key, _read(folder), self._examined(folder))

    def _taught(self, folder: Path, scratch: Path) -> float:
        """Leave the weights of the fine-tuned teacher in a folder; the seconds of CPU they took."""
        return sum(trained.cpu_s for trained in teach(self._setting, self._where, folder, scratch))

    def _learned(self, stage: Distil | Prune, before: Stand, teacher: Stand, scratch: Path) -> tuple[Kept, float]:
        start = self._start(stage, before)
        return learned(self._setting, self._instructed(teacher), start, stage, scratch / "training")

    def _start(self, stage: Distil | Prune, before: Stand) -> Pretrained:
        """The model that a stage begins with."""
        if before.kept is not None:
            return Pretrained(*before.kept)
        if isinstance(stage, Prune):
            raise ConfigError(
                "There is no student to prune, and a teacher of another architecture, or an ensemble, cannot be.",
                hint="Put a distil stage that keeps the floor before the prune stage.",
            )
        assert self._pretrained is not None
        return self._pretrained

    def _instructed(self, teacher: Stand) -> Instructor:
        """The teacher with all that it says of the pool, which is kept."""
        if self._instructor is None:
            assert self._pretrained is not None
            model, tokenizer, padding = self._pretrained
            setting = self._setting
            texts = encoded(tokenizer, padding, setting.pool)
            key = chained(teacher.key, setting.job.data.augment, setting.job.data.unlabeled)

            def make(folder: Path) -> None:
                setting.progress.stage("pool")
                _save_taught(folder, taught(model, texts, setting.progress.step))

            self._instructor = Instructor(model, texts, _load_taught(self._workspace.stage("pool", key, make)))
        return self._instructor

    def _serve(self, folder: Path, model: nn.Module, pretrained: Pretrained) -> None:
        """Export a model and lay it down as an artefact in the stage's folder."""
        setting = self._setting
        plain = folder / MODEL
        tokenizer = cut_off(pretrained.tokenizer, setting.job.data.max_length)
        export_onnx(
            model.cpu().eval(),
            plain,
            output="embedding" if setting.task == "embedding" else "logits",
            vocabulary=tokenizer.get_vocab_size(with_added_tokens=True),
        )
        write_artefact(folder / SERVED, {MODEL: plain, TOKENIZER: tokenizer.to_str().encode()}, self._artefact())
        plain.unlink()

    def _seal(self, folder: Path, graph: Path, before: Path, note: str) -> None:
        """The artefact of a quantized model, with the tokenizer of the one before."""
        files: dict[str, Path | bytes] = {MODEL: graph, TOKENIZER: before / TOKENIZER}
        write_artefact(folder / SERVED, files, msgspec.structs.replace(self._artefact(), facts={"quantized": note}))

    def _value(self, stand: Stand) -> float:
        """The main metric on the held-out texts, in percent."""
        return main_metric(self._setting.task, stand.examined.outputs, self._setting.dev.targets)

    def _artefact(self) -> Artefact:
        setting = self._setting
        labels = tag_names(setting.labels) if setting.task == "tagging" else setting.labels
        return Artefact(setting.job.name, setting.task, labels, setting.job.data.max_length, {})

    def _examined(self, folder: Path) -> Examined:
        return examine(folder / SERVED, self._setting.dev)

    def _with_wanted(self, folder: Path) -> Setting:
        """The setting with the teacher's own embeddings as what is wanted of held-out texts."""
        dev = self._setting.dev
        wanted = np.asarray(examine(folder / SERVED, dev).outputs, np.float32)
        return self._setting._replace(dev=msgspec.structs.replace(dev, targets=wanted))

    def _shape(self, before: Stand) -> EncoderShape | None:
        if before.kept is not None:
            return before.kept.encoder.shape
        assert self._pretrained is not None
        model = self._pretrained.model
        first = model.members[0] if isinstance(model, Ensemble) else model
        return first.shape if isinstance(first, Encoder) else None


def kind_of(stage: Stage) -> Kind:
    """What a stage is called."""
    match stage:
        case Distil():
            return "distil"
        case Prune():
            return "prune"
        case Quantize():
            return "quantize"


def fingerprint(folder: Path | None) -> list[tuple[str, int]]:
    """What tells one pre-trained model from another: the names and sizes of its files."""
    if folder is None:
        return []
    return sorted((path.name, path.stat().st_size) for path in folder.iterdir() if path.is_file())


def _write(folder: Path, figures: Figures) -> None:
    (folder / FIGURES).write_bytes(msgspec.json.encode(figures))


def _read(folder: Path) -> Figures:
    return msgspec.json.decode((folder / FIGURES).read_bytes(), type=Figures)


def _save_taught(folder: Path, found: Taught) -> None:
    torch.save(
        {"outputs": [torch.from_numpy(one) for one in found.outputs], "pooled": torch.from_numpy(found.pooled)},
        folder / "taught.pt",
    )


def _load_taught(folder: Path) -> Taught:
    found = torch.load(folder / "taught.pt", weights_only=True)
    return Taught([one.numpy() for one in found["outputs"]], found["pooled"].numpy())
