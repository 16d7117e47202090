"""`farthing plan probe`: a bounded load on an engine of one's own."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from farthing.advisor.probe import Probed, ProbePlan
from farthing.cli.asking import Asked, verb
from farthing.cli.planning_asking import known, with_facts, with_setup, written
from farthing.cli.planning_records import asks, made
from farthing.cli.planning_rows import in_csv
from farthing.cli.render import answer, say, strong, table
from farthing.dashboard.plan_figures import plural, rounded, seconds
from farthing.economics.calibrating.setup import Setup
from farthing.wiring.probing import probe_engine


@click.command()
@click.argument("url")
@click.option("--served-as", default="", metavar="NAME", help="What the engine calls the model, if it serves several.")
@click.option(
    "--key-variable", default="", metavar="NAME", help="The environment variable that holds the engine's key."
)
@asks(
    ProbePlan,
    {
        "input_tokens": "Of a prompt.",
        "output_tokens": "Of an answer.",
        "most_callers": "At once, at the most.",
        "most_requests": "In all, at the most.",
        "most_tokens": "Of prompts and answers in all, at the most.",
        "most_seconds": "In all, at the most.",
    },
)
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="FILE", help="Write the rows there, for plan calibrate."
)
@with_setup
@with_facts
@verb
def command(asked: Asked, url: str, served_as: str, key_variable: str, out: Path | None, **given: Any) -> None:
    """Measure an OpenAI-compatible engine of one's own at URL: 1, 2, 4 ... callers, until more of them gain nothing.

    It loads the engine for minutes, within the limits given: never ask it of an engine that serves others.
    """
    if key_variable and not os.environ.get(key_variable):
        raise click.UsageError(f"the environment variable {key_variable} is not set")
    setup, catalogue = made(Setup, given), known(given["facts"])
    if setup.hardware:
        catalogue.hardware_named(setup.hardware)
    key = os.environ.get(key_variable, "") if key_variable else ""
    plan = made(ProbePlan, given)
    found = probe_engine(url, setup, plan, lambda text: say(asked, text), model=served_as, api_key=key)
    if out is not None:
        written(out, in_csv(found.measurements))
        say(asked, f"Wrote {out}.")
    answer(asked, "farthing.plan.probe/1", found, lambda found: "\n".join(_words(found)))


def _words(found: Probed) -> Iterator[str]:
    spent = f"{plural(found.requests, 'request')} and {found.tokens:,} tokens in {seconds(found.seconds)}"
    yield strong(f"Measured {plural(len(found.measurements), 'load')} with {spent}")
    rows = [
        (
            f"{row.concurrency or 0:g}",
            rounded((row.output_tokens_per_s_per_device or 0.0) * row.devices),
            "" if row.ttft_s is None else seconds(row.ttft_s),
            "" if row.tpot_s is None else seconds(row.tpot_s),
        )
        for row in found.measurements
    ]
    yield table(("callers", "tokens/s", "first token", "each after"), rows, labels=0)
    yield f"It stopped because {found.stopped}."
