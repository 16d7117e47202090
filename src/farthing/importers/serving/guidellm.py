"""Reports of GuideLLM (benchmarks.json): one benchmark per strategy of a sweep."""

from collections.abc import Iterator
from pathlib import Path

from farthing.economics.calibrating.measurement import Measurement
from farthing.economics.calibrating.setup import Setup, completed
from farthing.importers.serving.documents import Document, documents
from farthing.importers.serving.runs import Run, measured

NAMES = frozenset(("benchmarks",))

_TOOL = "guidellm"
_STRATEGIES = (("config", "strategy"), ("scheduler", "strategy"), ("args", "strategy"))
"""Where a benchmark says how it sent requests: from the newest format to the oldest."""

_MODELS = (("config", "backend", "model"), ("worker", "backend_model"), ("benchmarker", "backend", "model"))


def read(path: Path, setup: Setup) -> Iterator[Measurement]:
    """One measurement per benchmark of a report; means of the requests that succeeded."""
    for report in documents(path):
        benchmarks = report.find("benchmarks")
        if not isinstance(benchmarks, list) or not benchmarks:
            raise report.error("benchmarks is no list with something in it")
        for number, benchmark in enumerate(benchmarks, 1):
            place = f"{report.place}, benchmark {number}"
            if not isinstance(benchmark, dict) or not isinstance(benchmark.get("metrics"), dict):
                raise Document(place, {}).error("this is no benchmark: it has no metrics")
            document = Document(place, benchmark)
            model = next((name for path in _MODELS if (name := document.text(*path))), "")
            said = Setup(model=model or report.text("args", "model"))
            yield measured(_run(document), completed(setup, said, place))


def _run(document: Document) -> Run:
    strategy = next((path for path in _STRATEGIES if isinstance(document.find(*path), dict)), None)
    if strategy is None:
        raise document.error("it does not say its strategy (config.strategy)")
    kind = document.text(*strategy, "type_")
    callers, rate = None, None
    match kind:
        case "synchronous":
            callers = 1.0
        case "concurrent":
            callers = document.needed(*strategy, "streams")
        case "throughput":
            callers = document.number(*strategy, "max_concurrency") or document.needed(*_of("request_concurrency"))
        case "constant" | "async" | "poisson":
            rate = document.needed(*strategy, "rate")
        case _:
            raise document.error(f"strategy {kind or 'without a type_'} is not known")
    output = document.needed(*_of("output_token_count"))
    per_s = document.needed(*_of("requests_per_second"))
    return Run(
        place=document.place,
        tool=_TOOL,
        completed=_requests(document, "successful"),
        failed=_requests(document, "errored"),
        input_tokens=document.needed(*_of("prompt_token_count")),
        output_tokens=output,
        output_tokens_per_s=per_s * output,
        ttft_s=document.seconds(*_of("time_to_first_token_ms")),
        # what the report calls the time per output token counts from the sending of the request
        tpot_s=document.seconds(*_of("inter_token_latency_ms")),
        e2e_s=document.number(*_of("request_latency")) or None,
        callers=callers,
        requests_per_s=rate,
        note=f"strategy {kind}",
    )


def _of(metric: str) -> tuple[str, ...]:
    return ("metrics", metric, "successful", "mean")


def _requests(document: Document, status: str) -> float:
    """How many requests ended so: as the report counts them, or as a distribution does."""
    counted = document.number("metrics", "request_totals", status)
    if counted is None:
        counted = document.number("run_stats", "requests_made", status)
    if counted is None:
        counted = document.number("metrics", "request_latency", status, "count")
    if not counted and status == "successful":
        raise document.error("no request succeeded")
    return counted or 0.0
