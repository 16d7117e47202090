"""Recorded traffic from files: Farthing's own format, public traces, and the exports of other tools."""

from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from farthing.errors import TrafficError
from farthing.importers import azure_llm, farthing, langfuse, litellm, mooncake, openai_usage, routellm_mmlu
from farthing.importers.reading import DEFAULT_MODEL, Reading, first_names
from farthing.schema import Recorded

__all__ = ["DEFAULT_MODEL", "IMPORTERS", "Importer", "Reading", "detect", "read"]


class Importer(msgspec.Struct, frozen=True):
    """One format: its name, what it is, and the column or member names by which its files are known.

    `names` has one set per layout; a file is known by having all of the names in any of them.
    """

    name: str
    title: str
    names: tuple[frozenset[str], ...]
    read: Callable[[Path, Reading], Iterator[Recorded]]


IMPORTERS = (
    Importer("farthing", "Farthing traffic, JSON lines", (farthing.NAMES,), farthing.read),
    Importer("mooncake", "Mooncake trace, JSON lines", (mooncake.NAMES,), mooncake.read),
    Importer("azure_llm", "Azure LLM inference trace, CSV", (azure_llm.NAMES,), azure_llm.read),
    Importer("litellm", "LiteLLM spend logs, CSV or JSON", (litellm.NAMES,), litellm.read),
    Importer(
        "openai_usage",
        "OpenAI usage, JSON pages or CSV",
        (openai_usage.NAMES, openai_usage.BUCKET_NAMES),
        openai_usage.read,
    ),
    Importer("langfuse", "Langfuse observations, CSV or JSON", (langfuse.NAMES, langfuse.BLOB_NAMES), langfuse.read),
    Importer("routellm_mmlu", "RouteLLM MMLU responses, CSV files", (routellm_mmlu.NAMES,), routellm_mmlu.read),
)
"""Every format, in the order they are tried."""


def detect(path: Path) -> Importer:
    """The format of a file, known by its first names; raises TrafficError when it is none of ours."""
    try:
        names = first_names(path)
    except OSError as error:
        raise TrafficError(f"{path} cannot be read: {error.strerror}.", hint="Name a recorded traffic file.") from None
    for importer in IMPORTERS:
        if any(known <= names for known in importer.names):
            return importer
    formats = "; ".join(importer.title for importer in IMPORTERS)
    found = f"begins with {', '.join(sorted(names)[:8])}" if names else "has no names in its first line"
    raise TrafficError(f"{path} is not traffic in any known format: it {found}.", hint=f"Known formats: {formats}.")


def read(path: Path, reading: Reading | None = None) -> Iterator[Recorded]:
    """The records of a file in any known format, one at a time.

    Raises TrafficError with file, line, what is wrong and what to do; `reading` says what to assume, and is told what
    was left out.
    """
    return detect(path).read(path, reading or Reading())
