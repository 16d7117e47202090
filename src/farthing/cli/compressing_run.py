"""`farthing compress run`: from a job file to an artefact and a report on it."""

from difflib import get_close_matches
from pathlib import Path
from typing import Literal

import click
from msgspec.structs import replace

from farthing.cli.asking import Asked, verb
from farthing.cli.compressing_decoder import is_generative, run_decoder
from farthing.cli.compressing_jobs import text_of
from farthing.cli.compressing_needs import needing
from farthing.cli.compressing_progress import following
from farthing.cli.compressing_tables import in_words
from farthing.cli.render import answer
from farthing.compress.job import Job
from farthing.compress.parsing import parse_job


@click.command()
@click.argument("file", metavar="JOB", type=click.Path(path_type=Path))
@click.option("--anew", is_flag=True, help="Begin from nothing instead of going on with what was finished before.")
@click.option("--until", default="", metavar="STAGE", help="Stop after this stage, such as teacher or distil.")
@click.option("--engine", type=click.Choice(["local", "ray"]), help="Where a search runs, instead of what JOB says.")
@verb
def command(asked: Asked, file: Path, anew: bool, until: str, engine: Literal["local", "ray"] | None) -> None:
    """Run JOB: teach, distil, prune and quantize, with a gate after each stage, and measure what came of it.

    A run that was stopped, or even killed, goes on where it was. What changed in JOB or its data is done again, with
    what comes after it. Files in JOB are looked for from its folder.
    """
    text = text_of(file)
    if is_generative(text):
        if until or engine:
            raise click.UsageError("--until and --engine are for classifiers and the like, not for a decoder")
        return run_decoder(asked, file, text, anew)
    job = _with_engine(parse_job(text, str(file)), engine)
    _refuse_unknown(job, until)
    with needing("compress"):
        from farthing.wiring.compressing import run_job
    with following(asked) as progress:
        report = run_job(job, file.parent, progress, anew=anew, until=until)
    answer(asked, "farthing.compress.run/1", report, in_words)


def _with_engine(job: Job, engine: Literal["local", "ray"] | None) -> Job:
    if engine is None:
        return job
    if job.search is None:
        raise click.UsageError(f"--engine {engine} says where a search runs, and the job has no [search]")
    return replace(job, search=replace(job.search, engine=engine))


def _refuse_unknown(job: Job, until: str) -> None:
    known = list(dict.fromkeys(("teacher", *(str(stage.__struct_config__.tag) for stage in job.stages))))
    if until and until not in known:
        near = get_close_matches(until, known, 1)
        hint = f'; did you mean "{near[0]}"?' if near else f"; it has {', '.join(known)}"
        raise click.UsageError(f'the job has no stage "{until}"{hint}')
