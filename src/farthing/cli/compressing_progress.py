"""How a run of compression is followed: a bar at a terminal, plain lines anywhere else."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

import click

from farthing.cli.asking import Asked
from farthing.cli.figures import duration
from farthing.compress.progress import Progress, Silence

LINE_EVERY_S = 30.0
"""How often a line is printed within a stage, besides those that tell of a measurement."""
DRAWN_EVERY_S = 0.1


class Lines:
    """Plain lines on stderr: every stage, every measurement, and a sign of life now and then."""

    def __init__(self, print_line: Callable[[str], None], clock: Callable[[], float]) -> None:
        self._print = print_line
        self._clock = clock
        self._pace = Pace(clock)
        self._stage = ""
        self._told = clock()

    def stage(self, name: str) -> None:
        """Tell of the stage."""
        self._stage, self._pace, self._told = name, Pace(self._clock), self._clock()
        self._print(name)

    def step(self, done: int, total: int, **figures: float) -> None:
        """Tell of a measurement, or that it still goes on."""
        left = self._pace.left(done, total)
        now = self._clock()
        if "dev" in figures or done >= total or now - self._told >= LINE_EVERY_S:
            self._told = now
            self._print(f"  {in_words(figures)}{', ' if figures else ''}{percent(done, total)}{left}")

    def note(self, text: str) -> None:
        """Tell it."""
        self._print(f"note: {text}")


class Pace:
    """How long the rest of a stage takes, when it goes on as it went since it was first seen."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._first: tuple[int, float] | None = None

    def left(self, done: int, total: int) -> str:
        """The time left, for the end of a line; empty where it is not known yet."""
        now = self._clock()
        if self._first is None:
            self._first = done, now
        began, since = self._first
        if done <= began or done >= total:
            return ""
        return f", {duration((now - since) * 1e6 * (total - done) / (done - began))} left"


@contextmanager
def following(asked: Asked) -> Iterator[Progress]:
    """Whom a run is to tell how it goes, for as long as the block runs."""
    if asked.quiet:
        yield Silence()
    elif sys.stderr.isatty():
        yield from _at_terminal()
    else:
        yield Lines(lambda text: click.echo(text, err=True), monotonic)


def in_words(figures: dict[str, float]) -> str:
    """The latest figures of a stage.

    >>> in_words({"epoch": 2.0, "loss": 0.123456, "dev": 93.5})
    'epoch 2, loss 0.1235, dev 93.5'
    """
    return ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in figures.items())


def percent(done: int, total: int) -> str:
    """How far a stage is.

    >>> percent(1, 3), percent(0, 0)
    ('33 %', '100 %')
    """
    return f"{100 * done / total:.0f} %" if total else "100 %"


def _at_terminal() -> Iterator[Progress]:
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[told]}"), TimeElapsedColumn())

    class Drawn:
        """One bar to a stage; those that are done stay above."""

        task = None
        drawn = 0.0

        def stage(self, name: str) -> None:
            """A bar of its own."""
            self.finish()
            self.task = bars.add_task(escape(name), total=None, told="")

        def step(self, done: int, total: int, **figures: float) -> None:
            """Move the bar, a few times a second at most."""
            now = monotonic()
            if self.task is not None and (now - self.drawn >= DRAWN_EVERY_S or done >= total or "dev" in figures):
                self.drawn = now
                bars.update(self.task, completed=done, total=total, told=in_words(figures))

        def note(self, text: str) -> None:
            """Print it above the bars."""
            bars.console.print(f"note: {text}", markup=False, highlight=False)

        def finish(self) -> None:
            """Fill up the bar of a stage that is over."""
            if self.task is not None:
                total = bars.tasks[self.task].total or 1
                bars.update(self.task, completed=total, total=total)
                bars.stop_task(self.task)

    with Bars(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bars:
        drawn = Drawn()
        yield drawn
        drawn.finish()
