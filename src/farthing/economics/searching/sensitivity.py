"""What the cost hangs on: the search run again at either end of each assumption."""

from collections.abc import Callable, Iterator

import msgspec
from msgspec.structs import replace

from farthing.economics.deployment import Deployment
from farthing.economics.factors import Factors
from farthing.economics.searching.options import Offer, Option, Question
from farthing.economics.searching.search import search

LESS, MORE = 0.8, 1.25
LEAST = 1e-3


class Swing(msgspec.Struct, frozen=True):
    """Dollars per million output tokens at the lower and the upper end of one assumption; `span` says which."""

    name: str
    span: str
    low_usd: float
    high_usd: float


def swings(question: Question, best: Option, factors_of: Callable[[Deployment], Factors]) -> tuple[Swing, ...]:
    """How far the cost moves with each assumption, on the hardware of the best option, its layout chosen anew.

    An assumption of which one end cannot be served at all, or which changes nothing, is left out.
    """
    alone = tuple(offer for offer in question.offers if offer.hardware.name == best.deployment.hardware.name)
    narrowed = replace(question, offers=alone)
    found = []
    for name, span, low, high in _ends(narrowed):
        costs = [search(changed, factors_of).best for changed in (low, high)]
        if costs[0] is None or costs[1] is None:
            continue
        swing = Swing(name, span, costs[0].usd_per_million_output_tokens, costs[1].usd_per_million_output_tokens)
        if max(abs(end / best.usd_per_million_output_tokens - 1) for end in (swing.low_usd, swing.high_usd)) > LEAST:
            found.append(swing)
    return tuple(found)


def _ends(question: Question) -> Iterator[tuple[str, str, Question, Question]]:
    usd = question.offers[0].usd_per_device_h
    low, high = (
        replace(question, offers=tuple(_priced(offer, by) for offer in question.offers)) for by in (LESS, MORE)
    )
    yield "price of the hardware", f"${LESS * usd:.2f} to ${MORE * usd:.2f} per device and hour", low, high
    workload, slo = question.workload, question.slo
    for field, name, unit in (
        ("input_tokens", "length of prompts", "tokens"),
        ("output_tokens", "length of answers", "tokens"),
        ("requests_per_s", "load", "requests/s"),
        ("concurrency", "load", "callers at once"),
    ):
        if (value := getattr(workload, field)) is not None:
            low, high = (replace(question, workload=replace(workload, **{field: value * by})) for by in (LESS, MORE))
            yield name, f"{value * LESS:,.4g} to {value * MORE:,.4g} {unit}", low, high
    limits = {"ttft_s": "limit of the first token", "tpot_s": "limit of each token", "e2e_s": "limit in all"}
    for field, name in limits.items():
        if (value := getattr(slo, field)) is not None:
            low, high = (replace(question, slo=replace(slo, **{field: value * by})) for by in (LESS, MORE))
            yield name, f"{value * LESS:.3g} s to {value * MORE:.3g} s", low, high


def _priced(offer: Offer, factor: float) -> Offer:
    return replace(offer, usd_per_device_h=offer.usd_per_device_h * factor)
