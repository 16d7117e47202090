"""One job from its data to its artefact: the stages in their order, then measurements, the test, and the report."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from msgspec.structs import replace

from farthing import __version__
from farthing.compress.artefact import write_artefact
from farthing.compress.controls import tfidf_control
from farthing.compress.data.material import Material, read_material, with_bought_labels
from farthing.compress.data.reading import without
from farthing.compress.data.texts import augmented
from farthing.compress.evaluating import Confidence, Examined, against, calibrated, examine, quality
from farthing.compress.examples import Examples, Targets
from farthing.compress.gates import goals
from farthing.compress.job import Job
from farthing.compress.line import SERVED, Line, Stand
from farthing.compress.measuring import Measurement, machine_facts, measure_together
from farthing.compress.progress import Progress
from farthing.compress.record import Host, Report, Row, Texts, Trial, annual, encode
from farthing.compress.reporting import model_card, page
from farthing.compress.searching.bench import Bench
from farthing.compress.searching.trying import searched
from farthing.compress.stages.setting import Setting
from farthing.compress.workspace import Workspace, chained
from farthing.errors import ConfigError
from farthing.schema import Artefact
from farthing.schema.artefact import MANIFEST, MODEL, TOKENIZER

WORK: Final = ".work"
"""What stands behind the name of the artefact's folder in that of the workspace."""

NEVER: Final = 1.0
"""The threshold of a model that is not sure enough of anything."""

ANSWERS: Final = ".answers.jsonl"
"""What stands behind it in that of the file of a labeller's answers."""

MEASURED_TEXTS: Final = 400


def run(job: Job, folder: Path, progress: Progress, *, anew: bool = False, until: str = "", key: str = "") -> Report:
    """Run a job whose paths are relative to `folder`; what was finished before is kept unless it is to be done `anew`.

    `until` is the kind of the last stage to run ("teacher", "distil", "prune" or "quantize"; empty: all), `key` the
    secret that the labeller is asked with. Leaves the artefact with its card and report in the folder that the job
    names. Raises ConfigError and TrafficError for what is wrong with the job or its data, Unavailable when memory or
    disk run out, and what the labeller fails with.
    """
    began = time.monotonic(), time.process_time()
    with Workspace(folder / f"{job.out}{WORK}", progress.note) as workspace:
        if anew:
            workspace.forget()
        material = read_material(job, folder)
        for warning in material.warnings:
            progress.note(warning)
        workspace.hold_to(material.labels)
        if job.teacher.labeller is not None:
            answers = folder / f"{job.out}{ANSWERS}"  # bought, so that it outlives a run begun anew
            material = with_bought_labels(material, job.teacher.labeller, key, answers, progress)
        setting = setting_of(job, material, progress)
        where = located(job.teacher.path, folder)
        trials: tuple[Trial, ...] = ()
        if job.search is not None and until != "teacher":
            job, trials = searched(Bench(setting, material, workspace, where))
            setting = setting._replace(job=job)
        line = Line(setting, material, workspace, where)
        stands = _stands(line, job, until)
        return _Finish(job, folder, workspace, material, line, began).report(stands, trials)


def setting_of(job: Job, material: Material, progress: Progress) -> Setting:
    """What the stages work on: the pool is the training texts, others made from them, and the unlabeled ones."""
    train, unlabeled = material.train, material.unlabeled
    if len(unlabeled) and bool(train.seconds) != bool(unlabeled.seconds):
        paired, alone = ("unlabeled", "train") if unlabeled.seconds else ("train", "unlabeled")
        raise ConfigError(
            f"The texts of data.{paired} stand in pairs, those of data.{alone} stand alone.",
            hint="Give both with the column that data.second names, or both without.",
        )
    made = Examples(())
    if not train.seconds and job.task != "tagging":
        drawn = Examples(tuple(augmented(train.texts, job.data.augment, np.random.default_rng((job.seed, 7)))))
        made, _ = without(drawn, material.dev, material.test)
    more = (*made.texts, *unlabeled.texts)
    pool = Examples(
        (*train.texts, *more),
        _with_unknown(train, len(more)),
        (*train.seconds, *unlabeled.seconds) if train.seconds else (),
    )
    return Setting(job, material.labels, train, material.dev, pool, progress)


def located(path: str, folder: Path) -> Path | None:
    """The folder of a pre-trained model: a path, `package:NAME/inside`, or a name on the hub; None without a path."""
    if not path:
        return None
    if path.startswith("package:"):
        name, _, inside = path.removeprefix("package:").partition("/")
        spec = find_spec(name)
        if spec is None or not spec.submodule_search_locations:
            raise ConfigError(f"There is no package {name} to read the teacher from.", hint=f"pip install {name}")
        return Path(spec.submodule_search_locations[0]) / inside
    local = (folder / path).expanduser()
    if local.is_dir():
        return local
    if path.count("/") == 1 and not path.startswith((".", "/", "~")):
        return _downloaded(path)
    raise ConfigError(f"There is no folder {local} to read the teacher from.", hint="Set teacher.path.")


