"""Running a decoder's job, from its file to the folder with the smaller model, its table and its card."""

import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

import msgspec
from msgspec.structs import replace

from farthing import __version__
from farthing.compress.generative.job import GenerativeJob
from farthing.compress.generative.line import MADE, Line
from farthing.compress.generative.reading import read_material
from farthing.compress.generative.record import FORMAT, GenerativeReport, card, table
from farthing.compress.progress import Progress
from farthing.compress.workspace import DONE, Workspace, hashes, require_room, seal, sync_folder, writing
from farthing.errors import ConfigError

WORK: Final = ".work"
"""What stands behind the name of the artefact's folder in that of the workspace."""

MODEL: Final = "model"
EXPORTS: Final = "exports"
REPORT: Final = "report.json"
TABLE: Final = "table.md"
CARD: Final = "model_card.md"

_PART = ".part"
_OLD = ".old"
_VERSIONS = ("torch", "transformers", "onnxruntime", "onnxruntime-genai", "gguf")


def run_generative(job: GenerativeJob, folder: Path, progress: Progress, *, anew: bool = False) -> GenerativeReport:
    """Run a job whose paths are relative to `folder`; what was finished before is kept unless it is to be done `anew`.

    Leaves `model`, `exports`, the table, a card and the report in the folder that the job names. Raises ConfigError and
    TrafficError for what is wrong with the job, the decoder or the data, Unavailable when memory or disk run out.
    """
    _refuse_others(folder / job.out)
    with Workspace(folder / f"{job.out}{WORK}", progress.note) as workspace:
        if anew:
            workspace.forget()
        material = read_material(job.data, folder, job.seed)
        for warning in material.warnings:
            progress.note(warning)
        line = Line(job, material, workspace, (folder / job.teacher.path).expanduser(), progress)
        line.run()
        final = next(place for place, row in enumerate(line.rows) if row.folder == str(line.best.folder))
        report = GenerativeReport(
            name=job.name,
            rows=tuple(line.rows),
            final=final,
            limit=job.targets.perplexity,
            texts=len(material.dev),
            machine=machine_facts(job.machine.threads),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            exports=tuple(stand.row.name for stand in line.exports),
        )
        return _published(report, line, folder / job.out)


def read_report(folder: Path) -> GenerativeReport:
    """The report of a finished job, when every file is as it was written. Raises ConfigError when one is not."""
    try:
        report = msgspec.json.decode((folder / REPORT).read_bytes(), type=GenerativeReport)
    except (OSError, msgspec.DecodeError) as error:
        raise ConfigError(f"{folder / REPORT} cannot be read: {error}", hint="Run the job again.") from None
    found = hashes(folder)
    found.pop(REPORT, None)
    wrong = sorted(name for name in found.keys() | report.files.keys() if found.get(name) != report.files.get(name))
    if wrong:
        raise ConfigError(
            f"{folder / wrong[0]} is not as it was written ({len(wrong)} of {len(report.files)} files).",
            hint="Run the job again: what the workspace holds is checked and kept.",
        )
    return report


def machine_facts(threads: int) -> dict[str, str]:
    """What was measured on, for people."""
    facts = {"processor": _processor(), "threads": str(threads), "python": platform.python_version()}
    facts["farthing"] = __version__
    for name in _VERSIONS:
        try:
            facts[name] = version(name)
        except PackageNotFoundError:
            continue
    return facts


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    flags = next((line.split() for line in lines if line.startswith("flags")), [])
    sets = [flag for flag in ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8") if flag in flags]
    return f"{named[0] if named else platform.machine()} ({', '.join(sets) or 'no AVX2'})"


def _published(report: GenerativeReport, line: Line, folder: Path) -> GenerativeReport:
    """Copy what the line ends with to the job's folder, which is there as a whole or as it was before."""
    with _replacing(folder, line) as part:
        _copied(line.best.folder, part / MODEL)
        for stand in line.exports:
            _copied(stand.folder, part / EXPORTS / stand.row.name)
        (part / TABLE).write_text(table(report), encoding="utf-8")
        (part / CARD).write_text(card(report), encoding="utf-8")
        rows = tuple(replace(row, folder=Path(row.folder).name) for row in report.rows)
        told = replace(report, rows=rows)
        seal(part, REPORT, lambda files: msgspec.json.format(msgspec.json.encode(replace(told, files=files)), indent=1))
    return read_report(folder)


@contextmanager
def _replacing(folder: Path, line: Line) -> Iterator[Path]:
    part, old = folder.with_name(f".{folder.name}{_PART}"), folder.with_name(f".{folder.name}{_OLD}")
    needed = sum(f.stat().st_size for s in (line.best, *line.exports) for f in s.folder.rglob("*") if f.is_file())
    with writing(folder):
        require_room(folder.absolute().parent, needed)
        if old.exists() and not folder.exists():
            old.rename(folder)
        shutil.rmtree(part, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
        try:
            part.mkdir()
            yield part
            if folder.exists():
                folder.rename(old)
            part.rename(folder)
            sync_folder(folder.absolute().parent)
        finally:
            shutil.rmtree(part, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _refuse_others(folder: Path) -> None:
    """Raises ConfigError when something lies at a place that no such job has written."""
    if not folder.exists():
        return
    try:
        ours = FORMAT.encode() in (folder / REPORT).read_bytes()
    except OSError:
        ours = folder.is_dir() and not any(folder.iterdir())
    if not ours:
        raise ConfigError(
            f"{folder} is there, and is nothing that such a job wrote.", hint="Give the job another `out`."
        )


def _copied(source: Path, target: Path) -> None:
    shutil.copytree(source, target, ignore=shutil.ignore_patterns(DONE, MADE))
