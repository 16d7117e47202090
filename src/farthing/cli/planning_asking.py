"""What the questions of `farthing plan` are asked with: models, loads, limits and durations."""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import click
import msgspec

from farthing.cli.planning_records import asks
from farthing.cli.traffic import AUTO, importer_of, records
from farthing.economics.architecture import Architecture
from farthing.economics.calibrating.calibration import Calibration
from farthing.economics.calibrating.setup import Setup
from farthing.economics.deployment import Deployment, Workload
from farthing.economics.facts.catalogue import Catalogue
from farthing.economics.facts.huggingface import architecture_of
from farthing.economics.precision import precision_named
from farthing.economics.searching.offers import COMMITMENTS
from farthing.economics.searching.options import Slo
from farthing.economics.searching.space import usual_batched_tokens
from farthing.errors import ConfigError, TrafficError
from farthing.importers import Reading
from farthing.schema import Recorded
from farthing.wiring import planning

_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0}
_PERIODS = {"s": 1.0, "min": 60.0, "h": 3600.0, "day": 86400.0}
_FIGURE = re.compile(r"\s*([0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?)\s*/?\s*([a-z]*)\s*")
MOST_PER_TOKEN_S = 5.0
MINUTE_S = 60.0


class Figure(click.ParamType[float]):
    """A positive number with an optional unit."""

    def __init__(self, name: str, units: dict[str, float], inverse: bool = False) -> None:
        self.name = name
        self._units = units
        self._inverse = inverse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        found = _FIGURE.fullmatch(value)
        unit = found[2] if found else ""
        if not found or unit not in ("", *self._units):
            units = f", followed by {', '.join(self._units)} if need be" if self._units else ""
            self.fail(f"{value!r} is no {self.name}; write a positive number{units}")
        factor = self._units.get(unit, 1.0)
        number = float(found[1])
        if not 0 < number < math.inf:
            self.fail(f"{value!r} is not above 0")
        return number / factor if self._inverse else number * factor


DURATION = Figure("duration", _UNITS)
RATE = Figure("rate", _PERIODS, inverse=True)
POSITIVE = Figure("number", {})
SHARE = click.FloatRange(0, 1)


def names(context: click.Context, option: click.Parameter, value: str | None) -> tuple[str, ...]:
    """A list that was given with commas."""
    return tuple(name.strip() for name in value.split(",") if name.strip()) if value else ()


def prices(context: click.Context, option: click.Parameter, value: tuple[str, ...]) -> dict[str, float]:
    """Prices that were given as NAME=USD; raises BadParameter for what is none, or not above 0."""
    found = {}
    for pair in value:
        name, equals, usd = pair.rpartition("=")
        if not equals or not name.strip():
            raise click.BadParameter(f"{pair!r} is no price; write NAME=USD, as in 'H100 SXM=2.10'")
        found[name.strip()] = POSITIVE.convert(usd.lstrip("$ "), option, context)
    return found


