"""`farthing compress report`: what a run made, stage by stage."""

from pathlib import Path

import click

from farthing.cli.asking import Asked, verb
from farthing.cli.compressing_jobs import report_of
from farthing.cli.compressing_needs import needing
from farthing.cli.compressing_tables import in_words
from farthing.cli.render import answer, say
from farthing.errors import ConfigError


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--html", "page", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Write the page.")
@verb
def command(asked: Asked, folder: Path, page: Path | None) -> None:
    """Show what the run that wrote DIR made: every stage and control, and whether the targets are met."""
    with needing("compress"):
        report = report_of(folder)
    if page is not None:
        from farthing.compress.reporting import page as page_of

        try:
            page.write_text(page_of(report), encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"{page} cannot be written: {error.strerror}.", hint="Name another file.") from None
        say(asked, f"{page} is the page of the run.")
    answer(asked, "farthing.compress.report/1", report, in_words)
