"""`farthing compress init`: write a job file from examples or recorded traffic."""

from pathlib import Path
from typing import get_args

import click
import msgspec

from farthing.cli.asking import Asked, verb
from farthing.cli.compressing_needs import needing
from farthing.cli.render import answer, say
from farthing.compress.job import Data
from farthing.schema import Task


class Begun(msgspec.Struct, frozen=True):
    """What was found, and the job file that says so."""

    file: str
    examples: int
    labels: tuple[str, ...]
    max_length: int
    warnings: tuple[str, ...]


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False), default="job.toml")
@click.option(
    "--data", "examples", type=click.Path(path_type=Path), metavar="FILE", help="Examples: CSV, JSONL, Parquet."
)
@click.option("--from-traffic", "traffic", type=click.Path(path_type=Path), metavar="FILE", help="Traffic with bodies.")
@click.option("--text", default="text", show_default=True, metavar="COLUMN", help="Where the texts are in --data.")
@click.option("--label", metavar="COLUMN", help="Where the labels are in --data.  [default: label]")
@click.option("--task", type=click.Choice(get_args(Task)), default="classification", show_default=True)
@click.option("--teacher", default="", metavar="PATH", help="The model to learn from: a folder, or its name.")
@verb
def command(
    asked: Asked,
    file: Path,
    examples: Path | None,
    traffic: Path | None,
    text: str,
    label: str | None,
    task: Task,
    teacher: str,
) -> None:
    """Look at examples, and write FILE, a job with what was found and what is suggested.

    Traffic, as `farthing import` writes it, is labelled by what the large model answered. Nothing is overwritten.
    """
    source = examples or traffic
    if source is None or (examples and traffic):
        raise click.UsageError("name either --data FILE or --from-traffic FILE")
    with needing("compress"):
        from farthing.compress import beginning
    data = Data((beginning.seen_from(file.parent, source),), text=text, label=label or "label")
    if teacher and Path(teacher).is_dir():
        teacher = beginning.seen_from(file.parent, Path(teacher))
    begun = beginning.begun(data, task, file.parent, teacher, bool(traffic))
    beginning.write_job(file, beginning.job_text(begun, file.parent))
    found = begun.found
    done = Begun(str(file), len(found.examples), found.labels, beginning.max_length(begun), found.warnings)
    answer(asked, "farthing.compress.init/1", done, _in_words)
    for warning in found.warnings:
        say(asked, f"note: {warning}")
    if found.alone:
        say(asked, f"note: these classes have one example only, which a run refuses: {found.alone}")
    if not teacher:
        say(asked, f"note: without a teacher.path in {file}, the teacher learns all from these texts")


def _in_words(begun: Begun) -> str:
    labels = f", {len(begun.labels):,} labels" if begun.labels else ""
    return f"{begun.file}: {begun.examples:,} examples{labels}, cut off after {begun.max_length} tokens"
