"""Mooncake traces: arrivals, lengths and prefix block hashes of production requests.

Format: JSON lines of timestamp (ms from the start), input_length, output_length, hash_ids (one per 512 tokens of
prompt), as published with "Mooncake: Trading More Storage for Less Computation" (FAST '25).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import msgspec
from blake3 import blake3

from farthing.importers.reading import Reading, lines, unreadable
from farthing.schema import Recorded, Usage

NAMES = frozenset(("timestamp", "input_length", "output_length", "hash_ids"))
BLOCK_TOKENS = 512
_MILLISECOND = 10**6

Count = Annotated[int, msgspec.Meta(ge=0)]


class _Line(msgspec.Struct, gc=False):
    timestamp: Count
    input_length: Count
    output_length: Count
    hash_ids: tuple[int, ...]


_read_line = msgspec.json.Decoder(_Line).decode


def read(path: Path, reading: Reading) -> Iterator[Recorded]:
    """One record per request; prompts with the same blocks and length are taken to be the same prompt."""
    for number, line in lines(path):
        try:
            request = _read_line(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            hint = f"Each line has {', '.join(sorted(NAMES))}."
            raise unreadable(path, f"line {number}", f"{error}.", hint) from None
        prompt = blake3(msgspec.json.encode((request.input_length, request.hash_ids))).hexdigest(8)
        yield Recorded(
            at=request.timestamp * _MILLISECOND,
            model=reading.trace_model,
            prompt=prompt,
            blocks=request.hash_ids,
            block_tokens=BLOCK_TOKENS,
            usage=Usage(input=request.input_length, output=request.output_length),
            note="mooncake",
        )
