"""`farthing compress compare`: two runs side by side."""

from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from farthing.cli.asking import Asked, verb
from farthing.cli.compressing_jobs import report_of
from farthing.cli.compressing_needs import needing
from farthing.cli.compressing_tables import side_by_side
from farthing.cli.render import answer

if TYPE_CHECKING:  # it needs numpy, and the help of a command does not
    from farthing.compress.record import Report


class Compared(msgspec.Struct, frozen=True):
    """The reports of two runs, by the folders they are from."""

    folders: tuple[str, str]
    reports: "tuple[Report, Report]"


@click.command()
@click.argument("first", metavar="DIR", type=click.Path(path_type=Path))
@click.argument("second", metavar="DIR", type=click.Path(path_type=Path))
@verb
def command(asked: Asked, first: Path, second: Path) -> None:
    """Show what two runs came to, side by side."""
    with needing("compress"):
        compared = Compared((str(first), str(second)), (report_of(first), report_of(second)))
    answer(asked, "farthing.compress.compare/1", compared, lambda both: side_by_side(both.folders, both.reports))