def _downloaded(name: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=["*.json", "*.safetensors", "1_Pooling/*", "*.txt"]))
    except Exception as error:  # noqa: BLE001 (whatever a download fails with, a person wants the same sentence)
        first = str(error).strip().partition("\n")[0]
        raise ConfigError(
            f"The teacher {name} is no folder here, and cannot be fetched: {first}",
            hint="Give the path of a folder, or check the name and the network.",
        ) from None


def _with_unknown(train: Examples, more: int) -> Targets:
    """The targets of the training texts, and as many unknown ones after them; of spans, those known alone."""
    targets = train.targets
    if not isinstance(targets, np.ndarray):
        return targets
    unknown = -1 if np.issubdtype(targets.dtype, np.integer) else np.nan
    return np.concatenate([targets, np.full((more, *targets.shape[1:]), unknown, targets.dtype)])


def _stands(line: Line, job: Job, until: str) -> list[Stand]:
    teacher = line.teacher()
    stands = [teacher]
    rows = [line.row(teacher, teacher)]
    before = teacher
    for number, stage in enumerate(job.stages, 1):
        if until == "teacher":
            break
        stand = line.through(stage, number, before, teacher, rows)
        stands.append(stand)
        if stand.verdict != "broke the floor":
            before = stand
        if until == stand.kind:
            break
    return stands


