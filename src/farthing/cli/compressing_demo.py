"""`farthing compress demo`: the whole line on made-up texts, without keys or network."""

from pathlib import Path

import click

from farthing.cli.asking import Asked, verb
from farthing.cli.compressing_jobs import job_of
from farthing.cli.compressing_needs import needing
from farthing.cli.compressing_progress import following
from farthing.cli.compressing_tables import in_words
from farthing.cli.render import answer


@click.command()
@click.argument("folder", type=click.Path(path_type=Path), default=Path("compress-demo"))
@click.option("--anew", is_flag=True, help="Begin from nothing instead of going on with what was finished before.")
@verb
def command(asked: Asked, folder: Path, anew: bool) -> None:
    """Make up questions to a shop, a job for them in FOLDER, and run it: a few minutes on two cores.

    FOLDER then holds the job to begin one's own from, and in `student` a model that `farthing compress serve` serves.
    """
    with needing("compress"):
        from farthing.compress.demonstration import write_demonstration
        from farthing.wiring.compressing import run_job
    file = write_demonstration(folder)
    with following(asked) as progress:
        report = run_job(job_of(file), folder, progress, anew=anew)
    answer(asked, "farthing.compress.run/1", report, in_words)
