"""Azure LLM inference traces: arrivals and lengths of production requests.

Format: CSV of TIMESTAMP, ContextTokens, GeneratedTokens, from the Azure Public Dataset (CC-BY-4.0).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import msgspec

from farthing.importers.reading import Reading, instant, rows, shaped
from farthing.schema import Recorded, Usage

NAMES = frozenset(("TIMESTAMP", "ContextTokens", "GeneratedTokens"))

Count = Annotated[int, msgspec.Meta(ge=0)]


class _Request(msgspec.Struct, gc=False):
    time: str = msgspec.field(name="TIMESTAMP")
    context: Count = msgspec.field(name="ContextTokens")
    generated: Count = msgspec.field(name="GeneratedTokens")


def read(path: Path, reading: Reading) -> Iterator[Recorded]:
    """One record per request; nothing is known of the prompts, so each is taken to be different."""
    for place, row in rows(path):
        request = shaped(path, place, row, _Request)
        yield Recorded(
            at=instant(path, place, request.time),
            model=reading.trace_model,
            usage=Usage(input=request.context, output=request.generated),
            note="azure_llm",
        )
