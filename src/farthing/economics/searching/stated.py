"""What a search found, stated with intervals."""

import msgspec

from farthing.economics.calibrating.calibration import Calibration
from farthing.economics.deployment import Workload
from farthing.economics.predicting import predict
from farthing.economics.prediction import Estimate
from farthing.economics.searching.options import Option


class Stated(msgspec.Struct, frozen=True):
    """An option with its figures as estimates. Times are at the percentile asked."""

    option: Option
    usd_per_million_output_tokens: Estimate
    ttft_s: Estimate
    tpot_s: Estimate
    bound: str
    extrapolated: tuple[str, ...]


def stated(option: Option, workload: Workload, calibration: Calibration) -> Stated:
    """An option with the intervals that the model has for its mean load.

    A machine that serves fewer tokens costs as much, so the interval of its cost is that of its throughput, inverted.
    """
    deployment = option.deployment
    each = Workload(
        input_tokens=workload.input_tokens,
        output_tokens=workload.output_tokens,
        concurrency=max(1.0, option.held * deployment.data),
        cached_share=workload.cached_share,
    )
    predicted = predict(deployment, each, calibration)
    rate, usd = predicted.output_tokens_per_s, option.usd_per_million_output_tokens
    return Stated(
        option=option,
        usd_per_million_output_tokens=Estimate(usd, usd * rate.value / rate.high, usd * rate.value / rate.low),
        ttft_s=_around(option.ttft_s, predicted.ttft_s),
        tpot_s=_around(option.tpot_s, predicted.tpot_s),
        bound=predicted.bound,
        extrapolated=predicted.extrapolated,
    )


def _around(value: float, like: Estimate) -> Estimate:
    """A value with the relative interval of another."""
    return Estimate(value, value * like.low / like.value, value * like.high / like.value)
