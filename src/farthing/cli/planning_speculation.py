"""Speculative decoding of `farthing plan predict`: how it is asked for, and what it comes to."""

from collections.abc import Mapping
from typing import Any

import click
import msgspec
from msgspec.structs import replace

from farthing.cli.planning_asking import model_of
from farthing.economics.calibrating.calibration import Calibration
from farthing.economics.deployment import Deployment, Workload
from farthing.economics.facts.catalogue import Catalogue
from farthing.economics.prediction import Prediction
from farthing.economics.serving import Load
from farthing.economics.speculation import Drafter, best_drafts, break_even_batch, head, lookup, speculate
from farthing.economics.step import StepCosts
from farthing.economics.terms import attention_window, demand, step_costs

OWN_HEAD, NGRAMS = "head", "ngram"


class Speculation(msgspec.Struct, frozen=True):
    """What drafting comes to at the predicted batch; `gains_up_to` is the largest batch of a copy at which it gains."""

    drafter: str
    acceptance: float
    drafts: int
    tokens_per_cycle: float
    tpot_s: float
    speed_up: float
    gains_up_to: int | None


def speculation_of(
    given: Mapping[str, Any],
    deployment: Deployment,
    workload: Workload,
    prediction: Prediction,
    calibration: Calibration,
    catalogue: Catalogue,
) -> Speculation | None:
    """What speculation comes to, if it was asked for; raises UsageError when half of what it takes was given.

    The time per token is that of the prediction, divided by the speed-up.
    """
    name, acceptance = given["speculate"], given["acceptance"]
    if name is None and acceptance is None and given["drafts"] is None:
        return None
    if name is None or acceptance is None:
        raise click.UsageError("speculation takes both --speculate and --acceptance")
    target = _costs(deployment, calibration)
    load = Load(
        max(prediction.batch / deployment.data, 1.0),
        workload.input_tokens,
        workload.output_tokens,
        float(deployment.max_sequences),
        attention_window(deployment.architecture),
        workload.cached_share,
    )
    drafter = _drafter(name, given["head_share"], target, deployment, calibration, catalogue)
    if given["drafts"] is None:
        found = best_drafts(target, drafter, load, acceptance)
    else:
        found = speculate(target, drafter, load, acceptance, float(given["drafts"]))
    drafts = int(float(found.drafts))
    return Speculation(
        drafter=name,
        acceptance=acceptance,
        drafts=drafts,
        tokens_per_cycle=float(found.tokens_per_cycle),
        tpot_s=prediction.tpot_s.value / float(found.speed_up),
        speed_up=float(found.speed_up),
        gains_up_to=break_even_batch(target, drafter, load, acceptance, drafts) if drafts else None,
    )


def _drafter(
    name: str, share: float, target: StepCosts, deployment: Deployment, calibration: Calibration, catalogue: Catalogue
) -> Drafter:
    if name == OWN_HEAD:
        return head(target, share)
    if name == NGRAMS:
        return lookup()
    small = replace(deployment, architecture=model_of(name, catalogue), expert=1)
    return Drafter(_costs(small, calibration))


def _costs(deployment: Deployment, calibration: Calibration) -> StepCosts:
    found = step_costs(demand(deployment), calibration.factors(deployment))
    return StepCosts(*(float(cost) for cost in found))