class _Finish:
    """What comes after the last stage: controls, measurements, the one look at the test, and the artefact."""

    def __init__(
        self, job: Job, folder: Path, workspace: Workspace, material: Material, line: Line, began: tuple[float, float]
    ) -> None:
        self._job, self._folder, self._workspace, self._material = job, folder, workspace, material
        self._line, self._setting, self._began = line, line.setting, began

    def report(self, stands: Sequence[Stand], trials: tuple[Trial, ...]) -> Report:
        """Everything about the run, after its artefact is in place."""
        job, setting, progress = self._job, self._setting, self._setting.progress
        teacher = stands[0]
        final = next(stand for stand in reversed(stands) if stand.verdict != "broke the floor")
        progress.stage("measure")
        control = self._quantized_teacher(teacher) if setting.task != "embedding" else None
        folders = [stand.folder for stand in stands] + ([control] if control else [])
        measured = measure_together(folders, self._sample(), threads=job.machine.threads, seconds=job.machine.seconds)
        confidence = calibrated(setting.task, final.examined, setting.dev, job.targets.sure)
        rows = [
            _measured(self._line.row(stand, teacher), found, job.machine.usd_per_h)
            for stand, found in zip(stands, measured, strict=False)
        ]
        controls = self._controls(control, measured[-1], teacher)
        if len(self._material.test):
            progress.stage("test")
            rows, controls = self._tested(stands, rows, controls, control)
        threshold = confidence.threshold
        facts = machine_facts()
        last = rows[[stand.name for stand in stands].index(final.name)]
        cpu_s = sum(row.train_cpu_s for row in (*rows, *controls))
        found = Report(
            job=job.name,
            task=job.task,
            rows=tuple(rows),
            host=Host(
                facts.cpu, facts.instruction_sets, facts.cores, job.machine.threads, facts.memory_mb, facts.versions
            ),
            folder=job.out,
            labels=setting.labels,
            controls=tuple(controls),
            trials=trials,
            goals=goals(job.targets, last, rows[0]),
            annual=annual(job.machine, rows[0], last),
            texts=self._texts(),
            temperature=confidence.temperature,
            threshold=threshold.value if threshold else NEVER if job.task == "classification" else 0.0,
            accepted_share=threshold.share if threshold else None,
            seed=job.seed,
            cpu_s=cpu_s,
            wall_s=time.monotonic() - self._began[0],
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            version=__version__,
        )
        self._publish(final, found, confidence)
        return found

    def _sample(self) -> list[str]:
        """Texts of the usual lengths, to measure on."""
        texts = self._setting.dev.texts
        rng = np.random.default_rng((self._job.seed, 11))
        return [texts[number] for number in rng.permutation(len(texts))[:MEASURED_TEXTS]]

    def _quantized_teacher(self, teacher: Stand) -> Path:
        """The control that does nothing but quantize: the teacher's artefact in 8 bits."""
        from farthing.compress.stages.quantize import plainly

        def make(folder: Path) -> None:
            plainly(teacher.folder / MODEL, folder / MODEL)
            tokenizer = (teacher.folder / TOKENIZER).read_bytes()
            artefact = msgspec.json.decode((teacher.folder / MANIFEST).read_bytes(), type=Artefact)
            write_artefact(folder / SERVED, {MODEL: folder / MODEL, TOKENIZER: tokenizer}, artefact)
            (folder / MODEL).unlink()

        return self._workspace.stage("teacher-quantized", chained(teacher.key, "control"), make) / SERVED

    def _controls(self, quantized: Path | None, measured: Measurement, teacher: Stand) -> list[Row]:
        setting, job = self._setting, self._job
        controls: list[Row] = []
        if setting.task == "classification":
            tfidf = tfidf_control(setting.train, setting.dev.texts, setting.labels, job.seed)
            examined = Examined(tfidf.logits)
            controls.append(
                Row(
                    "TF-IDF + logistic regression",
                    "control",
                    mb=tfidf.mb,
                    cpu_ms=tfidf.cpu_ms,
                    dev=quality(setting.task, examined, setting.dev, setting.labels, 1.0),
                    dev_against_teacher=against(setting.task, teacher.examined, examined, setting.dev, setting.labels),
                    train_cpu_s=tfidf.fit_cpu_s,
                )
            )
        if quantized is not None:
            examined = examine(quantized, setting.dev)
            row = Row(
                "teacher, only quantized",
                "control",
                parameters=teacher.figures.parameters,
                dev=quality(setting.task, examined, setting.dev, setting.labels, 1.0),
                dev_against_teacher=against(setting.task, teacher.examined, examined, setting.dev, setting.labels),
            )
            controls.append(_measured(row, measured, job.machine.usd_per_h))
        return controls

    def _tested(
        self,
        stands: Sequence[Stand],
        rows: Sequence[Row],
        controls: Sequence[Row],
        quantized: Path | None,
    ) -> tuple[list[Row], list[Row]]:
        """The rows with what they come to on the test texts, which nothing before has looked at."""
        setting, test, outside = self._setting, self._material.test, self._material.outside
        asked = {stand.name: examine(stand.folder, test, outside, seed=self._job.seed) for stand in stands}
        if quantized is not None:
            asked["teacher, only quantized"] = examine(quantized, test, outside, seed=self._job.seed)
        if any(row.name.startswith("TF-IDF") for row in controls):
            found = tfidf_control(setting.train, test.texts, setting.labels, self._job.seed)
            asked["TF-IDF + logistic regression"] = Examined(found.logits)
        if setting.task == "embedding":
            wanted = np.asarray(asked["teacher"].outputs, np.float32)
            test = replace(test, targets=wanted)
        teacher = asked["teacher"]
        # Each by its own temperature, fitted on the held-out texts: what is compared is how well each can know.
        temperatures = {
            stand.name: calibrated(setting.task, stand.examined, setting.dev, self._job.targets.sure).temperature
            for stand in stands
        }

        def tested(row: Row) -> Row:
            examined = asked[row.name]
            return replace(
                row,
                test=quality(setting.task, examined, test, setting.labels, temperatures.get(row.name, 1.0)),
                test_against_teacher=None
                if row.kind == "teacher"
                else against(setting.task, teacher, examined, test, setting.labels),
            )

        return [tested(row) for row in rows], [tested(row) for row in controls]

    def _texts(self) -> Texts:
        material, setting = self._material, self._setting
        return Texts(
            train=len(material.train),
            dev=len(material.dev),
            test=len(material.test),
            unlabeled=len(material.unlabeled),
            augmented=len(setting.pool) - len(material.train) - len(material.unlabeled),
            outside=len(material.outside),
            files=self._files(),
        )

    def _files(self) -> dict[str, str]:
        """The SHA-256 of the files that the texts are from, by their names in the job."""
        data = self._job.data
        names = (*data.train, *data.dev, *data.test, *data.unlabeled, *data.outside)
        return {name: sha256((self._folder / name).read_bytes()).hexdigest() for name in names}

    def _publish(self, final: Stand, found: Report, confidence: Confidence) -> None:
        """Put the artefact with its card and report in place, whole."""
        job = self._job
        manifest = msgspec.json.decode((final.folder / MANIFEST).read_bytes(), type=Artefact)
        artefact = replace(
            manifest,
            temperature=confidence.temperature,
            threshold=found.threshold,
            created=found.created,
            facts=manifest.facts | {"cpu": found.host.cpu, "farthing": found.version, **found.host.versions},
        )
        files: dict[str, Path | bytes] = {
            MODEL: final.folder / MODEL,
            TOKENIZER: final.folder / TOKENIZER,
            "model_card.md": model_card(found, job).encode(),
            "report.json": encode(found),
            "report.html": page(found).encode(),
        }
        write_artefact(self._folder / job.out, files, artefact)


def _measured(row: Row, found: Measurement, usd_per_h: float) -> Row:
    return replace(
        row,
        parameters=row.parameters or found.parameters,
        mb=found.mb,
        cpu_ms=found.cpu_ms_p50,
        cpu_p95_ms=found.cpu_ms_p95,
        wall_ms=found.wall_ms_p50,
        texts_per_cpu_s=found.texts_per_cpu_s,
        texts_per_s_all_threads=found.texts_per_s_all_threads,
        tokens_per_s=found.tokens_per_s,
        peak_rss_mb=found.peak_rss_mb,
        joules=found.joules_per_1k / 1000 if found.joules_per_1k is not None else None,
        usd_per_1k=found.usd_per_1k(usd_per_h),
    )
