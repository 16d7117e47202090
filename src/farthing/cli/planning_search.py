"""`farthing plan search`: the cheapest way of serving a load within limits of time."""

import time
from pathlib import Path
from typing import Any

import click

from farthing.cli.asking import Asked, verb
from farthing.cli.planning_answer import answer_of, in_words
from farthing.cli.planning_asking import (
    POSITIVE,
    Load,
    fitted,
    known,
    limits_of,
    model_of,
    names,
    with_calibration,
    with_facts,
    with_limits,
    with_load,
    with_model,
    with_rent,
    workload_of,
    written,
)
from farthing.cli.planning_deploy import Image, deployed
from farthing.cli.planning_page import Api, page_of
from farthing.cli.planning_records import made
from farthing.cli.render import answer, say
from farthing.economics.architecture import Architecture
from farthing.economics.facts.names import plain_key
from farthing.economics.searching.forbidding import refusal
from farthing.economics.searching.offers import Renting, offers_of
from farthing.economics.searching.options import Question
from farthing.economics.searching.search import search
from farthing.economics.searching.space import Space, usual_precisions
from farthing.economics.searching.stated import stated


@click.command()
@with_model
@with_load
@with_limits
@with_rent
@click.option(
    "--precision", callback=names, metavar="A,B", help="Of the weights; else bf16, fp8, int8 and the model's own."
)
@click.option("--kv", callback=names, default="bf16", show_default=True, metavar="A,B", help="Of the KV cache.")
@click.option("--max-devices", type=click.IntRange(1, 1024), default=16, show_default=True, help="Of one replica.")
@click.option("--engine", default="vllm", show_default=True, metavar="NAME", help="The engine that serves.")
@click.option(
    "--api-input", type=POSITIVE, metavar="USD", help="What an API asks for 1M input tokens, to compare with."
)
@click.option("--api-output", type=POSITIVE, metavar="USD", help="What an API asks for 1M output tokens.")
@click.option(
    "--staff-usd-per-month", type=float, default=0.0, show_default=True, metavar="X", help="Of one's own machines."
)
@click.option(
    "--hardware-share", type=float, default=1.0, show_default=True, metavar="X", help="Of devices in the bill."
)
@click.option("--html", type=click.Path(path_type=Path), metavar="FILE", help="Write a report with plots.")
@click.option("--emit", type=click.Path(path_type=Path), metavar="DIR", help="Write what deploys the best option.")
@click.option(
    "--checkpoint", default="", metavar="ID", help="What --emit loads, where quantised weights exist already."
)
@click.option("--image-tag", metavar="TAG", help="Release of the engine's image that --emit names, as v0.11.0.")
@with_facts
@with_calibration
@verb
def command(asked: Asked, **given: Any) -> None:
    """Find the cheapest way of serving a load within limits of time.

    Looks at every layout of the model on every kind of hardware with a price: precision, tensor, pipeline and expert
    parallelism, batch, replicas. Prints the cheapest on each, with intervals, and says why the others are out.
    """
    catalogue, calibration = known(given["facts"]), fitted(given["calibration"])
    architecture = model_of(given["model"], catalogue)
    load = Load(*(given[field] for field in Load.__struct_fields__))
    offers, unpriced = offers_of(catalogue, given["hardware"], made(Renting, given), given["price"])
    question = Question(
        architecture=architecture,
        offers=offers,
        workload=workload_of(load),
        slo=limits_of(given["ttft_s"], given["tpot_s"], given["e2e_s"], given["percentile"]),
        space=Space(
            weights=given["precision"] or usual_precisions(architecture),
            kv=given["kv"],
            max_devices=given["max_devices"],
            engine=given["engine"],
        ),
    )
    if (given["api_input"] is None) != (given["api_output"] is None):
        raise click.UsageError("an API has both prices: give --api-input and --api-output, or neither")
    if given["emit"] and not given["image_tag"]:
        raise click.UsageError("--emit needs --image-tag, as in v0.11.0: flags of engines differ among releases")
    began = time.monotonic()
    found = search(question, calibration.factors)
    say(asked, f"Looked at {found.considered:,} configurations in {time.monotonic() - began:.1f} s.")
    if found.best is None:
        raise refusal(found, question)
    choices = [stated(outlook.option, question.workload, calibration) for outlook in found.outlooks if outlook.option]
    document = answer_of(question, found, choices, unpriced)
    files: tuple[tuple[str, str], ...] = ()
    if given["emit"]:
        files = deployed(
            question,
            choices[0],
            calibration,
            Image(_published(given["model"], question.architecture), given["checkpoint"], given["image_tag"]),
        )
        for name, text in files:
            written(given["emit"] / name, text)
        say(asked, f"Wrote {', '.join(name for name, _ in files)} in {given['emit']}.")
    if given["html"]:
        api = None
        if given["api_input"]:
            api = Api(given["api_input"], given["api_output"], given["staff_usd_per_month"], given["hardware_share"])
        written(given["html"], page_of(question, found, choices, document, calibration, api, files[:1]))
        say(asked, f"Wrote {given['html']}.")
    answer(asked, "farthing.plan.search/1", document, in_words)


def _published(model: str, architecture: Architecture) -> str:
    """The Hugging Face id that a short name of a model stands for; the name itself where none is known."""
    if "/" in model:
        return model
    return next((name for name in architecture.aliases if "/" in name and plain_key(name) == plain_key(model)), model)
