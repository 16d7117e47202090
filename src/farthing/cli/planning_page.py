"""From what a search found to the HTML report on it."""

from collections.abc import Iterator, Sequence
from datetime import date

import msgspec
from msgspec.structs import replace

from farthing.cli.planning_answer import Answer, load_in_words, thinned
from farthing.dashboard import plan_views as views
from farthing.dashboard.plan_figures import dollars, quantity, rounded, seconds
from farthing.dashboard.plan_report import render
from farthing.economics.calibrating.calibration import Calibration
from farthing.economics.money.api_price import ApiPrice
from farthing.economics.money.break_even import (
    DAY_S,
    SelfHosting,
    Traffic,
    api_usd_per_request,
    break_even,
    self_hosting_usd_per_day,
)
from farthing.economics.prediction import Estimate
from farthing.economics.searching.anatomy import Loaded, cost_parts, under_load
from farthing.economics.searching.options import Found, Option, Question
from farthing.economics.searching.sensitivity import swings
from farthing.economics.searching.space import in_words
from farthing.economics.searching.stated import Stated

DAILY_POINTS = 60


class Api(msgspec.Struct, frozen=True):
    """What an API asks per million tokens, and what machines of one's own cost beside the machines."""

    usd_in: float
    usd_out: float
    staff_usd_per_month: float
    hardware_share_of_bill: float

    @property
    def price(self) -> ApiPrice:
        """The same as the core has it; reading from a cache is priced like plain input."""
        return ApiPrice(self.usd_in, self.usd_out, self.usd_in)


def page_of(
    question: Question,
    found: Found,
    choices: Sequence[Stated],
    document: Answer,
    calibration: Calibration,
    api: Api | None,
    commands: Sequence[tuple[str, str]] = (),
) -> str:
    """The report as one HTML file."""
    best, workload, slo = choices[0], question.workload, question.slo
    loaded = under_load(best.option, workload, slo.percentile, calibration.factors)
    unit = "requests per second" if workload.requests_per_s is not None else "callers at once"
    usd = best.usd_per_million_output_tokens
    moved = [
        views.Swing(swing.name, swing.span, swing.low_usd, swing.high_usd)
        for swing in swings(question, best.option, calibration.factors)
    ]
    return render(
        views.Report(
            title=question.architecture.name,
            answer=document.answer,
            asked=tuple(_asked(question)),
            choices=tuple(_choice(one) for one in choices),
            excluded=tuple(_excluded(document)),
            points=tuple(_points(found, best.option)),
            parts=cost_parts(best.option, workload, calibration.factors),
            load_ttft=_line(unit, [(one.load, one.ttft_s) for one in _shown(loaded)], best.ttft_s),
            load_tpot=_line(unit, [(one.load, one.tpot_s) for one in _shown(loaded)], best.tpot_s),
            load_planned=workload.requests_per_s or workload.concurrency or 0.0,
            swings=(views.Swing("the model itself", "either end of its interval", usd.low, usd.high), *moved),
            facts=tuple(_facts(question, choices, calibration)),
            percentile=slo.percentile,
            ttft_limit_s=slo.ttft_s,
            tpot_limit_s=slo.tpot_s,
            break_even=_break_even(question, best, api) if api else None,
            notices=tuple(_notices(best)),
            commands=tuple(commands),
            date=date.today().isoformat(),
        )
    )


def _asked(question: Question) -> Iterator[tuple[str, str]]:
    workload, slo = question.workload, question.slo
    yield "prompt", f"{rounded(workload.input_tokens)} tokens"
    yield "answer", f"{rounded(workload.output_tokens)} tokens"
    yield "load", load_in_words(workload)
    if workload.cached_share:
        yield "found in the prefix cache", f"{workload.cached_share:.0%} of prompts"
    for name, limit in (("first token", slo.ttft_s), ("each token after", slo.tpot_s), ("in all", slo.e2e_s)):
        if limit is not None:
            yield name, f"within {seconds(limit)} at p{slo.percentile:g}"


def _choice(one: Stated) -> views.Choice:
    option = one.option
    return views.Choice(
        hardware=option.deployment.hardware.name,
        setup=f"{in_words(option.deployment)}, batch {option.deployment.max_sequences}",
        replicas=option.replicas,
        devices=option.devices,
        usd_per_h=option.usd_per_h,
        usd_per_million=one.usd_per_million_output_tokens,
        ttft_s=one.ttft_s,
        tpot_s=one.tpot_s,
        utilisation=option.utilisation,
        price=option.offer.price,
        extrapolated=one.extrapolated,
    )


def _excluded(document: Answer) -> Iterator[views.Exclusion]:
    for out in document.excluded:
        yield views.Exclusion(out.hardware, out.reason)
    if document.unpriced:
        yield views.Exclusion("No price known", ", ".join(document.unpriced))


