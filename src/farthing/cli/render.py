"""How verbs speak: data on stdout, progress on stderr, colour only where somebody sees it."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import click
import msgspec
from msgspec.structs import asdict

from farthing.cli.asking import Asked

D = TypeVar("D", bound=msgspec.Struct)

STRIDE = 50
"""Progress is drawn once for so many steps, for drawing costs more than many a step."""


def answer(asked: Asked, schema: str, document: D, in_words: Callable[[D], str]) -> None:
    """Print a document: as JSON that names its schema when asked to, else in words."""
    click.echo(as_json({"schema": schema, **asdict(document)}) if asked.json else in_words(document).rstrip("\n"))


def as_json(document: object) -> str:
    """Indented JSON."""
    return msgspec.json.format(msgspec.json.encode(document), indent=2).decode()


def say(asked: Asked, text: str) -> None:
    """Tell how things go, on stderr, unless asked to be quiet."""
    if not asked.quiet:
        click.echo(text, err=True)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], labels: int = 1) -> str:
    """Aligned columns: the first `labels` to the left, the rest, figures, to the right; no heads if all are empty."""
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        aligned = (
            cell.ljust(width) if index < labels else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return "  ".join(aligned).rstrip()

    return "\n".join([strong(line(heads)), *map(line, rows)] if any(heads) else map(line, rows))


def strong(text: str) -> str:
    """Text that stands out on a terminal; click removes the styling where there is none."""
    return coloured(text, None)


def coloured(text: str, colour: str | None) -> str:
    """Bold text in a colour, unless NO_COLOR is set."""
    return text if os.environ.get("NO_COLOR") else click.style(text, fg=colour, bold=True)


@contextmanager
def progress(asked: Asked, what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A bar on stderr for as long as the block runs; call what it gives with how many are done."""
    if asked.quiet or not sys.stderr.isatty():
        yield lambda done: None
        return
    # Imported here because rich costs as much as the rest of a verb, and only a person at a terminal sees it.
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(what, total=total)
        yield lambda done: bars.update(task, completed=done) if done % STRIDE == 0 else None
