"""Bench: a line whose stages are made for several trials at once, by whoever does the work."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from farthing.compress.data.material import Material
from farthing.compress.job import Distil, Prune, Stage
from farthing.compress.line import Line, Stand
from farthing.compress.networks.encoder import Encoder, EncoderShape, LayerShape
from farthing.compress.networks.keeping import Kept
from farthing.compress.networks.loading import Pretrained
from farthing.compress.progress import Silence
from farthing.compress.searching.sizes import Origin
from farthing.compress.spreading import Alone, Team, learned, taught_member
from farthing.compress.stages.distil import DEFAULT_WIDTH
from farthing.compress.stages.setting import Setting
from farthing.compress.stages.teach import Ensemble
from farthing.compress.workspace import Workspace

Trained = Distil | Prune
"""A stage that trials differ in."""


class Lesson(NamedTuple):
    """A stage that has to be trained: on the stand with a key, going on at `resume` if it was interrupted."""

    stage: Trained
    before: str
    start: Pretrained
    resume: Path


class Wanted(Exception):
    """A stage was not finished before, and its lesson has to be given first."""

    def __init__(self, lesson: Lesson) -> None:
        super().__init__(lesson.before)
        self.lesson = lesson


class Bench(Line):
    """A line that also makes one stage in several sizes, which `workers` train; what two of them share is made once."""

    def __init__(self, setting: Setting, material: Material, workspace: Workspace, where: Path | None) -> None:
        """As of a line."""
        super().__init__(setting, material, workspace, where)
        self._teacher: Stand | None = None
        self._students: dict[tuple[str, Trained], tuple[Kept, float]] = {}
        self._waiting = False
        self.workers: Team = Alone()

    @property
    def workspace(self) -> Workspace:
        return self._workspace

    @property
    def start(self) -> Pretrained:
        """The model that the first stage begins with; there once the teacher is."""
        assert self._pretrained is not None
        return self._pretrained

    def teacher(self) -> Stand:
        """The teacher, which is made or read once."""
        if self._teacher is None:
            self._teacher = super().teacher()
        return self._teacher

    @property
    def encoder(self) -> Encoder | None:
        """What students are cut from; None of a teacher of another architecture."""
        model = self.start.model
        first = model.members[0] if isinstance(model, Ensemble) else model
        return first if isinstance(first, Encoder) else None

    def origin(self, stages: Sequence[Stage]) -> Origin:
        """What students are made from: the teacher, or nothing where none can be cut from it."""
        if self.encoder is not None:
            return Origin(self.encoder.shape)
        distils = [stage for stage in stages if isinstance(stage, Distil)]
        width = max([DEFAULT_WIDTH, *(stage.width for stage in distils)])
        depth = max(
            [2 * (one.layers if isinstance(one.layers, int) else len(one.layers)) for one in distils], default=1
        )
        setting = self.setting
        layers = (LayerShape(width // 32, 4 * width),) * depth
        length = setting.job.data.max_length
        shape = EncoderShape(1, length, width, width, layers, setting.outputs, output=setting.output)
        return Origin(shape, cut=False)

    def through_all(self, lines: Sequence[Sequence[Trained]]) -> list[Stand]:
        """Where each of several lines stands after all of its stages, of which all have as many."""
        stands = [self.teacher()] * len(lines)
        for number, stages in enumerate(zip(*lines, strict=True), 1):
            stands = self._wave(number, stages, stands)
        return stands

    def _wave(self, number: int, stages: Sequence[Trained], befores: Sequence[Stand]) -> list[Stand]:
        """One stage of every line."""
        teacher = self.teacher()
        places: dict[tuple[str, Trained], list[int]] = {}
        for place, (stage, before) in enumerate(zip(stages, befores, strict=True)):
            places.setdefault((before.key, stage), []).append(place)
        stands: dict[tuple[str, Trained], Stand] = {}
        lessons: list[Lesson] = []
        self._waiting = True
        try:
            for (key, stage), (place, *_) in places.items():
                try:
                    stands[key, stage] = self._made(stage, number, befores[place], teacher)
                except Wanted as wanted:
                    lessons.append(wanted.lesson)
        finally:
            self._waiting = False
        for done, student in self.workers.each(learned, self._calls(lessons)):
            lesson = lessons[done]
            which = (lesson.before, lesson.stage)
            self._students[which] = student
            stands[which] = self._made(lesson.stage, number, befores[places[which][0]], teacher)
        return [stands[before.key, stage] for stage, before in zip(stages, befores, strict=True)]

    def _calls(self, lessons: Sequence[Lesson]) -> list[tuple[Any, ...]]:
        """Lessons as arguments of `learned`."""
        if not lessons:
            return []
        setting, instructor = self.setting, self._instructed(self.teacher())
        if self.workers.away:
            # Nothing of a GPU that is here, or of a terminal, can be sent.
            setting = setting._replace(progress=Silence())
            instructor.model.cpu()
        shared = self.workers.share(setting), self.workers.share(instructor)
        starts = {lesson.before: self.workers.share(lesson.start) for lesson in lessons}
        return [(*shared, starts[lesson.before], lesson.stage, lesson.resume) for lesson in lessons]

    def _taught(self, folder: Path, scratch: Path) -> float:
        """The members of an ensemble are trained at once where there are workers elsewhere."""
        if not self.workers.away:
            return super()._taught(folder, scratch)
        setting, spent = self.workers.share(self.setting._replace(progress=Silence())), 0.0
        calls = [
            (setting, self._where, number, scratch / f"member-{number}.resume")
            for number in range(self.setting.job.teacher.members)
        ]
        for number, (state, trained) in self.workers.each(taught_member, calls):
            torch.save(state, folder / f"member-{number}.pt")
            spent += trained.cpu_s
        return spent

    def _learned(self, stage: Trained, before: Stand, teacher: Stand, scratch: Path) -> tuple[Kept, float]:
        student = self._students.pop((before.key, stage), None)
        if student is not None:
            return student
        if not self._waiting:
            return super()._learned(stage, before, teacher, scratch)
        raise Wanted(Lesson(stage, before.key, self._start(stage, before), scratch / "training"))