def _points(found: Found, best: Option) -> Iterator[views.Point]:
    for kind, options in (("other", found.others), ("frontier", _lowest(found.frontier)), ("best", (best,))):
        for option in options:
            label = f"{option.deployment.hardware.name}, {in_words(option.deployment)}, batch "
            label += f"{option.deployment.max_sequences}, {option.replicas} replicas: "
            label += f"{dollars(option.usd_per_million_output_tokens)} at {seconds(option.tpot_s)}"
            yield views.Point(
                option.deployment.hardware.name, label, option.usd_per_million_output_tokens, option.tpot_s, kind
            )


def _lowest(options: Sequence[Option]) -> list[Option]:
    """Of a frontier of three, what is on that of cost and time per token alone."""
    kept: list[Option] = []
    for option in sorted(options, key=lambda one: (one.tpot_s, one.usd_per_million_output_tokens)):
        if not kept or option.usd_per_million_output_tokens < kept[-1].usd_per_million_output_tokens:
            kept.append(option)
    return thinned(kept)


def _shown(loaded: Sequence[Loaded]) -> list[Loaded]:
    """Up to where waiting has made the first token take ten times as long: beyond, a plot shows nothing else."""
    return [one for one in loaded if one.ttft_s <= 10 * loaded[0].ttft_s] or list(loaded)


def _line(name: str, points: Sequence[tuple[float, float]], like: Estimate) -> views.Line:
    low, high = like.low / like.value, like.high / like.value
    return views.Line(name, tuple((x, Estimate(y, y * low, y * high)) for x, y in points))


def _break_even(question: Question, best: Stated, api: Api) -> views.BreakEven:
    """Dollars a day at the same lengths of prompts and answers, replica by replica."""
    workload, option = question.workload, best.option
    traffic = Traffic(workload.input_tokens, workload.output_tokens, workload.cached_share)
    each_usd, each_rate = option.usd_per_h / option.replicas, option.requests_per_s / option.replicas
    hosting = SelfHosting(each_usd, each_rate, api.staff_usd_per_month, api.hardware_share_of_bill)
    full = each_rate * workload.output_tokens * DAY_S
    usd = best.usd_per_million_output_tokens
    span = [full * 10 ** (-2.5 + 4 * step / DAILY_POINTS) for step in range(DAILY_POINTS + 1)]
    per_request = api_usd_per_request(api.price, traffic)

    def own(tokens: float, dearer: float) -> float:
        """The bill if a replica serves so many times less than predicted."""
        slower = replace(hosting, requests_per_s_per_replica=each_rate / dearer)
        return self_hosting_usd_per_day(slower, traffic, tokens / workload.output_tokens)

    low, high = usd.low / usd.value, usd.high / usd.value
    ours = tuple((tokens, Estimate(own(tokens, 1.0), own(tokens, low), own(tokens, high))) for tokens in span)
    theirs = tuple((tokens, _exactly(per_request * tokens / workload.output_tokens)) for tokens in span)
    found = break_even(api.price, traffic, hosting)
    says = f"The API stays cheaper: {found.why_never}"
    crossing = None
    if found.always is not None:
        crossing = found.always.requests_per_day * workload.output_tokens
        says = f"Machines of one's own are always cheaper from {quantity(crossing)} output tokens a day on"
    staff = f"{dollars(api.staff_usd_per_month)} of staff a month" if api.staff_usd_per_month else "no staff"
    lines = (
        views.Line(f"{option.deployment.hardware.name}, {staff}, {api.hardware_share_of_bill:.0%} hardware", ours),
        views.Line(f"API, {dollars(api.usd_in)} in and {dollars(api.usd_out)} out per 1M", theirs),
    )
    return views.BreakEven(lines, crossing, says)


def _exactly(value: float) -> Estimate:
    return Estimate(value, value, value)


def _notices(best: Stated) -> Iterator[str]:
    if best.extrapolated:
        yield f"Outside of what was measured: {', '.join(best.extrapolated)}. Measure it with farthing plan probe."


def _facts(question: Question, choices: Sequence[Stated], calibration: Calibration) -> Iterator[views.Fact]:
    yield views.Fact("shape of the model", question.architecture.name, question.architecture.source)
    for one in choices:
        offer, hardware = one.option.offer, one.option.deployment.hardware
        price = f"{dollars(offer.usd_per_device_h)} per device and hour, {offer.price}"
        yield views.Fact(f"price of {hardware.name}", price, offer.source, offer.date)
        peak = max(hardware.flop_per_s.values()) / 1e12
        sheet = f"{hardware.memory_bytes / 2**30:.0f} GiB at {hardware.memory_bytes_per_s / 1e12:.3g} TB/s, "
        yield views.Fact(
            f"data sheet of {hardware.name}", f"{sheet}{peak:,.0f} TFLOP/s", hardware.source, hardware.date
        )
