"""Many rows in one SQL statement.

Python's SQLite module gives the interpreter up and takes it back at every step of a statement, so inserting rows one
by one from a thread crawls while another thread is busy. Here the rows travel as three parameters of one statement,
which is a single step: a column of texts as a JSON array, the numbers in fixed-width decimals, and the documents end
to end.
"""

from collections.abc import Sequence

import msgspec

WIDTH = 20
"""Digits of a number: enough for any 64-bit integer and its sign."""


def pack(texts: Sequence[str], numbers: Sequence[int], documents: Sequence[bytes]) -> dict[str, str | bytes]:
    """The parameters of a statement that selects from `SOURCE`: a text, a number and a document to a row."""
    packed = []
    offset = 1
    for number, document in zip(numbers, documents, strict=True):
        length = len(document)
        packed.append(b"%20d%20d%20d" % (number, offset, length))
        offset += length
    return {
        "texts": msgspec.json.encode(texts).decode(),
        "numbers": b"".join(packed),
        "documents": b"".join(documents),
    }


def _number(column: int) -> str:
    return f"CAST(substr(:numbers, key * {3 * WIDTH} + {column * WIDTH + 1}, {WIDTH}) AS INTEGER)"


INDEX = "key"
TEXT = "value"
NUMBER = _number(0)
DOCUMENT = f"substr(:documents, {_number(1)}, {_number(2)})"
SOURCE = "json_each(:texts)"
"""SQL expressions of a row's place among the rows, its columns, and what to select them from."""
