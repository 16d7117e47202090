"""Which format a file of measured serving is in, known by its first names."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec

from farthing.economics.calibrating.measurement import Measurement
from farthing.economics.calibrating.setup import Setup
from farthing.errors import TrafficError
from farthing.importers.reading import first_names
from farthing.importers.serving import engine_metrics, genai_perf, guidellm, rows, sglang_bench, vllm_bench

_SCRAPED = ("vllm:", "sglang:", "tgi_")
_START = 1 << 16


class Format(msgspec.Struct, frozen=True):
    """One format: its name, what it is, and the column or member names by which its files are known."""

    name: str
    title: str
    names: frozenset[str]
    read: Callable[[Path, Setup], Iterator[Measurement]]


def _read_rows(path: Path, setup: Setup) -> Iterator[Measurement]:
    """Rows say all of it themselves."""
    yield from rows.read_measurements(path)


def _read_scrapes(path: Path, setup: Setup) -> Iterator[Measurement]:
    yield from engine_metrics.measure(engine_metrics.read_scrapes([path]), setup, str(path))


FORMATS = (
    Format("rows", "rows of measured serving as CSV", rows.NAMES, _read_rows),
    Format("guidellm", "GuideLLM report (benchmarks.json)", guidellm.NAMES, guidellm.read),
    Format("sglang_bench", "result of sglang.bench_serving (JSON lines)", sglang_bench.NAMES, sglang_bench.read),
    Format("vllm_bench", "result of vllm bench serve (JSON)", vllm_bench.NAMES, vllm_bench.read),
    Format("aiperf", "summary of AIPerf or GenAI-Perf (JSON)", genai_perf.NAMES, genai_perf.read),
)
"""Every format that is known by names, in the order they are tried."""

METRICS = Format("engine_metrics", "Prometheus metrics of vLLM, SGLang or TGI", frozenset(), _read_scrapes)


def detect(path: Path) -> Format:
    """The format of a file; raises TrafficError when it is none of ours."""
    try:
        with path.open("rb") as file:
            start = file.read(_START).decode("utf-8", errors="replace")
        names = first_names(path)
    except OSError as error:
        raise TrafficError(f"{path} cannot be read: {error.strerror}.", hint="Name a file of measurements.") from None
    if any(line.startswith(_SCRAPED) for line in start.splitlines()):
        return METRICS
    if "records" in names:
        names |= genai_perf.NAMES if "input_config" in names else frozenset()
    for known in FORMATS:
        if known.names <= {name.strip() for name in names}:
            return known
    titles = "; ".join(known.title for known in (*FORMATS, METRICS))
    found = f"begins with {', '.join(sorted(names)[:8])}" if names else "has no names in its first line"
    raise TrafficError(f"{path} holds no measurements in a known format: it {found}.", hint=f"Known: {titles}.")


def read_all(paths: Sequence[Path], setup: Setup) -> list[Measurement]:
    """The measurements of some files of any formats; scrapes of metrics are read together, by their times.

    `setup` is what they were made on, where a file does not say it itself. Raises TrafficError and RequestError with
    the file and the line or key.
    """
    formats = [(path, detect(path)) for path in paths]
    scrapes = [path for path, known in formats if known is METRICS]
    found = [row for path, known in formats if known is not METRICS for row in known.read(path, setup)]
    if scrapes:
        place = str(scrapes[0]) if len(scrapes) == 1 else f"{scrapes[0]} and {len(scrapes) - 1} more"
        found += engine_metrics.measure(engine_metrics.read_scrapes(scrapes), setup, place)
    return found
