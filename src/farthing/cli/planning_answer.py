"""What `farthing plan search` found, as a document and in words."""

from collections.abc import Iterator, Sequence

import msgspec

from farthing.cli.render import strong, table
from farthing.dashboard.plan_figures import dollars, dollars_between, percent, plural, rounded, seconds, seconds_between
from farthing.economics.deployment import Workload
from farthing.economics.prediction import Estimate
from farthing.economics.searching.forbidding import reason
from farthing.economics.searching.options import Found, Option, Question, Slo
from farthing.economics.searching.space import in_words as layout_of
from farthing.economics.searching.stated import Stated

MOST_FRONTIER = 60


class Choice(msgspec.Struct, frozen=True):
    """The cheapest on one kind of hardware. Times are at the percentile asked, `devices` those of all replicas."""

    hardware: str
    weights: str
    kv: str
    tensor: int
    pipeline: int
    data: int
    expert: int
    max_sequences: int
    replicas: int
    devices: int
    price: str
    usd_per_device_h: float
    spot_share: float
    usd_per_h: float
    usd_per_million_output_tokens: Estimate
    ttft_s: Estimate
    tpot_s: Estimate
    e2e_s: float
    requests_per_s: float
    utilisation: float
    bound: str
    extrapolated: tuple[str, ...]


class Corner(msgspec.Struct, frozen=True):
    """One point of the frontier; `meets` says whether it keeps the limits."""

    hardware: str
    layout: str
    max_sequences: int
    replicas: int
    usd_per_h: float
    usd_per_million_output_tokens: float
    ttft_s: float
    tpot_s: float
    meets: bool


class Out(msgspec.Struct, frozen=True):
    """Hardware that does not serve, and why."""

    hardware: str
    reason: str


class Answer(msgspec.Struct, frozen=True):
    """What to run a model on: the cheapest first, then what is out, and the frontier of cost, TPOT and TTFT."""

    model: str
    workload: Workload
    limits: Slo
    answer: str
    choices: tuple[Choice, ...]
    excluded: tuple[Out, ...]
    unpriced: tuple[str, ...]
    """Hardware that nobody has a price of, and that was left out for it."""
    frontier: tuple[Corner, ...]
    considered: int


def answer_of(question: Question, found: Found, choices: Sequence[Stated], unpriced: Sequence[str]) -> Answer:
    """The document of a search that found something."""
    out = [Out(outlook.hardware.name, reason(outlook, question)) for outlook in found.outlooks if not outlook.option]
    return Answer(
        model=question.architecture.name,
        workload=question.workload,
        limits=question.slo,
        answer=sentence(question, choices[0]),
        choices=tuple(_choice(one) for one in choices),
        excluded=tuple(out),
        unpriced=tuple(unpriced),
        frontier=tuple(_corner(option) for option in thinned(found.frontier)),
        considered=found.considered,
    )