def _together(*options: Callable[..., Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def given(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            function = option(function)
        return function

    return given


with_facts = click.option(
    "--facts",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="FILE",
    help="More hardware, models and prices, in TOML. May be repeated.",
)
with_calibration = click.option(
    "--calibration",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="What `farthing plan calibrate` wrote; else the calibration that is shipped.",
)
with_model = click.option(
    "--model", required=True, metavar="ID|FILE", help="A name of `farthing plan facts models`, or a config.json."
)
with_load = _together(
    click.option("--input", "input_tokens", type=POSITIVE, metavar="N", help="Tokens of a prompt, on average."),
    click.option("--output", "output_tokens", type=POSITIVE, metavar="N", help="Tokens of an answer, on average."),
    click.option("--rate", "requests_per_s", type=RATE, metavar="R", help="Requests per second; 90/min is a rate too."),
    click.option("--concurrency", type=POSITIVE, metavar="C", help="Callers at once, each asking again when answered."),
    click.option(
        "--traffic", type=click.Path(path_type=Path), metavar="FILE", help="Recorded traffic to take all of it from."
    ),
    click.option("--cached-share", type=SHARE, metavar="X", help="Share of prompt tokens found in the prefix cache."),
)
with_limits = _together(
    click.option("--ttft", "ttft_s", type=DURATION, metavar="S", help="Limit of the time to the first token."),
    click.option("--tpot", "tpot_s", type=DURATION, metavar="S", help="Limit of the time per token after it."),
    click.option("--e2e", "e2e_s", type=DURATION, metavar="S", help="Limit of the time to the last token."),
    click.option("--percentile", type=float, default=90.0, show_default=True, help="Of callers, within the limits."),
)
with_rent = _together(
    click.option("--hardware", callback=names, metavar="A,B", help="Only these; else all that have a price."),
    click.option("--region", metavar="TEXT", help="Only prices whose provider or region contains this."),
    click.option(
        "--commitment", type=click.Choice(COMMITMENTS), default="on-demand", show_default=True, help="To rent."
    ),
    click.option("--spot-share", type=SHARE, default=0.0, metavar="X", help="At most this share on spot instances."),
    click.option("--interruptions-per-h", type=float, metavar="X", help="Of a spot device; 0.1 unless told."),
    click.option("--restart", "restart_s", type=DURATION, metavar="S", help="Of a spot device; 5min unless told."),
    click.option(
        "--price", callback=prices, multiple=True, metavar="NAME=USD", help="Of a device for an hour. Repeat."
    ),
)
with_layout = _together(
    click.option("--weights", metavar="P", help="Precision of the weights; else the one the maker publishes."),
    click.option("--kv", default="bf16", show_default=True, metavar="P", help="Precision of the KV cache."),
    click.option("--tensor", type=click.IntRange(1), default=1, show_default=True, help="Ways to split each layer."),
    click.option("--pipeline", type=click.IntRange(1), default=1, show_default=True, help="Stages of layers."),
    click.option("--data", type=click.IntRange(1), default=1, show_default=True, help="Copies of the attention."),
    click.option("--expert", type=click.IntRange(1), default=1, show_default=True, help="Ways to split the experts."),
    click.option("--engine", default="vllm", show_default=True, metavar="NAME", help="The engine that serves."),
    click.option("--max-sequences", type=click.IntRange(1), default=256, show_default=True, help="Batch of one copy."),
    click.option(
        "--max-batched-tokens", type=click.IntRange(1), metavar="N", help="Per iteration; else what engines choose."
    ),
    click.option(
        "--memory-share", type=SHARE, default=0.9, show_default=True, help="Of device memory, for the engine."
    ),
)
with_setup = asks(
    Setup,
    {
        "hardware": "What was measured, where files do not say it.",
        "devices": "Of one replica.",
        "model": "Its name or Hugging Face id.",
        "precision": "Of the weights.",
        "engine": "The engine that served, with its version.",
        "tensor": "Ways to split each layer.",
        "data": "Copies of the attention.",
        "expert": "Ways to split the experts.",
        "pipeline": "Stages of layers.",
    },
)


class Load(msgspec.Struct, frozen=True):
    """The options of `with_load`, as they were given."""

    input_tokens: float | None
    output_tokens: float | None
    requests_per_s: float | None
    concurrency: float | None
    traffic: Path | None
    cached_share: float | None


def known(facts: Iterable[Path]) -> Catalogue:
    """The facts that are shipped, with those of some files."""
    return planning.catalogue(tuple(facts))


def fitted(file: Path | None) -> Calibration:
    """The calibration of a file, or the one that is shipped; raises ConfigError."""
    if file is None:
        return planning.shipped_calibration()
    try:
        return msgspec.json.decode(_bytes(file), type=Calibration)
    except msgspec.DecodeError as error:
        raise ConfigError(
            f"{file} is no calibration: {error}.", hint="Write one with `farthing plan calibrate FILES --out cal.json`."
        ) from None


def model_of(name: str, catalogue: Catalogue) -> Architecture:
    """The architecture of a name, or of a config.json; raises ConfigError and RequestError."""
    path = Path(name)
    if path.suffix != ".json" and not path.is_file():
        return catalogue.architecture_named(name)
    try:
        config = msgspec.json.decode(_bytes(path), type=dict[str, object])
    except msgspec.DecodeError as error:
        raise ConfigError(f"{name} is no config.json: {error}.", hint="Give the config.json of the model.") from None
    return architecture_of(config, path.parent.name if path.stem == "config" and path.parent.name else path.stem)


def deployment_of(given: Mapping[str, Any], catalogue: Catalogue) -> Deployment:
    """The deployment of the options of `with_model`, `with_layout` and --hardware."""
    architecture = model_of(given["model"], catalogue)
    weights = precision_named(given["weights"] or architecture.native, architecture).name
    hardware = catalogue.hardware_named(given["hardware"])
    said = {name: given[name] for name in Deployment.__struct_fields__ if name in given}
    said["max_batched_tokens"] = said["max_batched_tokens"] or usual_batched_tokens(hardware)
    return Deployment(**said | {"hardware": hardware, "weights": weights, "architecture": architecture})


def workload_of(load: Load) -> Workload:
    """What is to be served; raises UsageError when it is contradictory or not said."""
    if load.traffic is not None:
        return _of_traffic(load)
    if load.requests_per_s is not None and load.concurrency is not None:
        raise click.UsageError("--rate and --concurrency contradict one another; give one of them")
    if load.requests_per_s is None and load.concurrency is None:
        raise click.UsageError("say how much there is to serve: --rate, --concurrency or --traffic")
    if load.input_tokens is None or load.output_tokens is None:
        raise click.UsageError("say how long prompts and answers are: --input and --output, in tokens")
    return Workload(
        load.input_tokens, load.output_tokens, load.concurrency, load.requests_per_s, load.cached_share or 0.0
    )


def limits_of(ttft_s: float | None, tpot_s: float | None, e2e_s: float | None, percentile: float) -> Slo:
    """The limits of time; raises UsageError for a time per token that can only be milliseconds."""
    if tpot_s is not None and tpot_s > MOST_PER_TOKEN_S:
        raise click.UsageError(
            f"--tpot {tpot_s:g} is {tpot_s:g} seconds per token; for milliseconds write {tpot_s:g}ms"
        )
    return Slo(ttft_s, tpot_s, e2e_s, percentile)


def _of_traffic(load: Load) -> Workload:
    both = {"--rate": load.requests_per_s, "--input": load.input_tokens, "--output": load.output_tokens}
    for name, value in {**both, "--concurrency": load.concurrency}.items():
        if value is not None:
            raise click.UsageError(f"{name} and --traffic contradict one another; give one of them")
    path = load.traffic
    assert path is not None
    reading = Reading(None)
    return workload_in(path, records(importer_of(path, AUTO), path, reading, None), load.cached_share)


def workload_in(path: Path, traffic: Iterable[Recorded], cached_share: float | None) -> Workload:
    """The mean sizes of recorded calls, and the rate of their busiest minute; raises TrafficError for none.

    A recording of less than two minutes is taken at its mean rate.
    """
    counted = prompts = cached = answers = 0
    first, last = math.inf, -math.inf
    minutes: Counter[int] = Counter()
    for call in traffic:
        if call.usage is None or not call.usage.input_tokens or not call.usage.output_tokens:
            continue
        counted += 1
        prompts += call.usage.input_tokens
        cached += call.usage.cache_read
        answers += call.usage.output_tokens
        at = call.at / 1e9
        first, last = min(first, at), max(last, at)
        minutes[int(at // MINUTE_S)] += 1
    if counted < 2 or last <= first:
        raise TrafficError(
            f"{path} holds {counted} calls with tokens and a span of {max(last - first, 0) if counted else 0:g} s; "
            "no rate can be told from that.",
            hint="Give a recording of at least two calls at different times, with their usage.",
        )
    whole = [count for minute, count in minutes.items() if first // MINUTE_S < minute < last // MINUTE_S]
    rate = max(whole) / MINUTE_S if whole else counted / (last - first)
    found = cached / prompts if cached_share is None else cached_share
    return Workload(prompts / counted, answers / counted, None, rate, found)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.", hint="Name a readable file.") from None


def written(path: Path, text: str) -> None:
    """Write a file; raises ConfigError when it cannot be."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}.", hint="Name another place.") from None