def thinned(options: Sequence[Option]) -> list[Option]:
    """The frontier, the fastest first, of which at most so many are kept that a reader can take in."""
    ordered = sorted(options, key=lambda option: option.tpot_s)
    step = max(1, -(-len(ordered) // MOST_FRONTIER))
    return ordered[::step]


def sentence(question: Question, best: Stated) -> str:
    """The answer in one sentence."""
    option, slo = best.option, question.slo
    deployment = option.deployment
    usd = best.usd_per_million_output_tokens
    limit = f" of the {seconds(slo.tpot_s)} allowed" if slo.tpot_s else ""
    first = f" of {seconds(slo.ttft_s)}" if slo.ttft_s else ""
    fleet = f"{option.devices:,} {deployment.hardware.name} in {plural(option.replicas, 'replica')}"
    rent = f"{dollars(option.usd_per_h)} an hour ({option.offer.price})"
    cost = f"{dollars(usd.value)} per 1M output tokens, between {dollars(usd.low)} and {dollars(usd.high)}"
    return (
        f"{fleet} ({layout_of(deployment)}, batch {deployment.max_sequences}) serve "
        f"{load_in_words(question.workload)} for {rent}: {cost}, with "
        f"{seconds(option.tpot_s)} per token{limit} and {seconds(option.ttft_s)}{first} to the first at "
        f"p{slo.percentile:g}."
    )


def load_in_words(workload: Workload) -> str:
    """How much is to be served."""
    if workload.requests_per_s is not None:
        return f"{rounded(workload.requests_per_s)} requests/s"
    return f"{workload.concurrency:,.4g} callers at once"


def _choice(one: Stated) -> Choice:
    option, deployment = one.option, one.option.deployment
    return Choice(
        hardware=deployment.hardware.name,
        weights=deployment.weights,
        kv=deployment.kv,
        tensor=deployment.tensor,
        pipeline=deployment.pipeline,
        data=deployment.data,
        expert=deployment.expert,
        max_sequences=deployment.max_sequences,
        replicas=option.replicas,
        devices=option.devices,
        price=option.offer.price,
        usd_per_device_h=option.offer.usd_per_device_h,
        spot_share=option.offer.spot_share,
        usd_per_h=option.usd_per_h,
        usd_per_million_output_tokens=one.usd_per_million_output_tokens,
        ttft_s=one.ttft_s,
        tpot_s=one.tpot_s,
        e2e_s=option.e2e_s,
        requests_per_s=option.requests_per_s,
        utilisation=option.utilisation,
        bound=one.bound,
        extrapolated=one.extrapolated,
    )


def _corner(option: Option) -> Corner:
    return Corner(
        hardware=option.deployment.hardware.name,
        layout=layout_of(option.deployment),
        max_sequences=option.deployment.max_sequences,
        replicas=option.replicas,
        usd_per_h=option.usd_per_h,
        usd_per_million_output_tokens=option.usd_per_million_output_tokens,
        ttft_s=option.ttft_s,
        tpot_s=option.tpot_s,
        meets=option.meets,
    )


def in_words(document: Answer) -> str:
    """The document for a terminal."""
    return "\n".join(_words(document))


def _words(document: Answer) -> Iterator[str]:
    yield strong(document.answer)
    yield ""
    at = f"p{document.limits.percentile:g}"
    heads = (
        "hardware",
        "layout",
        "batch",
        "replicas",
        "per hour",
        f"first {at}",
        f"each {at}",
        "in use",
        "per 1M out",
        "90 %",
        "",
    )
    yield table(heads, [_row(choice) for choice in document.choices], labels=2)
    if any(choice.extrapolated for choice in document.choices):
        yield ""
        yield "* lies outside of what was measured:"
        for why in dict.fromkeys(why for choice in document.choices for why in choice.extrapolated):
            yield f"  {why}: {', '.join(choice.hardware for choice in document.choices if why in choice.extrapolated)}"
    if document.excluded:
        yield ""
        yield strong("Out")
        yield table(("", ""), [(f"  {out.hardware}", out.reason) for out in document.excluded], labels=2)
    if document.unpriced:
        yield ""
        yield f"No price is known of {', '.join(document.unpriced)}; give one with --price NAME=USD."


def _row(choice: Choice) -> tuple[str, ...]:
    ways = f"TP{choice.tensor}" + "".join(
        f" {name}{ways}"
        for name, ways in (("PP", choice.pipeline), ("DP", choice.data), ("EP", choice.expert))
        if ways > 1
    )
    kv = f"/{choice.kv} KV" if choice.kv != "bf16" else ""
    return (
        choice.hardware,
        f"{choice.weights}{kv} {ways}",
        str(choice.max_sequences),
        f"{choice.replicas:,}",
        dollars(choice.usd_per_h),
        seconds(choice.ttft_s.value),
        f"{seconds(choice.tpot_s.value)} ({seconds_between(choice.tpot_s)})",
        percent(choice.utilisation),
        dollars(choice.usd_per_million_output_tokens.value),
        dollars_between(choice.usd_per_million_output_tokens),
        "*" if choice.extrapolated else "",
    )
